//! The life of the process: start, say so, wait for a signal, drain, stop.

mod announce;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use gwproxy_core::telemetry::Rotation;
use gwproxy_core::units::counted;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::assemble::{self, Running};
use crate::logging;
use crate::plan::{Plan, Source};

/// How often a draining process looks whether the last connection is gone.
const LOOK: Duration = Duration::from_millis(20);

/// Signals of one kind closer together than this are one: `timeout` sends its signal to the process
/// and to the group that the process is in.
const ONE_SIGNAL: Duration = Duration::from_millis(100);

/// Runs the plan, whose addresses were written in `source`, until a signal ends it. 0 after an
/// orderly end; 1 when it cannot start, or when the end of the grace period or a second signal cut
/// something off.
pub fn run(plan: &Plan, source: &Source) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the control runtime: {error}")),
    };
    let outcome = runtime.block_on(live(plan, source));
    // Name lookups and password checks that still run are of no use to anyone.
    runtime.shutdown_timeout(Duration::from_millis(100));
    logging::tell_more();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(&sentence),
    }
}

async fn live(plan: &Plan, source: &Source) -> Result<(), String> {
    let mut signals =
        Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut orders = Orders::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let running = assemble::start(plan, source).await?;
    let rotation = running.rotation();
    // Also while it drains, which may take as long as the grace period.
    tokio::spawn(async move {
        loop {
            orders.obey_next(rotation.as_ref()).await;
        }
    });
    announce::all(&running);
    tokio::spawn(async {
        let mut ticks = tokio::time::interval(logging::EVERY);
        loop {
            ticks.tick().await;
            logging::tell_more();
        }
    });
    let name = signals.next().await;
    drain(running, plan.grace, name, &mut signals).await
}

/// Lets what is open finish.
///
/// A tunnel or TCP connection lives until its ends close it or the grace period is over, whether
/// bytes move or not, as with nginx, HAProxy and Envoy: a silent one may be a query or a long
/// poll that the grace period is meant for, and nothing tells it from an idle one.
///
/// # Errors
/// A sentence, when the end of the grace period or another signal cut something off.
async fn drain(
    running: Running,
    grace: Duration,
    name: &str,
    signals: &mut Signals,
) -> Result<(), String> {
    // Counted before: those that wait for nothing end at once.
    let open = running.workers.connections();
    running.drain();
    if open > 0 {
        tracing::info!(
            "{name}: up to {grace:?} for {} to finish; a second signal stops at once",
            counted(open, "connection")
        );
    }
    let deadline = Instant::now() + grace;
    let mut again = None;
    while again.is_none() && Instant::now() < deadline && !running.workers.are_done() {
        tokio::select! {
            () = sleep(LOOK) => {}
            name = signals.next() => again = Some(name),
        }
    }
    let cut = if running.workers.are_done() { 0 } else { running.workers.connections() };
    running.stop();
    let told = counted(cut, "connection");
    match again {
        _ if cut == 0 => Ok(()),
        Some(name) => Err(format!("a second signal ({name}): {told} cut off")),
        None if grace.is_zero() => Err(format!("no grace period: {told} cut off")),
        None => Err(format!("the grace period is over: {told} cut off after {grace:?}")),
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
    hang_up: Signal,
    last: Last,
}

/// The signals that end nothing.
struct Orders {
    user_1: Signal,
    user_2: Signal,
}

/// The signal that counted last.
#[derive(Debug, Default)]
struct Last(Option<(&'static str, Instant)>);

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            last: Last::default(),
        })
    }

    /// The next signal that counts.
    pub(crate) async fn next(&mut self) -> &'static str {
        loop {
            let name = tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
                // The end of the terminal it was started in; a service's is an order to reload.
                _ = self.hang_up.recv() => {
                    if std::io::stderr().is_terminal() {
                        "SIGHUP"
                    } else {
                        tracing::warn!(
                            "SIGHUP changes nothing: this version does not reload; certificate \
                             files are watched, all else needs a restart"
                        );
                        continue;
                    }
                }
            };
            if self.last.counts(name, Instant::now()) {
                return name;
            }
        }
    }
}

impl Orders {
    fn new() -> std::io::Result<Self> {
        let (user_1, user_2) = (SignalKind::user_defined1(), SignalKind::user_defined2());
        Ok(Self { user_1: signal(user_1)?, user_2: signal(user_2)? })
    }

    /// Waits for the next one and does what it says.
    async fn obey_next(&mut self, rotation: Option<&Rotation>) {
        tokio::select! {
            _ = self.user_1.recv() => reopen(rotation),
            _ = self.user_2.recv() => tracing::warn!("SIGUSR2 changes nothing"),
        }
    }
}

fn reopen(rotation: Option<&Rotation>) {
    let Some(rotation) = rotation else {
        tracing::warn!("SIGUSR1 changes nothing: the access log is not a file");
        return;
    };
    let path = rotation.path().display();
    match rotation.reopen() {
        Ok(()) => tracing::info!("SIGUSR1: the access log {path} is opened again"),
        Err(error) => tracing::error!(
            %error,
            "SIGUSR1: the access log {path} cannot be opened again; lines go where they went"
        ),
    }
}

impl Last {
    /// Whether a signal that arrives now is another one.
    fn counts(&mut self, name: &'static str, now: Instant) -> bool {
        let same = self.0.is_some_and(|(last, at)| last == name && now - at < ONE_SIGNAL);
        if !same {
            self.0 = Some((name, now));
        }
        !same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_twice_at_once_is_one() {
        let (mut last, start) = (Last::default(), Instant::now());
        for (name, millis, counts) in [
            ("SIGTERM", 0, true),
            ("SIGTERM", 99, false),
            ("SIGINT", 99, true),
            ("SIGINT", 100, false),
            // The window runs from the one that counted.
            ("SIGINT", 199, true),
            ("SIGTERM", 200, true),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(last.counts(name, now), counts, "{name} at {millis} ms");
        }
    }
}
