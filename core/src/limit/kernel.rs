//! The algorithms behind one face: pure functions of a state, a moment and a cost.
//!
//! A state is 48 bits, so that a key's fingerprint fits into the same word
//! ([`keyed`](super::keyed)). 0 is the state of a key that nothing is known of.

use std::time::Duration;

use super::concurrency::Concurrency;
use super::fixed_window::FixedWindow;
use super::leaky_bucket::LeakyBucket;
use super::settings::{Algorithm, Counted, LimitSettings};
use super::sliding_window::SlidingWindow;
use super::token_bucket::TokenBucket;
use super::{Decision, Step};

/// Bits of a state.
pub(super) const STATE_BITS: u32 = 48;
/// The bits of a word that are a state.
pub(super) const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

/// An algorithm with its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    Concurrency(Concurrency),
    FixedWindow(FixedWindow),
    LeakyBucket(LeakyBucket),
    SlidingWindow(SlidingWindow),
    TokenBucket(TokenBucket),
}

impl Kernel {
    pub(super) fn new(settings: &LimitSettings) -> Self {
        let rate = settings.rate;
        let burst = settings.burst.unwrap_or_else(|| rate.count()).get();
        match settings.algorithm {
            Algorithm::Concurrency => Self::Concurrency(Concurrency::new(rate.count())),
            Algorithm::FixedWindow => Self::FixedWindow(FixedWindow::new(rate)),
            Algorithm::LeakyBucket => {
                Self::LeakyBucket(LeakyBucket::new(rate, burst, settings.wait().get()))
            }
            Algorithm::SlidingWindow => Self::SlidingWindow(SlidingWindow::new(rate)),
            Algorithm::TokenBucket if settings.of == Counted::Bytes => {
                Self::TokenBucket(TokenBucket::of_bytes(rate, burst))
            }
            Algorithm::TokenBucket => Self::TokenBucket(TokenBucket::new(rate, burst)),
        }
    }

    /// The decision at `now` (nanoseconds), and the state after it, if that is another one.
    pub(super) fn decide(&self, state: u64, now: u64, cost: u32) -> Step {
        match self {
            Self::Concurrency(kernel) => kernel.decide(state, cost),
            Self::FixedWindow(kernel) => kernel.decide(state, now, cost),
            Self::LeakyBucket(kernel) => kernel.decide(state, now, cost),
            Self::SlidingWindow(kernel) => kernel.decide(state, now, cost),
            Self::TokenBucket(kernel) => kernel.decide(state, now, cost),
        }
    }

    /// Whether the state says nothing any more: forgetting it frees nobody.
    pub(super) fn is_idle(&self, state: u64, now: u64) -> bool {
        match self {
            Self::Concurrency(_) => state == 0,
            Self::FixedWindow(kernel) => kernel.is_idle(state, now),
            Self::LeakyBucket(kernel) => kernel.is_idle(state, now),
            Self::SlidingWindow(kernel) => kernel.is_idle(state, now),
            Self::TokenBucket(kernel) => kernel.is_idle(state, now),
        }
    }

    /// The state as if an admitted charge had never been.
    pub(super) fn refund(&self, state: u64, now: u64, cost: u32) -> u64 {
        match self {
            Self::Concurrency(_) => state.saturating_sub(u64::from(cost)),
            Self::FixedWindow(kernel) => kernel.refund(state, now, cost),
            Self::LeakyBucket(kernel) => kernel.refund(state, now, cost),
            Self::SlidingWindow(kernel) => kernel.refund(state, now, cost),
            Self::TokenBucket(kernel) => kernel.refund(state, now, cost),
        }
    }

    /// Charges what was used already; with the pause that brings it back to the rate. Only a token
    /// bucket can owe; others refuse, and the pause is when they would not.
    pub(super) fn settle(&self, state: u64, now: u64, cost: u32) -> (Duration, Option<u64>) {
        if let Self::TokenBucket(kernel) = self {
            let (wait, next) = kernel.settle(state, now, cost);
            return (wait, Some(next));
        }
        let Step { decision, next } = self.decide(state, now, cost);
        match decision {
            Decision::Admitted { wait, .. } => (wait, next),
            Decision::Refused { retry_after, .. } => (retry_after, None),
        }
    }
}
