//! The life of the process: start, say so, wait for a signal, drain, stop.

mod announce;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use gwproxy_core::units::counted;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::assemble::{self, Running};
use crate::plan::Plan;

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
    announce::all(&running);
    let name = signals.next().await;
    match drain(running, plan.grace, name, &mut signals).await {
        0 => Ok(()),
        cut => {
            let (cut, grace) = (counted(cut, "connection"), plan.grace);
            Err(format!("the grace period is over: {cut} cut off after {grace:?}"))
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
            "{name}: up to {grace:?} for {} to finish; a second signal stops at once",
            counted(open, "connection")
        );
    }
    let mut cut = 0;
    let deadline = Instant::now() + grace;
    while !running.workers.are_done() {
        tokio::select! {
            () = sleep(LOOK) => {}
            name = signals.next() => {
                let open = counted(running.workers.connections(), "connection");
                tracing::info!("{name} again: stopping with {open} open");
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
