//! The token bucket as one number.
//!
//! The generic cell rate algorithm (ITU-T I.371; virtual scheduling form) keeps the moment at
//! which the bucket will be full again. A request moves it one interval into the future and is
//! refused if that would be further than the burst allows. One `AtomicU64`, one compare-exchange
//! a request, no refill task.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Decision;
use crate::clock;
use crate::units::Rate;

/// A rate and a burst, in the numbers that the algorithm needs.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Nanoseconds that one request uses up.
    interval: u64,
    /// How far from now the bucket may be full at most: burst times interval.
    depth: u64,
    limit: u32,
}

/// One bucket.
#[derive(Debug)]
pub struct TokenBucket {
    quota: Quota,
    full_at: AtomicU64,
}

/// The deepest bucket: 73 years. Keeps every sum below `u64::MAX`.
const DEPTH_MAX: u64 = 1 << 61;

impl Quota {
    /// So many at `rate`, `burst` of them at once.
    ///
    /// The interval is rounded up to a nanosecond, so what is admitted is never above the rate;
    /// below a million a second it is under it by less than a thousandth.
    pub fn new(rate: Rate, burst: NonZeroU32) -> Self {
        let interval = clock::span(rate.per()).div_ceil(u64::from(rate.count().get())).max(1);
        // A `Span` is 10 years at most, so one interval always fits.
        let limit = u64::from(burst.get()).min(DEPTH_MAX / interval).max(1);
        Self { interval, depth: interval * limit, limit: limit as u32 }
    }

    /// The decision on one request to a bucket that is full at `full_at`; and, if admitted, the
    /// moment it is full then, which is later than both `full_at` and `now`.
    pub(super) fn decide(&self, full_at: u64, now: u64) -> (Decision, Option<u64>) {
        let limit = self.limit;
        let next = full_at.max(now) + self.interval;
        let ahead = next - now;
        if ahead > self.depth {
            let retry_after = Duration::from_nanos(ahead - self.depth);
            let reset = Duration::from_nanos(ahead - self.interval);
            return (Decision::Refused { limit, retry_after, reset }, None);
        }
        // Below the limit, which is a `u32`.
        let remaining = ((self.depth - ahead) / self.interval) as u32;
        (Decision::Admitted { limit, remaining, reset: Duration::from_nanos(ahead) }, Some(next))
    }
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(quota: Quota) -> Self {
        Self { quota, full_at: AtomicU64::new(0) }
    }

    /// Takes one token, if there is one.
    pub fn check(&self, now: Instant) -> Decision {
        charge(&self.full_at, &self.quota, clock::nanos(now))
    }
}

/// Charges one request to a bucket.
pub(super) fn charge(bucket: &AtomicU64, quota: &Quota, now: u64) -> Decision {
    let mut full_at = bucket.load(Ordering::Relaxed);
    loop {
        let (decision, next) = quota.decide(full_at, now);
        let Some(next) = next else { return decision };
        match bucket.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return decision,
            Err(actual) => full_at = actual,
        }
    }
}
