//! A service: its nodes, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Endpoint, Lease, Tried};
use crate::balance::{Algorithm, Balancer};
use crate::breaker::{Breaker, BreakerSettings, Open};
use crate::key::By;
use crate::retry::{Budget, BudgetSettings};
use crate::{Code, Error};

/// What a service obeys.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The name in logs, metrics, errors and configuration.
    pub name: Arc<str>,
    /// How sentences call it. Default ``the service `NAME` ``.
    pub title: Arc<str>,
    /// How a node is chosen. Default round robin.
    pub balance: Algorithm,
    /// What `consistent_hash` goes by. Default the client's address.
    pub hash_by: By,
    /// When the service is left alone. Default none: never.
    pub breaker: Option<BreakerSettings>,
    /// How many retries it may get. Default 20 % of the first tries and 10 a second.
    pub retry_budget: BudgetSettings,
    /// For one connect including TLS. Default 2 s.
    pub connect_timeout: Duration,
    /// How long a connection to a node is kept while nothing uses it, to within a second below;
    /// zero: not at all. Default 50 s (D04): less than what servers commonly allow, so that it is us
    /// who close it and no request meets a closing connection.
    pub keep_alive: Duration,
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
    breaker: Option<Arc<Breaker>>,
    retries: Budget,
    /// Tells that the list of nodes changed, and by its end that the service is gone.
    changes: watch::Sender<()>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl ClusterSettings {
    /// The defaults, under a name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            title: format!("the service `{name}`").into(),
            name,
            balance: Algorithm::default(),
            hash_by: By::Ip,
            breaker: None,
            retry_budget: BudgetSettings::default(),
            connect_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_secs(50),
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
            breaker: settings
                .breaker
                .clone()
                .map(|breaker| Breaker::new(Arc::clone(&settings.name), breaker)),
            retries: Budget::new(settings.retry_budget),
            changes: watch::Sender::new(()),
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

    /// Its breaker, if it has one.
    pub fn breaker(&self) -> Option<&Arc<Breaker>> {
        self.breaker.as_ref()
    }

    /// Wakes when the list of nodes changed; ends when the service is dropped.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
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
    /// scheme, address, metadata and TLS) stays the same [`Endpoint`]: its health, its exchanges
    /// under way and its pooled connections carry over, with the new weight.
    ///
    /// For one caller at a time, the control plane.
    pub fn update(&self, endpoints: Vec<Endpoint>) {
        let mut known: Vec<_> = self.endpoints().iter().map(Arc::clone).collect();
        let keep = |new: Endpoint| match known.iter().position(|old| old.is_same_node(&new)) {
            Some(index) => {
                // Taken out, so that a node listed twice stays two.
                let old = known.swap_remove(index);
                old.set_weight(new.weight());
                old
            }
            None => Arc::new(new),
        };
        let endpoints = endpoints.into_iter().map(keep).collect();
        self.balancer.store(Arc::new(Balancer::new(self.settings.balance, endpoints)));
        self.changes.send_replace(());
    }

    /// Chooses a node for one exchange. Nodes that are unhealthy, of weight 0 or in `tried` are
    /// never chosen; nodes that lately refused connections only when there is no other.
    ///
    /// # Errors
    /// [`Code::NoHealthyNode`], or [`Code::BreakerOpen`] with the time to wait. Both are unsent.
    pub fn acquire(
        self: &Arc<Self>,
        now: Instant,
        key: Option<u64>,
        tried: &Tried,
    ) -> Result<Lease, Error> {
        self.acquire_known(now, key, tried, None)
    }

    /// [`Self::acquire`] for a client that some nodes know already, told by their
    /// [`Endpoint::id`]: one of those that may be chosen at all is.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn acquire_known(
        self: &Arc<Self>,
        now: Instant,
        key: Option<u64>,
        tried: &Tried,
        is_known: Option<&dyn Fn(u64) -> bool>,
    ) -> Result<Lease, Error> {
        if tried.is_empty() {
            self.retries.deposit(now);
        }
        let permit = match &self.breaker {
            None => None,
            Some(breaker) => Some(breaker.try_acquire(now).map_err(|open| self.is_open(open))?),
        };
        let balancer = self.balancer.load();
        let offered = |node: &Endpoint| node.is_healthy() && !tried.contains(node.id);
        let known = is_known.and_then(|is_known| {
            let may = |node: &&Arc<Endpoint>| is_known(node.id) && node.weight() > 0;
            balancer.endpoints().iter().find(|node| may(node) && offered(node))
        });
        let node = known
            .or_else(|| balancer.pick(key, |node| offered(node) && !node.is_avoided(now)))
            .or_else(|| balancer.pick(key, offered));
        match node {
            Some(node) => Ok(Lease::new(Arc::clone(self), Arc::clone(node), permit, now)),
            None => Err(self.no_node(balancer.endpoints(), tried)),
        }
    }

    /// Whether the retry budget allows one more try of a request that a node has seen; it is paid
    /// for then. A try that no byte of reached a node ([`Error::is_unsent`]) added no load, so
    /// the next one needs no budget.
    pub fn may_retry(&self, now: Instant) -> bool {
        self.retries.withdraw(now)
    }

    #[cold]
    fn is_open(&self, open: Open) -> Error {
        // To the tenth of a second above: "in 0s" would be an invitation.
        let tenths = open.retry_after.as_millis().div_ceil(100);
        let (title, whole, tenth) = (&self.settings.title, tenths / 10, tenths % 10);
        let sentence = format!(
            "the nodes of {title} failed too often and the breaker is open; next try in \
             {whole}.{tenth}s"
        );
        Error::new(Code::BreakerOpen, sentence).unsent().retry_in(open.retry_after)
    }

    #[cold]
    fn no_node(&self, endpoints: &[Arc<Endpoint>], tried: &Tried) -> Error {
        let title = &self.settings.title;
        let count = |test: &dyn Fn(&Endpoint) -> bool| endpoints.iter().filter(|e| test(e)).count();
        let sentence = if endpoints.is_empty() {
            format!("{title} has no nodes")
        } else {
            format!(
                "no node of {title} can be used: of {} nodes {} unhealthy, {} of \
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
