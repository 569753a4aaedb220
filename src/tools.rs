//! The commands beside the proxy: echo servers and the development certificate.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use gwproxy_core::net::ListenAddr;
use gwproxy_core::net::listen::{BoundSocket, bind};
use tokio::sync::watch;

use crate::assemble;
use crate::cli::{EXIT_FAILURE, Echo, Output};
use crate::plan::EchoKind;
use crate::process::{Signals, fail};
use crate::{devcert, echo};

/// How long a stopping echo server waits for its connections.
const GRACE: Duration = Duration::from_secs(5);

/// Runs an echo server until a signal ends it.
pub fn echo(echo: Echo) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    match runtime.block_on(serve_echo(echo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(&sentence),
    }
}

async fn serve_echo(echo: Echo) -> Result<(), String> {
    let mut signals =
        Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let kind = kind(echo.kind);
    let tls = match &echo.tls {
        None => None,
        Some(front) => Some(assemble::tls::server(front, kind.alpn())?.config()),
    };
    let bound = bind(&echo.listen, 1).map_err(|error| error.tell("`--listen`"))?;
    let Some(BoundSocket::Tcp(listener)) = bound.sockets.into_iter().next() else {
        return Err(format!("an echo server listens on TCP; `{}` is not", echo.listen));
    };
    let addr = match bound.addr {
        ListenAddr::Tcp(addr) => addr,
        ListenAddr::Any(port) => SocketAddr::from(([0, 0, 0, 0], port)),
        ListenAddr::Unix(_) => return Err("an echo server listens on TCP".to_owned()),
    };
    let _ = writeln!(std::io::stderr(), "{}", echo::describe(kind, addr, tls.is_some()));
    let (stop, stopped) = watch::channel(false);
    let serving = echo::serve(kind, listener, tls, echo.name, stopped);
    let mut serving = std::pin::pin!(serving);
    let cannot = |error| format!("the echo server failed: {error}");
    tokio::select! {
        ended = &mut serving => return ended.map_err(cannot),
        _ = signals.next() => {}
    }
    stop.send_replace(true);
    tokio::select! {
        ended = serving => ended.map_err(cannot),
        _ = signals.next() => Ok(()),
        () = tokio::time::sleep(GRACE) => Ok(()),
    }
}

/// The help of `echo`, with what this kind of it can be asked for.
pub fn echo_help(asked: EchoKind, mut help: Output) -> Output {
    let (name, controls) = (asked.as_str(), echo::help(kind(asked)));
    help.stdout = format!("{}\nWhat echo {name} can be asked for:\n\n{controls}\n", help.stdout);
    help
}

/// The echo server a plan means.
pub(crate) fn kind(kind: EchoKind) -> echo::Kind {
    match kind {
        EchoKind::Grpc => echo::Kind::Grpc,
        EchoKind::Http => echo::Kind::Http,
        EchoKind::Tcp => echo::Kind::Tcp,
        EchoKind::Ws => echo::Kind::Ws,
    }
}

/// Makes the development certificate if need be, and tells where it is and how to trust it.
pub fn cert_dev(names: &[String]) -> Output {
    match devcert::ensure(names) {
        Ok(cert) => {
            let stdout =
                format!("{}\n{}", devcert::describe(&cert), devcert::trust_instructions(&cert));
            Output { stdout, stderr: String::new(), code: 0 }
        }
        Err(sentence) => failed(&sentence),
    }
}

/// Tells about the development certificate as it is.
pub fn cert_show(ca_only: bool) -> Output {
    match devcert::existing() {
        Ok(Some(cert)) => {
            let stdout = if ca_only {
                format!("{}\n", cert.ca.display())
            } else {
                format!("{}\n{}", devcert::describe(&cert), devcert::trust_instructions(&cert))
            };
            Output { stdout, stderr: String::new(), code: 0 }
        }
        Ok(None) => failed("there is no development certificate yet; make one: gwproxy cert dev"),
        Err(sentence) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> Output {
    let stderr = format!("gwproxy: {sentence}\n");
    Output { stdout: String::new(), stderr, code: EXIT_FAILURE }
}
