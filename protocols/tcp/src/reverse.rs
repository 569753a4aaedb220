//! Reverse proxying: each connection to a node of one service.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gwproxy_core::error::Blame;
use gwproxy_core::key::By;
use gwproxy_core::limit::Admission;
use gwproxy_core::net::accept::{Held, Serve};
use gwproxy_core::net::relay::{BUFFER_BYTES, Carried, End, relay_counted};
use gwproxy_core::net::{Peer, Stream};
use gwproxy_core::timer::pause;
use gwproxy_core::upstream::connect::{Resolver, connect};
use gwproxy_core::upstream::{Cluster, Lease, Outcome, Tried};
use gwproxy_core::worker::{LocalFuture, Worker};
use gwproxy_core::{Error, key};

use crate::session::{Ending, Session};
use crate::settings::Settings;

/// Says whether a connection may have a node at all; asked once, before the first is dialled. What
/// it is admitted with lasts as long as the connection.
pub type Admit = Rc<dyn Fn(&Peer, Instant) -> Result<Admission, Error>>;

/// Hears of every connection when it is over and its descriptors are closed.
pub type Report = Rc<dyn Fn(&Session)>;

/// How long a peer may be silent before the kernel asks whether it is still there, where no idle
/// timeout finds out. Below the shortest memory of common NATs (300 s).
const KEEP_ALIVE: Duration = Duration::from_mins(2);

/// The reverse proxy of one TCP listener on one worker.
pub struct Reverse {
    cluster: Arc<Cluster>,
    spare: Option<Arc<Cluster>>,
    worker: Rc<Worker>,
    resolver: Rc<Resolver>,
    settings: Settings,
    admit: Option<Admit>,
    report: Option<Report>,
}

impl Reverse {
    /// A proxy to the nodes of `cluster`, with everyone admitted and nothing reported.
    pub fn new(
        cluster: Arc<Cluster>,
        worker: Rc<Worker>,
        resolver: Rc<Resolver>,
        settings: Settings,
    ) -> Self {
        Self { cluster, spare: None, worker, resolver, settings, admit: None, report: None }
    }

    /// Goes to the nodes of `spare` when those of the cluster cannot take a connection.
    #[must_use]
    pub fn fall_back_on(mut self, spare: Option<Arc<Cluster>>) -> Self {
        self.spare = spare;
        self
    }

    /// Asks `admit` before a node is dialled.
    #[must_use]
    pub fn admit(mut self, admit: Admit) -> Self {
        self.admit = Some(admit);
        self
    }

    /// Tells `report` of every connection that is over.
    #[must_use]
    pub fn report(mut self, report: Report) -> Self {
        self.report = Some(report);
        self
    }

    /// A connection from beginning to end. Both streams are closed when this returns.
    async fn carry(&self, mut client: Stream, draft: &mut Draft) {
        let Draft { session, started, carried, .. } = draft;
        let admit = self.admit.as_ref();
        let admitted =
            admit.map_or_else(|| Ok(Admission::default()), |admit| admit(&session.peer, *started));
        let (taken, _permits) = match admitted {
            Ok(Admission { wait, permits }) => {
                pause(wait).await;
                (self.open(&session.peer, *started, &mut session.attempts).await, permits)
            }
            Err(error) => (Err(error), Vec::new()),
        };
        session.connect = started.elapsed();
        let (mut upstream, lease) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                // An orderly close would look like a service with nothing to say.
                client.abort_on_close();
                self.say(&session.peer, &error);
                session.node = error.node().cloned();
                session.ending = Ending::Refused(error);
                return;
            }
        };
        let idle = self.settings.idle.get();
        if idle.is_zero() {
            client.keep_alive(KEEP_ALIVE);
            upstream.keep_alive(KEEP_ALIVE);
        }
        session.node = Some(Arc::clone(&lease.endpoint().name));
        let timer = self.worker.timer();
        let relayed = relay_counted(
            &mut client,
            &mut upstream,
            Bytes::new(),
            BUFFER_BYTES,
            idle,
            timer,
            carried,
        )
        .await;
        relayed.pass_on(&mut client, &mut upstream).await;
        drop(lease);
        session.ending = Ending::Relayed(relayed.end);
        self.say_ending(session);
    }

    /// A connection to a node: another node is tried only while no byte was exchanged, which
    /// nothing after this is.
    async fn open(
        &self,
        peer: &Peer,
        now: Instant,
        attempts: &mut u32,
    ) -> Result<(Stream, Lease), Error> {
        match self.open_at(&self.cluster, peer, now, attempts).await {
            Ok(opened) => Ok(opened),
            Err(error) => match &self.spare {
                Some(spare) => self.open_at(spare, peer, Instant::now(), attempts).await,
                None => Err(error),
            },
        }
    }

    async fn open_at(
        &self,
        cluster: &Arc<Cluster>,
        peer: &Peer,
        now: Instant,
        attempts: &mut u32,
    ) -> Result<(Stream, Lease), Error> {
        let settings = cluster.settings();
        let key = cluster.needs_key().and_then(|by| key_of(by, peer));
        let mut tried = Tried::new();
        let mut last: Option<Error> = None;
        let mut now = now;
        loop {
            let mut lease = match cluster.acquire(now, key, &tried) {
                Ok(lease) => lease,
                // Why the last node failed tells more than that there is no further one.
                Err(error) => return Err(last.unwrap_or(error)),
            };
            let endpoint = Arc::clone(lease.endpoint());
            tried.insert(endpoint.id);
            *attempts += 1;
            let (limit, timer) = (settings.connect_timeout, self.worker.timer());
            let origin = peer.origin();
            let connected = connect(&endpoint, &origin, true, limit, &self.resolver, timer).await;
            now = Instant::now();
            let error = match connected {
                Ok(stream) => {
                    lease.answered(false);
                    // A connection may live for days. Breakers and passive health go by who takes
                    // connections: what comes over them is between client and node.
                    lease.settle(Outcome::Success, now);
                    return Ok((stream, lease));
                }
                Err(error) => error.at(Some(Arc::clone(&endpoint.name))),
            };
            lease.answered(true);
            lease.settle(Outcome::ConnectFailed, now);
            if tried.len() >= settings.max_attempts as usize {
                return Err(error);
            }
            tracing::debug!(
                service = %self.cluster.name(), node = %endpoint.name, %error,
                "trying another node"
            );
            last = Some(error);
        }
    }

    /// The error log: what a human needs to mend it.
    fn say(&self, peer: &Peer, error: &Error) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let (code, sentence) = (error.code().as_str(), error.sentence());
        let (service, client) = (&**self.cluster.name(), peer.remote);
        match error.code().blame() {
            Blame::Downstream => {
                tracing::debug!(code, service, %client, cause, "{sentence}");
            }
            Blame::Proxy | Blame::Upstream => {
                tracing::warn!(code, service, %client, cause, "{sentence}");
            }
        }
    }

    fn say_ending(&self, session: &Session) {
        let Ending::Relayed(End::Client(error) | End::Upstream(error)) = &session.ending else {
            return;
        };
        tracing::debug!(
            service = %self.cluster.name(), client = %session.peer.remote, node = session.node.as_deref(),
            %error, ending = session.ending.as_str(), "a connection broke"
        );
    }
}

impl Serve for Reverse {
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()> {
        Box::pin(async move {
            let held = held;
            let mut draft = Draft::new(peer, self.report.clone());
            self.carry(stream, &mut draft).await;
            drop(draft);
            drop(held);
        })
    }
}

impl std::fmt::Debug for Reverse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reverse")
            .field("service", self.cluster.name())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The report of a connection, made when this goes out of scope: a connection that the proxy cuts
/// off, at the end of the grace period, has one as well.
struct Draft {
    session: Session,
    started: Instant,
    carried: Carried,
    report: Option<Report>,
}

impl Draft {
    fn new(peer: Peer, report: Option<Report>) -> Self {
        let carried = Carried::default();
        Self { session: Session::cut_off(peer), started: Instant::now(), carried, report }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Self { session, started, carried, report } = self;
        session.took = started.elapsed();
        session.client_to_upstream = carried.client_to_upstream.get();
        session.upstream_to_client = carried.upstream_to_client.get();
        if let Some(report) = report {
            report(session);
        }
    }
}

/// A connection has nothing to hash by but where it comes from and the name it asks for in TLS;
/// none where it has none.
fn key_of(by: &By, peer: &Peer) -> Option<u64> {
    match by {
        By::Sni => peer.tls.as_ref()?.sni.as_deref().map(|name| key::stable(name.as_bytes())),
        _ => peer.remote.ip().map(key::of_ip),
    }
}

#[cfg(test)]
mod tests;
