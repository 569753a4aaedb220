//! Which route takes a request, and the path it goes on with. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use gwproxy_core::breaker::{Breaker, Scope};
use gwproxy_core::{Code, Error};
use gwproxy_http::Request;
use gwproxy_http::fields::Known;
use gwproxy_http::wire::{Ambiguous, path};
use http::Uri;
use http::uri::PathAndQuery;

use super::Service;
use super::fallback::Fallback;
use super::limit::Limit;
use crate::plan::{HostPattern, Route, in_order, subset_number};

/// The routes in the order in which a request tries them.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Entry>,
}

/// A route, for one of its hosts.
#[derive(Debug)]
struct Entry {
    host: Option<HostPattern>,
    route: Arc<Route>,
    limit: Option<Arc<Limit>>,
    guard: Option<Arc<Guard>>,
    subset: usize,
}

/// What a route does when its calls fail.
#[derive(Debug)]
pub struct Guard {
    /// Refuses calls.
    pub breaker: Arc<Breaker>,
    /// Answers in its place.
    pub fallback: Option<Arc<Fallback>>,
}

/// A route with the path to send on.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The route.
    pub route: &'a Route,
    /// Its limit.
    pub limit: Option<&'a Arc<Limit>>,
    /// Its breaker.
    pub guard: Option<&'a Arc<Guard>>,
    /// The new path; none: as it came.
    pub path: Option<PathAndQuery>,
    /// The number of its subset of the service's nodes.
    pub subset: usize,
}

impl Router {
    /// A router over the routes of a plan, whose breakers may fall back on `services`.
    ///
    /// # Errors
    /// One sentence, when a limit or a fallback cannot be made.
    pub fn new(routes: &[Route], services: &[Service]) -> Result<Self, String> {
        // A route of several hosts has one limit.
        let mut made = HashMap::with_capacity(routes.len());
        for route in routes {
            let limit = route.limiter.as_ref().map(Limit::new).transpose()?.map(Arc::new);
            let guard = Guard::new(route, services)?;
            made.insert(Arc::clone(&route.id), (Arc::new(route.clone()), limit, guard));
        }
        let entries = in_order(routes).into_iter().filter_map(|(host, route)| {
            let (route, limit, guard) = made.get(&route.id)?.clone();
            let subset = subset_number(&route, routes);
            Some(Entry { host: host.cloned(), route, limit, guard, subset })
        });
        Ok(Self { routes: entries.collect() })
    }

    /// The breakers of the routes, each once.
    pub fn breakers(&self) -> Vec<Arc<Breaker>> {
        let mut all: Vec<Arc<Breaker>> = Vec::new();
        for guard in self.routes.iter().filter_map(|entry| entry.guard.as_ref()) {
            if !all.iter().any(|one| Arc::ptr_eq(one, &guard.breaker)) {
                all.push(Arc::clone(&guard.breaker));
            }
        }
        all
    }

    /// The limits of the routes, each once, with the route's name.
    pub fn limits(&self) -> Vec<(Arc<str>, Arc<Limit>)> {
        let mut limits: Vec<(Arc<str>, Arc<Limit>)> = Vec::new();
        for Entry { route, limit, .. } in &self.routes {
            if let Some(limit) = limit
                && !limits.iter().any(|(_, known)| Arc::ptr_eq(known, limit))
            {
                limits.push((Arc::clone(&route.id), Arc::clone(limit)));
            }
        }
        limits
    }

    /// The route that takes the request.
    ///
    /// # Errors
    /// [`Code::RouteNotFound`].
    pub fn route(&self, request: &Request) -> Result<Taken<'_>, Error> {
        let host = lower(host_of(request));
        let path = request.uri().path();
        let method = request.method().as_str();
        let found = self.routes.iter().find(|entry| {
            entry.route.path.takes(path)
                && entry.host.as_ref().is_none_or(|pattern| pattern.takes(&host))
                && (entry.route.methods.is_empty()
                    || entry.route.methods.iter().any(|each| each.as_str() == method))
        });
        let Some(Entry { route, limit, guard, subset, .. }) = found else {
            let sentence = format!("no route takes {method} {host}{path}");
            return Err(Error::new(Code::RouteNotFound, sentence));
        };
        let (limit, path) = (limit.as_ref(), rewritten(route, request.uri())?);
        Ok(Taken { route, limit, guard: guard.as_ref(), path, subset: *subset })
    }
}

impl Guard {
    fn new(route: &Route, services: &[Service]) -> Result<Option<Arc<Self>>, String> {
        let Some(settings) = &route.breaker else { return Ok(None) };
        let fallback = Fallback::new(Some(settings), services)?;
        let (name, title) = (Arc::clone(&route.id), format!("the route `{}`", route.id));
        let breaker = Breaker::new(Scope::Route, name, title, settings.clone());
        Ok(Some(Arc::new(Self { breaker, fallback })))
    }
}

/// The host a request is for, without port or final dot, an IPv6 address in its brackets: the
/// target's, else the `Host` field's (RFC 9112 §3.2.2).
pub fn host_of(request: &Request) -> &str {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => {
            request.headers().get(Known::HOST).and_then(|host| host.to_str().ok()).unwrap_or("")
        }
    };
    let host = match authority.find(']') {
        Some(end) => authority.get(..=end).unwrap_or(authority),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Gives a request the one path that it is matched, rewritten and sent on with.
///
/// # Errors
/// [`Code::ClientMalformed`] for a path that has more than one meaning, and
/// [`Code::RouteNotFound`] for a gRPC call whose path is not in its one spelling: it names a
/// method, and no client spells those in two ways (T48).
pub fn canonicalize(request: &mut Request, slash: Ambiguous, grpc: bool) -> Result<(), Error> {
    let target = request.uri();
    // The asterisk-form has no path (RFC 9112 §3.2.4).
    if target.path() == "*" {
        return Ok(());
    }
    let malformed = |why| {
        let sentence = format!("the path is refused because {why}");
        Error::new(Code::ClientMalformed, sentence).unsent()
    };
    let path = match path::canonical(target.path(), slash).map_err(malformed)? {
        Cow::Borrowed(_) => return Ok(()),
        Cow::Owned(_) if grpc => {
            let sentence = "the path is not the one spelling of a method's";
            return Err(Error::new(Code::RouteNotFound, sentence).unsent());
        }
        Cow::Owned(path) => with_query(path, target)?,
    };
    rewrite(request, path)
}

/// Puts a new path into a request.
///
/// # Errors
/// When the target cannot have it.
pub fn rewrite(request: &mut Request, path: PathAndQuery) -> Result<(), Error> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).map_err(invalid)?;
    Ok(())
}

fn rewritten(route: &Route, uri: &Uri) -> Result<Option<PathAndQuery>, Error> {
    let Some(to) = &route.rewrite_prefix else { return Ok(None) };
    with_query(route.path.replace(uri.path(), to), uri).map(Some)
}

fn with_query(mut path: String, uri: &Uri) -> Result<PathAndQuery, Error> {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    PathAndQuery::try_from(path).map_err(invalid)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, "the rewritten target is not valid").because(error)
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ServiceId, Subset};
    use gwproxy_http::Body;

    fn route(id: &str, hosts: &[&str], path: &str, rewrite: Option<&str>) -> Route {
        Route {
            id: id.into(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            path: path.parse().unwrap(),
            methods: Vec::new(),
            rewrite_prefix: rewrite.map(|path| path.parse().unwrap()),
            priority: 0,
            timeout: None,
            max_body_size: None,
            limiter: None,
            breaker: None,
            service: ServiceId(0),
            subset: Subset::new(),
        }
    }

    fn router(routes: &[Route]) -> Router {
        Router::new(routes, &[]).unwrap()
    }

    fn request(method: &str, host: &str, target: &str) -> Request {
        let builder = http::Request::builder().method(method).uri(target).header("host", host);
        builder.body(Body::empty()).unwrap().into()
    }

    fn taken(router: &Router, host: &str, target: &str) -> Option<(String, Option<String>)> {
        let request = request("GET", host, target);
        let taken = router.route(&request).ok()?;
        Some((taken.route.id.to_string(), taken.path.map(|path| path.to_string())))
    }

    /// Row 0.1: prefix, rewrite, methods.
    #[test]
    fn row_0_1_prefixes_are_whole_segments_and_rewritten() {
        let mut posts = route("posts", &[], "/posts", None);
        posts.methods = vec!["POST".parse().unwrap()];
        let routes =
            [posts, route("api", &[], "/api", Some("/")), route("v2", &[], "/v1/", Some("/v2"))];
        let router = router(&routes);
        let to = |target| taken(&router, "a", target);
        let some = |id: &str, path: &str| Some((id.into(), Some(path.into())));
        assert_eq!(to("/api"), some("api", "/"));
        assert_eq!(to("/api/x?y=1"), some("api", "/x?y=1"));
        assert_eq!(to("/apix"), None);
        assert_eq!(to("/v1/x"), some("v2", "/v2/x"));
        assert_eq!(to("/posts"), None);
        assert!(router.route(&request("POST", "a", "/posts/1")).is_ok());
    }

    /// T47: rules see what the node will see.
    #[test]
    fn t47_a_path_is_matched_as_it_is_sent() {
        let routes = [
            route("admin", &[], "/admin", None),
            route("api", &[], "/api", Some("/v2")),
            route("rest", &[], "/", None),
        ];
        let router = router(&routes);
        let way = |target: &str| {
            let mut request = request("GET", "a", target);
            canonicalize(&mut request, Ambiguous::Refuse, false).ok()?;
            let taken = router.route(&request).ok()?;
            let id = taken.route.id.to_string();
            if let Some(path) = taken.path {
                rewrite(&mut request, path).unwrap();
            }
            Some((id, request.uri().to_string()))
        };
        for (target, id, sent) in [
            ("/api/../admin?q=/../x", "admin", "/admin?q=/../x"),
            ("//admin", "admin", "/admin"),
            ("/%61dmin/x", "admin", "/admin/x"),
            ("/admin;x", "admin", "/admin;x"),
            ("/api;x", "api", "/v2;x"),
            ("/api/../api/y", "api", "/v2/y"),
            ("/api../admin", "rest", "/api../admin"),
            ("/Admin", "rest", "/Admin"),
            ("http://h/%7Ex", "rest", "http://h/~x"),
        ] {
            assert_eq!(way(target), Some((id.into(), sent.into())), "{target}");
        }
        for target in ["/api/%2e%2e/admin", "/api%2fadmin", "/admin%00", "/x\\y", "/..", "/%252e/x"]
        {
            assert_eq!(way(target), None, "{target}");
        }
        let mut call = request("POST", "a", "//svc/M");
        assert!(canonicalize(&mut call, Ambiguous::Refuse, true).is_err());
    }

    /// T14: the target's authority counts, not the field; case, port and final dot do not.
    #[test]
    fn t14_hosts_are_compared_as_names() {
        let router = router(&[
            route("exact", &["example.com"], "/", None),
            route("below", &["*.example.com"], "/", None),
            route("v6", &["::1"], "/", None),
        ]);
        let id = |host| taken(&router, host, "/").map(|(id, _)| id);
        assert_eq!(id("Example.COM:8080").as_deref(), Some("exact"));
        assert_eq!(id("example.com.").as_deref(), Some("exact"));
        assert_eq!(id("a.b.example.com").as_deref(), Some("below"));
        assert_eq!(id("badexample.com"), None);
        assert_eq!(id("[::1]:80").as_deref(), Some("v6"));
        assert_eq!(taken(&router, "other", "http://example.com/").unwrap().0, "exact");
    }
}
