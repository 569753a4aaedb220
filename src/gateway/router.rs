//! Which route takes a request: host, path prefix by whole segments, method. Pure.

use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::{Code, Error};
use gwproxy_http::Request;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::limit::Limit;

/// The routes in the order in which they are tried.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub id: Arc<str>,
    /// Hosts it takes; empty: any.
    pub hosts: Vec<Host>,
    /// Path prefix, by whole segments.
    pub path: Arc<str>,
    /// Methods it takes; empty: any.
    pub methods: Vec<Method>,
    /// What replaces the prefix.
    pub rewrite: Option<Arc<str>>,
    /// Time to the first byte, instead of the service's.
    pub timeout: Option<Duration>,
    /// Its limit.
    pub limit: Option<Arc<Limit>>,
    /// The number of its service.
    pub service: usize,
}

/// A host of a route, lower-case.
#[derive(Debug)]
pub enum Host {
    /// This one.
    Exact(Arc<str>),
    /// Names that end in this (with the dot) and have a label before it.
    Suffix(Arc<str>),
}

/// A route with the path to send on.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The route.
    pub route: &'a Route,
    /// The new path; none: as it came.
    pub path: Option<PathAndQuery>,
}

impl Router {
    /// A router that tries `routes` in this order.
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }

    /// The first route that takes the request.
    ///
    /// # Errors
    /// [`Code::RouteNotFound`].
    pub fn route(&self, request: &Request) -> Result<Taken<'_>, Error> {
        let host = host_of(request);
        let path = request.uri().path();
        let found = self.routes.iter().find(|route| {
            route.takes_path(path)
                && route.takes_host(host)
                && (route.methods.is_empty() || route.methods.contains(request.method()))
        });
        match found {
            Some(route) => Ok(Taken { route, path: route.rewritten(request.uri())? }),
            None => Err(Error::new(
                Code::RouteNotFound,
                format!("no route takes {} {host}{path}", request.method()),
            )),
        }
    }
}

impl Route {
    fn takes_path(&self, path: &str) -> bool {
        let prefix = self.path.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            // `OPTIONS *` is about the server as a whole.
            || (prefix.is_empty() && path == "*")
    }

    fn takes_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.takes(host))
    }

    fn rewritten(&self, uri: &Uri) -> Result<Option<PathAndQuery>, Error> {
        let Some(to) = &self.rewrite else { return Ok(None) };
        let prefix = self.path.trim_end_matches('/');
        let rest = uri.path().strip_prefix(prefix).unwrap_or_default();
        let to = to.trim_end_matches('/');
        let slash = if rest.is_empty() && to.is_empty() { "/" } else { "" };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        PathAndQuery::try_from(format!("{to}{slash}{rest}{query}")).map(Some).map_err(|error| {
            Error::new(Code::Internal, "the rewritten path is not valid").because(error)
        })
    }
}

impl Host {
    fn takes(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => host.eq_ignore_ascii_case(exact),
            Self::Suffix(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .filter(|&at| at > 0)
                .and_then(|at| host.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        }
    }
}

/// The host a request is for, without port, brackets or a final dot: the target's, else the
/// `Host` field's (RFC 9112 §3.2.2).
pub fn host_of(request: &Request) -> &str {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
    };
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Puts a new path into a request.
///
/// # Errors
/// When the target cannot have it.
pub fn rewrite(request: &mut Request, path: PathAndQuery) -> Result<(), Error> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| {
        Error::new(Code::Internal, "the rewritten target is not valid").because(error)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gwproxy_http::Body;

    fn route(id: &str, hosts: Vec<Host>, path: &str, rewrite: Option<&str>) -> Route {
        Route {
            id: id.into(),
            hosts,
            path: path.into(),
            methods: Vec::new(),
            rewrite: rewrite.map(Into::into),
            timeout: None,
            limit: None,
            service: 0,
        }
    }

    fn request(method: &str, host: &str, target: &str) -> Request {
        let builder = http::Request::builder().method(method).uri(target).header("host", host);
        builder.body(Body::empty()).unwrap()
    }

    fn taken(router: &Router, host: &str, target: &str) -> Option<(String, Option<String>)> {
        let request = request("GET", host, target);
        let taken = router.route(&request).ok()?;
        Some((taken.route.id.to_string(), taken.path.map(|path| path.to_string())))
    }

    /// Row 0.1: prefix, rewrite, methods.
    #[test]
    fn prefixes_are_whole_segments_and_rewritten() {
        let mut posts = route("posts", vec![], "/posts", None);
        posts.methods = vec![Method::POST];
        let router = Router::new(vec![
            posts,
            route("api", vec![], "/api", Some("/")),
            route("v2", vec![], "/v1/", Some("/v2")),
        ]);
        let to = |target| taken(&router, "a", target);
        let some = |id: &str, path: &str| Some((id.into(), Some(path.into())));
        assert_eq!(to("/api"), some("api", "/"));
        assert_eq!(to("/api/"), some("api", "/"));
        assert_eq!(to("/api/x?y=1"), some("api", "/x?y=1"));
        assert_eq!(to("/apix"), None);
        assert_eq!(to("/v1/x"), some("v2", "/v2/x"));
        assert_eq!(to("/posts"), None);
        assert!(router.route(&request("POST", "a", "/posts/1")).is_ok());
    }

    #[test]
    fn hosts_are_exact_or_below_a_domain() {
        let router = Router::new(vec![
            route("exact", vec![Host::Exact("example.com".into())], "/", None),
            route("below", vec![Host::Suffix(".example.com".into())], "/", None),
            route("v6", vec![Host::Exact("::1".into())], "/", None),
        ]);
        let id = |host| taken(&router, host, "/").map(|(id, _)| id);
        assert_eq!(id("Example.COM:8080").as_deref(), Some("exact"));
        assert_eq!(id("example.com.").as_deref(), Some("exact"));
        assert_eq!(id("a.b.example.com").as_deref(), Some("below"));
        assert_eq!(id(".example.com"), None);
        assert_eq!(id("badexample.com"), None);
        assert_eq!(id("[::1]:80").as_deref(), Some("v6"));
        // T14: the target's authority counts, not the field.
        assert_eq!(taken(&router, "other", "http://example.com/").unwrap().0, "exact");
    }
}
