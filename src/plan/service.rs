//! A service: nodes that answer for the same thing, and how they are treated.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::balance::Subset;
use gwproxy_core::breaker::BreakerSettings;
use gwproxy_core::health::HealthSettings;
use gwproxy_core::health::passive::OutlierSettings;
use gwproxy_core::limit::Limits;
use gwproxy_core::net::HostPort;
use gwproxy_core::tls::ClientSettings;
use gwproxy_core::units::Weight;
use gwproxy_core::upstream::NodeAddr;
use serde::{Deserialize, Serialize};

use super::{GrpcSettings, LoadBalancer, Protocol, ProxyVersion};

/// The index of a service in [`super::Plan::services`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub(crate) usize);

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Unique id, for logs, metrics and references.
    pub id: Arc<str>,
    /// What its nodes speak.
    pub protocol: Protocol,
    /// Its nodes. Never empty.
    pub nodes: Vec<Node>,
    /// How a node is picked.
    pub load_balancer: LoadBalancer,
    /// The nodes that are picked from, by their metadata. Default empty: all.
    pub subset: Subset,
    /// Active health check; none: nodes are healthy until a connect fails.
    pub health_check: Option<HealthSettings>,
    /// Circuit breaker; none: never open.
    pub breaker: Option<BreakerSettings>,
    /// Circuit breaker of each node; none: none.
    pub node_breaker: Option<BreakerSettings>,
    /// Passive health: when nodes are left out for how their calls end; none: never.
    pub outlier_detection: Option<OutlierSettings>,
    /// Rate limit of everything sent to this service, whatever route it took.
    pub limiter: Option<Limits>,
    /// Timeouts towards its nodes.
    pub timeouts: UpstreamTimeouts,
    /// What gRPC calls are held to.
    pub grpc: GrpcSettings,
    /// TLS towards nodes whose scheme has it.
    pub tls: ClientSettings,
    /// The PROXY header that tells its nodes who the client is; none: none. With one, every
    /// request has a connection of its own.
    pub proxy_protocol: Option<ProxyVersion>,
    /// The `Host` (`:authority`) its nodes see.
    pub upstream_host: HostPolicy,
    /// Nodes tried for one request, the first included. At least 1, default 2 (D34).
    pub max_attempts: u32,
}

/// One node of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique within the service, for logs and metrics. Default: the address.
    pub id: Arc<str>,
    /// Where it is and how to speak to it.
    pub target: Target,
    /// Its share of the traffic in relation to the others'. Default 1; 0 gets no new work.
    pub weight: Weight,
    /// Its level: nodes of a higher one are spares of those below. Default 0.
    pub priority: u8,
    /// A disabled node is left out of the cluster.
    pub enabled: bool,
    /// Free words about it (zone, version).
    pub metadata: BTreeMap<String, String>,
}

/// Where a node is: `scheme://host:port`, `scheme://unix:/path` or `echo:http`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An echo server of this process, on a loopback port of the system's choice.
    Echo(EchoKind),
    /// Elsewhere.
    Remote {
        /// How to speak to it.
        scheme: Scheme,
        /// Where it is.
        addr: NodeAddr,
    },
}

/// What an echo server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EchoKind {
    /// gRPC with an echo service, health and reflection.
    Grpc,
    /// HTTP/1.1 and HTTP/2, reporting what it received.
    Http,
    /// Bytes as they come.
    Tcp,
    /// WebSocket messages as they come.
    Ws,
}

/// How to speak to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// gRPC over HTTP/2 in plain text.
    Grpc,
    /// gRPC over HTTP/2 and TLS.
    Grpcs,
    /// HTTP/2 in plain text by prior knowledge (RFC 9113 §3.3).
    H2c,
    /// HTTP/1.1 in plain text.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, by ALPN.
    Https,
    /// Raw TCP.
    Tcp,
    /// TCP over TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

/// The `Host` that nodes see: in text `preserve`, `node` or a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPolicy {
    /// This one.
    Fixed(Arc<str>),
    /// The node's own host and port.
    Node,
    /// The client's.
    #[default]
    Preserve,
}

/// Timeouts towards a node or destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Connection and TLS handshake. Default 2 s (D06).
    pub connect: Duration,
    /// From the request's end to the head of the response; zero: no limit. None: 15 s (D07), but
    /// no limit for gRPC calls, which have deadlines of their own and may be watches.
    pub response: Option<Duration>,
    /// An unused pooled connection. Default 50 s: below what nodes commonly keep (D04).
    pub keep_alive: Duration,
}

/// Why a node or a host policy was refused; `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceParseError {
    sentence: String,
    scheme: bool,
}

impl ServiceParseError {
    fn new(sentence: String) -> Self {
        Self { sentence, scheme: false }
    }

    fn scheme(sentence: String) -> Self {
        Self { sentence, scheme: true }
    }

    /// Whether the address reads, but not for this protocol.
    pub fn is_scheme(&self) -> bool {
        self.scheme
    }
}

impl Service {
    /// Nodes tried for one request unless told otherwise (reliability D34).
    pub const MAX_ATTEMPTS: u32 = 2;

    /// Refuses a service that has nodes and none that takes work: every request would fail.
    ///
    /// # Errors
    /// A sentence that says how to mend it.
    pub fn check(&self) -> Result<(), String> {
        let works = |node: &Node| node.enabled && node.weight.get() > 0;
        if self.nodes.is_empty() || self.nodes.iter().any(works) {
            return Ok(());
        }
        Err(format!(
            "no node of service `{}` takes work: each has the weight 0 or is not enabled; give \
             one a weight from 1 up",
            self.id
        ))
    }
}

impl Service {
    /// Refuses settings of TLS to nodes where no node has TLS.
    ///
    /// # Errors
    /// What follows the name of the setting: what it is for, and which nodes have it.
    pub fn check_tls(&self) -> Result<(), String> {
        let is_tls = |node: &Node| match &node.target {
            Target::Remote { scheme, .. } => scheme.is_tls(),
            Target::Echo(_) => false,
        };
        if self.nodes.is_empty() || self.nodes.iter().any(is_tls) {
            return Ok(());
        }
        let schemes = Scheme::of(self.protocol).iter().filter(|scheme| scheme.is_tls());
        let schemes: Vec<_> = schemes.map(|scheme| format!("`{scheme}://`")).collect();
        let schemes = schemes.join(" or ");
        Err(format!("is about TLS to nodes, and none of these has it: theirs begin with {schemes}"))
    }
}

impl ServiceId {
    /// The place in [`super::Plan::services`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            response: None,
            keep_alive: Duration::from_secs(50),
        }
    }
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 9] = [
        Self::Grpc,
        Self::Grpcs,
        Self::H2c,
        Self::Http,
        Self::Https,
        Self::Tcp,
        Self::Tls,
        Self::Ws,
        Self::Wss,
    ];

    /// As before `://`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
            Self::H2c => "h2c",
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether it is over TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Grpcs | Self::Https | Self::Tls | Self::Wss)
    }

    /// The port when none is given; TCP and gRPC have none.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::H2c | Self::Http | Self::Ws => Some(80),
            Self::Https | Self::Wss => Some(443),
            Self::Grpc | Self::Grpcs | Self::Tcp | Self::Tls => None,
        }
    }

    /// The schemes a service of this protocol may have; the first is meant when none is given.
    pub const fn of(protocol: Protocol) -> &'static [Self] {
        match protocol {
            Protocol::Grpc => &[Self::Grpc, Self::Grpcs, Self::H2c, Self::Http, Self::Https],
            Protocol::Http => &[Self::Http, Self::Https, Self::H2c],
            Protocol::Tcp => &[Self::Tcp, Self::Tls],
            Protocol::Ws => &[Self::Ws, Self::Wss, Self::Http, Self::Https],
        }
    }
}

impl EchoKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Grpc, Self::Http, Self::Tcp, Self::Ws];

    /// As after `echo:`, and the name of its protocol.
    pub const fn as_str(self) -> &'static str {
        self.protocol().as_str()
    }

    /// The protocol of a service with such a node.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Grpc => Protocol::Grpc,
            Self::Http => Protocol::Http,
            Self::Tcp => Protocol::Tcp,
            Self::Ws => Protocol::Ws,
        }
    }
}

impl Target {
    /// What a node is called that has no other name: the address as it is written, and of a Unix
    /// socket the file alone.
    pub fn name(&self) -> String {
        match self {
            Self::Remote { addr: addr @ NodeAddr::Unix(_), .. } => addr.to_string(),
            _ => self.to_string(),
        }
    }

    /// Reads a node's address as a service of this protocol has it: a URL of one of its schemes,
    /// `host:port` or `unix:/path` (the first of its schemes is meant), or `echo:NAME`.
    ///
    /// # Errors
    /// A sentence that names the text and shows what to write.
    pub fn parse(text: &str, protocol: Protocol) -> Result<Self, ServiceParseError> {
        if let Some(name) = text.strip_prefix("echo:") {
            return Self::parse_echo(text, name, protocol);
        }
        let schemes = Scheme::of(protocol);
        let (scheme, rest) = match text.split_once("://") {
            None => (schemes[0], text),
            Some((scheme, rest)) => {
                let known = schemes.iter().find(|one| scheme.eq_ignore_ascii_case(one.as_str()));
                (*known.ok_or_else(|| wrong_scheme(text, scheme, protocol))?, rest)
            }
        };
        if rest.starts_with("unix:") {
            let addr = rest.parse().map_err(|_| bad_node(text, "the path is missing", protocol))?;
            return match &addr {
                NodeAddr::Unix(path) if !path.is_absolute() => {
                    Err(bad_node(text, "the path of a socket begins with `/`", protocol))
                }
                _ => Ok(Self::Remote { scheme, addr }),
            };
        }
        if let Some((_, host)) = rest.rsplit_once('@') {
            // What stands before the `@` is a secret: it is not repeated.
            let text = format!("{scheme}://…@{host}");
            let why = "a node has no user and password; send them in a header";
            return Err(bad_node(&text, why, protocol));
        }
        // A lone slash is what people copy out of a browser.
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains(['/', '?', '#']) {
            let why = "a node is scheme://host:port without a path; paths are rewritten by routes";
            return Err(bad_node(text, why, protocol));
        }
        if let Ok(port) = host.strip_prefix(':').unwrap_or(host).parse::<u16>() {
            // A bare number is an address to the system's resolver: 3000 is 0.0.11.184.
            return Err(ServiceParseError::new(format!(
                "`{text}` is a port without a host; write `localhost:{port}`"
            )));
        }
        match HostPort::parse(host, scheme.default_port()) {
            Ok(addr) => Ok(Self::Remote { scheme, addr: NodeAddr::Tcp(addr) }),
            Err(error) => Err(ServiceParseError::new(error.to_string())),
        }
    }

    fn parse_echo(text: &str, name: &str, protocol: Protocol) -> Result<Self, ServiceParseError> {
        let kind = EchoKind::ALL.into_iter().find(|kind| kind.as_str() == name);
        let kind = kind.ok_or_else(|| {
            ServiceParseError::new(format!(
                "`{text}` is no echo server; there are `echo:http`, `echo:ws`, `echo:tcp` and \
                 `echo:grpc`"
            ))
        })?;
        if kind.protocol() != protocol {
            return Err(ServiceParseError::scheme(format!(
                "`{text}` speaks {}, this service {protocol}",
                kind.protocol()
            )));
        }
        Ok(Self::Echo(kind))
    }
}

fn wrong_scheme(text: &str, scheme: &str, protocol: Protocol) -> ServiceParseError {
    if let ("unix" | "http+unix", Some((_, path))) = (scheme, text.split_once("://")) {
        let path = path.trim_start_matches('/');
        let first = Scheme::of(protocol)[0];
        return ServiceParseError::scheme(format!(
            "`{text}` does not fit {protocol}: a Unix socket is written `unix:/{path}`, with a \
             scheme `{first}://unix:/{path}`"
        ));
    }
    let known = Scheme::of(protocol).iter().map(|one| format!("`{one}://`"));
    let known = known.collect::<Vec<_>>().join(", ");
    let other =
        [Protocol::Http, Protocol::Ws, Protocol::Tcp, Protocol::Grpc].into_iter().find(|other| {
            Scheme::of(*other).iter().any(|one| scheme.eq_ignore_ascii_case(one.as_str()))
        });
    let hint = match other {
        Some(other) => format!("; `{scheme}://` is for {other}"),
        None => String::new(),
    };
    ServiceParseError::scheme(format!("`{text}` does not fit {protocol}: nodes are {known}{hint}"))
}

fn bad_node(text: &str, why: &str, protocol: Protocol) -> ServiceParseError {
    let scheme = Scheme::of(protocol)[0];
    ServiceParseError::new(format!(
        "`{text}` is not a node ({why}); write for example `{scheme}://10.0.0.5:9000`"
    ))
}

impl FromStr for HostPolicy {
    type Err = ServiceParseError;

    fn from_str(text: &str) -> Result<Self, ServiceParseError> {
        match text {
            "preserve" | "keep" => return Ok(Self::Preserve),
            "node" => return Ok(Self::Node),
            _ => {}
        }
        // Any port stands in for a missing one: it is only there to make the host parse.
        match HostPort::parse(text, Some(1)) {
            Ok(_) => Ok(Self::Fixed(text.to_ascii_lowercase().into())),
            Err(_) => Err(ServiceParseError::new(format!(
                "`{text}` is not a host; write `preserve` (the client's), `node` (the node's own) \
                 or a host as `example.com`"
            ))),
        }
    }
}

impl fmt::Display for HostPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(host) => f.write_str(host),
            Self::Node => f.write_str("node"),
            Self::Preserve => f.write_str("preserve"),
        }
    }
}

super::string_conversions!(HostPolicy, ServiceParseError);

impl fmt::Display for ServiceParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for ServiceParseError {}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo(kind) => write!(f, "echo:{}", kind.as_str()),
            Self::Remote { scheme, addr } => write!(f, "{scheme}://{addr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_name_has_that_of_its_address() {
        for (text, name) in [
            ("http://a:1", "http://a:1"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("https://unix:/run/a.sock", "unix:/run/a.sock"),
            ("echo:http", "echo:http"),
        ] {
            assert_eq!(Target::parse(text, Protocol::Http).unwrap().name(), name);
        }
    }

    #[test]
    fn nodes_print_as_they_are_meant() {
        for (protocol, text, want) in [
            (Protocol::Http, "http://a:1", "http://a:1"),
            (Protocol::Http, "a:1", "http://a:1"),
            (Protocol::Http, "http://a", "http://a:80"),
            (Protocol::Http, "HTTPS://A/", "https://a:443"),
            (Protocol::Http, "h2c://[::1]:9", "h2c://[::1]:9"),
            (Protocol::Http, "http://unix:/run/a.sock", "http://unix:/run/a.sock"),
            (Protocol::Http, "unix:/run/a.sock", "http://unix:/run/a.sock"),
            (Protocol::Http, "echo:http", "echo:http"),
            (Protocol::Ws, "wss://a", "wss://a:443"),
            (Protocol::Ws, "http://a", "http://a:80"),
            (Protocol::Tcp, "a:5432", "tcp://a:5432"),
            (Protocol::Tcp, "tls://a:5432", "tls://a:5432"),
            (Protocol::Grpc, "a:50051", "grpc://a:50051"),
            (Protocol::Grpc, "https://a", "https://a:443"),
        ] {
            let target = Target::parse(text, protocol).unwrap();
            assert_eq!(target.to_string(), want);
            assert_eq!(Target::parse(want, protocol).unwrap(), target);
        }
    }

    #[test]
    fn what_is_no_node_is_told() {
        for (protocol, text, part) in [
            (Protocol::Http, "http://a/path", "without a path"),
            (Protocol::Http, "http://a?x", "without a path"),
            (Protocol::Http, "http://u:p@a", "`http://…@a` is not a node (a node has no user"),
            (Protocol::Http, "ws://a", "`ws://` is for ws"),
            (Protocol::Http, "ftp://a", "`http://`, `https://`, `h2c://`"),
            (Protocol::Http, "http://a:0", "1 to 65535"),
            (Protocol::Http, "http://", "the host"),
            (Protocol::Http, "", "the host"),
            (Protocol::Http, "3000", "`3000` is a port without a host; write `localhost:3000`"),
            (Protocol::Http, "http://:3000", "write `localhost:3000`"),
            (Protocol::Tcp, ":5432", "write `localhost:5432`"),
            (Protocol::Http, "unix:x.sock", "begins with `/`"),
            (Protocol::Http, "unix:///run/x.sock", "written `unix:/run/x.sock`"),
            (Protocol::Ws, "http+unix:///x", "a scheme `ws://unix:/x`"),
            (Protocol::Http, "echo:ws", "speaks ws, this service http"),
            (Protocol::Http, "echo:udp", "no echo server"),
            (Protocol::Tcp, "http://a:80", "`http://` is for http"),
            (Protocol::Tcp, "a", "port is missing"),
            (Protocol::Grpc, "ws://a:1", "`grpc://`"),
        ] {
            let sentence = Target::parse(text, protocol).unwrap_err().to_string();
            assert!(sentence.contains(part), "{text}: {sentence}");
        }
    }

    #[test]
    fn host_policies() {
        for text in ["preserve", "node", "example.com", "example.com:8443"] {
            assert_eq!(text.parse::<HostPolicy>().unwrap().to_string(), text);
        }
        assert!("http://a".parse::<HostPolicy>().is_err());
    }
}
