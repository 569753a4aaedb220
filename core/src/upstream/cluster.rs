//! A service: its nodes, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Endpoint, Lease, Tried};
use crate::balance::{Algorithm, Balancer};
use crate::key::By;
use crate::{Code, Error};

/// What a service obeys.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The name in logs, metrics, errors and configuration.
    pub name: Arc<str>,
    /// How a node is chosen. Default round robin.
    pub balance: Algorithm,
    /// What `consistent_hash` goes by. Default the client's address.
    pub hash_by: By,
    /// For one connect including TLS. Default 2 s.
    pub connect_timeout: Duration,
    /// Nodes tried for one request at most, the first one included. Default 3.
    pub max_attempts: u32,
}

/// A service. Shared by all workers; what it knows of its nodes is true for the process.
#[derive(Debug)]
pub struct Cluster {
    /// Unique in the process, never reused.
    pub id: u64,
    settings: ClusterSettings,
    /// One version of the list of nodes with what is prepared for it, never changed in place.
    balancer: ArcSwap<Balancer>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl ClusterSettings {
    /// The defaults, under a name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            balance: Algorithm::default(),
            hash_by: By::Ip,
            connect_timeout: Duration::from_secs(2),
            max_attempts: 3,
        }
    }
}

impl Cluster {
    /// A service with its first list of nodes.
    pub fn new(settings: ClusterSettings, endpoints: Vec<Endpoint>) -> Arc<Self> {
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            balancer: ArcSwap::from_pointee(Balancer::new(settings.balance, endpoints)),
            settings,
        })
    }

    /// The name in logs, metrics and errors.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// What it obeys.
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// The nodes as they are now.
    pub fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        Arc::clone(self.balancer.load().endpoints())
    }

    /// What the choice of a node wants to know of the request; [`Self::acquire`] gets its key
    /// ([`key::of_ip`](crate::key::of_ip), [`key::stable`](crate::key::stable)).
    pub fn needs_key(&self) -> Option<&By> {
        match self.settings.balance {
            Algorithm::ConsistentHash => Some(&self.settings.hash_by),
            Algorithm::IpHash => Some(&By::Ip),
            _ => None,
        }
    }

    /// Replaces the list of nodes. A node that is in the old and in the new list (same name,
    /// scheme, address and TLS) stays the same [`Endpoint`]: its health, its exchanges under way
    /// and its pooled connections carry over, with the new weight.
    pub fn update(&self, endpoints: Vec<Endpoint>) {
        let old = self.endpoints();
        let keep = |new: Endpoint| match old.iter().find(|old| old.is_same_node(&new)) {
            Some(old) => {
                old.set_weight(new.weight());
                Arc::clone(old)
            }
            None => Arc::new(new),
        };
        let endpoints = endpoints.into_iter().map(keep).collect();
        self.balancer.store(Arc::new(Balancer::new(self.settings.balance, endpoints)));
    }

    /// Chooses a node for one exchange. Nodes that are unhealthy, of weight 0 or in `tried` are
    /// never chosen; nodes that lately refused connections only when there is no other.
    ///
    /// # Errors
    /// [`Code::NoHealthyNode`].
    pub fn acquire(
        self: &Arc<Self>,
        now: Instant,
        key: Option<u64>,
        tried: &Tried,
    ) -> Result<Lease, Error> {
        let balancer = self.balancer.load();
        let offered = |node: &Endpoint| node.is_healthy() && !tried.contains(node.id);
        let node = balancer
            .pick(key, |node| offered(node) && !node.is_avoided(now))
            .or_else(|| balancer.pick(key, offered));
        match node {
            Some(node) => Ok(Lease::new(Arc::clone(self), Arc::clone(node), now)),
            None => Err(self.no_node(balancer.endpoints(), tried)),
        }
    }

    #[cold]
    fn no_node(&self, endpoints: &[Arc<Endpoint>], tried: &Tried) -> Error {
        let name = self.name();
        let count = |test: &dyn Fn(&Endpoint) -> bool| endpoints.iter().filter(|e| test(e)).count();
        let sentence = if endpoints.is_empty() {
            format!("the service `{name}` has no nodes")
        } else {
            format!(
                "no node of the service `{name}` can be used: of {} nodes {} unhealthy, {} of \
                 weight 0, {} already tried for this request",
                endpoints.len(),
                count(&|e| !e.is_healthy()),
                count(&|e| e.weight() == 0),
                count(&|e| tried.contains(e.id)),
            )
        };
        Error::new(Code::NoHealthyNode, sentence).unsent()
    }
}

#[cfg(test)]
mod tests;
