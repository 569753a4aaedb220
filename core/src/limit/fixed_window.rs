//! The fixed window: a count that begins anew with every window.
//!
//! Windows stand one after the other from the process's epoch on, the same for all keys. The state
//! is the window's number and the count, in one word.

use std::time::Duration;

use super::{Decision, STATE_BITS, Step};
use crate::clock;
use crate::units::Rate;

/// So many in each window.
#[derive(Debug, Clone, Copy)]
pub(super) struct FixedWindow {
    limit: u32,
    /// Nanoseconds.
    length: u64,
    /// Bits of the count; the others of the state are the window's number.
    bits: u32,
}

impl FixedWindow {
    pub(super) fn new(rate: Rate) -> Self {
        let limit = rate.count().get();
        let bits = u32::BITS - limit.leading_zeros();
        Self { limit, length: clock::span(rate.per()).max(1), bits }
    }

    /// The number of the window that counts at `now`, and what it counted.
    fn read(&self, state: u64, now: u64) -> (u64, u64) {
        let numbers = (1 << (STATE_BITS - self.bits)) - 1;
        let number = (now / self.length) & numbers;
        let of_state = state >> self.bits;
        let ahead = of_state.wrapping_sub(number) & numbers;
        match ahead {
            _ if state == 0 => (number, 0),
            // 1: another thread's clock is in the next window already.
            0 | 1 => (of_state, state & ((1 << self.bits) - 1)),
            _ => (number, 0),
        }
    }

    fn left(&self, now: u64) -> Duration {
        Duration::from_nanos(self.length - now % self.length)
    }

    pub(super) fn decide(&self, state: u64, now: u64, cost: u32) -> Step {
        let (number, count) = self.read(state, now);
        let (limit, reset) = (self.limit, self.left(now));
        let next = count + u64::from(cost);
        if next > u64::from(limit) {
            return Step::refused(limit, reset, reset);
        }
        let remaining = limit - next as u32;
        let decision = Decision::Admitted { limit, remaining, reset, wait: Duration::ZERO };
        Step { decision, next: Some(number << self.bits | next) }
    }

    pub(super) fn is_idle(&self, state: u64, now: u64) -> bool {
        self.read(state, now).1 == 0
    }

    pub(super) fn refund(&self, state: u64, now: u64, cost: u32) -> u64 {
        let (number, count) = self.read(state, now);
        if count == 0 {
            return state; // its window is over
        }
        number << self.bits | count.saturating_sub(u64::from(cost))
    }
}
