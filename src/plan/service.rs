//! A service: nodes that answer for the same thing, and how they are treated.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::upstream::NodeAddr;

use super::{Algorithm, BreakerSettings, HealthSettings, LimitSettings, Protocol};

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
    pub load_balancer: Algorithm,
    /// Active health check; none: nodes are healthy until a connect fails.
    pub health_check: Option<HealthSettings>,
    /// Circuit breaker; none: never open.
    pub breaker: Option<BreakerSettings>,
    /// Rate limit of everything sent to this service, whatever route it took.
    pub limiter: Option<LimitSettings>,
    /// Timeouts towards its nodes.
    pub timeouts: UpstreamTimeouts,
    /// TLS towards nodes whose scheme has it.
    pub tls: UpstreamTls,
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
    pub weight: u16,
    /// A disabled node is left out of the cluster.
    pub enabled: bool,
    /// Free words about it (zone, version).
    pub metadata: BTreeMap<String, String>,
}

/// Where a node is.
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

/// The `Host` that nodes see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// From the request's end to the head of the response. Default 15 s (D07).
    pub response: Duration,
    /// No byte either way on a stream, tunnel or relay. Default 300 s (D05).
    pub idle: Duration,
    /// An unused pooled connection. Default 50 s: below what nodes commonly keep (D04).
    pub keep_alive: Duration,
}

/// TLS towards a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM file with the authorities to trust. None: the system's.
    pub ca: Option<PathBuf>,
    /// Takes any certificate: whoever is in between reads and changes everything.
    pub danger_skip_verify: bool,
    /// The name asked for and verified. None: the host of the node.
    pub server_name: Option<Arc<str>>,
    /// PEM files we show: certificate chain and key.
    pub client: Option<super::Certificate>,
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
            response: Duration::from_secs(15),
            idle: Duration::from_secs(300),
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
    /// As after `echo:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Ws => "ws",
        }
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
