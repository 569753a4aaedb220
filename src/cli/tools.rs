//! `echo` and `cert`.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};
use gwproxy_core::net::ListenAddr;

use super::flags::{ListenFlags, LogFlags};
use super::{Invocation, Wrong};
use crate::plan::{EchoKind, LogLevel, TlsFront};

/// An echo server to run.
#[derive(Debug)]
pub struct Echo {
    /// What it speaks.
    pub kind: EchoKind,
    /// Where.
    pub listen: ListenAddr,
    /// TLS in front; none: plain text.
    pub tls: Option<TlsFront>,
    /// What it calls itself in its answers.
    pub name: String,
    /// How much the program's own log says.
    pub log: LogLevel,
}

/// Run a test upstream that reports what it receives
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  HTTP; the answer tells method, path, headers, peer and TLS:
    gwproxy echo http --listen 127.0.0.1:9001
  Two of them, told apart by their names:
    gwproxy echo http --listen :9001 --name one
  WebSocket over TLS:
    gwproxy echo ws --listen :9443 --tls-dev
  gRPC with health and reflection:
    gwproxy echo grpc --listen 127.0.0.1:50051
  What its paths can ask for (statuses, delays, streams, resets); the same for ws, tcp and grpc:
    gwproxy echo http --help")]
pub(super) struct EchoArgs {
    /// What it speaks
    #[arg(value_enum, value_name = "PROTOCOL")]
    kind: Kind,
    /// What it calls itself in its answers [default: echo-PROTOCOL]
    #[arg(long, value_name = "NAME", env = "GWPROXY_NAME", hide_env = true)]
    name: Option<String>,
    #[command(flatten)]
    front: ListenFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// Make or show the development certificate of --tls-dev
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  Make it, and show how to trust it:
    gwproxy cert dev
  For another local name too:
    gwproxy cert dev app.test
  Show it:
    gwproxy cert show
  Hand its authority to a client:
    curl --cacert \"$(gwproxy cert show --ca)\" https://localhost:8443/"
)]
pub(super) struct CertArgs {
    #[command(subcommand)]
    action: CertAction,
}

#[derive(Debug, Subcommand)]
enum CertAction {
    /// Make an authority and a certificate in your data directory; shows how to trust it
    #[command(after_help = "\
The directory is $GWPROXY_DATA_DIR/dev-ca, or else gwproxy/dev-ca where your system keeps the data
of programs (~/.local/share). What is there already is used again.

Examples:
  For localhost and *.dev.localhost:
    gwproxy cert dev
  For other local names too:
    gwproxy cert dev app.test 10.0.0.5")]
    Dev {
        /// Names and addresses it is for, besides localhost
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show the certificate as it is
    #[command(after_help = "\
Examples:
  Where it is, what it is for, how to trust it:
    gwproxy cert show
  For a client that takes a file:
    curl --cacert \"$(gwproxy cert show --ca)\" https://localhost:8443/")]
    Show {
        /// Print only the path of the authority's certificate
        #[arg(long)]
        ca: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// gRPC: an echo service with all four kinds of calls, health, reflection
    Grpc,
    /// HTTP/1.1 and HTTP/2; the answer is a report of the request
    Http,
    /// Bytes come back as they are
    Tcp,
    /// WebSocket messages come back as they are
    Ws,
}

/// The echo server that a command line names, in whatever place.
pub(super) fn echo_asked_about(typed: &[OsString]) -> Option<EchoKind> {
    typed.get(1).filter(|command| *command == "echo")?;
    EchoKind::ALL.into_iter().find(|kind| typed.iter().skip(2).any(|word| word == kind.as_str()))
}

impl EchoArgs {
    pub(super) fn invocation(self) -> Result<Invocation, Wrong> {
        let kind = match self.kind {
            Kind::Grpc => EchoKind::Grpc,
            Kind::Http => EchoKind::Http,
            Kind::Tcp => EchoKind::Tcp,
            Kind::Ws => EchoKind::Ws,
        };
        if let ListenAddr::Unix(_) = self.front.listen {
            let listen = self.front.listen;
            return Err(Wrong(format!(
                "invalid value '{listen}' for '--listen': an echo server listens on TCP; write for \
                 example 127.0.0.1:9001"
            )));
        }
        let name = self.name.unwrap_or_else(|| format!("echo-{}", kind.as_str()));
        let (tls, listen) = (self.front.tls()?, self.front.listen);
        let log = self.log.level.unwrap_or_default();
        Ok(Invocation::Echo(Box::new(Echo { kind, listen, tls, name, log })))
    }
}

impl CertArgs {
    pub(super) fn invocation(self) -> Invocation {
        match self.action {
            CertAction::Dev { names } => Invocation::CertDev { names },
            CertAction::Show { ca } => Invocation::CertShow { ca_only: ca },
        }
    }
}
