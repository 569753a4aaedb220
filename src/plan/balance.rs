//! How the nodes of a service share its work.

use gwproxy_core::balance::{Algorithm, BalanceSettings, Subset, ZoneSettings};
use gwproxy_core::key::By;
use gwproxy_http::sticky::StickySettings;

use super::{Node, Protocol, Route, Service, ServiceId};

/// How the nodes of a service share its work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadBalancer {
    /// Which node is chosen.
    pub balance: BalanceSettings,
    /// The cookie that leads a client back to its node; none: none.
    pub sticky: Option<StickySettings>,
}

impl From<Algorithm> for LoadBalancer {
    /// The algorithm, and the defaults.
    fn from(algorithm: Algorithm) -> Self {
        Self { balance: algorithm.into(), sticky: None }
    }
}

impl LoadBalancer {
    /// Refuses a key that the algorithm does not go by, or that the protocol has not.
    ///
    /// # Errors
    /// What follows the name of the setting.
    pub fn check_hash_by(&self, protocol: Protocol) -> Result<(), String> {
        let (algorithm, by) = (self.balance.algorithm, &self.balance.hash_by);
        let Some(by) = by else { return Ok(()) };
        if !algorithm.has_free_key() {
            let other = match algorithm {
                Algorithm::IpHash => " (this one goes by the client's address)",
                _ => "",
            };
            return Err(format!(
                "means nothing for `{algorithm}`: only `consistent_hash` and `maglev` go by a \
                 key{other}"
            ));
        }
        match (protocol, by) {
            (_, By::Global) => Err("of `global` sends everything to one node; that is what the \
                                    algorithm `first` is for"
                .into()),
            (_, By::Connection | By::Route | By::Service) => Err(format!(
                "of `{by}` tells no client from another within a service; hash by `ip`, `user` or \
                 what a request has"
            )),
            (Protocol::Tcp, by) if !matches!(by, By::Ip | By::Sni) => Err(format!(
                "of `{by}` means nothing for tcp: a TCP connection has no requests; hash by \
                     `ip` or, behind TLS, by `sni`"
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a slow start where shares do not count.
    ///
    /// # Errors
    /// As [`Self::check_hash_by`].
    pub fn check_slow_start(&self) -> Result<(), String> {
        if self.balance.slow_start.is_zero() || self.balance.algorithm != Algorithm::First {
            return Ok(());
        }
        Err("means nothing for `first`, which sends everything to one node".into())
    }
}

/// Refuses a zone that means nothing, because no node says in which one it is.
///
/// # Errors
/// What follows the name of the setting.
pub fn check_zone(nodes: &[Node]) -> Result<(), String> {
    if nodes.is_empty() || nodes.iter().any(|node| node.metadata.contains_key(ZoneSettings::WORD)) {
        return Ok(());
    }
    Err("means nothing here: no node says its zone; give each one's in its `metadata`, as \
         `{zone: a}`"
        .into())
}

/// Refuses a subset of a service that no node is in.
///
/// # Errors
/// A sentence.
pub fn check_subset(service: &Service, subset: &Subset) -> Result<(), String> {
    let all = in_service(service, subset);
    let is_in =
        |node: &Node| all.iter().all(|(word, value)| node.metadata.get(word) == Some(value));
    if service.nodes.is_empty() || service.nodes.iter().any(is_in) {
        return Ok(());
    }
    let words: Vec<_> = all.iter().map(|(word, value)| format!("{word}: {value}")).collect();
    Err(format!("no node of service `{}` has the metadata `{{{}}}`", service.id, words.join(", ")))
}

/// The subsets that a service's nodes are chosen from: its own, then those of its routes.
pub fn subsets(service: &Service, id: ServiceId, routes: &[Route]) -> Vec<Subset> {
    let of_routes = distinct(routes, id).into_iter().map(|subset| in_service(service, subset));
    std::iter::once(service.subset.clone()).chain(of_routes).collect()
}

/// Where in [`subsets`] a route's is.
pub fn subset_number(route: &Route, routes: &[Route]) -> usize {
    let own = distinct(routes, route.service).into_iter().position(|one| *one == route.subset);
    own.map_or(0, |at| at + 1)
}

/// The subsets that routes to this service have, each once.
fn distinct(routes: &[Route], service: ServiceId) -> Vec<&Subset> {
    let mut all = Vec::new();
    for route in routes.iter().filter(|route| route.service == service) {
        if !route.subset.is_empty() && !all.contains(&&route.subset) {
            all.push(&route.subset);
        }
    }
    all
}

/// What a route says, over what its service says.
fn in_service(service: &Service, subset: &Subset) -> Subset {
    let mut all = service.subset.clone();
    all.extend(subset.iter().map(|(word, value)| (word.clone(), value.clone())));
    all
}
