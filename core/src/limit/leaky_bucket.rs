//! The leaky bucket as a queue (the "meter" form is the token bucket's): requests leave one by
//! one, an interval apart, and those that would wait too long are refused.
//!
//! The queue is a moment, the one at which the last of those in it leaves (as nginx's `limit_req`
//! with `burst` counts its excess); who is admitted is told how long to wait.

use std::time::Duration;

use super::token_bucket::TokenClock;
use super::{Decision, Step};
use crate::units::Rate;

/// Places of the queue at most.
const PLACES_MAX: u32 = 1 << 29;

/// So many at a rate, evenly, and so many waiting for their turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeakyBucket {
    clock: TokenClock,
    /// What may be owed when a request comes, in units.
    queue: u64,
    places: u32,
}

impl LeakyBucket {
    /// One each interval of `rate`, `places` waiting, none of them longer than `wait`.
    pub(super) fn new(rate: Rate, places: u32, wait: Duration) -> Self {
        let clock = TokenClock::new(rate, places.min(PLACES_MAX) + 1);
        let places =
            u64::from(places.min(PLACES_MAX)).min(clock.units_of(wait) / clock.tokens(1)) as u32;
        Self { clock, queue: clock.tokens(places), places }
    }

    pub(super) fn decide(&self, state: u64, now: u64, cost: u32) -> Step {
        // The one that leaves at once has no place in the queue.
        let limit = self.places + 1;
        let owed = self.clock.owed(state, now);
        let before = owed + self.clock.tokens(cost.saturating_sub(1));
        if before > self.queue {
            let retry_after = self.clock.time_of(before - self.queue);
            return Step::refused(limit, retry_after, self.clock.time_of(owed));
        }
        let next = owed + self.clock.tokens(cost);
        let decision = Decision::Admitted {
            limit,
            remaining: self.clock.whole(self.clock.tokens(limit).saturating_sub(next)),
            reset: self.clock.time_of(next),
            wait: self.clock.time_of(owed),
        };
        Step { decision, next: Some(self.clock.state(next, now)) }
    }

    pub(super) fn is_idle(&self, state: u64, now: u64) -> bool {
        self.clock.owed(state, now) == 0
    }

    pub(super) fn refund(&self, state: u64, now: u64, cost: u32) -> u64 {
        self.clock.refund(state, now, cost)
    }
}
