//! A service: its nodes, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::mark::MarkKey;
use super::{Endpoint, Lease, Tried};
use crate::balance::{Alarm, Algorithm, Ask, BalanceSettings, Balancer, Subset, shown};
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
    /// How a node is chosen. Default round robin among all.
    pub balance: BalanceSettings,
    /// The subsets of its nodes that requests may ask for ([`Ask::subset`]). Default one: all.
    pub subsets: Vec<Subset>,
    /// The secret that [`Endpoint::mark`]s are made with. Default none: nodes have no marks.
    pub marks: Option<MarkKey>,
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
    /// One for each subset.
    alarms: Box<[Arc<Alarm>]>,
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
            balance: BalanceSettings::default(),
            subsets: vec![Subset::new()],
            marks: None,
            breaker: None,
            retry_budget: BudgetSettings::default(),
            connect_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_secs(50),
            max_attempts: 3,
        }
    }

    /// The node with its mark, where nodes have one.
    fn marked(&self, mut node: Endpoint) -> Endpoint {
        if let Some(key) = &self.marks {
            node.set_mark(key.of(&node));
        }
        node
    }
}

impl Cluster {
    /// A service with its first list of nodes.
    pub fn new(settings: ClusterSettings, endpoints: Vec<Endpoint>) -> Arc<Self> {
        let endpoints = endpoints.into_iter().map(|node| Arc::new(settings.marked(node)));
        let endpoints = endpoints.collect();
        let alarm = |subset: &Subset| Alarm::new(Arc::clone(&settings.title), subset);
        let alarms: Box<[_]> = settings.subsets.iter().map(alarm).collect();
        let (balance, subsets) = (&settings.balance, &settings.subsets);
        let balancer = Balancer::new(balance, subsets, &alarms, endpoints, None);
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            balancer: ArcSwap::from_pointee(balancer),
            alarms,
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
        let BalanceSettings { algorithm, hash_by, .. } = &self.settings.balance;
        match algorithm {
            Algorithm::ConsistentHash | Algorithm::Maglev => {
                Some(hash_by.as_ref().unwrap_or(&By::Ip))
            }
            Algorithm::IpHash => Some(&By::Ip),
            _ => None,
        }
    }

    /// Whether so few nodes are healthy at `now` that all are tried, in any subset.
    pub fn is_panic(&self, now: Instant) -> bool {
        self.balancer.load().is_panic(now)
    }

    /// Replaces the list of nodes. A node that is in the old and in the new list (same name,
    /// scheme, address, metadata and TLS) stays the same [`Endpoint`]: its health, its exchanges
    /// under way and its pooled connections carry over, with the new weight and priority. One that
    /// is new starts slowly, where the service has that.
    ///
    /// For one caller at a time, the control plane.
    pub fn update(&self, endpoints: Vec<Endpoint>) {
        let mut known: Vec<_> = self.endpoints().iter().map(Arc::clone).collect();
        let settings = &self.settings;
        let keep = |new: Endpoint| {
            if let Some(index) = known.iter().position(|old| old.is_same_node(&new)) {
                // Taken out, so that a node listed twice stays two.
                let old = known.swap_remove(index);
                old.set_weight(new.weight());
                old.set_priority(new.priority());
                return old;
            }
            new.begin_growth();
            Arc::new(settings.marked(new))
        };
        let endpoints = endpoints.into_iter().map(keep).collect();
        let (balance, subsets, old) = (&settings.balance, &settings.subsets, self.balancer.load());
        let balancer = Balancer::new(balance, subsets, &self.alarms, endpoints, Some(&old));
        self.balancer.store(Arc::new(balancer));
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
        self.acquire_for(now, &Ask { key, ..Ask::new(tried) })
    }

    /// [`Self::acquire`] for a request that brings more than a key.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn acquire_for(self: &Arc<Self>, now: Instant, ask: &Ask<'_>) -> Result<Lease, Error> {
        if ask.tried.is_empty() {
            self.retries.deposit(now);
        }
        let permit = match &self.breaker {
            None => None,
            Some(breaker) => Some(breaker.try_acquire(now).map_err(|open| self.is_open(open))?),
        };
        let balancer = self.balancer.load();
        match balancer.choose(ask, now) {
            Some(node) => Ok(Lease::new(Arc::clone(self), Arc::clone(node), permit, now)),
            None => Err(self.no_node(&balancer, ask)),
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
    fn no_node(&self, balancer: &Balancer, ask: &Ask<'_>) -> Error {
        let (title, endpoints) = (&self.settings.title, balancer.endpoints());
        let subset = self.settings.subsets.get(ask.subset).map(shown).unwrap_or_default();
        let count = |test: &dyn Fn(&Endpoint) -> bool| endpoints.iter().filter(|e| test(e)).count();
        let sentence = if endpoints.is_empty() {
            format!("{title} has no nodes")
        } else if balancer.len_of(ask.subset) == 0 {
            format!("{title} has no nodes with {subset}")
        } else {
            let with = if subset.is_empty() { subset } else { format!(" with {subset}") };
            format!(
                "no node of {title}{with} can be used: of {} nodes {} unhealthy, {} of \
                 weight 0, {} already tried for this request",
                endpoints.len(),
                count(&|e| !e.is_healthy()),
                count(&|e| e.weight() == 0),
                count(&|e| ask.tried.contains(e.id)),
            )
        };
        Error::new(Code::NoHealthyNode, sentence).unsent()
    }
}

#[cfg(test)]
mod tests;
