//! The sliding window as two counts: this window's, and the last one's as far as it still reaches
//! into the time that is looked at.
//!
//! The last window's requests are taken to have come evenly, so two numbers do for what would need
//! the moment of every request (Cloudflare, "How we built rate limiting capable of scaling to
//! millions of domains", 2017: 0.003 % of 400 million requests decided otherwise). What the
//! estimate says is obeyed exactly, in integers; a client that sends everything at the end of one
//! window and at the begin of the next gets less than twice the limit within one length.

use std::time::Duration;

use super::{Decision, STATE_BITS, Step};
use crate::clock;
use crate::units::Rate;

/// The most that a window can count: leaves 12 bits for its number.
pub(super) const COUNT_MAX: u32 = (1 << 18) - 1;

/// So many in any window.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlidingWindow {
    limit: u32,
    /// Nanoseconds.
    length: u64,
    /// Bits of each count; the others of the state are the window's number.
    bits: u32,
}

/// What a state says at a moment.
struct Counts {
    number: u64,
    last: u64,
    this: u64,
    /// Nanoseconds of this window that are over.
    gone: u64,
}

impl SlidingWindow {
    pub(super) fn new(rate: Rate) -> Self {
        let limit = rate.count().get().min(COUNT_MAX);
        let bits = u32::BITS - limit.leading_zeros();
        Self { limit, length: clock::span(rate.per()).max(1), bits }
    }

    fn read(&self, state: u64, now: u64) -> Counts {
        let numbers = (1 << (STATE_BITS - 2 * self.bits)) - 1;
        let number = (now / self.length) & numbers;
        let gone = now % self.length;
        let count = |shift: u32| state >> shift & ((1 << self.bits) - 1);
        let of_state = state >> (2 * self.bits);
        if state == 0 {
            return Counts { number, last: 0, this: 0, gone };
        }
        let (last, this) = (count(self.bits), count(0));
        match number.wrapping_sub(of_state) & numbers {
            0 => Counts { number, last, this, gone },
            1 => Counts { number, last: this, this: 0, gone },
            // Another thread's clock is in the next window already.
            past if past == numbers => Counts { number: of_state, last, this, gone: 0 },
            _ => Counts { number, last: 0, this: 0, gone },
        }
    }

    fn state(&self, counts: &Counts) -> u64 {
        (counts.number << self.bits | counts.last) << self.bits | counts.this
    }

    /// Nanoseconds that must be over of a window after one with `last`, so that `more` fit.
    fn gone_for(&self, last: u64, more: u64) -> Option<u64> {
        let room = u64::from(self.limit).checked_sub(more)?;
        if last <= room {
            return Some(0);
        }
        // last * (length - gone) <= room * length
        let stay = u128::from(room) * u128::from(self.length) / u128::from(last);
        Some(self.length - stay as u64)
    }

    pub(super) fn decide(&self, state: u64, now: u64, cost: u32) -> Step {
        let Counts { last, this, gone, .. } = self.read(state, now);
        let (limit, length) = (self.limit, u128::from(self.length));
        let next = this + u64::from(cost);
        let weighed = u128::from(last) * (length - u128::from(gone));
        let used = weighed + u128::from(next) * length;
        let all = u128::from(limit) * length;
        let left = self.length - gone;
        let reset = Duration::from_nanos(if this > 0 { left + self.length } else { left });
        if used > all {
            let at = match self.gone_for(last, next) {
                Some(at) => at.saturating_sub(gone),
                None => left + self.gone_for(this, u64::from(cost)).unwrap_or(self.length),
            };
            return Step::refused(limit, Duration::from_nanos(at.max(1)), reset);
        }
        let decision = Decision::Admitted {
            limit,
            remaining: ((all - used) / length) as u32,
            reset: Duration::from_nanos(left + self.length),
            wait: Duration::ZERO,
        };
        let next = Counts { this: next, ..self.read(state, now) };
        Step { decision, next: Some(self.state(&next)) }
    }

    pub(super) fn is_idle(&self, state: u64, now: u64) -> bool {
        let Counts { last, this, .. } = self.read(state, now);
        last == 0 && this == 0
    }

    /// Takes a charge back, out of the window it was charged to if that can be known.
    pub(super) fn refund(&self, state: u64, now: u64, cost: u32) -> u64 {
        let mut counts = self.read(state, now);
        let cost = u64::from(cost);
        if counts.this >= cost {
            counts.this -= cost;
        } else {
            counts.last = counts.last.saturating_sub(cost);
        }
        self.state(&counts)
    }
}
