//! The program's own log, on standard error.
//!
//! A node that is down fails every request, and a line for each would be as many lines as there
//! are requests: of each kind of failure the first in a second is told, then how many more there
//! were. The access log has them all. This stands here, behind everything that fails, so that
//! each protocol simply says what it has to say.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gwproxy_core::telemetry::panics;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::plan::LogLevel;

/// How often [`tell_more`] is to be called.
pub const EVERY: Duration = Duration::from_secs(1);

/// Kinds of failures told apart: a kind is a code and a service. Those beyond share the last
/// place, and what is told of them is the kind that came there first.
const KINDS_MAX: usize = 512;

/// Says in a line of its own what our sentence says as well, with less of what helps; and of a
/// client that asks for renegotiation, as often as it does.
const REPEATS_US: &str = "rustls=off,rustls_platform_verifier=off";

static KINDS: Kinds = Kinds::new();

/// Starts the log. Lines go to standard error, so that standard output is free for the access log.
pub fn start(level: LogLevel) {
    let thorough = matches!(level, LogLevel::Debug | LogLevel::Trace);
    let name = level.as_str();
    let filter = if thorough { name.to_owned() } else { format!("{name},{REPEATS_US}") };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Who looks for one failure among many wants to see each.
    let bound = Bound { kinds: &KINDS, all: thorough };
    let log = tracing_subscriber::registry().with(EnvFilter::new(filter)).with(bound).with(lines);
    // Only a second start in one process fails, and then the first one serves.
    drop(log.try_init());
    panics::watch();
}

/// Tells what was left out since the last call. Until the first call nothing is left out.
pub fn tell_more() {
    KINDS.tell();
}

/// Lets the first failure of its kind through.
struct Bound {
    kinds: &'static Kinds,
    all: bool,
}

/// What failed since somebody looked. No locks: workers write here.
struct Kinds {
    /// Whether somebody looks.
    watched: AtomicBool,
    slots: [Slot; KINDS_MAX],
}

/// One kind.
struct Slot {
    /// The hash of its code and service; 0: nobody's yet.
    key: AtomicU64,
    count: AtomicU64,
    names: OnceLock<Box<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    code: String,
    service: String,
}

/// Code and service of an event; without a code it is no failure of a request.
#[derive(Default)]
struct Key {
    hasher: DefaultHasher,
    coded: bool,
}

impl<S: Subscriber> Layer<S> for Bound {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // Below a warning there is nothing that clients can make at will.
        if self.all || *event.metadata().level() > Level::WARN {
            return true;
        }
        self.kinds.is_first(event)
    }
}

impl Kinds {
    const fn new() -> Self {
        Self { watched: AtomicBool::new(false), slots: [const { Slot::new() }; KINDS_MAX] }
    }

    /// Counts the event; whether it is the first of its kind since somebody looked.
    fn is_first(&self, event: &Event<'_>) -> bool {
        if !self.watched.load(Ordering::Relaxed) {
            return true;
        }
        let mut key = Key::default();
        event.record(&mut key);
        if !key.coded {
            return true;
        }
        let slot = self.slot(key.hasher.finish().max(1));
        slot.names.get_or_init(|| {
            let mut names = Box::<Names>::default();
            event.record(&mut *names);
            names
        });
        slot.count.fetch_add(1, Ordering::Relaxed) == 0
    }

    fn slot(&self, key: u64) -> &Slot {
        let [slots @ .., last] = &self.slots;
        let is_ours = |slot: &&Slot| {
            let taken = slot.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok() || taken == Err(key)
        };
        slots.iter().find(is_ours).unwrap_or(last)
    }

    fn tell(&self) {
        self.watched.store(true, Ordering::Relaxed);
        for slot in &self.slots {
            let more = slot.count.swap(0, Ordering::Relaxed).saturating_sub(1);
            if let (Some(names), true) = (slot.names.get(), more > 0) {
                let service = (!names.service.is_empty()).then_some(&*names.service);
                // No code, or it would be counted itself.
                tracing::warn!(service, "and {more} more failed like that: {}", names.code);
            }
        }
    }
}

impl Slot {
    const fn new() -> Self {
        Self { key: AtomicU64::new(0), count: AtomicU64::new(0), names: OnceLock::new() }
    }
}

impl Visit for Key {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name();
        self.coded |= name == "code";
        if matches!(name, "code" | "service") {
            self.hasher.write(name.as_bytes());
            self.hasher.write(value.as_bytes());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Visit for Names {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => value.clone_into(&mut self.code),
            "service" => value.clone_into(&mut self.service),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Heard {
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(String::from).collect()
        }
    }

    fn log(kinds: &'static Kinds, all: bool, work: impl FnOnce(&Heard)) {
        let heard = Heard::default();
        let to = heard.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false);
        let log = tracing_subscriber::registry().with(Bound { kinds, all }).with(lines);
        tracing::subscriber::with_default(log, || work(&heard));
    }

    fn kinds() -> &'static Kinds {
        Box::leak(Box::new(Kinds::new()))
    }

    fn fail(code: &str, service: Option<&str>) {
        tracing::warn!(code, service, client = %"127.0.0.1:1", "it failed");
    }

    /// One line for each kind, then the number of the others; what is no failure is not counted.
    #[test]
    fn of_each_kind_the_first_is_told_and_then_how_many() {
        let kinds = kinds();
        log(kinds, false, |heard| {
            fail("upstream_refused", Some("a"));
            fail("upstream_refused", Some("a"));
            assert_eq!(heard.take().len(), 2, "nobody looks: nothing is left out");
            kinds.tell();
            for _ in 0..1000 {
                fail("upstream_refused", Some("a"));
                fail("upstream_refused", Some("b"));
                fail("upstream_timeout", Some("b"));
                fail("upstream_refused", None);
            }
            tracing::warn!("the same words");
            tracing::warn!("the same words");
            assert_eq!(heard.take().len(), 6);
            kinds.tell();
            let told = heard.take();
            assert_eq!(told.len(), 4, "{told:?}");
            let line = " WARN and 999 more failed like that: upstream_timeout service=\"b\"";
            assert!(told.iter().any(|told| told == line), "{told:?}");
            kinds.tell();
            assert_eq!(heard.take(), Vec::<String>::new());
            fail("upstream_refused", Some("a"));
            kinds.tell();
            assert_eq!(heard.take().len(), 1);
        });
    }

    /// There is a bound to what is remembered, and what is beyond is bounded as well.
    #[test]
    fn more_kinds_than_there_is_room_for() {
        let kinds = kinds();
        log(kinds, false, |heard| {
            kinds.tell();
            for round in 0..2 {
                for number in 0..2 * KINDS_MAX {
                    fail("x", Some(&number.to_string()));
                }
                assert_eq!(heard.take().len(), if round == 0 { KINDS_MAX } else { 0 });
            }
        });
    }

    #[test]
    fn a_thorough_log_leaves_nothing_out() {
        let kinds = kinds();
        log(kinds, true, |heard| {
            kinds.tell();
            fail("x", None);
            fail("x", None);
            assert_eq!(heard.take().len(), 2);
        });
    }
}
