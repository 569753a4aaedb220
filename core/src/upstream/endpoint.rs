//! One node of a service: where it is, and how it has been doing.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use crate::balance::peak_ewma::Cost;
use crate::breaker::Breaker;
use crate::clock;
use crate::health::passive::Record;
use crate::net::addr::AddrError;
use crate::net::proxy_protocol::{Header, Origin};
use crate::net::{HostPort, Socket, proxy_protocol};
use crate::tls::ClientTls;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddr {
    /// A host and a port.
    Tcp(HostPort),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// One node of a service. Shared by all workers; its numbers are process-wide truths.
#[derive(Debug)]
pub struct Endpoint {
    /// Unique in the process, never reused: the key of connection pools.
    pub id: u64,
    /// The name in logs, metrics and configuration.
    pub name: Arc<str>,
    /// How to speak to it: `http`, `https`, `h2c`, `ws`, `wss`, `tcp`, `tls`, `grpc`, `grpcs`.
    /// Only a label here; protocols give it a meaning.
    pub scheme: Arc<str>,
    /// Where it is.
    pub addr: NodeAddr,
    /// TLS towards it, if any.
    pub tls: Option<Arc<ClientTls>>,
    /// TLS for connections that carry one exchange at a time, where that takes another offer
    /// than `tls` makes; none: `tls` serves both.
    pub tls_exclusive: Option<Arc<ClientTls>>,
    /// The PROXY header that every connection to it begins with, if any. Such a connection is one
    /// client's and never another's.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// Free words about it (zone, version).
    pub metadata: BTreeMap<String, String>,
    /// Names the node to clients without telling what or where it is; 0: by nothing.
    mark: u64,
    weight: AtomicU32,
    priority: AtomicU32,
    /// Exchanges begun above [`IN_FLIGHT_BITS`], those under way below: one addition counts both.
    load: AtomicU64,
    /// How long it takes, where the balancer asks.
    cost: Cost,
    /// Moment ([`clock::nanos`]) from which on its share grows; 0: it has grown, [`FRESH`]: from the
    /// next look.
    grows_since: AtomicU64,
    /// The verdict of the active health check; true where there is none.
    healthy: AtomicBool,
    /// Moment ([`clock::nanos`]) until which failed connects keep it out of the choice; 0: in.
    avoided_until: AtomicU64,
    /// Failed connects in a row.
    connect_failures: AtomicU32,
    /// What its calls tell, where the service has passive health.
    record: Record,
    /// Its own breaker, where the service has one for each node.
    breaker: Option<Arc<Breaker>>,
}

/// How long one failed connect keeps a node out of the choice; doubles with each further one.
const AVOID_FIRST: Duration = Duration::from_secs(1);

/// The longest time that failed connects keep a node out of the choice.
const AVOID_MAX: Duration = Duration::from_secs(30);

/// Bits of the number of exchanges under way: 16 million, more than a process has descriptors. The
/// 40 bits above count 10^12 exchanges before they go round.
const IN_FLIGHT_BITS: u32 = 24;

/// A share that has not begun to grow.
const FRESH: u64 = u64::MAX;

/// Failed connects in a row after which a node that answers again starts slowly: fewer are a lost
/// packet rather than a restart.
const FAILURES_OF_AN_OUTAGE: u32 = 2;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Counts the changes of any node's health, reachability, weight or level.
static CHANGES: AtomicU64 = AtomicU64::new(1);

/// Moves on with every change that the choice of a level or zone depends on.
pub(crate) fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// Something did that the choice of a level or zone depends on.
pub(crate) fn changed() {
    CHANGES.fetch_add(1, Ordering::Release);
}

impl Endpoint {
    /// A new node with a fresh id. `weight` 0 means that it gets no new work.
    pub fn new(
        name: impl Into<Arc<str>>,
        scheme: impl Into<Arc<str>>,
        addr: NodeAddr,
        tls: Option<Arc<ClientTls>>,
        weight: u32,
    ) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            scheme: scheme.into(),
            addr,
            tls,
            tls_exclusive: None,
            proxy_protocol: None,
            metadata: BTreeMap::new(),
            mark: 0,
            weight: AtomicU32::new(weight),
            priority: AtomicU32::new(0),
            load: AtomicU64::new(0),
            cost: Cost::default(),
            grows_since: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            avoided_until: AtomicU64::new(0),
            connect_failures: AtomicU32::new(0),
            record: Record::default(),
            breaker: None,
        }
    }

    /// Says whose connection this is, where the node wants to be told: before anything else, TLS
    /// included.
    ///
    /// # Errors
    /// When the node is gone already.
    pub async fn introduce(&self, socket: &mut Socket, origin: &Origin) -> io::Result<()> {
        match self.proxy_protocol {
            None => Ok(()),
            Some(version) => {
                // Far less than any socket's buffer: this does not wait.
                socket.write_all(&Header::new(version, *origin).encode()).await
            }
        }
    }

    /// Its share of the traffic in relation to the others'.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes its share. A weight of 0 is obeyed at once, any other by the next
    /// [`Balancer`](crate::balance::Balancer).
    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
        changed();
    }

    /// Its level: nodes of a higher one are spares of those below. Default 0.
    pub fn priority(&self) -> u32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Changes its level; obeyed by the next [`Balancer`](crate::balance::Balancer).
    pub fn set_priority(&self, priority: u32) {
        self.priority.store(priority, Ordering::Relaxed);
        changed();
    }

    /// What names it to clients, where the service wants that ([`Cluster`](super::Cluster)); 0
    /// elsewhere.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Names it to clients.
    pub(crate) fn set_mark(&mut self, mark: u64) {
        self.mark = mark;
    }

    /// How long it takes to answer.
    pub(crate) fn cost(&self) -> &Cost {
        &self.cost
    }

    /// Whether `other` describes the same node: same name, scheme, address, metadata, TLS and PROXY
    /// header.
    pub(crate) fn is_same_node(&self, other: &Self) -> bool {
        let same_tls =
            |mine: &Option<Arc<ClientTls>>, its: &Option<Arc<ClientTls>>| match (mine, its) {
                (None, None) => true,
                (Some(mine), Some(its)) => Arc::ptr_eq(mine, its),
                _ => false,
            };
        same_tls(&self.tls, &other.tls)
            && same_tls(&self.tls_exclusive, &other.tls_exclusive)
            && self.proxy_protocol == other.proxy_protocol
            && self.name == other.name
            && self.scheme == other.scheme
            && self.addr == other.addr
            && self.metadata == other.metadata
    }

    /// Exchanges under way over all workers.
    pub fn in_flight(&self) -> u32 {
        // The mask leaves 24 bits.
        (self.load.load(Ordering::Relaxed) & ((1 << IN_FLIGHT_BITS) - 1)) as u32
    }

    /// Exchanges begun since the start over all workers; goes round at 2^40.
    pub fn picks(&self) -> u64 {
        self.load.load(Ordering::Relaxed) >> IN_FLIGHT_BITS
    }

    /// Whether the active health check, if there is one, holds it for usable.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Whether failed connects or an ejection keep it out of the choice at `now`.
    pub fn is_avoided(&self, now: Instant) -> bool {
        // The common case, a node without failures, is told by two loads and no arithmetic.
        let until = self.avoided_until.load(Ordering::Relaxed);
        (until != 0 && clock::nanos(now) < until) || self.is_ejected(now)
    }

    /// Whether passive health keeps it out of the choice at `now`.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.record.is_marked() && self.is_still_ejected(now)
    }

    #[cold]
    fn is_still_ejected(&self, now: Instant) -> bool {
        if self.record.ejected_until(now).is_some() {
            return true;
        }
        if self.record.comes_back(now) {
            self.welcome();
        }
        false
    }

    /// How often passive health ejected it since the start.
    pub fn ejections(&self) -> u64 {
        self.record.ejections()
    }

    /// An ejection is over.
    #[cold]
    pub(crate) fn welcome(&self) {
        self.begin_growth();
        changed();
        tracing::info!(node = %self.name, "the node is tried again: its time out is over");
    }

    /// What its calls tell.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Its own breaker, where nodes have one.
    pub fn breaker(&self) -> Option<&Arc<Breaker>> {
        self.breaker.as_ref()
    }

    /// Gives it a breaker of its own.
    pub(crate) fn set_breaker(&mut self, breaker: Arc<Breaker>) {
        self.breaker = Some(breaker);
    }

    /// Whether its own breaker would refuse a call at `now`.
    pub(crate) fn is_shut(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| !breaker.may_pass(now))
    }

    /// The moment ([`clock::nanos`]) until which failed connects or an ejection keep it out, if they
    /// do at `now`.
    pub(crate) fn avoided_until(&self, now: Instant) -> Option<u64> {
        let until = self.avoided_until.load(Ordering::Relaxed);
        let until = (until != 0 && clock::nanos(now) < until).then_some(until);
        until.max(self.record.ejected_until(now))
    }

    /// Sets the verdict of the active health check; says whether that changed it.
    pub fn set_healthy(&self, healthy: bool) -> bool {
        let is_new = self.healthy.swap(healthy, Ordering::Relaxed) != healthy;
        if is_new {
            if healthy {
                self.begin_growth();
            }
            changed();
        }
        is_new
    }

    /// Its share begins small and grows, where the service has a slow start.
    pub(crate) fn begin_growth(&self) {
        self.grows_since.store(FRESH, Ordering::Relaxed);
    }

    /// Whether its share may still be growing.
    pub(crate) fn is_growing(&self) -> bool {
        self.grows_since.load(Ordering::Relaxed) != 0
    }

    /// The moment ([`clock::nanos`]) from which on its share grows; `now` if nobody looked before.
    pub(crate) fn grows_since(&self, now: u64) -> u64 {
        let begun =
            self.grows_since.compare_exchange(FRESH, now, Ordering::Relaxed, Ordering::Relaxed);
        begun.map_or_else(|since| since, |_| now)
    }

    /// Its share has grown.
    pub(crate) fn end_growth(&self) {
        self.grows_since.store(0, Ordering::Relaxed);
    }

    /// A connect failed at `now`: keeps the node out of the choice for 1 s, then 2 s, 4 s … 30 s.
    ///
    /// Connects that were under way together fail together; they count as one failure, or a
    /// single lost packet under load would look like a long outage.
    pub(crate) fn note_connect_failure(&self, now: Instant) {
        let now = clock::nanos(now);
        let until = self.avoided_until.load(Ordering::Relaxed);
        if now < until {
            return;
        }
        let failures = self.connect_failures.load(Ordering::Relaxed);
        let wait = AVOID_FIRST.saturating_mul(1 << failures.min(8)).min(AVOID_MAX);
        let next = now.saturating_add(clock::span(wait));
        let won =
            self.avoided_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() {
            self.connect_failures.store(failures.saturating_add(1), Ordering::Relaxed);
            changed();
        }
    }

    /// The node answered: it is back in the choice at once.
    pub(crate) fn note_reachable(&self) {
        // Read first: a store on every exchange would bounce the cache line between workers.
        let failures = self.connect_failures.load(Ordering::Relaxed);
        if failures != 0 {
            self.connect_failures.store(0, Ordering::Relaxed);
            self.avoided_until.store(0, Ordering::Relaxed);
            if failures >= FAILURES_OF_AN_OUTAGE {
                self.begin_growth();
            }
            changed();
        }
    }

    /// Counts one exchange under way until [`Self::leave`].
    pub(crate) fn enter(&self) {
        self.load.fetch_add((1 << IN_FLIGHT_BITS) + 1, Ordering::Relaxed);
    }

    /// Ends what [`Self::enter`] began.
    pub(crate) fn leave(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FromStr for NodeAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
