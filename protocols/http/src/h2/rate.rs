//! What a peer may do that costs us and brings it nothing, before it is told to calm down.

use std::time::{Duration, Instant};

/// A bucket of things allowed. It fills with time and with honest work, so that a busy peer, such
/// as a proxy that carries thousands of users on one connection, is never taken for an attacker.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u32,
    capacity: u32,
    /// Time for one more.
    every: Duration,
    filled: Option<Instant>,
}

impl Bucket {
    pub(super) const fn new(capacity: u32, per_second: u32) -> Self {
        let every = Duration::from_nanos(1_000_000_000 / per_second as u64);
        Self { left: capacity, capacity, every, filled: None }
    }

    /// Takes one; false when there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.take_many(1, now)
    }

    /// Takes so many, or none; false when there are less.
    pub(super) fn take_many(&mut self, count: u32, now: Instant) -> bool {
        self.fill(now);
        match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Honest work was done.
    pub(super) fn earn(&mut self) {
        self.left = (self.left + 1).min(self.capacity);
    }

    fn fill(&mut self, now: Instant) {
        let Some(filled) = self.filled else {
            self.filled = Some(now);
            return;
        };
        let gained = now.saturating_duration_since(filled).as_nanos() / self.every.as_nanos();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(gained).min(self.capacity);
            self.filled = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_capacity_passes_and_one_more_does_not() {
        let now = Instant::now();
        let mut bucket = Bucket::new(3, 10);
        assert!([bucket.take(now), bucket.take(now), bucket.take(now)].iter().all(|ok| *ok));
        assert!(!bucket.take(now));
        assert!(bucket.take(now + Duration::from_millis(100)));
        assert!(!bucket.take(now + Duration::from_millis(150)));
        bucket.earn();
        assert!(bucket.take(now + Duration::from_millis(150)));
    }

    #[test]
    fn many_are_taken_whole_or_not_at_all() {
        let now = Instant::now();
        let mut bucket = Bucket::new(5, 10);
        assert!(bucket.take_many(3, now));
        assert!(!bucket.take_many(3, now));
        assert!(bucket.take_many(2, now) && !bucket.take(now));
    }

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let now = Instant::now();
        let mut bucket = Bucket::new(2, 10);
        bucket.earn();
        assert!(bucket.take(now) && bucket.take(now) && !bucket.take(now));
        let later = now + Duration::from_hours(1);
        assert!(bucket.take(later) && bucket.take(later) && !bucket.take(later));
    }
}
