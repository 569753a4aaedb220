//! A service of the file made true.

use std::collections::HashMap;
use std::time::Duration;

use gwproxy_core::tls::{CertificatePair, ClientSettings};

use super::balance;
use super::check::{readable_ca, readable_pair};
use super::de::{Found, Spanned};
use super::file::{ClientTlsFile, NodeFile, ServiceFile, UpstreamTimeoutsFile};
use super::report::{Code, Diagnostic, Place};
use super::short::Short;
use crate::plan::meaning::{self, LimitOf};
use crate::plan::{Node, Protocol, Service, Subset, Target, UpstreamTimeouts};

/// Makes the service, telling what is wrong with it on the way.
pub(super) fn lower(file: Spanned<ServiceFile>, found: &mut Found) -> Service {
    let Spanned { value: file, place } = file;
    let nodes_place = file.nodes.place;
    let known = found.damage.spares_keys(place, &["nodes"]);
    let spoken = found.damage.spares_keys(place, &["protocol"]).then_some(file.protocol);
    let mut seen = HashMap::new();
    let mut nodes = Vec::with_capacity(file.nodes.value.len());
    let mut listed = 0;
    for Spanned { value: Short(node), place } in file.nodes.value {
        listed += 1;
        nodes.extend(lower_node(node, place, spoken, &mut seen, found));
    }
    if listed == 0 && known {
        let one = if nodes_place == Place::FILE {
            Diagnostic::new(Code::MissingKey, place, "the key `nodes` is missing")
        } else {
            let sentence = format!("service `{}` has no nodes", file.id.value.as_str());
            Diagnostic::new(Code::Empty, nodes_place, sentence)
        };
        found.diagnostics.push(one);
    }
    if let (Some(limiter), Some(protocol)) = (&file.limiter, spoken)
        && let Err(sentence) = meaning::check_limits(&limiter.value, protocol, LimitOf::Behind)
    {
        found.diagnostics.push(Diagnostic::new(Code::WrongProtocol, limiter.place, sentence));
    }
    let tls_place = file.tls.as_ref().map(|tls| tls.place);
    let tls = file.tls.map(|tls| client_tls(&tls, found)).unwrap_or_default();
    let Short(mut balancer) = file.load_balancer.unwrap_or_default();
    let (checked, whole) = (balancer.health_check.take(), known && nodes.len() == listed);
    let all = whole.then_some(&*nodes);
    let load_balancer = balance::lower(balancer, spoken, all, found);
    if let (Some(twice), Some(_)) = (&checked, &file.health_check) {
        let sentence = "this service has two health checks; keep one";
        found.diagnostics.push(Diagnostic::new(Code::Conflict, twice.place, sentence));
    }
    let mut service = Service {
        id: file.id.value.as_str().into(),
        protocol: file.protocol,
        nodes,
        load_balancer,
        subset: Subset::new(),
        health_check: file.health_check.or(checked).map(|check| check.value),
        breaker: file.breaker.map(|breaker| breaker.value),
        node_breaker: file.node_breaker.map(|breaker| breaker.value),
        outlier_detection: file.outlier_detection,
        limiter: file.limiter.map(|limiter| limiter.value),
        timeouts: timeouts(file.timeouts),
        grpc: file.grpc,
        tls,
        proxy_protocol: file.proxy_protocol,
        upstream_host: file.upstream_host.unwrap_or_default(),
        max_attempts: file
            .retry
            .and_then(|retry| retry.max_attempts)
            .map_or(Service::MAX_ATTEMPTS, std::num::NonZero::get),
    };
    if let (Err(sentence), true) = (service.check(), known) {
        found.diagnostics.push(Diagnostic::new(Code::Empty, nodes_place, sentence));
    }
    service.subset = balance::subset(file.subset, &service, whole, found);
    // A node that could not be read may be the one with TLS.
    if let (Some(place), Err(sentence), true) = (tls_place, service.check_tls(), whole) {
        found.diagnostics.push(Diagnostic::new(Code::Conflict, place, format!("`tls` {sentence}")));
    }
    service
}

fn client_tls(tls: &Spanned<ClientTlsFile>, found: &mut Found) -> ClientSettings {
    let settings = tls.value.settings();
    if let Err(sentence) = settings.check() {
        found.diagnostics.push(Diagnostic::new(Code::Conflict, tls.place, sentence));
    }
    if let Some(pair) = &tls.value.certificate {
        readable_pair(pair, CertificatePair::shown_faults, found);
    }
    if let Some(ca) = &tls.value.ca {
        readable_ca(ca, ClientSettings::check_ca, found);
    }
    settings
}

/// The node, if it can be read. `protocol`: of its service, if that could be read.
fn lower_node(
    file: NodeFile,
    place: Place,
    protocol: Option<Protocol>,
    seen: &mut HashMap<String, Place>,
    found: &mut Found,
) -> Option<Node> {
    // The short form is its address.
    let address_place = match file.address.place {
        Place::FILE => place,
        address => address,
    };
    let target = match Target::parse(&file.address.value, protocol.unwrap_or(Protocol::Http)) {
        Ok(target) => target,
        Err(error) if error.is_scheme() && protocol.is_none() => return None,
        Err(error) => {
            let code = if error.is_scheme() { Code::WrongProtocol } else { Code::InvalidValue };
            let mut one = Diagnostic::new(code, address_place, error.to_string());
            one.secret = file.address.value.contains('@');
            found.diagnostics.push(one);
            return None;
        }
    };
    let (id, id_place) = match &file.id {
        Some(id) => (id.value.as_str().to_owned(), id.place),
        None => (target.name(), address_place),
    };
    if let Some(first) = seen.insert(id.clone(), id_place) {
        let sentence = format!(
            "a node `{id}` is already on line {}; to send it more, give it a `weight`",
            first.line
        );
        found.diagnostics.push(Diagnostic::new(Code::DuplicateId, id_place, sentence));
    }
    Some(Node {
        id: id.into(),
        target,
        weight: file.weight,
        priority: file.priority,
        enabled: file.enabled,
        metadata: file.metadata,
    })
}

fn timeouts(file: Option<UpstreamTimeoutsFile>) -> UpstreamTimeouts {
    let usual = UpstreamTimeouts::default();
    let Some(file) = file else { return usual };
    UpstreamTimeouts {
        connect: file.connect.map_or(usual.connect, Duration::from),
        response: file.response.map(Duration::from),
        keep_alive: file.keep_alive.map_or(usual.keep_alive, Duration::from),
    }
}
