//! The token bucket as one number.
//!
//! The generic cell rate algorithm (ITU-T I.371; virtual scheduling form) keeps the moment at
//! which the bucket will be full again. A request moves it one interval into the future and is
//! refused if that would be further than the burst allows. One word, one compare-exchange a
//! request, no refill task.
//!
//! Time is told in 65536ths of a token, so that no interval is rounded: `3/s` is three a second,
//! not three each 999,999,999 ns.

use std::time::Duration;

use super::{Decision, STATE_MASK, Step};
use crate::clock;
use crate::units::Rate;

/// Parts of a token, as a power of two.
const SCALE: u32 = 16;

/// How far bytes may be owed: 16 GiB, which many connections of one key share.
const BYTES_AHEAD: u64 = 1 << 34;

/// The deepest bucket, in tokens. Keeps every moment within half of the clock's circle.
const BURST_MAX: u32 = 1 << 30;

/// How far the clocks of two threads may be apart. A state that is further ahead than that and
/// the depth is one that the clock went once around since: it says nothing any more.
const SKEW: Duration = Duration::from_secs(10);

/// A rate as a clock: tokens that came since the epoch, in 65536ths, modulo 2^48.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenClock {
    /// Units of a token, as a power of two.
    scale: u32,
    /// Units of a whole `per`.
    units: u64,
    /// Nanoseconds.
    per: u64,
    /// The furthest ahead of now that a state can be, in units.
    ahead_max: u64,
}

/// So many at a rate, and so many of them at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBucket {
    clock: TokenClock,
    /// The burst in units.
    depth: u64,
    burst: u32,
}

impl TokenClock {
    /// A clock whose states are at most `ahead` tokens ahead of it.
    pub(super) fn new(rate: Rate, ahead: u32) -> Self {
        let units = u64::from(rate.count().get()) << SCALE;
        let per = clock::span(rate.per()).max(1);
        let mut clock = Self { scale: SCALE, units, per, ahead_max: 0 };
        let skew = clock.units_of(SKEW);
        clock.ahead_max = clock.tokens(ahead).saturating_add(skew).min(STATE_MASK / 2);
        clock
    }

    /// A clock of bytes: a byte is not divided, and much can be owed.
    pub(super) fn of_bytes(rate: Rate) -> Self {
        let units = u64::from(rate.count().get());
        Self { scale: 0, units, per: clock::span(rate.per()).max(1), ahead_max: BYTES_AHEAD }
    }

    /// Whole tokens in units.
    pub(super) const fn tokens(&self, count: u32) -> u64 {
        (count as u64) << self.scale
    }

    /// Units in whole tokens.
    pub(super) const fn whole(&self, units: u64) -> u32 {
        (units >> self.scale) as u32
    }

    fn units_in(&self, nanos: u64) -> u64 {
        let units = u128::from(nanos) * u128::from(self.units) / u128::from(self.per);
        // Modulo 2^64, which modulo 2^48 is the same.
        units as u64
    }

    /// What is owed at `now` (nanoseconds): units until `state`, or none once it is past.
    pub(super) fn owed(&self, state: u64, now: u64) -> u64 {
        if state == 0 {
            return 0;
        }
        let ahead = state.wrapping_sub(self.units_in(now)) & STATE_MASK;
        if ahead > self.ahead_max { 0 } else { ahead }
    }

    /// The state that owes `units` at `now`.
    pub(super) fn state(&self, units: u64, now: u64) -> u64 {
        // 0 is the state of nobody.
        (self.units_in(now).wrapping_add(units) & STATE_MASK).max(1)
    }

    /// How long `units` take to come, rounded up to a nanosecond.
    pub(super) fn time_of(&self, units: u64) -> Duration {
        let nanos = (u128::from(units) * u128::from(self.per)).div_ceil(u128::from(self.units));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many units come in a time, rounded down.
    pub(super) fn units_of(&self, time: Duration) -> u64 {
        let nanos = time.as_nanos().min(u128::from(u64::MAX));
        u64::try_from(nanos * u128::from(self.units) / u128::from(self.per)).unwrap_or(u64::MAX)
    }

    /// The state without a charge of `tokens` that it has.
    pub(super) fn refund(&self, state: u64, now: u64, cost: u32) -> u64 {
        let owed = self.owed(state, now);
        if owed == 0 { state } else { self.state(owed.saturating_sub(self.tokens(cost)), now) }
    }
}

impl TokenBucket {
    /// So many at `rate`, `burst` of them at once, which is cut at 2^30.
    pub(super) fn new(rate: Rate, burst: u32) -> Self {
        let burst = burst.min(BURST_MAX);
        let clock = TokenClock::new(rate, burst);
        Self { clock, depth: clock.tokens(burst), burst }
    }

    /// So many bytes at `rate`, `burst` of them at once.
    pub(super) fn of_bytes(rate: Rate, burst: u32) -> Self {
        let clock = TokenClock::of_bytes(rate);
        Self { clock, depth: clock.tokens(burst), burst }
    }

    pub(super) fn decide(&self, state: u64, now: u64, cost: u32) -> Step {
        let limit = self.burst;
        let owed = self.clock.owed(state, now);
        let next = owed + self.clock.tokens(cost);
        if next > self.depth {
            let retry_after = self.clock.time_of(next - self.depth);
            let reset = self.clock.time_of(owed);
            return Step::refused(limit, retry_after, reset);
        }
        let decision = Decision::Admitted {
            limit,
            remaining: self.clock.whole(self.depth - next),
            reset: self.clock.time_of(next),
            wait: Duration::ZERO,
        };
        Step { decision, next: Some(self.clock.state(next, now)) }
    }

    pub(super) fn is_idle(&self, state: u64, now: u64) -> bool {
        self.clock.owed(state, now) == 0
    }

    pub(super) fn refund(&self, state: u64, now: u64, cost: u32) -> u64 {
        self.clock.refund(state, now, cost)
    }

    /// Charges what was used already, be it more than there is; with the pause until nothing more
    /// than the burst is owed.
    pub(super) fn settle(&self, state: u64, now: u64, cost: u32) -> (Duration, u64) {
        let next =
            (self.clock.owed(state, now) + self.clock.tokens(cost)).min(self.clock.ahead_max);
        let over = next.saturating_sub(self.depth);
        (self.clock.time_of(over), self.clock.state(next, now))
    }
}
