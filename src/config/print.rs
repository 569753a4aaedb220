//! A plan as the file that means it: the ramp from a one-liner to a gateway.
//!
//! Printed is what differs from the defaults, in the spelling the file prefers, through the same
//! structs that read it. Reading it back gives an equal plan.

use std::time::Duration;

use gwproxy_core::tls::ClientSettings;
use gwproxy_core::units::{MemoryLimit, Percent, Span};

use super::de::Spanned;
use super::file::{
    AccessLogFile, AdminFile, CertificateFile, ClientTlsFile, File, ForwardFile, LimitsFile,
    ListenerFile, ListenerProtocol, ListenerTimeoutsFile, LoadBalancerFile, Name, Network,
    NodeFile, ProxyProtocolFile, RetryFile, RouteFile, ServiceFile, TlsFile, UpstreamTimeoutsFile,
    WebSocketFile, Workers,
};
use super::short::Short;
use crate::plan::{
    AccessLog, AccessLogFormat, Action, Forward, GRACE, HalfClose, HostPolicy, Listener,
    ListenerTimeouts, LoadBalancer, LogLevel, Node, PathPrefix, Plan, Ports, Protocol,
    ProxyProtocol, Route, Service, Subset, TlsFront, UpstreamTimeouts, WebSocket, default_workers,
};

/// The YAML of a plan.
///
/// # Errors
/// A sentence, if the plan has a value no file can hold (a path that is not UTF-8).
pub fn print(plan: &Plan) -> Result<String, String> {
    let file = File {
        workers: different(plan.workers, &default_workers()).map(Workers::known),
        log: different(plan.log, &LogLevel::default()),
        access_log: different(&plan.access_log, &&AccessLog::default()).map(access_log),
        grace: different(plan.grace, &GRACE).map(span).transpose()?,
        limits: different(plan.memory_limit, &MemoryLimit::default())
            .map(|memory| LimitsFile { memory }),
        trusted_proxies: plan.trusted_proxies.networks.iter().map(|net| Network(*net)).collect(),
        trusted_hops: plan.trusted_proxies.hops,
        admin: plan.admin.clone().map(|bind| Short(AdminFile { bind }).into()),
        listeners: each(&plan.listeners, |one| listener(one, plan))?,
        routes: each(&plan.routes, |one| route(one, plan))?,
        services: each(&plan.services, service)?,
    };
    let yaml = serde_saphyr::to_string(&file);
    let yaml = yaml.map_err(|error| format!("cannot write this as YAML: {error}"))?;
    // A plan has what the environment said, so what looks like a variable now is none.
    Ok(yaml.replace("${", "$${"))
}

fn each<T, F>(
    items: &[T],
    print: impl Fn(&T) -> Result<F, String>,
) -> Result<Vec<Spanned<F>>, String> {
    items.iter().map(|item| print(item).map(Spanned::from)).collect()
}

fn different<T: PartialEq>(value: T, usual: &T) -> Option<T> {
    (value != *usual).then_some(value)
}

fn span(duration: Duration) -> Result<Span, String> {
    // Spans are how durations get into a plan, so there is always one that means it.
    let text = format!("{}us", duration.as_micros());
    text.parse::<Span>().map_err(|error| error.to_string())
}

fn time(value: Duration, usual: Duration) -> Result<Option<Span>, String> {
    different(value, &usual).map(span).transpose()
}

fn access_log(log: &AccessLog) -> Short<AccessLogFile> {
    Short(AccessLogFile {
        to: log.sink.clone(),
        format: different(log.format, &AccessLogFormat::default()),
    })
}

fn listener(one: &Listener, plan: &Plan) -> Result<ListenerFile, String> {
    let service = match &one.action {
        Action::Serve(id) => Some(Name::known(&plan.service(*id).id).into()),
        Action::Forward(_) | Action::Route => None,
    };
    let forward = match &one.action {
        Action::Forward(rules) => Some(forward(rules)?.into()),
        Action::Route | Action::Serve(_) => None,
    };
    Ok(ListenerFile {
        name: Some(Name::known(&one.name).into()),
        protocol: match one.protocol {
            Protocol::Grpc => ListenerProtocol::Grpc,
            Protocol::Http => ListenerProtocol::Http,
            Protocol::Tcp => ListenerProtocol::Tcp,
            Protocol::Ws => ListenerProtocol::Ws,
        },
        bind: Some(one.bind.clone().into()),
        tls: one.tls.as_ref().map(tls).map(Spanned::from),
        proxy_protocol: one.proxy_protocol.as_ref().map(proxy_protocol).map(Spanned::from),
        service,
        forward,
        max_connections: different(one.max_connections, &Listener::MAX_CONNECTIONS)
            .and_then(std::num::NonZero::new),
        max_connections_per_ip: one.max_connections_per_ip,
        limiter: one.limiter.clone().map(Spanned::from),
        timeouts: different(&one.timeouts, &&ListenerTimeouts::default())
            .map(listener_timeouts)
            .transpose()?,
        half_close: different(one.half_close, &HalfClose::default()),
        encoded_slash: one.encoded_slash,
        underscores: one.underscores,
        max_body_size: one.max_body_size,
        websocket: different(&one.websocket, &&WebSocket::default()).map(websocket).transpose()?,
    })
}

fn proxy_protocol(one: &ProxyProtocol) -> Short<ProxyProtocolFile> {
    let from = one.from.iter().copied().map(Network).collect();
    Short(ProxyProtocolFile { mode: one.want, from })
}

fn tls(front: &TlsFront) -> TlsFile {
    let settings = &front.settings;
    TlsFile {
        dev: front.dev,
        certificates: settings.certificates.iter().cloned().map(CertificateFile::from).collect(),
        client_ca: settings.client_ca.clone().map(Spanned::from),
        client_auth: settings.client_auth.map(Spanned::from),
        min_version: settings.min_version,
    }
}

fn forward(rules: &Forward) -> Result<ForwardFile, String> {
    Ok(ForwardFile {
        users: rules.users.clone(),
        allow: rules.allow.clone(),
        deny: rules.deny.clone(),
        allow_private: rules.allow_private,
        allow_ports: match &rules.ports {
            Ports::Usual => Vec::new(),
            Ports::Only(ports) => {
                ports.iter().filter_map(|port| std::num::NonZero::new(*port)).collect()
            }
        },
        unsafe_open: rules.unsafe_open,
        timeouts: upstream_timeouts(&rules.timeouts)?,
    })
}

fn listener_timeouts(one: &ListenerTimeouts) -> Result<ListenerTimeoutsFile, String> {
    let usual = ListenerTimeouts::default();
    Ok(ListenerTimeoutsFile {
        handshake: time(one.handshake, usual.handshake)?,
        header: time(one.header, usual.header)?,
        body: time(one.body, usual.body)?,
        keep_alive: time(one.keep_alive, usual.keep_alive)?,
        max_age: different(one.max_age, &usual.max_age)
            .map(|age| span(age.unwrap_or_default()))
            .transpose()?,
        idle: time(one.idle, usual.idle)?,
    })
}

fn websocket(one: &WebSocket) -> Result<WebSocketFile, String> {
    let usual = WebSocket::default();
    Ok(WebSocketFile {
        ping: different(one.ping, &usual.ping)
            .map(|ping| span(ping.unwrap_or_default()))
            .transpose()?,
        max_message: different(one.max_message, &usual.max_message),
    })
}

fn upstream_timeouts(one: &UpstreamTimeouts) -> Result<Option<UpstreamTimeoutsFile>, String> {
    let usual = UpstreamTimeouts::default();
    if *one == usual {
        return Ok(None);
    }
    Ok(Some(UpstreamTimeoutsFile {
        connect: time(one.connect, usual.connect)?,
        response: one.response.map(span).transpose()?,
        keep_alive: time(one.keep_alive, usual.keep_alive)?,
    }))
}

fn route(one: &Route, plan: &Plan) -> Result<RouteFile, String> {
    let strip = one.rewrite_prefix.as_ref() == Some(&PathPrefix::root());
    Ok(RouteFile {
        id: Some(Name::known(&one.id).into()),
        hosts: one.hosts.clone(),
        path: one.path.clone(),
        methods: one.methods.clone(),
        rewrite_prefix: one.rewrite_prefix.clone().filter(|_| !strip).map(Spanned::from),
        strip_prefix: strip,
        priority: one.priority,
        enabled: true,
        timeout: one.timeout.map(span).transpose()?,
        max_body_size: one.max_body_size,
        limiter: one.limiter.clone().map(Spanned::from),
        breaker: one.breaker.clone().map(Spanned::from),
        service: Some(Name::known(&plan.service(one.service).id).into()),
        subset: subset(&one.subset),
    })
}

fn subset(one: &Subset) -> Option<Spanned<Subset>> {
    (!one.is_empty()).then(|| one.clone().into())
}

fn load_balancer(one: &LoadBalancer) -> Short<LoadBalancerFile> {
    let LoadBalancer { balance, sticky } = one;
    Short(LoadBalancerFile {
        algorithm: balance.algorithm,
        hash_by: balance.hash_by.clone().map(Spanned::from),
        sticky: sticky.clone().map(|sticky| Short(sticky).into()),
        slow_start: (!balance.slow_start.is_zero()).then(|| balance.slow_start.into()),
        panic_threshold: different(balance.panic_threshold, &Percent::default()),
        zone: balance.zone.clone().map(Spanned::from),
        health_check: None,
    })
}

fn service(one: &Service) -> Result<ServiceFile, String> {
    let nodes: Vec<_> = one.nodes.iter().map(|one| node(one).into()).collect();
    Ok(ServiceFile {
        id: Name::known(&one.id).into(),
        protocol: one.protocol,
        nodes: nodes.into(),
        load_balancer: different(&one.load_balancer, &&LoadBalancer::default()).map(load_balancer),
        subset: subset(&one.subset),
        health_check: one.health_check.clone().map(Spanned::from),
        outlier_detection: one.outlier_detection.clone(),
        breaker: one.breaker.clone().map(Spanned::from),
        node_breaker: one.node_breaker.clone().map(Spanned::from),
        limiter: one.limiter.clone().map(Spanned::from),
        timeouts: upstream_timeouts(&one.timeouts)?,
        grpc: one.grpc,
        tls: different(one.tls.clone(), &ClientSettings::default())
            .map(|settings| ClientTlsFile::from(settings).into()),
        proxy_protocol: one.proxy_protocol,
        upstream_host: different(one.upstream_host.clone(), &HostPolicy::default()),
        retry: different(one.max_attempts, &Service::MAX_ATTEMPTS)
            .map(|attempts| RetryFile { max_attempts: std::num::NonZero::new(attempts) }),
    })
}

fn node(one: &Node) -> Short<NodeFile> {
    let address = one.target.to_string();
    Short(NodeFile {
        id: (*one.id != *one.target.name()).then(|| Name::known(&one.id).into()),
        address: address.into(),
        weight: one.weight,
        priority: one.priority,
        enabled: one.enabled,
        metadata: one.metadata.clone(),
    })
}
