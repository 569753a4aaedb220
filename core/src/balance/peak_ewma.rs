//! Latency times load: peak EWMA.
//!
//! Finagle's `PeakEwma` (also linkerd's balancer): a node's cost is an exponentially weighted
//! moving average of its latency that jumps up to a peak at once and comes down slowly; its load
//! is the cost times one more than the exchanges under way. Of two nodes drawn by weight the one
//! with the smaller load serves.
//!
//! Three traps of others are closed. A node that looked slow once gets nothing, so that nobody learns
//! that it has recovered (Traefik #12306): its cost decays while it is silent, and one choice in
//! [`PROBE_EVERY`] goes round by weight whatever the costs are. A node that fails at once looks
//! like the fastest of all: a failure counts as at least twice what the node usually takes. And a
//! node that hangs until its clients give up never shows how slow it is: their wait counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::field::Field;
use super::power_of_two::better_of_two;
use super::rng;
use super::turns::Turns;
use crate::clock;
use crate::upstream::Endpoint;

/// One choice in so many goes round: a healthy node gets this part of its share by weight at
/// least, 1.6 %.
pub(super) const PROBE_EVERY: u64 = 64;

/// After so long the past counts 1/e. Finagle's default.
const DECAY: Duration = Duration::from_secs(10);

/// The highest cost that failures and waits in vain alone lead to.
const FAILURE_MAX: Duration = Duration::from_secs(10);

/// The least a failure costs.
const FAILURE_MIN: Duration = Duration::from_millis(10);

/// Load of a node that has requests and never answered one: above all that did.
const UNKNOWN: f64 = 1e15;

/// Below so many microseconds a cost is as good as none.
const NOTHING: f32 = 1.0;

/// Writers that give up after so many tries lost against as many other writers.
const TRIES: usize = 8;

/// The cost of a node: microseconds as `f32` above, and the moment in milliseconds below, which
/// goes round every 49 days.
#[derive(Debug, Default)]
pub(crate) struct Cost(AtomicU64);

impl Cost {
    /// Notes that the node took so long to answer, or to fail.
    pub(crate) fn note(&self, took: Duration, failed: bool, now: Instant) {
        let at = millis(now);
        for _ in 0..TRIES {
            let old = self.0.load(Ordering::Relaxed);
            let (cost, since) = unpack(old);
            let weight = decay(at, since);
            let mut seen = micros(took);
            if failed {
                let twice = (2.0 * cost * weight).min(micros(FAILURE_MAX));
                seen = seen.max(twice).max(micros(FAILURE_MIN));
            }
            let cost = if seen > cost { seen } else { cost * weight + seen * (1.0 - weight) };
            let new = pack(cost, at);
            if self.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
    }

    /// Notes that the node was silent for so long, and nobody knows for how much longer. Bounded
    /// as failures are: a client that waits for an event gives up late.
    pub(crate) fn note_wait(&self, waited: Duration, now: Instant) {
        let waited = waited.min(FAILURE_MAX);
        if micros(waited) > self.at(millis(now)) {
            self.note(waited, false, now);
        }
    }

    /// In microseconds; decays towards 0 while the node is silent.
    fn at(&self, now: u32) -> f32 {
        let (cost, since) = unpack(self.0.load(Ordering::Relaxed));
        if cost < NOTHING { 0.0 } else { cost * decay(now, since) }
    }
}

/// A usable node with a small load, now and then the next one by weight.
pub(super) fn pick(turns: &Turns, field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
    if rng::below(PROBE_EVERY) == 0 {
        return turns.pick(field);
    }
    let now = millis(field.now);
    let load = |node: &Endpoint| {
        let (cost, busy) = (node.cost().at(now), f64::from(node.in_flight()));
        let load = match (cost < NOTHING, busy > 0.0) {
            (true, true) => UNKNOWN + busy,
            (true, false) => 0.0,
            (false, _) => f64::from(cost) * (busy + 1.0),
        };
        load / field.share(node) as f64
    };
    better_of_two(turns, field, |a, b| load(a) < load(b))
}

fn decay(now: u32, since: u32) -> f32 {
    // A writer's moment may be a little later than a reader's; that is no 49 days.
    let passed = now.wrapping_sub(since);
    if passed > u32::MAX / 2 { 1.0 } else { (-(passed as f32) / DECAY.as_millis() as f32).exp() }
}

fn micros(span: Duration) -> f32 {
    span.as_secs_f32() * 1e6
}

fn millis(now: Instant) -> u32 {
    (clock::nanos(now) / 1_000_000) as u32
}

fn pack(cost: f32, at: u32) -> u64 {
    u64::from(cost.to_bits()) << 32 | u64::from(at)
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published rule: peaks at once, then half-lives.
    #[test]
    fn a_peak_counts_at_once_and_decays() {
        let (cost, start) = (Cost::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let milli = |n: u64| Duration::from_millis(n);
        cost.note(milli(10), false, start);
        cost.note(milli(500), false, start);
        let of = |now: Instant| cost.at(millis(now)) / 1e3;
        assert!((of(start) - 500.0).abs() < 1.0, "{}", of(start));
        assert!((of(at(10)) - 500.0 / std::f32::consts::E).abs() < 1.0, "{}", of(at(10)));
        cost.note(milli(10), false, at(10));
        let want = 500.0 / std::f32::consts::E + 10.0 * (1.0 - 1.0 / std::f32::consts::E);
        assert!((of(at(10)) - want).abs() < 1.0, "{} for {want}", of(at(10)));
        assert!(of(at(300)) < 0.001);
    }

    #[test]
    fn failing_fast_is_not_being_fast() {
        let (cost, now) = (Cost::default(), Instant::now());
        let of = || cost.at(millis(now)) / 1e3;
        cost.note(Duration::from_millis(50), false, now);
        cost.note(Duration::from_micros(100), true, now);
        assert!((of() - 100.0).abs() < 1.0, "{}", of());
        for _ in 0..100 {
            cost.note(Duration::from_micros(100), true, now);
        }
        assert!((of() - 10_000.0).abs() < 20.0, "{}: there is a bound", of());
        let fresh = Cost::default();
        fresh.note(Duration::ZERO, true, now);
        assert!((fresh.at(millis(now)) / 1e3 - 10.0).abs() < 0.1);
    }

    #[test]
    fn a_wait_in_vain_counts_if_it_was_long() {
        let (cost, now) = (Cost::default(), Instant::now());
        let of = || cost.at(millis(now)) / 1e3;
        cost.note(Duration::from_millis(50), false, now);
        cost.note_wait(Duration::from_millis(10), now);
        assert!((of() - 50.0).abs() < 0.1, "{}", of());
        cost.note_wait(Duration::from_secs(3), now);
        assert!((of() - 3_000.0).abs() < 1.0, "{}", of());
        cost.note_wait(Duration::from_hours(1), now);
        assert!((of() - 10_000.0).abs() < 1.0, "{}: there is a bound", of());
    }

    #[test]
    fn the_moment_may_go_round() {
        assert!((decay(5, u32::MAX - 4) - decay(10, 0)).abs() < 1e-6);
        assert!((decay(0, 3) - 1.0).abs() < 1e-6, "a reader a little behind");
    }
}
