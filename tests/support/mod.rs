//! What the suites share: the built binary as a process, raw clients, scripted upstreams, tools.
//!
//! Goal: a test says what goes in and what must come out, and never waits for time to pass.
//! Method: every process and socket here is real and listens on a port of the system's choice;
//! every wait is for a condition, is bounded by [`PATIENCE`], and fails loudly with all that the
//! processes said. What a test starts, its `Drop` ends, by process id.

pub(crate) mod h2;
mod message;
mod origin;
mod pki;
mod proxy;
mod server;
pub(crate) mod tls;
mod tools;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use message::Message;
pub(crate) use origin::{Origin, Peer};
pub(crate) use pki::{Authority, Pair};
pub(crate) use proxy::{Proxy, Signal, echo, gwproxy, gwproxy_with, home, wrapped};
pub(crate) use server::Server;
pub(crate) use tools::{Finished, Heard, curl, run, start, tool, wait};
pub(crate) use wire::{Conn, raw, write_until_stall};

/// How long a condition may take to come true before a test fails. Nothing waits this long when
/// all is well; it is generous because the machine may be busy with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer. Panics, naming `what`, after [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        pause();
    }
}

/// The pause between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "whoever looks at a process has nothing to wake it")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// `bytes` as text for messages and for looking into; what is no UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
