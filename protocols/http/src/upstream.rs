//! From a request and a service to a response: the only retry loop there is.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gwproxy_core::balance::Ask;
use gwproxy_core::breaker::Breaker;
use gwproxy_core::net::{Peer, Stream};
use gwproxy_core::upstream::connect::{Resolver, connect};
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint, NodeAddr, Outcome, Tried};
use gwproxy_core::worker::Worker;
use gwproxy_core::{Code, Error};
use http::header::HOST;
use http::uri::Scheme;
use http::{Method, StatusCode};

use crate::fields::Seen;
use crate::h1::client::{Connection, Limit, SendError};
use crate::interim::Way;
use crate::pool::{Home, Pool, StreamSlot};
use crate::private::Return;
use crate::serve::Client;
use crate::sticky::Sticky;
use crate::{Request, Response, h1, h2};

/// The way to nodes, one per worker.
#[derive(Debug)]
pub struct Upstream {
    pool: Rc<Pool>,
    resolver: Rc<Resolver>,
    worker: Rc<Worker>,
}

/// How long one request may take, and what it is balanced by.
#[derive(Debug, Clone)]
pub struct Terms {
    /// From the end of the request to the head of the response. Default 15 s (D07);
    /// [`Terms::NO_LIMIT`] waits for as long as the node is there.
    pub first_byte: Duration,
    /// Silence within a body, either way. Default 300 s: event streams are silent for long.
    pub body: Duration,
    /// The key for hash balancing ([`Cluster::needs_key`]).
    pub key: Option<u64>,
    /// The subset of the nodes to choose from ([`Ask::subset`]). Default 0, the first.
    pub subset: usize,
    /// The cookie that leads a client back to its node. Default none.
    pub sticky: Option<Arc<Sticky>>,
    /// What the node sees as `Host`.
    pub host: Host,
    /// A breaker of the request's route, before that of the service. Default none.
    pub breaker: Option<Arc<Breaker>>,
    /// Who answers when the service cannot: its breaker refuses, or no node takes a connection.
    /// Default nobody.
    pub spare: Option<Arc<Spare>>,
    /// Where interim responses go. Default none: they end here.
    pub interim: Option<Way>,
    /// What time it is, for who has just looked at the clock. Default: the clock is asked.
    pub now: Option<Instant>,
    /// Speak HTTP/2 from the first byte to `http` nodes as well (RFC 9113 §3.3). Default no.
    pub prior_knowledge: bool,
}

/// A service that answers for another.
#[derive(Debug, Clone)]
pub struct Spare {
    /// Its nodes.
    pub cluster: Arc<Cluster>,
    /// What they see as `Host`.
    pub host: Host,
}

/// Where a request goes, and by what.
#[derive(Clone, Copy)]
struct Course<'a> {
    cluster: &'a Arc<Cluster>,
    host: &'a Host,
    sticky: Option<&'a Sticky>,
    key: Option<u64>,
    subset: usize,
    breaker: Option<&'a Arc<Breaker>>,
    spare: Option<&'a Spare>,
}

impl<'a> Course<'a> {
    fn new(cluster: &'a Arc<Cluster>, terms: &'a Terms) -> Self {
        Self {
            cluster,
            host: &terms.host,
            sticky: terms.sticky.as_deref(),
            key: terms.key,
            subset: terms.subset,
            breaker: terms.breaker.as_ref(),
            spare: terms.spare.as_deref(),
        }
    }

    /// The way to the spare service after this error, if it is one for that: no byte was sent.
    fn other(self, error: &Error) -> Option<Self> {
        let Spare { cluster, host } = self.spare.filter(|_| error.is_unsent())?;
        Some(Self { cluster, host, sticky: None, subset: 0, breaker: None, spare: None, ..self })
    }
}

/// What the node sees as `Host`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Host {
    /// This one.
    Fixed(http::HeaderValue),
    /// What the client asked for.
    #[default]
    Preserve,
    /// The node's own name.
    Node,
}

/// What a node is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    H1,
    H2,
    /// What TLS agrees on (ALPN).
    Negotiated,
}

/// A failed try.
struct Failed {
    error: Error,
    /// The request, if it can be sent again as it is.
    request: Option<Box<Request>>,
    /// The connection had been idle and was closed without a byte of an answer.
    is_stale: bool,
}

impl Failed {
    /// The request, to be sent once more to the same node: the node closed the connection while
    /// it idled, and the request crossed that on its way. That is no second try.
    fn on_a_fresh_connection(self) -> Result<Box<Request>, Self> {
        match self.request {
            Some(again)
                if self.is_stale
                    && (self.error.is_unsent() || is_replayable(&again, is_upgrade(&again))) =>
            {
                Ok(again)
            }
            request => Err(Self { request, ..self }),
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(15),
            body: Duration::from_mins(5),
            key: None,
            subset: 0,
            sticky: None,
            breaker: None,
            spare: None,
            host: Host::Preserve,
            interim: None,
            now: None,
            prior_knowledge: false,
        }
    }
}

impl Terms {
    /// For [`Terms::first_byte`].
    pub const NO_LIMIT: Duration = Duration::MAX;
}

impl Upstream {
    /// The worker's way to nodes.
    pub fn new(worker: Rc<Worker>) -> Rc<Self> {
        let pool = Pool::new();
        worker.spawn(Pool::sweep(Rc::downgrade(&pool)));
        Rc::new(Self { pool, resolver: Rc::default(), worker })
    }

    /// The worker this belongs to.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The worker's memory of names.
    pub fn resolver(&self) -> &Rc<Resolver> {
        &self.resolver
    }

    /// Sends the `request` of `client` to a node of `cluster`, to another one when that is safe and
    /// the first failed, and returns the head of the response. The response's body holds the node's lease.
    ///
    /// The request is boxed because it goes through a chain of futures, each of which would
    /// otherwise hold two of it.
    ///
    /// # Errors
    /// The last try's.
    pub async fn send(
        &self,
        cluster: &Arc<Cluster>,
        request: Box<Request>,
        client: &Client,
        terms: &Terms,
    ) -> Result<Response, Error> {
        let mut now = terms.now.unwrap_or_else(Instant::now);
        let is_upgrade = is_upgrade(&request);
        let replayable = is_replayable(&request, is_upgrade);
        let mark = terms.sticky.as_ref().and_then(|sticky| sticky.mark_of(request.headers()));
        let mut next = request;
        let mut tried = Tried::new();
        let mut last: Option<Error> = None;
        let mut way = Course::new(cluster, terms);
        loop {
            let is_known = |node| client.private.home(node).is_some();
            let known = (!client.private.is_empty()).then_some(&is_known as &dyn Fn(u64) -> bool);
            let Course { cluster, key, subset, breaker, .. } = way;
            let ask = Ask { key, mark, is_known: known, subset, tried: &tried, breaker };
            let mut lease = match cluster.acquire_for(now, &ask) {
                Ok(lease) => lease,
                Err(error) => match way.other(last.as_ref().unwrap_or(&error)) {
                    Some(other) => {
                        (way, tried) = (other, Tried::new());
                        continue;
                    }
                    None => return Err(last.unwrap_or(error)),
                },
            };
            tried.insert(lease.endpoint().id);
            let settings = cluster.settings();
            let is_last = tried.len() >= settings.max_attempts as usize;
            let endpoint = Arc::clone(lease.endpoint());
            way.host.put_into(&mut next, &endpoint);
            let Failed { error, request, .. } =
                match self.attempt(&endpoint, next, client, terms, settings, now).await {
                    Ok(mut response) => {
                        let outcome = outcome_of_status(response.status());
                        lease.answered(outcome.is_failure());
                        if let Some(sticky) = way.sticky
                            && mark != Some(endpoint.mark())
                        {
                            let tls = client.peer.tls.is_some();
                            sticky.set(response.headers_mut(), endpoint.mark(), tls);
                        }
                        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                            // What follows may last for hours; a breaker's probe may not.
                            lease.settle(outcome, Instant::now());
                        }
                        response.body_mut().hold(lease, outcome);
                        return Ok(response);
                    }
                    Err(failed) => failed,
                };
            let outcome = outcome_of(&error);
            if outcome == Outcome::GatewayFailure {
                lease.answered(true);
            }
            now = Instant::now();
            lease.settle(outcome, now);
            let error = error.at(Some(Arc::clone(&endpoint.name)));
            let may = !is_last
                && may_try_again(&error, replayable)
                // A try that reached no node added no load; others are paid from the budget.
                && (error.is_unsent() || cluster.may_retry(now));
            match (request, way.other(&error)) {
                (Some(again), _) if may => next = again,
                (Some(again), Some(other)) => (next, way, tried) = (again, other, Tried::new()),
                _ => return Err(error),
            }
            tracing::debug!(
                service = %cluster.name(), node = %endpoint.name, %error, "trying another node"
            );
            last = Some(error);
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        mut request: Box<Request>,
        client: &Client,
        terms: &Terms,
        settings: &ClusterSettings,
        now: Instant,
    ) -> Result<Response, Failed> {
        let is_upgrade = is_upgrade(&request);
        let own = client.private.home(endpoint.id);
        // An authenticated connection is of use for an upgrade as well, and only that one is.
        let may_reuse = own.is_some() || !is_upgrade;
        let home = match (own, &endpoint.proxy_protocol) {
            (Some(own), _) => own,
            (None, None) => self.pool.home(endpoint.id, settings.keep_alive),
            // One request, one connection: it says whose it is.
            (None, Some(_)) => Home::apart(),
        };
        let speaks = match &*endpoint.scheme {
            "h2c" | "grpc" | "grpcs" => Speaks::H2,
            "http" if terms.prior_knowledge => Speaks::H2,
            "https" if !is_upgrade && home.speaks_h2.get() != Some(false) => Speaks::Negotiated,
            _ => Speaks::H1,
        };
        let way_back =
            || Return { home: Rc::clone(&home), endpoint: endpoint.id, client: &client.private };
        if speaks != Speaks::H1
            && let Some(slot) = home.take_h2()
        {
            match self.on_stream(slot, &home, endpoint, request, is_upgrade, terms).await {
                Err(failed) => request = failed.on_a_fresh_connection()?,
                done => return done,
            }
        }
        if speaks != Speaks::H2
            && may_reuse
            && let Some(conn) = home.take_h1()
        {
            match on_connection(conn, request, Some(now), terms, way_back()).await {
                Err(failed) => request = failed.on_a_fresh_connection()?,
                done => return done,
            }
        }
        // Boxed: a fresh connection is rare, and its future is larger than all the rest.
        match Box::pin(self.open(endpoint, &client.peer, &home, speaks, settings.connect_timeout))
            .await
        {
            Ok(Opened::H1(conn)) => on_connection(conn, request, None, terms, way_back()).await,
            Ok(Opened::H2(slot)) => {
                self.on_stream(slot, &home, endpoint, request, is_upgrade, terms).await
            }
            Err(error) => Err(Failed { error, request: Some(request), is_stale: false }),
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        peer: &Peer,
        home: &Rc<Home>,
        speaks: Speaks,
        limit: Duration,
    ) -> Result<Opened, Error> {
        let timer = self.worker.timer();
        // Those who wait for a connection that many can share take the one that comes first.
        let _turn = if speaks == Speaks::H1 {
            None
        } else {
            let turn = timer.deadline().within(limit, home.connecting.acquire()).await;
            Some(turn.and_then(Result::ok).ok_or_else(|| too_slow(endpoint, limit))?)
        };
        if speaks != Speaks::H1
            && let Some(slot) = home.take_h2()
        {
            return Ok(Opened::H2(slot));
        }
        let exclusive = speaks == Speaks::H1;
        let origin = peer.origin();
        let stream = connect(endpoint, &origin, exclusive, limit, &self.resolver, timer).await?;
        let is_h2 = match speaks {
            Speaks::H1 => false,
            Speaks::H2 => true,
            Speaks::Negotiated => {
                let is_h2 = negotiated_h2(&stream);
                home.speaks_h2.set(Some(is_h2));
                is_h2
            }
        };
        if is_h2 {
            let conn = h2::client::open(stream, timer);
            let slot = home.add_h2(Rc::clone(&conn), timer);
            let deadline = timer.deadline();
            return match deadline.within(limit, poll_fn(|cx| conn.poll_settings(cx))).await {
                Some(Ok(())) => Ok(Opened::H2(slot)),
                Some(Err(why)) => {
                    let sentence = format!("{} did not begin HTTP/2: {why}", endpoint.addr);
                    Err(Error::new(Code::UpstreamReset, sentence).unsent())
                }
                None => {
                    home.forget_h2(&conn);
                    Err(too_slow(endpoint, limit))
                }
            };
        }
        Ok(Opened::H1(Box::new(Connection::new(stream, timer))))
    }

    async fn on_stream(
        &self,
        slot: StreamSlot,
        home: &Rc<Home>,
        endpoint: &Endpoint,
        request: Box<Request>,
        is_upgrade: bool,
        terms: &Terms,
    ) -> Result<Response, Failed> {
        let scheme = if endpoint.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let limit = Limit { first_byte: terms.first_byte, body: terms.body, now: None };
        let (was_used, conn) = (slot.is_used(), Rc::clone(slot.conn()));
        let (timer, interim) = (self.worker.timer(), terms.interim.as_ref());
        let done =
            h2::client::exchange(slot, request, is_upgrade, &scheme, limit, interim, timer).await;
        done.map_err(|h2::client::Refused { error, request, is_over }| {
            let is_refused = was_used
                && error.is_unsent()
                && error.code() == Code::UpstreamReset
                && (is_over || home.may_replace_h2());
            if is_over || is_refused {
                // A node that opens no more streams on this connection may on another one.
                home.forget_h2(&conn);
            }
            let is_stale =
                is_refused || (is_over && was_used && error.code() == Code::UpstreamReset);
            Failed { error, request, is_stale }
        })
    }
}

fn too_slow(endpoint: &Endpoint, limit: Duration) -> Error {
    let sentence = format!("{} took no connection within {limit:?}", endpoint.addr);
    Error::new(Code::UpstreamConnectTimeout, sentence).unsent()
}

enum Opened {
    H1(Box<Connection>),
    H2(StreamSlot),
}

async fn on_connection(
    conn: Box<Connection>,
    mut request: Box<Request>,
    now: Option<Instant>,
    terms: &Terms,
    way_back: Return<'_>,
) -> Result<Response, Failed> {
    let body = std::mem::take(request.body_mut());
    let limit = Limit { first_byte: terms.first_byte, body: terms.body, now };
    let was_idle = conn.served > 0;
    let is_bodiless = body.is_empty();
    let interim = terms.interim.as_ref();
    match h1::client::exchange(conn, &request, body, limit, interim, way_back).await {
        Ok(response) => Ok(response),
        Err(SendError { error, was_silent }) => Err(Failed {
            error,
            request: is_bodiless.then_some(request),
            is_stale: was_idle && was_silent,
        }),
    }
}

fn negotiated_h2(stream: &Stream) -> bool {
    match stream {
        Stream::TlsClient(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        _ => false,
    }
}

impl Host {
    fn put_into(&self, request: &mut Request, endpoint: &Endpoint) {
        match self {
            // RFC 9112 §3.2: of HTTP/1.0, which knows none. Nodes mind an empty one.
            Self::Preserve if names_no_host(request) => set_host(request, endpoint),
            Self::Preserve => {}
            Self::Fixed(host) => {
                request.headers_mut().insert(HOST, host);
            }
            Self::Node => set_host(request, endpoint),
        }
    }
}

/// Failures are 5xx that say "this node cannot", not "this request cannot".
fn outcome_of_status(status: StatusCode) -> Outcome {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Outcome::GatewayFailure
        }
        StatusCode::TOO_MANY_REQUESTS => Outcome::Limited,
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            Outcome::Failure
        }
        _ => Outcome::Success,
    }
}

fn outcome_of(error: &Error) -> Outcome {
    match error.code() {
        Code::UpstreamRefused
        | Code::UpstreamConnectTimeout
        | Code::UpstreamUnresolved
        | Code::UpstreamTls => Outcome::ConnectFailed,
        Code::BodyTooLarge
        | Code::ClientClosed
        | Code::ClientMalformed
        | Code::ClientTimeout
        | Code::Overloaded
        // Nothing is wrong with the node.
        | Code::UpstreamUnsupported => Outcome::Cancelled,
        _ => Outcome::GatewayFailure,
    }
}

/// Unsent requests always; others only when repeating them means nothing new (RFC 9110 §9.2.2)
/// and the node went away without an answer.
fn may_try_again(error: &Error, replayable: bool) -> bool {
    error.is_unsent() || (replayable && error.code() == Code::UpstreamReset)
}

fn is_upgrade(request: &Request) -> bool {
    request.headers().seen().has(Seen::UPGRADE)
}

fn is_replayable(request: &Request, is_upgrade: bool) -> bool {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    idempotent && request.body().is_empty() && !is_upgrade
}

fn names_no_host(request: &Request) -> bool {
    !request.headers().seen().has(Seen::HOST) && request.uri().authority().is_none()
}

fn set_host(request: &mut Request, endpoint: &Endpoint) {
    let default_port = if endpoint.tls.is_some() { 443 } else { 80 };
    let host = match &endpoint.addr {
        NodeAddr::Tcp(at) if at.port == default_port => at.host.to_string(),
        addr => addr.to_string(),
    };
    if let Ok(host) = http::HeaderValue::from_str(&host) {
        request.headers_mut().insert(HOST, host);
    }
}
