//! The gateway: what happens to a request between a listener and a service.

pub mod exchange;
pub mod limit;
pub mod recorded;
pub mod router;
pub mod session;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use gwproxy_core::telemetry::Lines;
use gwproxy_core::telemetry::metrics::Cells;
use gwproxy_core::upstream::Cluster;
use gwproxy_core::{Code, Error};
use gwproxy_grpc::reverse::Grpc;
use gwproxy_http::h1::head::Reject;
use gwproxy_http::rescue::{Problem, Rescue, rejected};
use gwproxy_http::reverse::Reverse;
use gwproxy_http::upstream::{Host, Terms};
use gwproxy_http::wire::forwarded;
use gwproxy_http::{Client, Handle, Request, Response};
use ipnet::IpNet;

use exchange::Exchange;
use limit::{Limit, Source};
use router::{Router, Taken};

use crate::plan::AccessLogFormat;

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
    /// Time to the first byte of a response.
    pub response_timeout: Duration,
    /// What nodes see as `Host`.
    pub host: Host,
    /// What its balancer hashes by, if it does.
    pub key: Option<Source>,
}

/// What a listener does with its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// By the routes.
    Route,
    /// All to the service of this number.
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
    pub trusted: Arc<[IpNet]>,
}

/// One HTTP listener on one worker.
#[derive(Debug)]
pub struct Gateway {
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    shared: Rc<Shared>,
    reverse: Rc<Reverse>,
    listener: Arc<str>,
    target: Target,
    only: Only,
    limit: Option<Arc<Limit>>,
}

impl Gateway {
    /// A gateway for the listener called `listener`.
    pub fn new(
        table: Arc<ArcSwap<Table>>,
        shared: Rc<Shared>,
        reverse: Rc<Reverse>,
        listener: Arc<str>,
        target: Target,
        only: Only,
        limit: Option<Arc<Limit>>,
    ) -> Rc<Self> {
        let table = RefCell::new(Cache::new(table));
        Rc::new(Self { table, shared, reverse, listener, target, only, limit })
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
        let now = Instant::now();
        if self.only == Only::WebSocket
            && let Some(refusal) = gwproxy_ws::upgrade::refusal(&request)
        {
            return Ok(refusal);
        }
        check(self.limit.as_ref(), &request, exchange, now)?;
        let service = match self.target {
            Target::Serve(service) => service,
            Target::Route => {
                let Taken { route, limit, path } = table.router.route(&request)?;
                check(limit, &request, exchange, now)?;
                exchange.route = Some(Arc::clone(&route.id));
                exchange.timeout = route.timeout;
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
        check(service.limit.as_ref(), &request, exchange, now)?;
        let key = service.key.as_ref().map(|source| {
            // Hash balancers must agree over processes and restarts.
            source.key(&request, exchange.client_ip, gwproxy_core::key::stable)
        });
        let first_byte = exchange.timeout.unwrap_or(service.response_timeout);
        let terms = Terms { first_byte, key, host: service.host.clone(), ..Terms::default() };
        let reverse = &self.reverse;
        if exchange.is_grpc || self.only == Only::Grpc {
            Grpc::new(reverse).forward(request, client, &service.cluster, &terms).await
        } else {
            reverse.forward(request, client, &service.cluster, &terms).await
        }
    }
}

impl Handle for Gateway {
    async fn handle(self: Rc<Self>, request: Request, client: Rc<Client>) -> Response {
        let client_ip =
            forwarded::client_ip(request.headers(), client.peer.remote, &self.shared.trusted);
        let mut exchange =
            Exchange::begin(&request, &client, client_ip, Arc::clone(&self.listener), &self.shared);
        let rescue = gwproxy_grpc::rescue_for(request.headers());
        let (mut response, error) = match self.run(Box::new(request), &client, &mut exchange).await
        {
            Ok(response) => (response, None),
            Err(error) => {
                let response = match &rescue {
                    Some(grpc) => grpc.answer(&error),
                    None => Problem::default().answer(&error),
                };
                (response, Some(error))
            }
        };
        exchange.finish_on(&mut response, error.as_ref());
        response
    }

    fn reject(&self, reject: &Reject, client: &Client) -> Response {
        let mut response = rejected(reject);
        let error = Error::new(Code::ClientMalformed, reject.reason);
        Exchange::of_rejected(client, Arc::clone(&self.listener), &self.shared)
            .finish_on(&mut response, Some(&error));
        response
    }
}

fn check(
    limit: Option<&Arc<Limit>>,
    request: &Request,
    exchange: &mut Exchange,
    now: Instant,
) -> Result<(), Error> {
    match limit {
        Some(limit) => limit.check(request, exchange, now),
        None => Ok(()),
    }
}
