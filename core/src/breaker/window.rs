//! Calls and failures of the last few seconds, in buckets that forget by themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// A rolling window of equal buckets.
///
/// A bucket is one number: which tick of the clock it belongs to (20 bits), calls and failures
/// (22 bits each). Who finds an old tick starts the bucket anew, so there is no task that turns
/// the ring. 20 bits of one-second ticks come round after 12 days: a bucket not touched for
/// exactly that long would count once more.
#[derive(Debug)]
pub(super) struct Window {
    /// Nanoseconds of a bucket.
    width: u64,
    buckets: Box<[AtomicU64]>,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) failures: u64,
}

const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const TICKS: u64 = (1 << 20) - 1;

impl Window {
    pub(super) fn new(length: Duration, buckets: u16) -> Self {
        let buckets = buckets.max(1);
        Self {
            width: (clock::span(length) / u64::from(buckets)).max(1),
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts one finished call.
    pub(super) fn record(&self, success: bool, at: u64) {
        let tick = at / self.width;
        let Some(bucket) = self.buckets.get((tick % self.buckets.len() as u64) as usize) else {
            return;
        };
        let mut packed = bucket.load(Ordering::Relaxed);
        loop {
            let age = Self::age(packed, tick);
            if age > TICKS / 2 {
                return; // another thread is a whole window ahead of us
            }
            let Counts { total, failures } =
                if age == 0 { unpack(packed) } else { Counts::default() };
            if total == COUNT_MAX {
                return; // four million calls a bucket tell the rate well enough
            }
            let failures = failures + u64::from(!success);
            let next = (tick & TICKS) << (2 * COUNT_BITS) | (total + 1) << COUNT_BITS | failures;
            match bucket.compare_exchange_weak(packed, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => packed = actual,
            }
        }
    }

    /// All that is not older than the window.
    pub(super) fn sum(&self, at: u64) -> Counts {
        let tick = at / self.width;
        let packed = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        packed.filter(|&packed| Self::age(packed, tick) < self.buckets.len() as u64).fold(
            Counts::default(),
            |sum, packed| {
                let Counts { total, failures } = unpack(packed);
                Counts { total: sum.total + total, failures: sum.failures + failures }
            },
        )
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }

    /// How many ticks ago the bucket was in use.
    fn age(packed: u64, tick: u64) -> u64 {
        if packed == 0 {
            return 0; // never used: as good as new
        }
        tick.wrapping_sub(packed >> (2 * COUNT_BITS)) & TICKS
    }
}

fn unpack(packed: u64) -> Counts {
    Counts { total: packed >> COUNT_BITS & COUNT_MAX, failures: packed & COUNT_MAX }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_forget_one_by_one() {
        let window = Window::new(Duration::from_nanos(100), 10);
        (0..10).for_each(|tick| window.record(tick % 2 == 0, 1_000 + tick * 10));
        assert_eq!(window.sum(1_099), Counts { total: 10, failures: 5 });
        assert_eq!(window.sum(1_100), Counts { total: 9, failures: 5 });
        assert_eq!(window.sum(1_110), Counts { total: 8, failures: 4 });
        assert_eq!(window.sum(1_200), Counts::default());
        window.record(false, 1_105);
        assert_eq!(window.sum(1_109), Counts { total: 10, failures: 6 });
        window.clear();
        assert_eq!(window.sum(1_109), Counts::default());
    }

    #[test]
    fn a_full_bucket_keeps_its_proportion() {
        let window = Window::new(Duration::from_secs(10), 1);
        (0..COUNT_MAX + 1_000).for_each(|n| window.record(n % 2 == 0, 5));
        let counts = window.sum(5);
        assert_eq!(counts.total, COUNT_MAX);
        assert_eq!(counts.failures, COUNT_MAX / 2);
    }

    #[test]
    fn four_threads_lose_nothing() {
        let window = Window::new(Duration::from_secs(10), 10);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let window = &window;
                scope.spawn(move || {
                    (0..25_000).for_each(|n| window.record(thread != 0, n * 300_000));
                });
            }
        });
        assert_eq!(window.sum(8_000_000_000), Counts { total: 100_000, failures: 25_000 });
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(calls in prop::collection::vec((0_u64..40, any::<bool>()), 1..200)) {
            let window = Window::new(Duration::from_nanos(100), 10);
            let (mut at, mut list) = (10_000, VecDeque::new());
            for (pause, success) in calls {
                at += pause;
                window.record(success, at);
                list.push_back((at / 10, success));
                list.retain(|(tick, _)| at / 10 - tick < 10);
                let failures = list.iter().filter(|(_, success)| !success).count() as u64;
                prop_assert_eq!(window.sum(at), Counts { total: list.len() as u64, failures });
            }
        }
    }
}
