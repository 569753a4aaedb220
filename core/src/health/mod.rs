//! Active health checks: nodes are asked at intervals whether they are well.
//!
//! Runs on the control runtime; the data path only reads [`Endpoint::is_healthy`]. What asking
//! means is a [`Probe`]: a TCP connect here, a request in the protocol's crate.

pub mod passive;
mod settings;
mod thresholds;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::balance::rng;
use crate::clock;
use crate::net::Socket;
use crate::net::proxy_protocol::Origin;
use crate::units::Percent;
use crate::upstream::{Cluster, Endpoint, NodeAddr};
pub use settings::{Check, CheckKind, HealthError, HealthSettings, HttpCheck};
use thresholds::Thresholds;

/// One way to ask a node whether it is well.
pub trait Probe: Send + Sync + 'static {
    /// Asks once. The caller limits the time and cancels by dropping.
    ///
    /// # Errors
    /// Half a sentence for the log: what was wrong.
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), String>> + Send;
}

/// Well is who takes a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpProbe;

/// Well is who takes a connection and agrees on TLS with a certificate that is believed.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsProbe;

/// Probes under way for one service at most; other nodes wait for their turn.
const AT_ONCE: usize = 64;

/// How long to wait when nothing is due: a change of the service ends the wait before.
const IDLE: Duration = Duration::from_hours(1);

/// Checks the nodes of a service until it is dropped. New nodes are asked at once; then a node is
/// asked every `interval`, more or less by the jitter.
pub async fn run<P: Probe>(cluster: Weak<Cluster>, probe: P, settings: HealthSettings) {
    let Some(mut changes) = cluster.upgrade().map(|cluster| cluster.changes()) else { return };
    let mut rounds = Rounds {
        probe: Arc::new(probe),
        settings,
        list: Arc::default(),
        nodes: HashMap::new(),
        under_way: JoinSet::new(),
    };
    // The service is not held across a wait, or it could never go.
    while let Some(endpoints) = cluster.upgrade().map(|cluster| cluster.endpoints()) {
        changes.mark_unchanged();
        let next = rounds.begin(endpoints);
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(done) = rounds.under_way.join_next() => rounds.end(done),
            () = sleep_until(next) => {}
        }
    }
}

/// The state of [`run`].
struct Rounds<P> {
    probe: Arc<P>,
    settings: HealthSettings,
    /// The list that `nodes` was last cut to.
    list: Arc<[Arc<Endpoint>]>,
    nodes: HashMap<u64, Node>,
    under_way: JoinSet<(Arc<Endpoint>, Result<(), String>)>,
}

/// What is known of one node.
struct Node {
    thresholds: Thresholds,
    due: Instant,
    asked_by: Option<Id>,
}

impl<P: Probe> Rounds<P> {
    /// Starts the probes that are due; the moment when the next one is.
    fn begin(&mut self, endpoints: Arc<[Arc<Endpoint>]>) -> Instant {
        let now = Instant::now();
        if !Arc::ptr_eq(&self.list, &endpoints) {
            let ids: HashSet<u64> = endpoints.iter().map(|endpoint| endpoint.id).collect();
            self.nodes.retain(|id, _| ids.contains(id));
            self.list = endpoints;
        }
        let mut next = now + IDLE;
        for endpoint in &*self.list {
            let node = self.nodes.entry(endpoint.id).or_insert_with(|| Node {
                thresholds: Thresholds::new(self.settings.rise.get(), self.settings.fall.get()),
                due: now,
                asked_by: None,
            });
            if node.asked_by.is_some() {
                continue;
            }
            if node.due > now {
                next = next.min(node.due);
            } else if self.under_way.len() < AT_ONCE {
                node.due = now + spread(self.settings.interval.get(), self.settings.jitter);
                let (probe, endpoint) = (Arc::clone(&self.probe), Arc::clone(endpoint));
                let limit = self.settings.timeout;
                let task = self.under_way.spawn(async move {
                    let result = match timeout(limit.get(), probe.probe(&endpoint)).await {
                        Ok(result) => result,
                        Err(_) => Err(format!("no answer within {limit}")),
                    };
                    (endpoint, result)
                });
                node.asked_by = Some(task.id());
            }
        }
        next
    }

    fn end(&mut self, done: Result<(Arc<Endpoint>, Result<(), String>), JoinError>) {
        let (endpoint, result) = match done {
            Ok(done) => done,
            Err(error) => {
                // A probe that panicked is our fault and says nothing about the node.
                // Not its message, which the node may have had a hand in.
                tracing::error!("a health check broke");
                let mut nodes = self.nodes.values_mut();
                if let Some(node) = nodes.find(|node| node.asked_by == Some(error.id())) {
                    node.asked_by = None;
                }
                return;
            }
        };
        let Some(node) = self.nodes.get_mut(&endpoint.id) else { return };
        node.asked_by = None;
        let Some(healthy) = node.thresholds.note(result.is_ok()) else { return };
        if !endpoint.set_healthy(healthy) {
            return;
        }
        match result {
            Ok(()) => tracing::info!(node = %endpoint.name, "the node is healthy again"),
            Err(why) => tracing::warn!(node = %endpoint.name, why, "the node is unhealthy"),
        }
    }
}

/// `interval` plus or minus a tenth.
pub(crate) fn jittered(interval: Duration) -> Duration {
    spread(interval, Percent::whole(10))
}

/// `interval` plus or minus this share of it.
fn spread(interval: Duration, share: Percent) -> Duration {
    let most = interval.saturating_mul(share.basis_points()) / 10_000;
    let both = clock::span(most).saturating_mul(2);
    interval.saturating_sub(most).saturating_add(Duration::from_nanos(rng::below(both)))
}

impl Probe for TcpProbe {
    async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        dial(endpoint).await.map(drop)
    }
}

impl Probe for TlsProbe {
    async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        let tls = endpoint.tls_exclusive.as_ref().or(endpoint.tls.as_ref());
        let tls =
            tls.ok_or("its address says nothing of TLS; write it as `https://` or `tls://`")?;
        let socket = dial(endpoint).await?;
        tls.connect(socket).await.map(drop).map_err(|error| error.to_string())
    }
}

/// A connection to a node for a probe: of nobody's but the proxy's own (`LOCAL`), where the node
/// wants a PROXY header. Without TLS yet.
///
/// # Errors
/// Half a sentence for the log.
pub async fn dial(endpoint: &Endpoint) -> Result<Socket, String> {
    let connected = async {
        let mut socket = match &endpoint.addr {
            NodeAddr::Tcp(at) => Socket::Tcp(TcpStream::connect((&*at.host, at.port)).await?),
            NodeAddr::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        };
        endpoint.introduce(&mut socket, &Origin::Local).await?;
        Ok(socket)
    };
    connected
        .await
        .map_err(|error: io::Error| format!("connect to {} failed: {error}", endpoint.addr))
}

#[cfg(test)]
mod tests;
