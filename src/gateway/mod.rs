//! The gateway: what happens to a request between a listener and a service.

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod exchange;
pub mod fallback;
pub mod gate;
pub mod limit;
pub mod recorded;
pub mod refusals;
pub mod router;
pub mod session;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use gwproxy_core::limit::Meters;
use gwproxy_core::telemetry::Lines;
use gwproxy_core::telemetry::metrics::Cells;
use gwproxy_core::timer::pause;
use gwproxy_core::units::Size;
use gwproxy_core::upstream::Cluster;
use gwproxy_core::{Code, Error, memory};
use gwproxy_grpc::deadline;
use gwproxy_grpc::reverse::Grpc;
use gwproxy_http::h1::head::Reject;
use gwproxy_http::rescue::{Problem, Rescue, rejected};
use gwproxy_http::reverse::Reverse;
use gwproxy_http::sticky::Sticky;
use gwproxy_http::upstream::{Host, Terms};
use gwproxy_http::wire::forwarded::{self, Trusted};
use gwproxy_http::wire::{Ambiguous, hop};
use gwproxy_http::{Body, Client, Handle, Request, Response};
use gwproxy_ws::WebSocket;

use exchange::Exchange;
use fallback::Fallback;
use limit::{Ledger, Limit, Source, Stage};
use router::{Guard, Router, Taken};

use crate::plan::{AccessLogFormat, time_to_answer};

/// Bytes of content of a request to a service, unless told otherwise.
const BODY_MAX: Size = Size::bytes(10 << 20);

/// What requests are decided by: immutable, swapped as a whole.
#[derive(Debug)]
pub struct Table {
    /// Which requests go where.
    pub router: Router,
    /// The services, as routes and listeners number them.
    pub services: Vec<Service>,
}

/// A service, ready to be used.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub id: Arc<str>,
    /// Its nodes.
    pub cluster: Arc<Cluster>,
    /// Its own limit, whatever the route.
    pub limit: Option<Arc<Limit>>,
    /// Time to the first byte of a response; none: [`first_byte`]'s default.
    pub response_timeout: Option<Duration>,
    /// The deadlines of its calls, if they are gRPC.
    pub grpc: deadline::Settings,
    /// What answers when its breaker refuses, or nobody does.
    pub fallback: Option<Arc<Fallback>>,
    /// What nodes see as `Host`.
    pub host: Host,
    /// What its balancer hashes by, if it does.
    pub key: Option<Source>,
    /// The cookie that leads its clients back to their nodes.
    pub sticky: Option<Arc<Sticky>>,
}

/// What a listener does with its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// By the routes, with the one path ([`gwproxy_http::wire::path`]).
    Route(Ambiguous),
    /// All to the service of this number, with the path as it came: there is no rule that a path
    /// could get around, and what the node makes of it is its own.
    Serve(usize),
}

/// Which requests a listener takes at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// Everything HTTP, with WebSocket and gRPC in it.
    Any,
    /// gRPC calls.
    Grpc,
    /// WebSocket handshakes.
    WebSocket,
}

/// What all listeners of a worker share.
#[derive(Debug)]
pub struct Shared {
    /// The metrics of the worker.
    pub metrics: Arc<Cells>,
    /// The access log, if any.
    pub log: Option<(Rc<Lines>, AccessLogFormat)>,
    /// Whose forwarding fields are believed.
    pub trusted: Arc<Trusted>,
}

/// What a listener lets in, and where to.
#[derive(Debug)]
pub struct Frontend {
    /// Its name.
    pub listener: Arc<str>,
    /// Where its requests go.
    pub target: Target,
    /// Which of them it takes.
    pub only: Only,
    /// How many of them.
    pub limit: Option<Arc<Limit>>,
    /// What becomes of names with `_` (D24). gRPC calls are never refused for them: their metadata
    /// may have such names, and no CGI reads it.
    pub underscores: Ambiguous,
    /// Bytes of content that a request may have, where its route does not say; none: [`body_max`]'s
    /// default.
    pub body_max: Option<Size>,
    /// What upgraded connections are held to.
    pub websocket: gwproxy_ws::Settings,
}

/// One HTTP listener on one worker.
#[derive(Debug)]
pub struct Gateway {
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    shared: Rc<Shared>,
    reverse: Rc<Reverse>,
    frontend: Frontend,
}

impl Gateway {
    /// A gateway behind a listener.
    pub fn new(
        table: Arc<ArcSwap<Table>>,
        shared: Rc<Shared>,
        reverse: Rc<Reverse>,
        frontend: Frontend,
    ) -> Rc<Self> {
        let table = RefCell::new(Cache::new(table));
        Rc::new(Self { table, shared, reverse, frontend })
    }

    /// The way to nodes for a WebSocket whose messages are limited.
    fn metered(&self, meters: Meters) -> Reverse {
        let websocket = WebSocket::new(self.frontend.websocket.clone()).metered(meters);
        let (upstream, trusted) = (Rc::clone(self.reverse.upstream()), &self.shared.trusted);
        Reverse::new(upstream, Rc::new(websocket), Arc::clone(trusted))
    }

    /// The way of a request: limits, route, service, and back.
    async fn run(
        &self,
        mut request: Box<Request>,
        client: &Client,
        exchange: &mut Exchange,
    ) -> Result<Response, Error> {
        // One load: the request keeps the table it began with.
        let table = Arc::clone(self.table.borrow_mut().load());
        let now = exchange.started;
        memory::admit()?;
        let Frontend { only, target, .. } = self.frontend;
        let is_grpc = exchange.is_grpc || only == Only::Grpc;
        if only == Only::WebSocket
            && let Some(refusal) = gwproxy_ws::upgrade::refusal(&request)
        {
            return Ok(refusal);
        }
        let (front, mut ledger) = (self.frontend.limit.as_ref(), Ledger::default());
        check(front, Stage::Arrived, &request, client, exchange, &mut ledger, now)?;
        refuse_underscores(&self.frontend, is_grpc, &request)?;
        let (mut subset, mut guard) = (0, None);
        let mut body_max = self.frontend.body_max;
        let mut route_limit = None;
        let service = match target {
            Target::Serve(service) => service,
            Target::Route(slash) => {
                router::canonicalize(&mut request, slash, exchange.is_grpc)?;
                let Taken { route, limit, guard: own, path, subset: only } =
                    table.router.route(&request)?;
                exchange.route = Some(Arc::clone(&route.id));
                check(limit, Stage::Arrived, &request, client, exchange, &mut ledger, now)?;
                route_limit = limit;
                exchange.timeout = time_to_answer(route.timeout, [route.breaker.as_ref()]);
                (subset, guard) = (only, own);
                body_max = route.max_body_size.or(body_max);
                if let Some(path) = path {
                    router::rewrite(&mut request, path)?;
                }
                route.service.index()
            }
        };
        let Some(service) = table.services.get(service).inspect(|_| exchange.service = service)
        else {
            return Err(Error::new(Code::Internal, "the route's service is missing"));
        };
        exchange.service_id = Some(Arc::clone(&service.id));
        // What counts by route or service could not know it before.
        check(front, Stage::Routed, &request, client, exchange, &mut ledger, now)?;
        check(route_limit, Stage::Routed, &request, client, exchange, &mut ledger, now)?;
        let own = service.limit.as_ref();
        check(own, Stage::Whole, &request, client, exchange, &mut ledger, now)?;
        wait_for_turn(exchange, ledger).await;
        let meters = meters([front, route_limit, own], &request, client, exchange);
        hold_to(request.body_mut(), self::body_max(body_max, is_grpc))?;
        let terms = Terms {
            first_byte: first_byte(exchange.timeout.or(service.response_timeout), is_grpc),
            subset,
            ..service.terms(&request, client, exchange, guard)
        };
        let reverse = &self.reverse;
        if is_grpc {
            let grpc = Grpc::new(reverse).obeying(service.grpc).since(now).metered(meters);
            // Boxed: it is larger than all the rest, and most requests are no calls.
            Box::pin(grpc.forward(request, client, &service.cluster, &terms)).await
        } else if !meters.is_empty() && gwproxy_ws::upgrade::refusal(&request).is_none() {
            let reverse = self.metered(meters);
            Box::pin(reverse.forward(request, client, &service.cluster, &terms)).await
        } else {
            reverse.forward(request, client, &service.cluster, &terms).await
        }
    }
}

impl Service {
    /// The terms of a request that may go to it. `guard`: of its route.
    fn terms(
        &self,
        request: &Request,
        client: &Client,
        exchange: &mut Exchange,
        guard: Option<&Arc<Guard>>,
    ) -> Terms {
        let source = self.key.as_ref();
        let of_route = guard.and_then(|guard| guard.fallback.as_ref());
        let fallback = of_route.or(self.fallback.as_ref());
        exchange.fallback = fallback.cloned();
        Terms {
            key: source.and_then(|one| one.hash_key(request, client, exchange)),
            sticky: self.sticky.clone(),
            breaker: guard.map(|guard| Arc::clone(&guard.breaker)),
            spare: fallback.and_then(|fallback| fallback.service()).cloned(),
            host: self.host.clone(),
            interim: client.interim(request),
            now: Some(exchange.started),
            ..Terms::default()
        }
    }
}

impl Handle for Gateway {
    async fn handle(self: Rc<Self>, request: Box<Request>, client: Rc<Client>) -> Response {
        let client_ip =
            forwarded::client_ip(request.headers(), client.peer.remote, &self.shared.trusted);
        let mut exchange = Exchange::begin(
            &request,
            &client,
            client_ip,
            Arc::clone(&self.frontend.listener),
            &self.shared,
        );
        let rescue =
            exchange.is_grpc.then(|| gwproxy_grpc::rescue_for(request.headers())).flatten();
        let (mut response, error) = match self.run(request, &client, &mut exchange).await {
            Ok(response) => (response, None),
            Err(error) => {
                let fallback = exchange.fallback.take().filter(|_| !exchange.is_grpc);
                let instead = fallback.and_then(|fallback| fallback.answer(&error));
                let response = instead.unwrap_or_else(|| match &rescue {
                    Some(grpc) => grpc.answer(&error),
                    None => Problem::default().answer(&error),
                });
                (response, Some(error))
            }
        };
        exchange.finish_on(&mut response, error.as_ref());
        response
    }

    fn reject(&self, reject: &Reject, client: &Client) -> Response {
        let mut response = rejected(reject);
        let error = reject.error();
        Exchange::of_rejected(client, Arc::clone(&self.frontend.listener), &self.shared)
            .finish_on(&mut response, Some(&error));
        response
    }
}

/// How long a node has for the head of its response. Zero is no limit, and so is nothing at all
/// for gRPC calls: theirs is `grpc-timeout`, and a watch without one answers with its first event.
pub fn first_byte(set: Option<Duration>, is_grpc: bool) -> Duration {
    match set {
        Some(Duration::ZERO) => Terms::NO_LIMIT,
        Some(set) => set,
        None if is_grpc => Terms::NO_LIMIT,
        None => Terms::default().first_byte,
    }
}

/// How much content a request may have ([`Body::limit`]). Zero is no limit, and so is nothing at all
/// for gRPC calls, whose messages stream for as long as they last; else 10 MiB (D11).
pub fn body_max(set: Option<Size>, is_grpc: bool) -> Option<u64> {
    match set {
        Some(set) => Some(set.get()).filter(|&bytes| bytes > 0),
        None if is_grpc => None,
        None => Some(BODY_MAX.get()),
    }
}

/// Applies a limit, if there is one.
fn hold_to(body: &mut Body, body_max: Option<u64>) -> Result<(), Error> {
    body_max.map_or(Ok(()), |bytes| body.limit(bytes))
}

fn refuse_underscores(frontend: &Frontend, is_grpc: bool, request: &Request) -> Result<(), Error> {
    let refused = frontend.underscores == Ambiguous::Refuse && !is_grpc;
    if !refused || !hop::has_underscore(request.headers()) {
        return Ok(());
    }
    // How to let it pass is for the log: clients cannot.
    let remedy = "`--underscores keep` (`underscores: keep` in a file) lets it pass";
    let error = Error::new(Code::ClientMalformed, "a field name has an underscore");
    Err(error.because(remedy).unsent())
}

/// Waits as long as a leaky bucket says, with everything charged for good.
async fn wait_for_turn(exchange: &Exchange, ledger: Ledger<'_>) {
    drop(ledger);
    pause(exchange.wait).await;
}

/// What limits the messages of a request's connection or call.
fn meters(
    limits: [Option<&Arc<Limit>>; 3],
    request: &Request,
    client: &Client,
    exchange: &Exchange,
) -> Meters {
    let mut meters = Meters::default();
    for limit in limits.into_iter().flatten() {
        limit.add_meters(request, client, exchange, &mut meters);
    }
    meters
}

fn check<'a>(
    limit: Option<&'a Arc<Limit>>,
    stage: Stage,
    request: &Request,
    client: &Client,
    exchange: &mut Exchange,
    ledger: &mut Ledger<'a>,
    now: Instant,
) -> Result<(), Error> {
    match limit {
        Some(limit) => limit.check(stage, request, client, exchange, ledger, now),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D11: 10 MiB, nothing for gRPC, and what is said for both.
    #[test]
    fn d11_content_is_bounded_unless_it_streams() {
        for (set, http, grpc) in
            [(None, Some(10 << 20), None), (Some(0), None, None), (Some(7), Some(7), Some(7))]
        {
            assert_eq!(body_max(set.map(Size::bytes), false), http);
            assert_eq!(body_max(set.map(Size::bytes), true), grpc);
        }
    }

    /// D07, and gRPC without it.
    #[test]
    fn calls_wait_by_their_own_deadline_unless_told() {
        let secs = Duration::from_secs;
        assert_eq!(first_byte(None, false), secs(15));
        assert_eq!(first_byte(None, true), Terms::NO_LIMIT);
        for is_grpc in [false, true] {
            assert_eq!(first_byte(Some(secs(3)), is_grpc), secs(3));
            assert_eq!(first_byte(Some(Duration::ZERO), is_grpc), Terms::NO_LIMIT);
        }
    }
}
