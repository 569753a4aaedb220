//! Plan → running listeners: the only place where every room meets.

mod services;
pub(crate) mod tls;

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gwproxy_core::limit::{Admission, Counted, Limiter, Limits};
use gwproxy_core::memory;
use gwproxy_core::net::ListenAddr;
use gwproxy_core::net::accept::{Listener, PerIp, Serve};
use gwproxy_core::net::listen::{Bound, BoundSocket, SocketFile, bind};
use gwproxy_core::telemetry::{AccessLog, Metrics, Rotation};
use gwproxy_core::tls::ServerTls;
use gwproxy_core::units::Span;
use gwproxy_core::upstream::Cluster;
use gwproxy_core::worker::{Phase, Workers};
use gwproxy_http::forward;
use gwproxy_http::h1::head;
use gwproxy_http::reverse::Reverse;
use gwproxy_http::serve::{Server, Settings, Timeouts};
use gwproxy_http::upstream::Upstream;
use gwproxy_ws::WebSocket;
use tokio::sync::watch;

use crate::admin::{self, Admin};
use crate::credentials::Users;
use crate::gateway::gate::Gate;
use crate::gateway::limit::{Ledger, Limit};
use crate::gateway::recorded::Recorded;
use crate::gateway::refusals::Refusals;
use crate::gateway::router::Router;
use crate::gateway::session::Recorder;
use crate::gateway::{
    Frontend, Gateway, Only, Service, Shared, Table, Target, body_max, first_byte,
};
use crate::plan::{self, AccessLogFormat, AccessLogSink, Action, Plan, Protocol, Source, Trusted};

/// A process at work.
#[derive(Debug)]
pub struct Running {
    /// The data plane.
    pub workers: Workers,
    /// What is listened on, with the ports the system chose.
    pub listeners: Vec<Announced>,
    /// Where the admin address listens, if there is one.
    pub admin: Option<ListenAddr>,
    admin_workers: Option<Workers>,
    /// Every number the process counts.
    pub metrics: Arc<Metrics>,
    // Dropped last: it waits for the lines the workers handed on.
    log: Option<AccessLog>,
    /// Ends what runs on the control runtime.
    stop: watch::Sender<bool>,
    /// Of Unix sockets; they go when this does.
    files: Vec<SocketFile>,
}

/// A listener, as told to the user.
#[derive(Debug, Clone)]
pub struct Announced {
    /// The plan's listener.
    pub plan: plan::Listener,
    /// Where it listens.
    pub addr: ListenAddr,
}

/// What every worker needs to begin; it crosses threads.
struct Blueprint {
    table: Arc<ArcSwap<Table>>,
    listeners: Vec<Part>,
    metrics: Arc<Metrics>,
    trusted: Arc<Trusted>,
    log_format: AccessLogFormat,
}

/// One listener of the blueprint.
struct Part {
    plan: plan::Listener,
    listener: Arc<Listener>,
    limit: Option<Arc<Limit>>,
    /// Where connections go, on a TCP listener.
    tcp: Option<TcpTarget>,
    /// Who may use it, on a forward proxy with users.
    users: Option<Arc<Users>>,
}

/// The service of a TCP listener.
struct TcpTarget {
    number: usize,
    cluster: Arc<Cluster>,
    spare: Option<Arc<Cluster>>,
    limit: Option<Arc<Limit>>,
}

/// Starts everything the plan says. Runs on the control runtime, which must stay alive: health
/// checks, certificate watches and echo servers live there.
///
/// # Errors
/// One sentence: what failed, where, and how to mend it. Nothing is left running.
pub async fn start(plan: &Plan, source: &Source) -> Result<Running, String> {
    let (stop, stopped) = watch::channel(false);
    let services = services::build(plan, source, &stopped).await?;
    let mut parts = Vec::with_capacity(plan.listeners.len());
    let mut sockets = Vec::with_capacity(plan.listeners.len());
    let mut files = Vec::new();
    let mut announced = Vec::with_capacity(plan.listeners.len());
    for listener in &plan.listeners {
        let tls = tls::front(listener)?;
        let Bound { addr, sockets: bound, file } = bind(&listener.bind, plan.workers)
            .map_err(|error| error.tell(&source.listen(&listener.name)))?;
        files.extend(file);
        announced.push(Announced { plan: listener.clone(), addr });
        sockets.push(bound);
        parts.push(Part {
            plan: listener.clone(),
            listener: Arc::new(entrance(listener, tls, &plan.trusted_proxies)),
            limit: limit(listener.limiter.as_ref())?,
            tcp: tcp_target(listener, &services),
            users: match &listener.action {
                Action::Forward(forward) => Users::new(&forward.users)?,
                Action::Route | Action::Serve(_) => None,
            },
        });
    }
    let log = match &plan.access_log.sink {
        AccessLogSink::Off => None,
        AccessLogSink::Stdout => Some(AccessLog::open(None)?),
        AccessLogSink::File(path) => Some(AccessLog::open(Some(path))?),
    };
    let mut names: Vec<Arc<str>> = services.iter().map(|service| Arc::clone(&service.id)).collect();
    names.push("-".into());
    let router = Router::new(&plan.routes, &services)?;
    let clusters = services.iter().map(|service| Arc::clone(&service.cluster)).collect();
    let metrics = Metrics::new(plan.workers, names);
    let limits = limits_of(&parts, &router, &services);
    let metrics = Arc::new(
        metrics
            .with_log(log.as_ref().map(AccessLog::dropped))
            .with_limits(limits)
            .with_services(clusters)
            .with_breakers(router.breakers()),
    );
    services::watch_health(plan, &services);
    tokio::spawn(memory::watch(plan.memory_limit));
    for part in &parts {
        if let Some(tls) = &part.listener.tls {
            tokio::spawn(tls.watch());
        }
    }
    let blueprint = Blueprint {
        table: Arc::new(ArcSwap::from_pointee(Table { router, services })),
        listeners: parts,
        metrics: Arc::clone(&metrics),
        trusted: plan.trusted_proxies.clone().into(),
        log_format: plan.access_log.format,
    };
    let workers = start_workers(plan.workers, blueprint, sockets, log.as_ref())?;
    let (admin_workers, admin) = match &plan.admin {
        None => (None, None),
        Some(addr) => {
            let admin = Admin { metrics: Arc::clone(&metrics), phase: workers.phases() };
            let (workers, bound) = admin::start(addr, source.admin(), admin)?;
            files.extend(bound.file);
            (Some(workers), Some(bound.addr))
        }
    };
    Ok(Running { workers, listeners: announced, admin, admin_workers, metrics, log, stop, files })
}

impl Running {
    /// Ends every connection now and waits until the last log line is written.
    pub fn stop(self) {
        self.workers.stop();
        if let Some(admin) = self.admin_workers {
            admin.stop();
        }
        self.stop.send_replace(true);
        drop(self.files);
        drop(self.log);
    }

    /// What opens the access log's file again, if it is one.
    pub fn rotation(&self) -> Option<Rotation> {
        self.log.as_ref().and_then(AccessLog::rotation)
    }

    /// No new connections; open exchanges finish.
    pub fn drain(&self) {
        self.workers.enter(Phase::Draining);
    }
}

/// Each worker takes its own socket of every listener out of these.
type Sockets = std::sync::Mutex<Vec<Vec<Option<BoundSocket>>>>;

fn start_workers(
    count: usize,
    blueprint: Blueprint,
    sockets: Vec<Vec<BoundSocket>>,
    log: Option<&AccessLog>,
) -> Result<Workers, String> {
    let sockets: Vec<Vec<_>> =
        sockets.into_iter().map(|each| each.into_iter().map(Some).collect()).collect();
    let sockets = Sockets::new(sockets);
    let log = log.map(AccessLog::handle);
    Workers::start("worker", count, move |worker| {
        let shared = Rc::new(Shared {
            metrics: blueprint.metrics.cells(worker.index),
            log: log.as_ref().map(|log| (log.lines(), blueprint.log_format)),
            trusted: Arc::clone(&blueprint.trusted),
        });
        let upstream = Upstream::new(Rc::clone(&worker));
        for (number, part) in blueprint.listeners.iter().enumerate() {
            let socket = match sockets.lock() {
                Ok(mut sockets) => sockets
                    .get_mut(number)
                    .and_then(|each| each.get_mut(worker.index))
                    .and_then(Option::take),
                Err(_) => None,
            };
            let Some(socket) = socket else { continue };
            let mut serve = part.serve(&blueprint, &shared, &upstream);
            if let Some(limit) = part.limit.as_ref().filter(|_| part.is_gated()) {
                let (limit, metrics) = (Arc::clone(limit), Arc::clone(&shared.metrics));
                serve = Rc::new(Gate { serve, limit, metrics });
            }
            let serve = Rc::new(Refusals { serve, metrics: Arc::clone(&shared.metrics) });
            if let Err(error) = worker.listen(socket, Arc::clone(&part.listener), serve) {
                tracing::error!(listener = %part.plan.name, %error, "a worker cannot listen");
            }
        }
    })
    .map_err(|error| format!("cannot start the worker threads: {error}"))
}

impl Part {
    /// Whether its connections are limited before anything is read from them.
    fn is_gated(&self) -> bool {
        let of = |of| self.limit.iter().any(|limit| limit.counts(of));
        // A TCP listener has nothing but connections and asks by itself.
        of(Counted::Bytes) || (self.tcp.is_none() && of(Counted::Connections))
    }

    /// What this listener does with a connection, on one worker.
    fn serve(
        &self,
        blueprint: &Blueprint,
        shared: &Rc<Shared>,
        upstream: &Rc<Upstream>,
    ) -> Rc<dyn Serve> {
        if let Some(tcp) = &self.tcp {
            return self.serve_tcp(tcp, shared, upstream);
        }
        let target = match &self.plan.action {
            Action::Serve(service) => Target::Serve(service.index()),
            Action::Route => Target::Route(self.plan.encoded_slash),
            Action::Forward(forward) => return self.serve_forward(forward, shared, upstream),
        };
        let upgrade = Rc::new(WebSocket::new(self.websocket()));
        let trusted = Arc::clone(&blueprint.trusted);
        let reverse = Reverse::new(Rc::clone(upstream), upgrade, trusted);
        let only = match self.plan.protocol {
            Protocol::Grpc => Only::Grpc,
            Protocol::Ws => Only::WebSocket,
            Protocol::Http | Protocol::Tcp => Only::Any,
        };
        let frontend = Frontend {
            listener: Arc::clone(&self.plan.name),
            target,
            only,
            limit: self.limit.clone(),
            underscores: self.plan.underscores,
            body_max: self.plan.max_body_size,
            websocket: self.websocket(),
        };
        let (table, shared) = (Arc::clone(&blueprint.table), Rc::clone(shared));
        let gateway = Gateway::new(table, shared, Rc::new(reverse), frontend);
        Rc::new(Server::new(gateway, Rc::clone(upstream.worker()), self.settings()))
    }

    fn serve_forward(
        &self,
        forward: &plan::Forward,
        shared: &Rc<Shared>,
        upstream: &Rc<Upstream>,
    ) -> Rc<dyn Serve> {
        let settings = forward::Settings {
            policy: forward::Policy {
                allow: forward.allow.clone(),
                deny: forward.deny.clone(),
                allow_private: forward.allow_private,
                ports: forward.ports.clone(),
            },
            connect_timeout: forward.timeouts.connect,
            first_byte: first_byte(forward.timeouts.response, false),
            tunnel_idle: self.plan.timeouts.idle,
            websocket_only: self.plan.protocol == Protocol::Ws,
            ..forward::Settings::default()
        };
        let upgrade = Rc::new(WebSocket::new(self.websocket()));
        let credentials = self.users.as_ref().map(Users::on_worker);
        let (settings, upstream_of) = (Arc::new(settings), Rc::clone(upstream));
        let proxy = Rc::new(forward::Forward::new(settings, upstream_of, upgrade, credentials));
        let (listener, limit) = (Arc::clone(&self.plan.name), self.limit.clone());
        let body_max = self.plan.max_body_size.and_then(|size| body_max(Some(size), false));
        let recorded = Recorded::new(proxy, Rc::clone(shared), listener, limit, body_max);
        Rc::new(Server::new(recorded, Rc::clone(upstream.worker()), self.settings()))
    }

    fn settings(&self) -> Settings {
        let timeouts = &self.plan.timeouts;
        Settings {
            limits: head::Limits::default(),
            timeouts: Timeouts {
                head: timeouts.header,
                body: timeouts.body,
                keep_alive: timeouts.keep_alive,
                age: timeouts.max_age.unwrap_or(std::time::Duration::MAX),
            },
            half_close: self.plan.half_close,
        }
    }

    fn serve_tcp(
        &self,
        tcp: &TcpTarget,
        shared: &Rc<Shared>,
        upstream: &Rc<Upstream>,
    ) -> Rc<dyn Serve> {
        let recorder = Recorder {
            shared: Rc::clone(shared),
            listener: Arc::clone(&self.plan.name),
            service: tcp.number,
            service_id: Arc::clone(tcp.cluster.name()),
        };
        let limits = [self.limit.clone(), tcp.limit.clone()];
        let settings = gwproxy_tcp::Settings { idle: Span::new(self.plan.timeouts.idle) };
        let (worker, resolver) = (Rc::clone(upstream.worker()), Rc::clone(upstream.resolver()));
        let reverse =
            gwproxy_tcp::Reverse::new(Arc::clone(&tcp.cluster), worker, resolver, settings)
                .fall_back_on(tcp.spare.clone())
                .admit(Rc::new(move |peer, now| {
                    memory::admit()?;
                    let of = [Counted::Requests, Counted::Connections];
                    let mut admission = Admission::default();
                    let mut ledger = Ledger::default();
                    for limit in limits.iter().flatten() {
                        let admission = &mut admission;
                        limit.check_connection(&of, peer.remote, admission, &mut ledger, now)?;
                    }
                    Ok(admission)
                }))
                .report(Rc::new(move |session| recorder.record(session)));
        Rc::new(reverse)
    }

    fn websocket(&self) -> gwproxy_ws::Settings {
        let message = self.plan.websocket.max_message;
        gwproxy_ws::Settings {
            limits: gwproxy_ws::frames::Limits { message, ..Default::default() },
            ping: Span::new(self.plan.websocket.ping.unwrap_or_default()),
            idle_timeout: Span::new(self.plan.timeouts.idle),
            ..gwproxy_ws::Settings::default()
        }
    }
}

/// The listener, and a warning if anyone may claim any address there.
fn entrance(plan: &plan::Listener, tls: Option<Arc<ServerTls>>, trusted: &Trusted) -> Listener {
    let (handshake, max) = (plan.timeouts.handshake, plan.max_connections);
    let mut listener = Listener::new(plan.name.to_string(), tls, handshake, max);
    listener.proxy_protocol.clone_from(&plan.proxy_protocol);
    if let Some(rule) = per_ip(plan.max_connections_per_ip, trusted) {
        listener = listener.per_ip(rule);
    }
    if plan.proxy_protocol.as_ref().is_some_and(|one| plan::is_proxied_open(one, &plan.bind)) {
        tracing::warn!(
            listener = %plan.name,
            "everyone who reaches {} may claim any address in a PROXY header; say whose are \
             believed (`from`, --proxy-protocol-from), unless a firewall does",
            plan.bind
        );
    }
    listener
}

/// What one address may have. Proxies in front carry many clients: those named do not count, and
/// where only their number is known nobody does, unless that is asked for.
fn per_ip(max: Option<usize>, trusted: &Trusted) -> Option<PerIp> {
    let exempt = trusted.networks.clone();
    match max {
        None if trusted.hops > 0 => None,
        None => Some(PerIp { exempt, ..PerIp::default() }),
        Some(max) => NonZeroUsize::new(max).map(|max| PerIp { max, counts_loopback: true, exempt }),
    }
}

fn tcp_target(listener: &plan::Listener, services: &[Service]) -> Option<TcpTarget> {
    let (Protocol::Tcp, Action::Serve(service)) = (listener.protocol, &listener.action) else {
        return None;
    };
    let number = service.index();
    let service = services.get(number)?;
    let (cluster, limit) = (Arc::clone(&service.cluster), service.limit.clone());
    let spare = service.fallback.as_ref().and_then(|fallback| fallback.service());
    let spare = spare.map(|spare| Arc::clone(&spare.cluster));
    Some(TcpTarget { number, cluster, spare, limit })
}

/// Every limit, with the place where it stands.
fn limits_of(parts: &[Part], router: &Router, services: &[Service]) -> Vec<(String, Arc<Limiter>)> {
    let listeners = parts.iter().filter_map(|part| {
        Some((format!("listener {}", part.plan.name), Arc::clone(part.limit.as_ref()?)))
    });
    let routes = router.limits().into_iter().map(|(id, limit)| (format!("route {id}"), limit));
    let services = services.iter().filter_map(|service| {
        Some((format!("service {}", service.id), Arc::clone(service.limit.as_ref()?)))
    });
    let mut each = Vec::new();
    for (place, limit) in listeners.chain(routes).chain(services) {
        each.extend(limit.limiters().map(|limiter| (place.clone(), Arc::clone(limiter))));
    }
    each
}

fn limit(limits: Option<&Limits>) -> Result<Option<Arc<Limit>>, String> {
    limits.map(|limits| Limit::new(limits).map(Arc::new)).transpose()
}
