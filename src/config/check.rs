//! From what was typed to what is true: defaults filled in, references looked up, everything that
//! contradicts something else told, all of it at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gwproxy_core::net::ListenAddr;
use gwproxy_core::tls::{CertificatePair, PairFile};

use super::de::{Found, Spanned};
use super::file::{CertificateFile, File, ListenerFile, RouteFile, Workers};
use super::listener::protocol_of;
use super::report::{Code, Diagnostic, Place};
use super::{balance, service};
use crate::plan::meaning::{self, LimitOf};
use crate::plan::{
    AccessLog, GRACE, HostPattern, Listener, PathPrefix, Plan, Protocol, Route, Service, ServiceId,
    Subset, Trusted, default_workers,
};

/// The plan of a file. `found` says what could not be read and was told already; what follows
/// from that is not told again.
pub(super) fn check(file: File, found: &mut Found) -> Plan {
    let mut check = Check { found, services: HashMap::new(), binds: Vec::new() };
    let mut services = Vec::with_capacity(file.services.len());
    let mut breakers = Vec::with_capacity(file.services.len());
    for service in file.services {
        check.name_service(&service, services.len());
        let both = [&service.value.breaker, &service.value.node_breaker];
        breakers.push(both.map(|one| one.as_ref().map(|breaker| breaker.place)));
        services.push(service::lower(service, check.found));
    }
    for (service, places) in services.iter().zip(breakers) {
        check.fallbacks(service, places, &services);
    }
    let routed = file.routes.iter().any(|route| route.value.enabled);
    let routes = check.routes(file.routes, &services);
    let listeners = check.listeners(file.listeners, &services, routed);
    if let Some(admin) = &file.admin {
        check.once(admin.value.0.bind.clone(), admin.place);
    }
    let access_log = file.access_log.unwrap_or_default().0;
    Plan {
        workers: file.workers.map_or_else(default_workers, Workers::get),
        listeners,
        routes,
        services,
        admin: file.admin.map(|admin| admin.value.0.bind),
        access_log: AccessLog {
            sink: access_log.to,
            format: access_log.format.unwrap_or_default(),
        },
        log: file.log.unwrap_or_default(),
        grace: file.grace.map_or(GRACE, Duration::from),
        memory_limit: file.limits.unwrap_or_default().memory,
        trusted_proxies: Trusted {
            networks: file.trusted_proxies.into_iter().map(|net| net.0).collect(),
            hops: file.trusted_hops,
        },
    }
}

/// The checking of one file.
pub(super) struct Check<'a> {
    pub(super) found: &'a mut Found,
    services: HashMap<String, (usize, Place)>,
    /// What is listened on so far.
    binds: Vec<(ListenAddr, Place)>,
}

impl Check<'_> {
    pub(super) fn tell(&mut self, code: Code, place: Place, message: impl Into<String>) {
        self.found.diagnostics.push(Diagnostic::new(code, place, message));
    }

    /// Tells what would only seem so if one of these keys of `element` could not be read.
    pub(super) fn tell_of_keys(
        &mut self,
        (element, keys): (Place, &[&str]),
        code: Code,
        place: Place,
        message: impl Into<String>,
    ) {
        if self.found.damage.spares_keys(element, keys) {
            self.tell(code, place, message);
        }
    }

    /// Tells that a key is not there, unless it could not be read.
    pub(super) fn tell_missing(&mut self, element: Place, key: &str) {
        let sentence = format!("the key `{key}` is missing");
        self.tell_of_keys((element, &[key]), Code::MissingKey, element, sentence);
    }

    fn name_service(&mut self, service: &Spanned<super::file::ServiceFile>, index: usize) {
        let id = &service.value.id;
        match self.services.get(id.value.as_str()) {
            Some((_, first)) => {
                let line = first.line;
                self.tell(
                    Code::DuplicateId,
                    id.place,
                    format!("a service `{}` is already on line {line}", id.value.as_str()),
                );
            }
            None => {
                self.services.insert(id.value.as_str().to_owned(), (index, id.place));
            }
        }
    }

    /// A name that is used once among its kind, and where it was used first.
    fn unique(&mut self, seen: &mut HashMap<String, Place>, name: &str, place: Place, kind: &str) {
        match seen.get(name) {
            Some(first) => {
                let line = first.line;
                let sentence = format!("a {kind} `{name}` is already on line {line}");
                self.tell(Code::DuplicateId, place, sentence);
            }
            None => {
                seen.insert(name.to_owned(), place);
            }
        }
    }

    pub(super) fn service(&mut self, name: &Spanned<super::file::Name>) -> Option<ServiceId> {
        let text = name.value.as_str();
        if let Some((index, _)) = self.services.get(text) {
            return Some(ServiceId(*index));
        }
        if !self.found.damage.may_hold(text) {
            let known = self.services.keys().map(String::as_str);
            let message = match gwproxy_core::suggest::closest(text, known) {
                Some(near) => format!("there is no service `{text}`; did you mean `{near}`?"),
                None => format!("there is no service `{text}`; add it to `services`"),
            };
            self.tell(Code::UnknownService, name.place, message);
        }
        None
    }

    fn routes(&mut self, files: Vec<Spanned<RouteFile>>, services: &[Service]) -> Vec<Route> {
        let mut seen = HashMap::new();
        let mut routes: Vec<Route> = Vec::with_capacity(files.len());
        // A route can only be hidden by one that has its path and its first host too.
        let mut by_first: HashMap<(PathPrefix, Option<HostPattern>), Vec<usize>> = HashMap::new();
        let mut places: Vec<Place> = Vec::new();
        let mut id_places: Vec<Place> = Vec::new();
        for (index, Spanned { value: file, place }) in files.into_iter().enumerate() {
            let (id, id_place) = match &file.id {
                Some(id) => (id.value.as_str().to_owned(), id.place),
                None => (format!("route-{}", index + 1), place),
            };
            self.unique(&mut seen, &id, id_place, "route");
            if file.service.is_none() {
                self.tell_missing(place, "service");
            }
            let name = file.service.as_ref();
            let service = name.and_then(|name| Some((self.service(name)?, name.place)));
            if let Some((id, place)) = service
                && let Some(target) = services.get(id.0)
                && target.protocol == Protocol::Tcp
            {
                let sentence = format!(
                    "a route is chosen by host and path, which TCP has not: give `{}` a listener \
                     of its own (`protocol: tcp`, `service: {}`)",
                    target.id, target.id
                );
                self.tell(Code::WrongProtocol, place, sentence);
            }
            if !file.enabled {
                continue;
            }
            let service = service.map(|(id, _)| id);
            let Some(route) = self.route(file, id, service, services) else { continue };
            let key = (route.path.clone(), route.hosts.first().cloned());
            let same = by_first.get(&key).map_or(&[][..], Vec::as_slice);
            let hides = |at: &&usize| {
                routes[**at].shadows(&route) && self.found.damage.spares(places[**at])
            };
            if let Some(&at) = same.iter().find(hides) {
                let sentence = format!(
                    "route `{}` is never reached: `{}` on line {} takes all its requests first; \
                     change its path, hosts or methods, give it a `priority`, or take it out",
                    route.id, routes[at].id, id_places[at].line
                );
                if self.found.damage.spares(place) {
                    self.tell(Code::ShadowedRoute, id_place, sentence);
                }
            }
            let hosts = route.hosts.iter().cloned().map(Some);
            let hosts = hosts.chain(route.hosts.is_empty().then_some(None));
            for host in hosts {
                by_first.entry((route.path.clone(), host)).or_default().push(routes.len());
            }
            places.push(place);
            id_places.push(id_place);
            routes.push(route);
        }
        routes
    }

    fn route(
        &mut self,
        file: RouteFile,
        id: String,
        service: Option<ServiceId>,
        services: &[Service],
    ) -> Option<Route> {
        let rewrite_prefix = match (file.rewrite_prefix, file.strip_prefix) {
            (Some(prefix), true) => {
                let sentence = "`strip_prefix` is `rewrite_prefix: /`; keep one of the two";
                self.tell(Code::Conflict, prefix.place, sentence);
                None
            }
            (Some(prefix), false) => Some(prefix.value),
            (None, true) => Some(PathPrefix::root()),
            (None, false) => None,
        };
        if let (Some(one), Some(target)) =
            (&file.breaker, service.and_then(|id| services.get(id.0)))
        {
            self.fallback((&one.value, one.place), None, target.protocol, services);
        }
        if let Some(limiter) = &file.limiter
            && let Err(sentence) =
                meaning::check_limits(&limiter.value, Protocol::Http, LimitOf::Behind)
        {
            self.tell(Code::WrongProtocol, limiter.place, sentence);
        }
        Some(Route {
            id: id.into(),
            hosts: file.hosts,
            path: file.path,
            methods: file.methods,
            rewrite_prefix,
            priority: file.priority,
            timeout: file.timeout.map(Duration::from),
            max_body_size: file.max_body_size,
            limiter: file.limiter.map(|limiter| limiter.value),
            breaker: file.breaker.map(|breaker| breaker.value),
            subset: match service.and_then(|id| services.get(id.0)) {
                // A node that could not be read may be the one: what is told already goes first.
                Some(service) => {
                    let known = self.found.diagnostics.is_empty();
                    balance::subset(file.subset, service, known, self.found)
                }
                None => Subset::new(),
            },
            service: service?,
        })
    }

    fn listeners(
        &mut self,
        files: Vec<Spanned<ListenerFile>>,
        services: &[Service],
        routed: bool,
    ) -> Vec<Listener> {
        if files.is_empty() && self.found.damage.spares_all("listeners") {
            let sentence = "nothing is listened on: `listeners` needs at least one, for example \
                            `- {protocol: http, bind: \":8080\", service: NAME}`";
            self.tell(Code::Empty, Place::START, sentence);
        }
        let mut names = HashMap::new();
        let mut listeners = Vec::with_capacity(files.len());
        for Spanned { value: file, place } in files {
            let protocol = protocol_of(file.protocol);
            let (name, name_place) = match (&file.name, &file.bind) {
                (Some(name), _) => (name.value.as_str().to_owned(), name.place),
                (None, Some(bind)) => (format!("{protocol} {}", bind.value), bind.place),
                // Nobody sees this one: without an address it is no listener.
                (None, None) => (format!("{protocol} on line {}", place.line), place),
            };
            self.unique(&mut names, &name, name_place, "listener");
            match &file.bind {
                Some(bind) => self.once(bind.value.clone(), bind.place),
                None => self.tell_missing(place, "bind"),
            }
            let listener = self.listener(file, name.into(), place, services, routed);
            listeners.extend(listener);
        }
        listeners
    }

    /// An address that nothing else in the file listens on.
    fn once(&mut self, bind: ListenAddr, place: Place) {
        let overlaps = |(first, _): &&(ListenAddr, Place)| first.overlaps(&bind);
        if let Some((first, at)) = self.binds.iter().find(overlaps) {
            let line = at.line;
            let sentence = if *first == bind {
                format!("`{bind}` is already listened on by line {line}: one address, one listener")
            } else {
                format!(
                    "`{bind}` and `{first}` on line {line} overlap: one address, one listener; \
                     choose another port"
                )
            };
            self.tell(Code::DuplicateBind, place, sentence);
        } else {
            self.binds.push((bind, place));
        }
    }
}

/// Tells what is wrong with the files of a certificate, as the start would. Paths are relative to
/// the working directory, as those of flags are.
pub(super) fn readable_pair(
    file: &CertificateFile,
    faults: fn(&CertificatePair) -> Vec<(PairFile, String)>,
    found: &mut Found,
) {
    for (at_fault, sentence) in faults(&file.pair()) {
        let place = match at_fault {
            PairFile::Cert => file.cert.place,
            PairFile::Key => file.key.place,
        };
        found.diagnostics.push(Diagnostic::new(Code::FileUnreadable, place, sentence));
    }
}

/// Tells what `read` finds wrong with a file of authorities.
pub(super) fn readable_ca(
    path: &Spanned<PathBuf>,
    read: fn(&Path) -> Result<(), String>,
    found: &mut Found,
) {
    if let Err(sentence) = read(&path.value) {
        found.diagnostics.push(Diagnostic::new(Code::FileUnreadable, path.place, sentence));
    }
}
