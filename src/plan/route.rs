//! Which requests go to which service.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::balance::Subset;
use gwproxy_core::breaker::BreakerSettings;
use gwproxy_core::limit::Limits;
use gwproxy_core::units::Size;
use gwproxy_http::wire::{Ambiguous, path};
use serde::{Deserialize, Serialize};

use super::ServiceId;

/// Which requests go where.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique id, for logs, metrics and `explain`.
    pub id: Arc<str>,
    /// Hosts it takes; empty: any.
    pub hosts: Vec<HostPattern>,
    /// Paths it takes.
    pub path: PathPrefix,
    /// Methods it takes; empty: any.
    pub methods: Vec<Method>,
    /// What replaces [`Self::path`] in the path sent on; `strip_prefix` in a file is a rewrite to
    /// `/`. None: the path is sent as it came.
    pub rewrite_prefix: Option<PathPrefix>,
    /// Higher wins before host and path are compared. Default 0.
    pub priority: i32,
    /// Time to the first byte of the response, instead of the service's.
    pub timeout: Option<Duration>,
    /// Content of a request in bytes, instead of the listener's; 0: any number.
    pub max_body_size: Option<Size>,
    /// Rate limit of this route.
    pub limiter: Option<Limits>,
    /// Circuit breaker of this route, before that of its service; none: none.
    pub breaker: Option<BreakerSettings>,
    /// Where to.
    pub service: ServiceId,
    /// Which of its nodes, by their metadata; instead of what the service says of the same words.
    /// Default empty: as the service says.
    pub subset: Subset,
}

/// A host of a route: `example.com`, or `*.example.com` for every name below it. Without port;
/// compared without case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// This name or address, lower-case, an IPv6 address without brackets.
    Exact(Arc<str>),
    /// Any name ending in this (`.example.com`), lower-case, with at least one label before it.
    Suffix(Arc<str>),
}

/// A path by whole segments: `/api` takes `/api`, `/api/x` and `/api;x`, not `/apix`; `/` takes
/// all. `/api/` and `/api/**` are other spellings of `/api`. Compared are one spellings of paths
/// ([`gwproxy_http::wire::path`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(Arc<str>);

/// A method (RFC 9110 §9), case-sensitive as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(Arc<str>);

/// Why a part of a route was refused; `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteParseError(String);

/// The routes in the order in which a request tries them, once for each of their hosts (`None`:
/// any): the first that takes it is the narrowest one.
///
/// The order is part of the contract: the higher `priority`, an exact host before the longest
/// wildcard before any, the longer path, named methods, the order of the file.
pub fn in_order(routes: &[Route]) -> Vec<(Option<&HostPattern>, &Route)> {
    let mut tried = Vec::with_capacity(routes.len());
    for route in routes {
        // A route of several hosts is as narrow as the host that takes the request.
        tried.extend(route.hosts.iter().map(|host| (Some(host), route)));
        if route.hosts.is_empty() {
            tried.push((None, route));
        }
    }
    // Stable: equals stay in the order of the file.
    tried.sort_by_key(|(host, route)| {
        let host = host.map_or(0, HostPattern::narrowness);
        let path = route.path.as_str().len();
        Reverse((route.priority, host, path, !route.methods.is_empty()))
    });
    tried
}

impl Route {
    /// Whether every request `later` takes is taken by this route first, given that this one
    /// stands before it.
    pub(crate) fn shadows(&self, later: &Self) -> bool {
        // A route with named methods ranks above one without, so only equals hide each other.
        let methods = self.methods.is_empty() == later.methods.is_empty()
            && later.methods.iter().all(|one| self.methods.contains(one));
        let hosts = self.hosts.is_empty() == later.hosts.is_empty()
            && later.hosts.iter().all(|one| self.hosts.contains(one));
        self.priority == later.priority && self.path == later.path && methods && hosts
    }
}

impl HostPattern {
    /// Greater for a narrower pattern, above 0.
    fn narrowness(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Suffix(suffix) => suffix.len(),
        }
    }

    /// Whether it takes this host: lower-case, without port; an IPv6 address may be in the
    /// brackets it has on the wire (RFC 3986 §3.2.2).
    pub fn takes(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        match self {
            Self::Exact(name) => **name == *host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl FromStr for HostPattern {
    type Err = RouteParseError;

    fn from_str(text: &str) -> Result<Self, RouteParseError> {
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let v6 = inner.parse::<std::net::Ipv6Addr>().is_ok();
        let label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let named = name.split('.').all(|part| !part.is_empty() && part.bytes().all(label));
        if name.len() > 253 || !(named || (v6 && !wildcard)) {
            return Err(RouteParseError(format!(
                "`{text}` is not a host; write a name or address without port (`example.com`), or \
                 `*.example.com` for every name below it"
            )));
        }
        let name = if v6 { inner } else { name }.to_ascii_lowercase();
        Ok(if wildcard {
            Self::Suffix(format!(".{name}").into())
        } else {
            Self::Exact(name.into())
        })
    }
}

impl PathPrefix {
    /// The prefix that takes every path.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// As compared: `/`, or `/a/b` without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it takes this path.
    pub fn takes(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.0) {
            Some(rest) => &*self.0 == "/" || rest.is_empty() || rest.starts_with(['/', ';']),
            None => false,
        }
    }

    /// This prefix of `path` replaced by `by`; the rest stays byte for byte. `path` must be one
    /// that [`Self::takes`]; others come back unchanged.
    pub fn replace(&self, path: &str, by: &Self) -> String {
        let bare =
            |prefix: &Self| if &*prefix.0 == "/" { String::new() } else { prefix.0.to_string() };
        let Some(rest) = path.strip_prefix(&*bare(self)) else { return path.into() };
        let new = format!("{}{rest}", bare(by));
        if new.starts_with('/') { new } else { format!("/{new}") }
    }
}

impl FromStr for PathPrefix {
    type Err = RouteParseError;

    fn from_str(text: &str) -> Result<Self, RouteParseError> {
        let bad = |why: &str| {
            RouteParseError(format!(
                "`{text}` is not a path prefix ({why}); write for example `/api`"
            ))
        };
        let Some(path) = text.strip_prefix('/') else { return Err(bad("it must begin with `/`")) };
        if path.starts_with('/') {
            return Err(bad("it has an empty segment"));
        }
        let path = path.strip_suffix("**").unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Self::root());
        }
        if text.ends_with("**") && !text.ends_with("/**") {
            return Err(bad("`**` stands alone at the end, after a `/`"));
        }
        for segment in path.split('/') {
            match segment {
                "" => return Err(bad("it has an empty segment")),
                "." | ".." => return Err(bad("`.` and `..` are never left in a path")),
                _ => {}
            }
            if segment.contains(';') {
                return Err(bad("routes are matched without what follows a `;`"));
            }
            if segment.contains(['*', '{', '}']) {
                return Err(bad("it is plain text; only `/**` at the end is a pattern"));
            }
            if !segment.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\\"<>^`|".contains(&b)) {
                return Err(bad(
                    "a path has no space, `?`, `#`, `\\` or letter outside ASCII; percent-encode it",
                ));
            }
        }
        // An encoded slash may be kept; whether it ever comes here is the listener's to say.
        let path = format!("/{path}");
        let path = path::canonical(&path, Ambiguous::Keep).map_err(bad)?;
        Ok(Self((&*path).into()))
    }
}

impl FromStr for Method {
    type Err = RouteParseError;

    fn from_str(text: &str) -> Result<Self, RouteParseError> {
        // RFC 9110 §5.6.2 token; lower-case letters are legal on the wire and never meant here.
        let token =
            |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || text.len() > 32 || !text.bytes().all(token) {
            let sentence = format!("`{text}` is not a method; write it in capitals, as `GET`");
            return Err(RouteParseError(sentence));
        }
        Ok(Self(text.into()))
    }
}

impl Method {
    /// As on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RouteParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RouteParseError {}

super::string_conversions!(HostPattern, RouteParseError);
super::string_conversions!(PathPrefix, RouteParseError);
super::string_conversions!(Method, RouteParseError);

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: &str, hosts: &[&str], path: &str, methods: &[&str]) -> Route {
        Route {
            id: id.into(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            path: path.parse().unwrap(),
            methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
            rewrite_prefix: None,
            priority: 0,
            timeout: None,
            max_body_size: None,
            limiter: None,
            breaker: None,
            service: ServiceId(0),
            subset: Subset::new(),
        }
    }

    #[test]
    fn the_narrowest_route_wins() {
        let mut routes = vec![
            route("any", &[], "/", &[]),
            route("api", &[], "/api", &[]),
            route("api-post", &[], "/api", &["POST"]),
            route("wild", &["*.example.com"], "/", &[]),
            route("mixed", &["a.example.com", "*.org"], "/", &[]),
            route("deep", &["*.b.example.com"], "/", &[]),
            route("late", &[], "/api", &[]),
        ];
        routes.push(Route { priority: 9, ..route("first", &[], "/api/now", &[]) });
        let tried = in_order(&routes);
        let found = |host: &str, path: &str, method: &str| {
            let takes = |(pattern, route): &&(Option<&HostPattern>, &Route)| {
                pattern.is_none_or(|pattern| pattern.takes(host))
                    && route.path.takes(path)
                    && (route.methods.is_empty()
                        || route.methods.iter().any(|one| one.as_str() == method))
            };
            tried.iter().find(takes).map(|(_, route)| &*route.id)
        };
        assert_eq!(found("x", "/", "GET"), Some("any"));
        assert_eq!(found("x", "/apix", "GET"), Some("any"));
        assert_eq!(found("x", "/api", "GET"), Some("api"));
        assert_eq!(found("x", "/api/1", "POST"), Some("api-post"));
        assert_eq!(found("c.example.com", "/api", "GET"), Some("wild"));
        assert_eq!(found("a.example.com", "/", "GET"), Some("mixed"));
        assert_eq!(found("x.org", "/", "GET"), Some("mixed"));
        assert_eq!(found("x.b.example.com", "/", "GET"), Some("deep"));
        assert_eq!(found("example.com", "/", "GET"), Some("any"));
        assert_eq!(found("a.example.com", "/api/now", "GET"), Some("first"));
        assert_eq!(tried.len(), routes.len() + 1);
    }

    #[test]
    fn only_what_is_never_reached_is_shadowed() {
        let any = route("a", &[], "/x", &[]);
        assert!(any.shadows(&route("b", &[], "/x/", &[])));
        assert!(!any.shadows(&route("b", &[], "/x", &["GET"])));
        assert!(!any.shadows(&route("b", &["h"], "/x", &[])));
        assert!(!any.shadows(&route("b", &[], "/x/y", &[])));
        let two = route("a", &["h", "i"], "/", &["GET", "PUT"]);
        assert!(two.shadows(&route("b", &["i"], "/", &["PUT"])));
        assert!(!two.shadows(&route("b", &["i", "j"], "/", &["PUT"])));
        assert!(!two.shadows(&route("b", &["i"], "/", &["PUT", "GET", "POST"])));
    }

    #[test]
    fn prefixes() {
        for (text, want) in [
            ("/", "/"),
            ("/**", "/"),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/a/b/**", "/a/b"),
            ("/%7Ea%3ab", "/~a%3Ab"),
        ] {
            assert_eq!(text.parse::<PathPrefix>().unwrap().as_str(), want);
        }
        for bad in [
            "", "api", "/a//b", "/a/../b", "/a b", "/a?b", "/a*", "/a**", "/{id}", "//", "/é",
            "/a;b", "/%2e%2e", "/%zz",
        ] {
            assert!(bad.parse::<PathPrefix>().is_err(), "{bad}");
        }
        let prefix = |text: &str| text.parse::<PathPrefix>().unwrap();
        for (from, path, to, want) in [
            ("/api", "/api/x", "/", "/x"),
            ("/api", "/api", "/", "/"),
            ("/api", "/api/", "/", "/"),
            ("/api", "/api/x", "/v2", "/v2/x"),
            ("/api", "/api", "/v2", "/v2"),
            ("/", "/x", "/v2", "/v2/x"),
            ("/", "/", "/v2", "/v2/"),
            ("/", "/x", "/", "/x"),
        ] {
            assert_eq!(prefix(from).replace(path, &prefix(to)), want, "{from} {path} {to}");
        }
    }

    #[test]
    fn hosts_and_methods() {
        for text in ["example.com", "*.example.com", "10.0.0.1", "::1", "localhost"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]".parse::<HostPattern>().unwrap().to_string(), "::1");
        assert_eq!("Example.COM".parse::<HostPattern>().unwrap().to_string(), "example.com");
        let v6: HostPattern = "::1".parse().unwrap();
        assert!(v6.takes("[::1]") && v6.takes("::1") && !v6.takes("[::2]"));
        for bad in ["", "*", "*.", "a.*", "a:80", "http://a", "a/b", "a..b", ".a", "*.*.a"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
        assert!("GET".parse::<Method>().is_ok());
        for bad in ["", "get", "G T", "GET,PUT"] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }
}
