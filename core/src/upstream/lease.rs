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
    /// A failure that says that nothing behind the node answered: 502, 503, 504, `UNAVAILABLE`, no
    /// answer at all.
    GatewayFailure,
    /// The node refused because it was asked too often (429, `RESOURCE_EXHAUSTED`): it is there, and
    /// one client's greed is no failure of its.
    Limited,
    /// The node did its work.
    Success,
}

impl Outcome {
    /// Whether the node is to blame.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::ConnectFailed | Self::Failure | Self::GatewayFailure)
    }
}

/// What the breakers on the way permitted.
#[derive(Debug, Default)]
pub(super) struct Permits {
    pub(super) route: Option<Permit>,
    pub(super) service: Option<Permit>,
    pub(super) node: Option<Permit>,
}

impl Permits {
    fn all(&self) -> impl Iterator<Item = &Permit> {
        [&self.route, &self.service, &self.node].into_iter().flatten()
    }

    fn report(&mut self, outcome: Outcome, took: Option<Duration>, now: Instant) {
        let all = [&mut self.route, &mut self.service, &mut self.node];
        for permit in all.into_iter().flatten() {
            match outcome {
                Outcome::Cancelled | Outcome::Limited => permit.abstain(),
                Outcome::Success => permit.report(true, took, now),
                Outcome::ConnectFailed | Outcome::Failure | Outcome::GatewayFailure => {
                    permit.report(false, took, now);
                }
            }
        }
    }
}

/// The right to use one node for one exchange. Travels with the response body; its drop ends the
/// exchange, and a drop without [`Lease::settle`] means [`Outcome::Cancelled`].
#[derive(Debug)]
#[must_use = "dropping the lease ends the exchange"]
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    /// Held until the end, reported or not: they count in the breakers' capacities.
    permits: Permits,
    started: Instant,
    settled: bool,
    /// Whether anything wants to know how long the answer takes.
    wants_latency: bool,
    /// How long it took, once it is known and if anything wants to know.
    took: Option<Duration>,
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
        permits: Permits,
        now: Instant,
    ) -> Self {
        endpoint.enter();
        let wants_latency = cluster.wants_latency() || permits.all().any(Permit::wants_latency);
        Self { cluster, endpoint, permits, started: now, settled: false, wants_latency, took: None }
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
        self.permits.all().any(Permit::is_probe)
    }

    /// How long the exchange has taken up to `now`.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Tells that the node answered at last: with the first byte of its response (HTTP), or by
    /// taking the connection (TCP). The time up to here is the latency that `peak_ewma`, slow calls
    /// and passive health go by; where none of these is, nobody looks at the clock. `failed`: it
    /// answered badly, or not at all.
    pub fn answered(&mut self, failed: bool) {
        if self.wants_latency && self.took.is_none() {
            let now = Instant::now();
            self.took = Some(self.elapsed(now));
            if self.is_balanced_by_latency() {
                self.endpoint.cost().note(self.elapsed(now), failed, now);
            }
        }
    }

    fn is_balanced_by_latency(&self) -> bool {
        self.cluster.settings().balance.algorithm.wants_latency()
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
            _ => self.endpoint.note_reachable(),
        }
        self.cluster.note(&self.endpoint, outcome, self.took, now);
        self.permits.report(outcome, self.took, now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.leave();
        if self.wants_latency && self.took.is_none() && self.is_balanced_by_latency() {
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
