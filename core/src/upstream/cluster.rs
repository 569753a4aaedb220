//! A service: its nodes, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::lease::Permits;
use super::mark::MarkKey;
use super::{Endpoint, Lease, Outcome, Tried};
use crate::balance::{Alarm, Algorithm, Ask, BalanceSettings, Balancer, Subset, shown};
use crate::breaker::{Breaker, BreakerSettings, Permit, Refusal, Scope};
use crate::health::passive::{OutlierSettings, Outliers};
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
    /// When one of its nodes is. Default none: never.
    pub node_breaker: Option<BreakerSettings>,
    /// When nodes are left out for how their calls end. Default none: never.
    pub outliers: Option<OutlierSettings>,
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
    outliers: Option<Outliers>,
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
            node_breaker: None,
            outliers: None,
            retry_budget: BudgetSettings::default(),
            connect_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_secs(50),
            max_attempts: 3,
        }
    }

    /// The node with its mark and its breaker, where nodes have them.
    fn prepared(&self, mut node: Endpoint) -> Endpoint {
        if let Some(breaker) = &self.node_breaker {
            let name = format!("{}/{}", self.name, node.name);
            let title = format!("the node `{}` of {}", node.name, self.title);
            node.set_breaker(Breaker::new(Scope::Node, name, title, breaker.clone()));
        }
        if let Some(key) = &self.marks {
            node.set_mark(key.of(&node));
        }
        node
    }
}

impl Cluster {
    /// A service with its first list of nodes.
    pub fn new(settings: ClusterSettings, endpoints: Vec<Endpoint>) -> Arc<Self> {
        let endpoints = endpoints.into_iter().map(|node| Arc::new(settings.prepared(node)));
        let endpoints = endpoints.collect();
        let alarm = |subset: &Subset| Alarm::new(Arc::clone(&settings.title), subset);
        let alarms: Box<[_]> = settings.subsets.iter().map(alarm).collect();
        let (balance, subsets) = (&settings.balance, &settings.subsets);
        let balancer = Balancer::new(balance, subsets, &alarms, endpoints, None);
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            balancer: ArcSwap::from_pointee(balancer),
            alarms,
            breaker: settings.breaker.clone().map(|breaker| {
                let (name, title) = (Arc::clone(&settings.name), Arc::clone(&settings.title));
                Breaker::new(Scope::Service, name, title, breaker)
            }),
            outliers: settings.outliers.clone().map(Outliers::new),
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
            Arc::new(settings.prepared(new))
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
        let mut permits = Permits {
            route: ask.breaker.map(|breaker| pass(breaker, now)).transpose()?,
            service: self.breaker.as_ref().map(|breaker| pass(breaker, now)).transpose()?,
            node: None,
        };
        let balancer = self.balancer.load();
        let Some(mut node) = balancer.choose(ask, now) else {
            return Err(self.no_node(&balancer, ask, now));
        };
        if let Some(breaker) = node.breaker() {
            (node, permits.node) = match breaker.try_acquire(now) {
                Ok(permit) => (node, Some(permit)),
                Err(_) => self.another(&balancer, node, ask, now)?,
            };
        }
        Ok(Lease::new(Arc::clone(self), Arc::clone(node), permits, now))
    }

    /// A node whose breaker lets the call through, when that of the one chosen `first` did not
    /// after all: another worker was faster.
    #[cold]
    fn another<'a>(
        &self,
        balancer: &'a Balancer,
        first: &'a Arc<Endpoint>,
        ask: &Ask<'_>,
        now: Instant,
    ) -> Result<(&'a Arc<Endpoint>, Option<Permit>), Error> {
        let mut tried = ask.tried.clone();
        tried.insert(first.id);
        loop {
            let again = Ask { tried: &tried, ..*ask };
            let Some(node) = balancer.choose(&again, now) else {
                return Err(self.no_node(balancer, ask, now));
            };
            match node.breaker().map(|breaker| breaker.try_acquire(now)).transpose() {
                Ok(permit) => return Ok((node, permit)),
                Err(_) => tried.insert(node.id),
            }
        }
    }

    /// Notes how an exchange with a node ended; `took`: how long its answer took, if that is known.
    pub(crate) fn note(
        &self,
        node: &Endpoint,
        outcome: Outcome,
        took: Option<Duration>,
        now: Instant,
    ) {
        if let Some(outliers) = &self.outliers {
            outliers.note(node, outcome, took, || self.endpoints(), now);
        }
    }

    /// Whether anything wants to know how long answers take.
    pub(super) fn wants_latency(&self) -> bool {
        self.settings.balance.algorithm.wants_latency()
            || self.outliers.as_ref().is_some_and(Outliers::wants_latency)
    }

    /// Compares the nodes by how their calls ended since the last time, and leaves out the worst.
    pub fn compare_nodes(&self, now: Instant) {
        if let Some(outliers) = &self.outliers {
            outliers.compare(&self.endpoints(), now);
        }
    }

    /// Whether the retry budget allows one more try of a request that a node has seen; it is paid
    /// for then. A try that no byte of reached a node ([`Error::is_unsent`]) added no load, so
    /// the next one needs no budget.
    pub fn may_retry(&self, now: Instant) -> bool {
        self.retries.withdraw(now)
    }

    #[cold]
    fn no_node(&self, balancer: &Balancer, ask: &Ask<'_>, now: Instant) -> Error {
        let (title, endpoints) = (&self.settings.title, balancer.endpoints());
        let subset = self.settings.subsets.get(ask.subset).map(shown).unwrap_or_default();
        let could = |node: &&Arc<Endpoint>| {
            node.is_healthy() && node.weight() > 0 && !ask.tried.contains(node.id)
        };
        // Those that only their breakers keep from the call; the first to try again counts.
        let breakers = endpoints.iter().filter(could).filter_map(|node| node.breaker());
        let waits = breakers.map(|breaker| (breaker.is_shut(now), breaker));
        if let Some((wait, breaker)) = waits.min_by_key(|(wait, _)| *wait) {
            let is_full = wait.is_none() && breaker.settings().capacity.is_some();
            return if is_full {
                full(breaker)
            } else {
                open(title, breaker, wait.unwrap_or(FULL))
            };
        }
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

/// When to ask again for a place in a full capacity.
const FULL: Duration = Duration::from_secs(1);

/// Asks a breaker for a call.
fn pass(breaker: &Arc<Breaker>, now: Instant) -> Result<Permit, Error> {
    breaker.try_acquire(now).map_err(|refusal| match refusal {
        Refusal::Open { retry_after } => open(breaker.title(), breaker, retry_after),
        Refusal::Full => full(breaker),
    })
}

#[cold]
fn full(breaker: &Breaker) -> Error {
    let capacity = breaker.settings().capacity.map_or(0, std::num::NonZero::get);
    let sentence =
        format!("{} has {capacity} calls under way, as many as its breaker takes", breaker.title());
    Error::new(Code::Overloaded, sentence).unsent().retry_in(FULL)
}

/// `title`: of what cannot be had because of this breaker.
#[cold]
fn open(title: &str, breaker: &Breaker, wait: Duration) -> Error {
    // To the tenth of a second above: "in 0s" would be an invitation.
    let tenths = wait.as_millis().div_ceil(100);
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let sentence = match breaker.scope() {
        Scope::Route => format!(
            "the calls of {title} failed too often and the breaker is open; next try in \
             {whole}.{tenth}s"
        ),
        Scope::Node | Scope::Service => format!(
            "the nodes of {title} failed too often and the breaker is open; next try in \
             {whole}.{tenth}s"
        ),
    };
    Error::new(Code::BreakerOpen, sentence).unsent().retry_in(wait)
}

#[cfg(test)]
mod tests;
