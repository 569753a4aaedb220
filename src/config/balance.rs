//! The `load_balancer` and the `subset` of the file made true.

use super::de::{Found, Spanned};
use super::file::LoadBalancerFile;
use super::report::{Code, Diagnostic, Place};
use super::short::Short;
use crate::plan::{
    BalanceSettings, LoadBalancer, Node, Protocol, Service, Subset, check_subset, check_zone,
};

/// What the file says of a balancer. `protocol`: of its service, if that could be read; `nodes`:
/// all of them, if they could be.
pub(super) fn lower(
    file: LoadBalancerFile,
    protocol: Option<Protocol>,
    nodes: Option<&[Node]>,
    found: &mut Found,
) -> LoadBalancer {
    let place = |place: Option<Place>| place.unwrap_or(Place::FILE);
    let hash_place = place(file.hash_by.as_ref().map(|by| by.place));
    let slow_place = place(file.slow_start.as_ref().map(|span| span.place));
    let zone_place = place(file.zone.as_ref().map(|zone| zone.place));
    let sticky_place = place(file.sticky.as_ref().map(|sticky| sticky.place));
    let balancer = LoadBalancer {
        balance: BalanceSettings {
            algorithm: file.algorithm,
            hash_by: file.hash_by.map(|by| by.value),
            slow_start: file.slow_start.map(|span| span.value).unwrap_or_default(),
            panic_threshold: file.panic_threshold.unwrap_or_default(),
            zone: file.zone.map(|zone| zone.value),
        },
        sticky: file.sticky.map(|Spanned { value: Short(sticky), .. }| sticky),
    };
    let mut tell = |place, name: &str, checked: Result<(), String>| {
        if let Err(sentence) = checked {
            let sentence = format!("{name}{sentence}");
            found.diagnostics.push(Diagnostic::new(Code::Conflict, place, sentence));
        }
    };
    if let Some(protocol) = protocol {
        tell(hash_place, "`hash_by` ", balancer.check_hash_by(protocol));
    }
    tell(slow_place, "`slow_start` ", balancer.check_slow_start());
    if let (Some(_), Some(nodes)) = (&balancer.balance.zone, nodes) {
        tell(zone_place, "`zone` ", check_zone(nodes));
    }
    if let Some(sticky) = &balancer.sticky {
        tell(sticky_place, "", sticky.check());
    }
    balancer
}

/// The subset of a service that its service or a route asks for. `known`: whether all of the
/// service could be read.
pub(super) fn subset(
    file: Option<Spanned<Subset>>,
    service: &Service,
    known: bool,
    found: &mut Found,
) -> Subset {
    let Some(Spanned { value: subset, place }) = file else { return Subset::new() };
    if let (Err(sentence), true) = (check_subset(service, &subset), known) {
        found.diagnostics.push(Diagnostic::new(Code::Empty, place, sentence));
    }
    subset
}
