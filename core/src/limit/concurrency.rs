//! So many at a time: what is under way is counted, and given back when it ends.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Decision, Step};

/// When a request that found no room had better come again. Nobody knows when others end.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// So many at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Concurrency {
    limit: u32,
}

impl Concurrency {
    pub(super) fn new(limit: NonZeroU32) -> Self {
        Self { limit: limit.get() }
    }

    pub(super) fn decide(self, state: u64, cost: u32) -> Step {
        let limit = self.limit;
        let next = state + u64::from(cost);
        if next > u64::from(limit) {
            return Step::refused(limit, RETRY_AFTER, RETRY_AFTER);
        }
        let remaining = limit - next as u32;
        let decision =
            Decision::Admitted { limit, remaining, reset: Duration::ZERO, wait: Duration::ZERO };
        Step { decision, next: Some(next) }
    }
}
