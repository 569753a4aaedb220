//! A service: its nodes, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Endpoint, Lease, Tried};
use crate::key::By;
use crate::{Code, Error};

/// What a service obeys.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The name in logs, metrics, errors and configuration.
    pub name: Arc<str>,
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
    nodes: ArcSwap<Nodes>,
}

/// One version of the list of nodes, never changed in place.
#[derive(Debug)]
struct Nodes {
    endpoints: Arc<[Arc<Endpoint>]>,
    cursor: AtomicUsize,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl ClusterSettings {
    /// The defaults, under a name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), connect_timeout: Duration::from_secs(2), max_attempts: 3 }
    }
}

impl Cluster {
    /// A service with its first list of nodes.
    pub fn new(settings: ClusterSettings, endpoints: Vec<Endpoint>) -> Arc<Self> {
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            settings,
            nodes: ArcSwap::from_pointee(Nodes { endpoints, cursor: AtomicUsize::new(0) }),
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
        Arc::clone(&self.nodes.load().endpoints)
    }

    /// What the choice of a node wants to know of the request; [`Self::acquire`] gets its key
    /// ([`key::of_ip`](crate::key::of_ip), [`key::stable`](crate::key::stable)).
    pub fn needs_key(&self) -> Option<&By> {
        None
    }

    /// Chooses a node for one exchange. Nodes that are unhealthy, of weight 0 or in `tried` are
    /// never chosen; nodes that lately refused connections only when there is no other.
    ///
    /// # Errors
    /// [`Code::NoHealthyNode`].
    pub fn acquire(
        self: &Arc<Self>,
        now: Instant,
        _key: Option<u64>,
        tried: &Tried,
    ) -> Result<Lease, Error> {
        let nodes = self.nodes.load();
        let offered =
            |node: &Endpoint| node.weight() != 0 && node.is_healthy() && !tried.contains(node.id);
        let node = nodes
            .pick(|node| offered(node) && !node.is_avoided(now))
            .or_else(|| nodes.pick(offered));
        match node {
            Some(node) => Ok(Lease::new(Arc::clone(self), Arc::clone(node), now)),
            None => Err(self.no_node(&nodes.endpoints, tried)),
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

impl Nodes {
    fn pick(&self, usable: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        let len = self.endpoints.len();
        (0..len)
            .map(|_| self.cursor.fetch_add(1, Ordering::Relaxed) % len)
            .filter_map(|index| self.endpoints.get(index))
            .find(|node| usable(node))
    }
}

#[cfg(test)]
mod tests;
