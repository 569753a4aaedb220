//! Slow start: the share of a node that is new or came back grows.
//!
//! A cold node (empty caches, code not yet compiled) that gets its whole share at once answers
//! late, and balancers that go by load send it even more, because it is idle. The share grows in a
//! straight line as Envoy's does with `aggression` 1, from a tenth of the weight:
//! `max(0.1, passed / window)`.

use std::time::Instant;

use crate::clock;
use crate::units::Span;
use crate::upstream::Endpoint;

/// The share at the beginning, as a part of 2^32: a tenth.
const LEAST: u64 = (1 << 32) / 10;

/// How long the share of a node grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ramp {
    window: u64,
}

impl Ramp {
    /// None for a window of zero.
    pub(super) fn new(window: Span) -> Option<Self> {
        (!window.is_zero()).then(|| Self { window: clock::span(window.get()) })
    }

    /// What has grown of `full`.
    pub(super) fn of(self, full: u64, node: &Endpoint, now: Instant) -> u64 {
        match self.grown(node, now) {
            None => full,
            // Below `full`, because what has grown is below 2^32.
            Some(part) => ((u128::from(full) * u128::from(part)) >> 32) as u64,
        }
    }

    /// Whether the coin is below what has grown.
    pub(super) fn admits(self, node: &Endpoint, now: Instant, coin: impl FnOnce() -> u64) -> bool {
        self.grown(node, now).is_none_or(|part| coin() >> 32 < part)
    }

    /// The part of 2^32 that has grown; none: all of it.
    fn grown(self, node: &Endpoint, now: Instant) -> Option<u64> {
        if !node.is_growing() {
            return None;
        }
        let now = clock::nanos(now);
        let passed = now.saturating_sub(node.grows_since(now));
        if passed >= self.window {
            node.end_growth();
            return None;
        }
        // Below 2^32, because `passed` is below the window.
        let part = ((u128::from(passed) << 32) / u128::from(self.window)) as u64;
        Some(part.max(LEAST))
    }
}
