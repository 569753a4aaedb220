//! The binary: parse, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use gwproxy::cli::{self, Invocation, Output};
use gwproxy::plan::LogLevel;
use gwproxy::{logging, process, tools};

// Workers allocate and free on their own thread; mimalloc's per-thread heaps fit that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os(), &mut std::io::stdin()) {
        Invocation::Serve(plan, source) => {
            start_log(plan.log, &source.variables);
            process::run(&plan, &source)
        }
        Invocation::Echo(echo) => {
            start_log(echo.log, &[]);
            tools::echo(*echo)
        }
        Invocation::EchoHelp(kind, output) => say(&tools::echo_help(kind, output)),
        Invocation::CertDev { names } => say(&tools::cert_dev(&names)),
        Invocation::CertShow { ca_only } => say(&tools::cert_show(ca_only)),
        Invocation::Done(output) => say(&output),
    }
}

fn start_log(level: LogLevel, variables: &[String]) {
    logging::start(level);
    if let Some(sentence) = cli::unread_environment(variables) {
        tracing::warn!("{sentence}");
    }
}

fn say(output: &Output) -> ExitCode {
    // A reader that is gone (`| head`) is no failure of ours.
    let _ = std::io::stdout().write_all(output.stdout.as_bytes());
    let _ = std::io::stderr().write_all(output.stderr.as_bytes());
    ExitCode::from(output.code)
}
