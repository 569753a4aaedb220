//! When another try is worth it: a budget that keeps retries from becoming the outage, and the
//! pause before one.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::balance::rng;
use crate::clock;
use crate::units::Percent;

/// How many retries a service may get: the defaults of linkerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Retries earned by each first try. Default 20 %.
    pub ratio: Percent,
    /// Retries a second that need no earning, so that a quiet service can retry too. Default 10.
    pub min_per_second: NonZeroU32,
}

/// A budget of retries, shared by all workers.
///
/// It is a token bucket (see [`limit`](crate::limit)) that refills by time at the minimum rate
/// and, beyond that, by each first try. It holds ten seconds' worth of the minimum rate, so no
/// quiet night saves up a storm. A full budget, the usual case, is only read.
#[derive(Debug)]
pub struct Budget {
    /// Nanoseconds of the minimum rate that one retry uses up.
    cost: u64,
    /// Those that a first try earns.
    gain: u64,
    /// When the budget is full again.
    full_at: AtomicU64,
}

/// How long a budget saves up (`ttl` of tower's `TpsBudget`).
const SAVED: Duration = Duration::from_secs(10);

/// The pause before the n-th further try: doubling, capped, and the upper half of it at random,
/// so that clients that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first further try. Envoy's default: 25 ms.
    pub base: Duration,
    /// The longest. Envoy's default: 250 ms.
    pub max: Duration,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();
        Self { ratio: Percent::whole(20), min_per_second: TEN }
    }
}

impl Budget {
    /// A full budget.
    pub fn new(settings: BudgetSettings) -> Self {
        let second = clock::span(Duration::from_secs(1));
        let cost = (second / u64::from(settings.min_per_second.get())).max(1);
        let gain = cost * u64::from(settings.ratio.basis_points()) / 10_000;
        Self { cost, gain, full_at: AtomicU64::new(0) }
    }

    /// A first try: earns its share of a retry.
    pub fn deposit(&self, now: Instant) {
        let now = clock::nanos(now);
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        while full_at > now {
            match self.replace(full_at, full_at.saturating_sub(self.gain)) {
                Ok(()) => return,
                Err(actual) => full_at = actual,
            }
        }
    }

    /// Whether one retry may be made; it is paid for then.
    pub fn withdraw(&self, now: Instant) -> bool {
        let now = clock::nanos(now);
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(self.cost);
            if next - now > clock::span(SAVED) {
                return false;
            }
            match self.replace(full_at, next) {
                Ok(()) => return true,
                Err(actual) => full_at = actual,
            }
        }
    }

    fn replace(&self, old: u64, new: u64) -> Result<(), u64> {
        let swap =
            self.full_at.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed);
        swap.map(drop)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The pause before further try `n`, counted from 0.
    pub fn pause(&self, n: u32) -> Duration {
        self.jittered(n, rng::next())
    }

    /// The same with the caller's random number.
    pub fn jittered(&self, n: u32, random: u64) -> Duration {
        let doubled = self.base.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX));
        let whole = clock::span(doubled.min(self.max));
        let half = whole / 2;
        let extra = (u128::from(random) * u128::from(whole - half)) >> 64;
        Duration::from_nanos(half + extra as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries(budget: &Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_quiet_service_has_ten_seconds_of_the_minimum() {
        let budget = Budget::new(BudgetSettings::default());
        let now = Instant::now();
        assert_eq!(retries(&budget, now), 100);
        assert_eq!(retries(&budget, now + Duration::from_secs(1)), 10);
        assert_eq!(retries(&budget, now + Duration::from_hours(1)), 100);
    }

    /// T66.
    #[test]
    fn first_tries_earn_a_fifth() {
        let budget = Budget::new(BudgetSettings::default());
        let now = Instant::now();
        retries(&budget, now);
        (0..4).for_each(|_| budget.deposit(now));
        assert_eq!(retries(&budget, now), 0);
        budget.deposit(now);
        assert_eq!(retries(&budget, now), 1);
        (0..100).for_each(|_| budget.deposit(now));
        assert_eq!(retries(&budget, now), 20);
        // A busy hour saves up no more than the budget holds.
        (0..100_000).for_each(|_| budget.deposit(now));
        assert!((100..=101).contains(&retries(&budget, now)));
    }

    /// T66.
    #[test]
    fn threads_share_one_budget() {
        let budget = Budget::new(BudgetSettings::default());
        let now = Instant::now();
        let total: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| retries(&budget, now)));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 100);
    }

    proptest! {
        #[test]
        fn pauses_grow_and_are_capped(n: u32, random: u64) {
            let backoff = Backoff::default();
            let pause = backoff.jittered(n, random);
            let whole = Duration::from_millis(25 << n.min(4)).min(backoff.max);
            prop_assert!(pause >= whole / 2 && pause <= whole);
        }
    }
}
