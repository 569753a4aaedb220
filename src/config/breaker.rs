//! The fallback of a breaker, which may be another service of the file.

use gwproxy_core::breaker::BreakerSettings;

use super::check::Check;
use super::report::{Code, Place};
use crate::plan::{Protocol, Service, check_fallback};

impl Check<'_> {
    /// Looks at the fallbacks of a service's breakers. `places`: of its breaker, and of its nodes'.
    pub(super) fn fallbacks(
        &mut self,
        service: &Service,
        places: [Option<Place>; 2],
        services: &[Service],
    ) {
        let [own, nodes] = places;
        if let (Some(breaker), Some(place)) = (&service.breaker, own) {
            self.fallback((breaker, place), Some(&service.id), service.protocol, services);
        }
        if let (Some(BreakerSettings { fallback: Some(_), .. }), Some(place)) =
            (&service.node_breaker, nodes)
        {
            let sentence = "a node has the other nodes to fall back on: `fallback` is for `breaker`, \
                            of the service or of a route";
            self.tell(Code::Conflict, place, sentence);
        }
    }

    /// Looks at the fallback of one breaker; `own`: the service that it stands before, if it is one.
    pub(super) fn fallback(
        &mut self,
        (breaker, place): (&BreakerSettings, Place),
        own: Option<&str>,
        protocol: Protocol,
        services: &[Service],
    ) {
        let Some(fallback) = &breaker.fallback else { return };
        if let Err(sentence) = check_fallback(fallback, protocol) {
            self.tell(Code::InvalidValue, place, sentence);
        }
        let Some(name) = &fallback.service else { return };
        if own == Some(name) {
            let sentence = format!("`fallback`: `{name}` is the service itself; name another");
            self.tell(Code::Conflict, place, sentence);
            return;
        }
        let named = super::de::Spanned { value: super::file::Name::known(name), place };
        let Some(id) = self.service(&named) else { return };
        if let Some(other) = services.get(id.0)
            && other.protocol != protocol
        {
            let sentence = format!(
                "`fallback`: the service `{name}` speaks {}, this is {protocol}",
                other.protocol
            );
            self.tell(Code::WrongProtocol, place, sentence);
        }
    }
}
