//! The command line: what was typed becomes an [`Invocation`]. The only room that names clap.
//!
//! Nothing here opens a socket or starts a thread: what needs one is handed to `main`, what does
//! not (help, errors, `check`, `--print-config`, `hash-password`) is answered here.

mod balance;
mod environment;
mod file;
mod flags;
mod forward;
mod hash;
mod hints;
mod meaning;
mod proxy;
mod target;
mod tools;

use std::ffi::OsString;
use std::io::Read;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::plan::{EchoKind, Plan, Source};

pub use tools::Echo;

/// Wrong usage or a wrong configuration.
pub const EXIT_USAGE: u8 = 2;
/// It was right and did not work.
pub const EXIT_FAILURE: u8 = 1;

/// What is to be done.
#[derive(Debug)]
pub enum Invocation {
    /// Show the development certificate, make it first if need be, for these extra names too.
    CertDev {
        /// Names and addresses.
        names: Vec<String>,
    },
    /// Show the development certificate as it is.
    CertShow {
        /// Only the path of the authority's certificate.
        ca_only: bool,
    },
    /// It is done: here is what to say, and how to end.
    Done(Output),
    /// Run an echo server.
    Echo(Box<Echo>),
    /// Say this, and then what this echo server can be asked for.
    EchoHelp(EchoKind, Output),
    /// Run this.
    Serve(Box<Plan>, Source),
}

/// What is left to say, and how the process ends.
#[derive(Debug)]
pub struct Output {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// 0, [`EXIT_FAILURE`] or [`EXIT_USAGE`].
    pub code: u8,
}

/// HTTP, WebSocket, TCP and gRPC through one proxy: one-liners and a full API gateway.
#[derive(Debug, Parser)]
#[command(
    name = "gwproxy",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gwproxy http --to http://localhost:3000 --tls-dev      localhost:3000 behind TLS
  gwproxy http --forward                                 a forward proxy for this machine
  gwproxy tcp --listen :5433 --to db1:5432 --to db2:5432 a database with two nodes
  gwproxy run gateway.yaml                               the gateway
  gwproxy http --to http://a:1 --print-config            the file those flags mean

Times are written as 500ms, 5s or 1m30s, sizes as 64KiB or 10MB, addresses to listen on as :8080,
127.0.0.1:8080, [::1]:8080 or unix:/path. Lists take commas, or the flag again.

Every flag can be given in the environment: --max-connections as GWPROXY_MAX_CONNECTIONS, and so
on; what is typed wins. Exit codes: 0 done, 1 failed at run time or cut somebody off at its end,
2 wrong usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    Http(proxy::HttpArgs),
    Ws(proxy::WsArgs),
    Tcp(proxy::TcpArgs),
    Grpc(proxy::GrpcArgs),
    Run(file::RunArgs),
    Check(file::CheckArgs),
    Echo(tools::EchoArgs),
    Cert(tools::CertArgs),
    HashPassword(hash::HashPasswordArgs),
}

/// A sentence for the user; which flag, which value, what instead.
#[derive(Debug)]
struct Wrong(String);

/// Reads the command line (`arguments` begin with the program's name). `stdin` is read only by
/// commands that say so.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    stdin: &mut dyn Read,
) -> Invocation {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut grammar = meaning::hide(Cli::command());
    let parsed = grammar.try_get_matches_from_mut(&arguments).and_then(|mut matches| {
        let meant = meaning::check(&grammar, &matches);
        Cli::from_arg_matches_mut(&mut matches).map(|cli| (cli.command, meant))
    });
    let (command, meant) = match parsed {
        Ok(parsed) => parsed,
        Err(mut error) => {
            if error.use_stderr() {
                hints::put_into(&mut error, &mut grammar, &arguments);
            }
            let output = Output::of_clap(&error);
            let echo = tools::echo_asked_about(&arguments)
                .filter(|_| error.kind() == ErrorKind::DisplayHelp);
            return match echo {
                Some(kind) => Invocation::EchoHelp(kind, output),
                None => Invocation::Done(output),
            };
        }
    };
    let name = command.name();
    let invocation = meant.and_then(|()| match command {
        Command::Http(args) => args.invocation(),
        Command::Ws(args) => args.invocation(),
        Command::Tcp(args) => args.invocation(),
        Command::Grpc(args) => args.invocation(),
        Command::Run(args) => Ok(args.invocation(stdin)),
        Command::Check(args) => Ok(args.invocation(stdin)),
        Command::Echo(args) => args.invocation(),
        Command::Cert(args) => Ok(args.invocation()),
        Command::HashPassword(args) => Ok(args.invocation(stdin)),
    });
    invocation.unwrap_or_else(|Wrong(sentence)| {
        let sentence = hints::behind(sentence, &mut grammar, &arguments);
        let error = match grammar.find_subcommand_mut(name) {
            Some(command) => command.error(ErrorKind::ValueValidation, sentence),
            None => grammar.error(ErrorKind::ValueValidation, sentence),
        };
        Invocation::Done(Output::of_clap(&error))
    })
}

/// A sentence about variables of the environment that look like ours and that nobody reads, if
/// there are any. `used`: those that the configuration file takes values from.
pub fn unread_environment(used: &[String]) -> Option<String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    environment::unread(&Cli::command(), std::env::vars_os().filter_map(text), used)
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Ws(_) => "ws",
            Self::Tcp(_) => "tcp",
            Self::Grpc(_) => "grpc",
            Self::Run(_) => "run",
            Self::Check(_) => "check",
            Self::Echo(_) => "echo",
            Self::Cert(_) => "cert",
            Self::HashPassword(_) => "hash-password",
        }
    }
}

impl Output {
    /// A result, on standard output.
    pub fn said(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), stderr: String::new(), code: 0 }
    }

    /// A failure with its sentence.
    pub fn failed(code: u8, sentence: &str) -> Self {
        Self { stdout: String::new(), stderr: format!("error: {sentence}\n"), code }
    }

    fn of_clap(error: &clap::Error) -> Self {
        let text = error.render();
        // As clap would print it: coloured for a human, plain for a file.
        let terminal = if error.use_stderr() {
            std::io::IsTerminal::is_terminal(&std::io::stderr())
        } else {
            std::io::IsTerminal::is_terminal(&std::io::stdout())
        };
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let text = if colour { text.ansi().to_string() } else { text.to_string() };
        // clap's own codes are 0 for help and version, 2 for the rest.
        let code = if error.exit_code() == 0 { 0 } else { EXIT_USAGE };
        if error.use_stderr() {
            Self { stdout: String::new(), stderr: text, code }
        } else {
            Self { stdout: text, stderr: String::new(), code }
        }
    }
}

#[cfg(test)]
mod tests;
