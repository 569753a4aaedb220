//! The plan: what the process is going to do. Immutable, parsed, checked, references resolved.
//!
//! Flags ([`crate::cli`]) and the file ([`crate::config`]) both end here and nowhere else, so that
//! a one-liner and the file it prints behave the same. Only `assemble` turns a plan into sockets.

mod forward;
mod service;
mod settings;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::net::ListenAddr;
use ipnet::IpNet;

pub use forward::{Destination, Forward, ForwardParseError, PasswordHash, PortRule, User};
pub use service::{
    EchoKind, HostPolicy, Node, Scheme, Service, ServiceId, Target, UpstreamTimeouts, UpstreamTls,
};
pub use settings::{Algorithm, BreakerSettings, HealthSettings, LimitSettings};
pub use tls::{Certificate, Certificates, ClientAuth, TlsFront};

/// Time for open exchanges to finish after SIGTERM (reliability D39).
pub const GRACE: Duration = Duration::from_secs(30);

/// Everything one process does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Worker threads, at least 1. Default: one per core the process may use.
    pub workers: usize,
    /// What is listened on, in the order of the file. Never empty.
    pub listeners: Vec<Listener>,
    /// Every route, highest priority first, then in the order of the file: the first match wins.
    pub routes: Vec<Route>,
    /// Every service; [`ServiceId`] indexes it.
    pub services: Vec<Service>,
    /// Where the admin API listens. None: no admin API.
    pub admin: Option<ListenAddr>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// How much the program's own log says.
    pub log: LogLevel,
    /// How long open exchanges may take after the first SIGTERM or SIGINT.
    pub grace: Duration,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed. Empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
}

/// One address that is listened on.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique name, for logs and metrics.
    pub name: Arc<str>,
    /// Where.
    pub bind: ListenAddr,
    /// What clients speak.
    pub protocol: Protocol,
    /// Where their requests go.
    pub action: Action,
    /// TLS termination; none: plain text.
    pub tls: Option<TlsFront>,
    /// Connections open at once over all workers; more wait in the kernel's queue. At least 1.
    pub max_connections: usize,
    /// Rate limit of everything that comes in here: requests (HTTP, gRPC), handshakes
    /// (WebSocket), connections (TCP).
    pub limiter: Option<LimitSettings>,
    /// Timeouts of the client's side.
    pub timeouts: ListenerTimeouts,
    /// WebSocket behaviour, for `ws` listeners and for upgrades through `http` listeners.
    pub websocket: WebSocket,
}

/// What a listener's clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1 and HTTP/2, with WebSocket and gRPC passing through.
    Http,
    /// Raw TCP.
    Tcp,
    /// WebSocket only; anything else gets 426.
    Ws,
}

/// Where what a listener takes in goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Everywhere the client asks for: a forward proxy.
    Forward(Box<Forward>),
    /// By [`Plan::routes`]. Never on a TCP listener.
    Route,
    /// All of it to one service.
    Serve(ServiceId),
}

/// Timeouts towards the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// TLS handshake. Default 5 s (D01).
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head. Default 10 s (D02).
    pub header: Duration,
    /// Between two bytes of a request body. Default 30 s (D03).
    pub body: Duration,
    /// Between two requests on one connection. Default 60 s (D04).
    pub keep_alive: Duration,
    /// No byte either way on a tunnel, WebSocket, TCP relay or stream. Default 300 s (D05).
    pub idle: Duration,
}

/// WebSocket behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// Silence after which the proxy pings. Default 30 s; none: never.
    pub ping: Option<Duration>,
}

/// Which requests go where.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique id, for logs, metrics and `explain`.
    pub id: Arc<str>,
    /// Hosts it takes; empty: any.
    pub hosts: Vec<HostPattern>,
    /// Path prefix by whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. `/`: any.
    pub path: Arc<str>,
    /// Methods it takes, as on the wire; empty: any.
    pub methods: Vec<Arc<str>>,
    /// What replaces [`Self::path`] in the path sent on (`strip_prefix` is a rewrite to `/`).
    /// None: the path is sent as it came.
    pub rewrite_prefix: Option<Arc<str>>,
    /// Higher wins before longer path and host are compared. Default 0.
    pub priority: i32,
    /// Time to the first byte of the response, instead of the service's.
    pub timeout: Option<Duration>,
    /// Rate limit of this route.
    pub limiter: Option<LimitSettings>,
    /// Where to.
    pub service: ServiceId,
}

/// A host of a route: `example.com`, or `*.example.com` for every name below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name or address, lower-case, without port.
    Exact(Arc<str>),
    /// Any name ending in this (`.example.com`), with at least one label before it.
    Suffix(Arc<str>),
}

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// To a file, appended.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// To standard output.
    #[default]
    Stdout,
}

/// How much the program's own log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What an engineer of this program needs.
    Debug,
    /// What failed.
    Error,
    /// Starts, stops, changes of state.
    #[default]
    Info,
    /// Nothing.
    Off,
    /// Everything.
    Trace,
    /// What will fail if nobody looks.
    Warn,
}

impl Plan {
    /// A service by its index.
    ///
    /// # Panics
    /// Never for an id of this plan: ids are made only while a plan is.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0]
    }
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { ping: Some(Duration::from_secs(30)) }
    }
}

impl Protocol {
    /// The name in commands and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Ws => "ws",
        }
    }
}

impl LogLevel {
    /// The name in flags and files; also a directive of `tracing_subscriber`'s filter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Error => "error",
            Self::Info => "info",
            Self::Off => "off",
            Self::Trace => "trace",
            Self::Warn => "warn",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
