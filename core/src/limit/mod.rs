//! How much one client, or all together, may ask for.
//!
//! A limit is one truth for the process: its state is shared atomics, so that `100/s` is 100/s
//! whatever the number of workers. A refused request costs its client nothing.
//!
//! One algorithm is one file: a pure function of a 48-bit state, a moment and a cost (`kernel`).
//! Where states are kept is a `Store`. What each algorithm does, when to choose it and its
//! options stand in `docs/limiting.md`.

mod concurrency;
mod fixed_window;
mod kernel;
mod keyed;
mod leaky_bucket;
mod meters;
mod settings;
mod sliding_window;
mod token_bucket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

use kernel::{Kernel, STATE_BITS, STATE_MASK};
use keyed::Table;
pub use meters::{Exceeded, Meters};
pub use settings::{Algorithm, Counted, Headers, LIMITS_MAX, LimitError, LimitSettings, Limits};

/// What a limit says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Admitted {
        /// The most at once (the burst, or what a window counts).
        limit: u32,
        /// How many more may come now.
        remaining: u32,
        /// After which pause `remaining` is `limit` again.
        reset: Duration,
        /// Go on after this pause; above 0 for a leaky bucket only.
        wait: Duration,
    },
    /// Too many.
    Refused {
        /// The most at once (the burst, or what a window counts).
        limit: u32,
        /// After which pause the next one is admitted; above 0.
        retry_after: Duration,
        /// After which pause `remaining` is `limit` again.
        reset: Duration,
    },
}

/// Where in a store a charge lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u8);

/// A decision, with where it was noted.
#[derive(Debug, Clone, Copy)]
pub struct Charged {
    /// The decision.
    pub decision: Decision,
    /// For [`Limiter::refund`].
    pub place: Place,
}

/// A limit at work, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    settings: LimitSettings,
    kernel: Kernel,
    store: Kept,
    refused: AtomicU64,
}

/// Something under way that a limit counts until this is dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    key: u64,
    place: Place,
}

/// What a connection was let in with.
#[derive(Debug, Default)]
pub struct Admission {
    /// How long it waits for its turn first.
    pub wait: Duration,
    /// What counts it until it is over.
    pub permits: Vec<Permit>,
}

/// What a kernel says to a state.
struct Step {
    decision: Decision,
    /// The new state, if it is another one.
    next: Option<u64>,
}

/// Where the states of keys are kept: in this process, later in Redis as well. All three are
/// atomic for a key: two workers never both get the last one.
trait Store {
    /// Decides and, if admitted, charges.
    fn charge(&self, key: u64, kernel: &Kernel, now: u64, cost: u32) -> Charged;

    /// Charges what was used already; with the pause that brings it back to the rate.
    fn settle(&self, key: u64, kernel: &Kernel, now: u64, cost: u32) -> Duration;

    /// Takes an admitted charge back.
    fn refund(&self, key: u64, place: Place, kernel: &Kernel, now: u64, cost: u32);
}

/// One state, whatever the key.
#[derive(Debug, Default)]
struct Single(AtomicU64);

/// The stores there are.
#[derive(Debug)]
enum Kept {
    Single(Single),
    Table(Table),
}

impl Limiter {
    /// A limiter with nothing spent.
    pub fn new(settings: LimitSettings) -> Self {
        let kernel = Kernel::new(&settings);
        let store = if settings.is_global() {
            Kept::Single(Single::default())
        } else {
            Kept::Table(Table::new(settings.max_keys))
        };
        Self { settings, kernel, store, refused: AtomicU64::new(0) }
    }

    /// What it obeys.
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// How many were refused, or would have been in shadow mode.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Bytes that its states take up now.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Kept::Single(single) => size_of_val(single),
            Kept::Table(table) => table.bytes(),
        }
    }

    /// Charges one request to `key` ([`key::of_ip`](crate::key::of_ip),
    /// [`key::of_value`](crate::key::of_value); ignored by a global limit).
    pub fn check(&self, key: u64, now: Instant) -> Decision {
        self.charge(key, now).decision
    }

    /// [`Self::check`] that can be taken back.
    pub fn charge(&self, key: u64, now: Instant) -> Charged {
        let charged = self.store().charge(key, &self.kernel, clock::nanos(now), 1);
        if !charged.decision.is_admitted() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        charged
    }

    /// Takes an admitted charge back, as if it had never been: what it was for was refused
    /// elsewhere, or (concurrency) is over.
    pub fn refund(&self, key: u64, place: Place, now: Instant) {
        self.store().refund(key, place, &self.kernel, clock::nanos(now), 1);
    }

    /// Charges `amount` that was used already, bytes for example; with the pause after which the
    /// key is within its limit again.
    pub fn settle(&self, key: u64, amount: u32, now: Instant) -> Duration {
        self.store().settle(key, &self.kernel, clock::nanos(now), amount)
    }

    fn store(&self) -> &dyn Store {
        match &self.store {
            Kept::Single(single) => single,
            Kept::Table(table) => table,
        }
    }
}

impl Store for Single {
    fn charge(&self, _key: u64, kernel: &Kernel, now: u64, cost: u32) -> Charged {
        let decision = self.change(|state| {
            let step = kernel.decide(state, now, cost);
            (step.decision, step.next)
        });
        Charged { decision, place: Place(0) }
    }

    fn settle(&self, _key: u64, kernel: &Kernel, now: u64, cost: u32) -> Duration {
        self.change(|state| kernel.settle(state, now, cost))
    }

    fn refund(&self, _key: u64, _place: Place, kernel: &Kernel, now: u64, cost: u32) {
        self.change(|state| ((), Some(kernel.refund(state, now, cost))));
    }
}

impl Single {
    fn change<T>(&self, step: impl Fn(u64) -> (T, Option<u64>)) -> T {
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            let (told, next) = step(state);
            let Some(next) = next else { return told };
            match self.0.compare_exchange_weak(state, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return told,
                Err(actual) => state = actual,
            }
        }
    }
}

impl Permit {
    /// What gives `key`'s charge back when it is dropped.
    pub fn new(limiter: Arc<Limiter>, key: u64, place: Place) -> Self {
        Self { limiter, key, place }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The only kernel with permits reads no clock.
        let Limiter { kernel, .. } = &*self.limiter;
        self.limiter.store().refund(self.key, self.place, kernel, 0, 1);
    }
}

impl Step {
    fn refused(limit: u32, retry_after: Duration, reset: Duration) -> Self {
        Self { decision: Decision::Refused { limit, retry_after, reset }, next: None }
    }
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted { .. })
    }

    /// How many more may come now.
    pub fn remaining(&self) -> u32 {
        match self {
            Self::Admitted { remaining, .. } => *remaining,
            Self::Refused { .. } => 0,
        }
    }
}

impl fmt::Display for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.settings.id {
            Some(id) => write!(f, "{id} ({})", self.settings),
            None => self.settings.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
