//! Moments as one number, so that they fit an atomic.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Zero of [`nanos`]: a little before the first use, so that a moment taken just before that
/// first use does not fall below it.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_mins(1)).unwrap_or(now)
});

/// Nanoseconds from the process's epoch to `now`; never 0, because atomics use 0 for "never".
///
/// A `u64` holds 584 years of them.
pub(crate) fn nanos(now: Instant) -> u64 {
    span(now.saturating_duration_since(*EPOCH)).max(1)
}

/// A duration in nanoseconds, cut at the largest `u64`.
pub(crate) fn span(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
