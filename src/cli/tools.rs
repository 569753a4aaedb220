//! `echo` and `cert`.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

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
    gwproxy echo grpc --listen 127.0.0.1:50051")]
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
    Dev {
        /// Names and addresses it is for, besides localhost
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show the certificate as it is
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

impl EchoArgs {
    pub(super) fn invocation(self) -> Result<Invocation, Wrong> {
        let kind = match self.kind {
            Kind::Grpc => EchoKind::Grpc,
            Kind::Http => EchoKind::Http,
            Kind::Tcp => EchoKind::Tcp,
            Kind::Ws => EchoKind::Ws,
        };
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
