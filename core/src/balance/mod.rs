//! Which node serves next.
//!
//! A [`Balancer`] is built for one version of the list of nodes and shared by all workers; what
//! moves in it is atomic counters. `view.rs` says which nodes come into question (subset, level,
//! zone, panic), and a kernel chooses among these. A new algorithm is one file here, one variant of
//! [`Algorithm`] and one of `Kernel`.

mod algorithm;
mod field;
mod first;
mod kernel;
mod least_connections;
mod maglev;
pub(crate) mod peak_ewma;
mod power_of_two;
mod ramp;
mod random;
mod rendezvous;
mod ring;
pub(crate) mod rng;
mod settings;
mod turns;
mod view;

use std::sync::Arc;
use std::time::Instant;

use crate::breaker::Breaker;
use crate::upstream::{Endpoint, Tried};
pub use algorithm::{Algorithm, AlgorithmError};
pub use settings::{BalanceSettings, Subset, ZoneError, ZoneSettings};
use view::View;
pub(crate) use view::{Alarm, shown};

/// The choice among one version of the list of nodes.
#[derive(Debug)]
pub struct Balancer {
    endpoints: Arc<[Arc<Endpoint>]>,
    views: Box<[View]>,
}

/// What a request brings to the choice of its node.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// What the hash algorithms go by ([`key::of_ip`](crate::key::of_ip),
    /// [`key::stable`](crate::key::stable)); without one they choose at random.
    pub key: Option<u64>,
    /// The [`Endpoint::mark`] of the node that served the client before.
    pub mark: Option<u64>,
    /// Whether a node, told by its [`Endpoint::id`], knows the client's connection: one of those
    /// that may be chosen at all is.
    pub is_known: Option<&'a dyn Fn(u64) -> bool>,
    /// The number of the subset that the node must be of, as the service lists them.
    pub subset: usize,
    /// The nodes that are out because this request was there already.
    pub tried: &'a Tried,
    /// A breaker of the asker's own, before that of the service.
    pub breaker: Option<&'a Arc<Breaker>>,
}

impl<'a> Ask<'a> {
    /// A request that brings nothing but where it was.
    pub fn new(tried: &'a Tried) -> Self {
        Self { key: None, mark: None, is_known: None, subset: 0, tried, breaker: None }
    }
}

impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask")
            .field("key", &self.key)
            .field("mark", &self.mark)
            .field("subset", &self.subset)
            .field("tried", &self.tried)
            .finish_non_exhaustive()
    }
}

impl Balancer {
    /// Prepares the choice among `endpoints`, for each of the `subsets`, by the weights they have
    /// now; a changed weight wants a new balancer (a weight of 0 is obeyed at once). `alarms`: of
    /// the subsets. `old`: the balancer of the list before, whose turns it takes up.
    pub(crate) fn new(
        settings: &BalanceSettings,
        subsets: &[Subset],
        alarms: &[Arc<Alarm>],
        endpoints: Arc<[Arc<Endpoint>]>,
        old: Option<&Self>,
    ) -> Self {
        let views = subsets.iter().zip(alarms).enumerate().map(|(number, (subset, alarm))| {
            let old = old.and_then(|old| old.views.get(number));
            View::new(settings, subset, &endpoints, Arc::clone(alarm), old)
        });
        Self { views: views.collect(), endpoints }
    }

    /// The nodes it chooses from.
    pub(crate) fn endpoints(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.endpoints
    }

    /// The number of nodes in a subset.
    pub(crate) fn len_of(&self, subset: usize) -> usize {
        self.views.get(subset).map_or(0, View::len)
    }

    /// Whether health is not asked at `now`, in any of the subsets.
    pub(crate) fn is_panic(&self, now: Instant) -> bool {
        self.views.iter().any(|view| view.is_panic(now))
    }

    /// The node that serves next. None that is unhealthy (but in panic), of weight 0, of another
    /// subset or tried; one that lately refused connections only when there is no other.
    pub(crate) fn choose(&self, ask: &Ask<'_>, now: Instant) -> Option<&Arc<Endpoint>> {
        self.views.get(ask.subset)?.choose(ask, now)
    }
}

#[cfg(test)]
mod tests;
