//! Limits of what comes within a connection or a call: messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Charged, Decision, LIMITS_MAX, Limiter};
use crate::key::By;

/// The limits of one connection's messages, each with the connection's key. All must agree. Those of
/// three places at most: a listener, a route, a service.
#[derive(Debug, Clone, Default)]
pub struct Meters(Vec<(Arc<Limiter>, u64)>);

/// A message too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Whether the limit is everybody's, so that the sender did nothing wrong.
    pub is_shared: bool,
    /// After which pause the next one is admitted.
    pub retry_after: Duration,
}

impl Meters {
    /// One more limit.
    pub fn add(&mut self, limiter: Arc<Limiter>, key: u64) {
        self.0.push((limiter, key));
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Charges one message to all of them, or to none.
    ///
    /// # Errors
    /// What the first of them that refuses says.
    pub fn take(&self, now: Instant) -> Result<(), Exceeded> {
        let mut places = [None; LIMITS_MAX * 3];
        for (at, (limiter, key)) in self.0.iter().enumerate() {
            let Charged { decision, place } = limiter.charge(*key, now);
            let Decision::Refused { retry_after, .. } = decision else {
                if let Some(charged) = places.get_mut(at) {
                    *charged = Some(place);
                }
                continue;
            };
            if limiter.settings().shadow {
                continue;
            }
            for ((limiter, key), place) in self.0.iter().zip(places) {
                if let Some(place) = place {
                    limiter.refund(*key, place, now);
                }
            }
            let is_shared = limiter.settings().by.iter().all(|by| *by == By::Global);
            return Err(Exceeded { is_shared, retry_after });
        }
        Ok(())
    }
}
