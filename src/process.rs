//! The life of the process: start, say so, wait for a signal, drain, stop.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use gwproxy_core::net::ListenAddr;
use gwproxy_http::forward::guide;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::assemble::{self, Announced, Running};
use crate::plan::{Action, Plan, Protocol};

/// How often a draining process looks whether the last connection is gone.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the plan until a signal ends it. 0 after an orderly end, also one that a second signal
/// hurried on; 1 when it cannot start, or when the end of the grace period cut something off.
pub fn run(plan: &Plan) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the control runtime: {error}")),
    };
    let outcome = runtime.block_on(live(plan));
    // Name lookups and password checks that still run are of no use to anyone.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(&sentence),
    }
}

async fn live(plan: &Plan) -> Result<(), String> {
    let mut signals =
        Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let running = assemble::start(plan).await?;
    announce(&running);
    let name = signals.next().await;
    match drain(running, plan.grace, name, &mut signals).await {
        0 => Ok(()),
        cut => {
            let grace = plan.grace;
            Err(format!("the grace period is over: {cut} connections cut off after {grace:?}"))
        }
    }
}

/// Lets what is open finish; gives how many connections the end of the grace period cut off.
///
/// A tunnel or TCP connection lives until its ends close it or the grace period is over, whether
/// bytes move or not, as with nginx, HAProxy and Envoy: a silent one may be a query or a long
/// poll that the grace period is meant for, and nothing tells it from an idle one.
async fn drain(running: Running, grace: Duration, name: &str, signals: &mut Signals) -> usize {
    running.drain();
    let open = running.workers.connections();
    if open > 0 {
        tracing::info!(
            "{name}: {open} connections finish within {grace:?}; a second signal stops at once"
        );
    }
    let mut cut = 0;
    let deadline = Instant::now() + grace;
    while !running.workers.are_done() {
        tokio::select! {
            () = sleep(LOOK) => {}
            name = signals.next() => {
                tracing::info!("{name} again: stopping with {} connections open", running.workers.connections());
                break;
            }
        }
        if Instant::now() >= deadline {
            cut = running.workers.connections();
            break;
        }
    }
    running.stop();
    cut
}

/// One line for each listener: what, where, and how to use it.
fn announce(running: &Running) {
    let mut out = std::io::stderr().lock();
    for listener in &running.listeners {
        let _ = writeln!(out, "{}", line(listener));
        if let Action::Forward(forward) = &listener.plan.action
            && forward.unsafe_open
            && forward.users.is_empty()
        {
            let _ = writeln!(
                out,
                "WARNING: this forward proxy is open: whoever can reach {} can use it",
                listener.addr
            );
        }
        if let Action::Forward(_) = listener.plan.action {
            let _ = write!(out, "{}", guide(&listener.addr, listener.plan.tls.is_some()));
        }
    }
    if let Some(addr) = &running.admin {
        let dial = dialled(addr);
        let _ = writeln!(out, "admin on http://{dial}   try: curl http://{dial}/metrics");
    }
}

fn line(listener: &Announced) -> String {
    let Announced { plan, addr } = listener;
    let tls = plan.tls.is_some();
    let dial = dialled(addr);
    let (kind, scheme) = match (&plan.action, plan.protocol, tls) {
        (Action::Forward(_), _, false) => ("forward proxy", "http"),
        (Action::Forward(_), _, true) => ("forward proxy", "https"),
        (_, Protocol::Http, false) => ("http", "http"),
        (_, Protocol::Http, true) => ("http", "https"),
        (_, Protocol::Ws, false) => ("ws", "ws"),
        (_, Protocol::Ws, true) => ("ws", "wss"),
        (_, Protocol::Tcp, false) => ("tcp", "tcp"),
        (_, Protocol::Tcp, true) => ("tcp", "tls"),
        (_, Protocol::Grpc, false) => ("grpc", "grpc"),
        (_, Protocol::Grpc, true) => ("grpc", "grpcs"),
    };
    let insecure = if tls { " -k" } else { "" };
    let hint = match (&plan.action, plan.protocol, addr) {
        (_, _, ListenAddr::Unix(path)) => {
            format!("curl --unix-socket {} http://x/", path.display())
        }
        (Action::Forward(_), ..) => format!("curl -x {scheme}://{dial} https://example.com/"),
        (_, Protocol::Http, _) => format!("curl{insecure} {scheme}://{dial}/"),
        (_, Protocol::Ws, _) => format!("python3 -m websockets {scheme}://{dial}/"),
        (_, Protocol::Tcp, _) if tls => format!("openssl s_client -connect {dial}"),
        (_, Protocol::Tcp, _) => format!("nc {}", dial.replace(':', " ")),
        (_, Protocol::Grpc, _) => {
            let plain = if tls { "-insecure" } else { "-plaintext" };
            format!("grpcurl {plain} {dial} list")
        }
    };
    let everywhere = if is_everywhere(addr) { " (every address of this machine)" } else { "" };
    format!("{kind} on {scheme}://{dial}{everywhere}   try: {hint}")
}

fn is_everywhere(addr: &ListenAddr) -> bool {
    match addr {
        ListenAddr::Any(_) => true,
        ListenAddr::Tcp(addr) => addr.ip().is_unspecified(),
        ListenAddr::Unix(_) => false,
    }
}

/// What to write to reach a listener from this machine.
fn dialled(addr: &ListenAddr) -> String {
    match addr {
        ListenAddr::Any(port) => format!("localhost:{port}"),
        ListenAddr::Tcp(addr) if addr.ip().is_unspecified() => format!("localhost:{}", addr.port()),
        ListenAddr::Tcp(addr) => addr.to_string(),
        ListenAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Says why the process ends; exit code 1.
pub(crate) fn fail(sentence: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "gwproxy: {sentence}");
    ExitCode::from(1)
}

/// The signals that end the process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
