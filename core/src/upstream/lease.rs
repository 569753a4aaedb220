//! The right to use one node for one exchange, given back on drop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Cluster, Endpoint};
use crate::breaker::Permit;

/// How an exchange with a node ended, as far as the node is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing can be said: the client went away, or the proxy gave up for its own reasons.
    Cancelled,
    /// No connection to the node came about. A failure that also keeps the node out of the
    /// choice for a while.
    ConnectFailed,
    /// The node failed the exchange: reset, timeout, malformed answer, an answer that the
    /// protocol counts as failure (5xx).
    Failure,
    /// The node did its work.
    Success,
}

/// The right to use one node for one exchange. Travels with the response body; its drop ends the
/// exchange, and a drop without [`Lease::settle`] means [`Outcome::Cancelled`].
#[derive(Debug)]
#[must_use = "dropping the lease ends the exchange"]
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    permit: Option<Permit>,
    started: Instant,
    settled: bool,
    /// Whether the balancer knows how long the node took.
    timed: bool,
}

/// The nodes already tried for one request. Up to four need no heap.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    few: [u64; 4],
    len: usize,
    more: Vec<u64>,
}

impl Lease {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        endpoint: Arc<Endpoint>,
        permit: Option<Permit>,
        now: Instant,
    ) -> Self {
        endpoint.enter();
        Self { cluster, endpoint, permit, started: now, settled: false, timed: false }
    }

    /// The node.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The service.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Whether a half-open breaker waits for the outcome of this exchange.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// How long the exchange has taken up to `now`.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Tells that the node answered at last: with the first byte of its response (HTTP), or by
    /// taking the connection (TCP). The time up to here is the latency that `peak_ewma` balances
    /// by; the other algorithms do not look at the clock. `failed`: it answered badly, or not at all.
    pub fn answered(&mut self, failed: bool) {
        if self.wants_latency() {
            let now = Instant::now();
            self.timed = true;
            self.endpoint.cost().note(self.elapsed(now), failed, now);
        }
    }

    fn wants_latency(&self) -> bool {
        !self.timed && self.cluster.settings().balance.algorithm.wants_latency()
    }

    /// Reports how the exchange ended. The first report counts; the node stays in use until the
    /// lease is dropped.
    ///
    /// What may last (a tunnel, a WebSocket, a stream) reports as soon as the node has agreed to
    /// it: the breaker's probes have a deadline, and an hour later nobody wants to know.
    pub fn settle(&mut self, outcome: Outcome, now: Instant) {
        if self.settled {
            return;
        }
        self.settled = true;
        match outcome {
            Outcome::Cancelled => {}
            Outcome::ConnectFailed => self.endpoint.note_connect_failure(now),
            // A node that answers, even badly, is reachable.
            Outcome::Failure | Outcome::Success => self.endpoint.note_reachable(),
        }
        let Some(permit) = self.permit.take() else { return };
        match outcome {
            Outcome::Cancelled => drop(permit),
            Outcome::ConnectFailed | Outcome::Failure => permit.report(false, now),
            Outcome::Success => permit.report(true, now),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.leave();
        if self.wants_latency() {
            // Whoever gave up waited at least so long, or a node that hangs would look well.
            let now = Instant::now();
            self.endpoint.cost().note_wait(self.elapsed(now), now);
        }
    }
}

impl Tried {
    /// None tried.
    pub const fn new() -> Self {
        Self { few: [0; 4], len: 0, more: Vec::new() }
    }

    /// Notes a node by its [`Endpoint::id`].
    pub fn insert(&mut self, id: u64) {
        if self.contains(id) {
            return;
        }
        match self.few.get_mut(self.len) {
            Some(slot) => *slot = id,
            None => self.more.push(id),
        }
        self.len += 1;
    }

    /// Whether that node was tried.
    pub fn contains(&self, id: u64) -> bool {
        // Nearly every choice is a request's first.
        self.len != 0 && self.few.iter().take(self.len).chain(&self.more).any(|&tried| tried == id)
    }

    /// How many nodes were tried.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was tried.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried_grows_past_its_inline_room() {
        let mut tried = Tried::new();
        assert!(tried.is_empty());
        for id in [1, 2, 2, 3, 4, 5, 6, 6] {
            tried.insert(id);
        }
        assert_eq!(tried.len(), 6);
        assert!((1..=6).all(|id| tried.contains(id)));
        assert!(!tried.contains(7) && !tried.contains(0));
    }
}
