//! Services: nodes, TLS towards them, balancer, breaker, health.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use gwproxy_core::health::passive;
use gwproxy_core::net::HostPort;
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint, MarkKey, NodeAddr};
use gwproxy_http::sticky::Sticky;
use gwproxy_http::upstream::Host;
use http::HeaderValue;
use tokio::sync::watch;

use super::limit;
use super::tls::Offers;
use crate::echo;
use crate::gateway::Service;
use crate::gateway::fallback::Fallback;
use crate::gateway::limit::Source;
use crate::plan::{
    self, EchoKind, HostPolicy, Node, Plan, Scheme, ServiceId, StickySettings, Subset, Target,
    time_to_answer,
};
use crate::tools;

/// Makes every service of the plan, with its echo nodes running.
pub(super) async fn build(
    plan: &Plan,
    source: &plan::Source,
    stopped: &watch::Receiver<bool>,
) -> Result<Vec<Service>, String> {
    let mut services = Vec::with_capacity(plan.services.len());
    for (number, service) in plan.services.iter().enumerate() {
        let subsets = plan::subsets(service, ServiceId(number), &plan.routes);
        services.push(build_one(service, subsets, source, stopped).await?);
    }
    for (number, service) in plan.services.iter().enumerate() {
        let fallback = Fallback::new(service.breaker.as_ref(), &services)?;
        if let Some(service) = services.get_mut(number) {
            service.fallback = fallback;
        }
    }
    Ok(services)
}

async fn build_one(
    service: &plan::Service,
    subsets: Vec<Subset>,
    source: &plan::Source,
    stopped: &watch::Receiver<bool>,
) -> Result<Service, String> {
    let schemes: Vec<Scheme> = service
        .nodes
        .iter()
        .filter_map(|node| match node.target {
            Target::Remote { scheme, .. } => Some(scheme),
            Target::Echo(_) => None,
        })
        .collect();
    let offers = Offers::new(service, &schemes)?;
    let title = source.nodes(&service.id);
    if service.tls.danger_skip_verify {
        tracing::warn!(
            "certificates of the nodes of {title} are NOT verified (danger_skip_verify): whoever \
             is on the way can read and change everything"
        );
    }
    let mut endpoints = Vec::with_capacity(service.nodes.len());
    for node in service.nodes.iter().filter(|node| node.enabled) {
        let mut endpoint = endpoint(node, &offers, stopped)?;
        endpoint.proxy_protocol = service.proxy_protocol;
        endpoints.push(endpoint);
    }
    check_names(service, source, &endpoints).await?;
    let breakers = [service.breaker.as_ref(), service.node_breaker.as_ref()];
    let settings = ClusterSettings {
        keep_alive: service.timeouts.keep_alive,
        balance: service.load_balancer.balance.clone(),
        subsets,
        marks: service.load_balancer.sticky.as_ref().map(mark_key).transpose()?,
        breaker: service.breaker.clone(),
        node_breaker: service.node_breaker.clone(),
        outliers: service.outlier_detection.clone(),
        connect_timeout: time_to_answer(Some(service.timeouts.connect), breakers)
            .unwrap_or(service.timeouts.connect),
        max_attempts: service.max_attempts,
        title: title.into(),
        ..ClusterSettings::new(Arc::clone(&service.id))
    };
    let cluster = Cluster::new(settings, endpoints);
    let key = cluster.needs_key().map(Source::new).transpose()?;
    Ok(Service {
        id: Arc::clone(&service.id),
        cluster,
        limit: limit(service.limiter.as_ref())?,
        response_timeout: time_to_answer(service.timeouts.response, breakers),
        grpc: service.grpc,
        // Another service may not be there yet.
        fallback: None,
        host: host(&service.upstream_host)?,
        key,
        sticky: service.load_balancer.sticky.as_ref().map(|one| Arc::new(Sticky::new(one))),
    })
}

fn mark_key(sticky: &StickySettings) -> Result<MarkKey, String> {
    match &sticky.secret {
        Some(secret) => Ok(MarkKey::new(secret.as_bytes())),
        None => MarkKey::random(),
    }
}

fn endpoint(
    node: &Node,
    offers: &Offers,
    stopped: &watch::Receiver<bool>,
) -> Result<Endpoint, String> {
    let (scheme, addr) = match &node.target {
        Target::Remote { scheme, addr } => (*scheme, addr.clone()),
        Target::Echo(kind) => start_echo(*kind, &node.id, stopped)?,
    };
    let name = match &addr {
        NodeAddr::Tcp(at) => &*at.host,
        NodeAddr::Unix(_) => "localhost",
    };
    let (tls, exclusive) = offers.for_node(scheme, name)?;
    let weight = u32::from(node.weight.get());
    let mut endpoint = Endpoint::new(Arc::clone(&node.id), scheme.as_str(), addr, tls, weight);
    endpoint.tls_exclusive = exclusive;
    endpoint.metadata.clone_from(&node.metadata);
    endpoint.set_priority(u32::from(node.priority));
    Ok(endpoint)
}

/// An echo server of this process, on a loopback port of the system's choice.
fn start_echo(
    kind: EchoKind,
    node: &str,
    stopped: &watch::Receiver<bool>,
) -> Result<(Scheme, NodeAddr), String> {
    let scheme = match kind {
        EchoKind::Grpc => Scheme::Grpc,
        EchoKind::Http => Scheme::Http,
        EchoKind::Tcp => Scheme::Tcp,
        EchoKind::Ws => Scheme::Ws,
    };
    let kind = tools::kind(kind);
    let cannot = |error| format!("cannot start the echo server of node `{node}`: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    let (name, stopped) = (node.to_owned(), stopped.clone());
    tokio::spawn(async move {
        if let Err(error) = echo::serve(kind, listener, None, name, stopped).await {
            tracing::error!(%error, "an echo server ended");
        }
    });
    let at = HostPort { host: Ipv4Addr::LOCALHOST.to_string().into(), port };
    Ok((scheme, NodeAddr::Tcp(at)))
}

/// A service none of whose names resolves cannot work, and a typo should not wait for the first
/// request to be found. One name of several may be down for now: a warning.
async fn check_names(
    service: &plan::Service,
    source: &plan::Source,
    endpoints: &[Endpoint],
) -> Result<(), String> {
    let mut failed = Vec::new();
    for endpoint in endpoints {
        let NodeAddr::Tcp(at) = &endpoint.addr else { continue };
        if at.ip().is_some() {
            continue;
        }
        if let Err(error) = tokio::net::lookup_host((&*at.host, at.port)).await {
            failed.push((at.host.to_string(), error));
        }
    }
    if failed.len() < endpoints.len() {
        for (host, error) in failed {
            tracing::warn!(service = %service.id, %host, %error, "a node's name does not resolve");
        }
        return Ok(());
    }
    let failed: Vec<String> = failed.into_iter().map(|(host, _)| host).collect();
    Err(format!(
        "no node of {} can be reached: `{}` does not resolve to an address; check the spelling, \
         or write the address itself",
        source.nodes(&service.id),
        failed.join("`, `"),
    ))
}

/// Starts the active health checks, and the comparing of nodes for the passive ones.
pub(super) fn watch_health(plan: &Plan, services: &[Service]) {
    for (plan, service) in plan.services.iter().zip(services) {
        if let Some(settings) = &plan.health_check {
            crate::health::watch(&service.cluster, settings);
        }
        if plan.outlier_detection.is_some() {
            tokio::spawn(passive::watch(Arc::downgrade(&service.cluster)));
        }
    }
}

fn host(policy: &HostPolicy) -> Result<Host, String> {
    Ok(match policy {
        HostPolicy::Preserve => Host::Preserve,
        HostPolicy::Node => Host::Node,
        HostPolicy::Fixed(host) => {
            Host::Fixed(HeaderValue::from_str(host).map_err(|_| format!("`{host}` is not a host"))?)
        }
    })
}
