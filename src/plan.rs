//! The plan: what the process is going to do. Immutable, parsed, checked, references resolved.
//!
//! Flags ([`crate::cli`]) and the file ([`crate::config`]) both end here and nowhere else, so that
//! a one-liner and the file it prints behave the same. Only `assemble` turns a plan into sockets.

mod balance;
mod breaker;
mod forward;
pub mod meaning;
mod proxied;
mod route;
mod service;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::limit::Limits;
use gwproxy_core::net::ListenAddr;
use gwproxy_core::units::{MemoryLimit, Size};
use serde::{Deserialize, Serialize};

/// Text in and out through `FromStr` and `Display`, for serde's `try_from` and `into`.
macro_rules! string_conversions {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
use string_conversions;

pub use balance::{LoadBalancer, check_subset, check_zone, subset_number, subsets};
pub use breaker::{check_fallback, time_to_answer};
pub use forward::{Forward, ForwardParseError, PasswordHash, User};
pub use gwproxy_core::balance::{BalanceSettings, Subset, ZoneSettings};
pub use gwproxy_core::net::accept::{ProxyProtocol, Want};
pub use gwproxy_core::net::proxy_protocol::Version as ProxyVersion;
pub use gwproxy_grpc::deadline::Settings as GrpcSettings;
pub use gwproxy_http::forward::{Destination, Ports};
pub use gwproxy_http::serve::HalfClose;
pub use gwproxy_http::sticky::{CookieName, StickySettings};
pub use gwproxy_http::wire::Ambiguous;
pub use gwproxy_http::wire::forwarded::Trusted;
pub(crate) use proxied::{check as check_proxied, is_open as is_proxied_open};
pub use route::{HostPattern, Method, PathPrefix, Route, RouteParseError, in_order};
pub use service::{
    EchoKind, HostPolicy, Node, Scheme, Service, ServiceId, ServiceParseError, Target,
    UpstreamTimeouts,
};
pub use tls::TlsFront;

/// Time for open exchanges to finish after SIGTERM (reliability D39).
pub const GRACE: Duration = Duration::from_secs(30);

/// Everything one process does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Worker threads, at least 1. Default: one per core the process may use.
    pub workers: usize,
    /// What is listened on, in the order of the file. Never empty.
    pub listeners: Vec<Listener>,
    /// Every route, in the order of the file; [`in_order`] says which is tried first.
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
    /// What the process may take of the machine's memory. Default: what its cgroup may (D17).
    pub memory_limit: MemoryLimit,
    /// Proxies whose `X-Forwarded-*` and `Forwarded` are believed. Default: nobody's.
    pub trusted_proxies: Trusted,
}

/// Where the addresses of a plan were written, for sentences about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The file with the listeners; none: flags.
    pub file: Option<String>,
    /// Whether the file has the admin address as well.
    pub admin_in_file: bool,
    /// Variables of the environment that the file asked for.
    pub variables: Vec<String>,
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
    /// Whose PROXY headers are believed; none: nobody's, and they are bytes like others.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections open at once over all workers; more wait in the kernel's queue. At least 1.
    pub max_connections: usize,
    /// Connections of one address open at once over all workers; more are closed. 0: any number.
    /// Networks of [`Plan::trusted_proxies`] are not counted. None: 512, and neither this machine's
    /// own addresses are counted, nor anyone's where [`Plan::trusted_proxies`] goes by hops (D16).
    pub max_connections_per_ip: Option<usize>,
    /// Rate limit of everything that comes in here: requests (HTTP, gRPC), handshakes
    /// (WebSocket), connections (TCP).
    pub limiter: Option<Limits>,
    /// Timeouts of the client's side.
    pub timeouts: ListenerTimeouts,
    /// What HTTP/1 clients mean by ending their sending direction. TCP listeners have no use for
    /// it: they carry a half-close as it comes.
    pub half_close: HalfClose,
    /// What becomes of `%2F` in the paths of requests that go by [`Plan::routes`]. Default: they
    /// are refused (D23).
    pub encoded_slash: Ambiguous,
    /// What becomes of requests with a `_` in the name of a field, which CGI takes for a `-`.
    /// Default: they are refused (D24); gRPC calls and forward proxies pass them on always.
    pub underscores: Ambiguous,
    /// Content of a request in bytes, where its route does not say; 0: any number. None: 10 MiB (D11),
    /// and any number for gRPC calls and what a forward proxy passes on.
    pub max_body_size: Option<Size>,
    /// WebSocket behaviour, for `ws` listeners and for upgrades through `http` listeners.
    pub websocket: WebSocket,
}

/// What a listener's clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Everywhere the client asks for: a forward proxy. Only on HTTP and WebSocket listeners.
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
    /// How old a connection may be, plus or minus a tenth, when it takes its last request. Default 1 h
    /// (D08); none: of any age.
    pub max_age: Option<Duration>,
    /// No byte either way on a tunnel, WebSocket, TCP relay or stream. Default 300 s (D05).
    pub idle: Duration,
}

/// WebSocket behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// Silence after which the proxy pings. Default 30 s; none: never.
    pub ping: Option<Duration>,
    /// Payload bytes of one message over all its frames. Default 16 MiB; 0: any number.
    pub max_message: Size,
}

/// The log of requests and connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLog {
    /// Where it goes.
    pub sink: AccessLogSink,
    /// How a line looks.
    pub format: AccessLogFormat,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// The combined format of Apache and nginx.
    Combined,
    /// One JSON object.
    #[default]
    Json,
}

/// Where the access log goes: in text `off`, `-` (standard output) or a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AccessLogSink {
    /// To a file, appended.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// To standard output.
    #[default]
    Stdout,
}

/// How much the program's own log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// One worker per core this process may use, at least 1.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Source {
    /// What holds the address of a listener.
    pub fn listen(&self, listener: &str) -> String {
        match &self.file {
            Some(file) => format!("`bind` of the listener `{listener}` in {file}"),
            None => "`--listen`".to_owned(),
        }
    }

    /// What holds the nodes of a service; whoever typed flags named no service.
    pub fn nodes(&self, service: &str) -> String {
        match &self.file {
            Some(_) => format!("the service `{service}`"),
            None => "`--to`".to_owned(),
        }
    }

    /// What holds the admin address.
    pub const fn admin(&self) -> &'static str {
        if self.admin_in_file { "`admin` in the file" } else { "`--admin`" }
    }
}

impl Listener {
    /// Connections open at once unless told otherwise (reliability D16).
    pub const MAX_CONNECTIONS: usize = 10_000;
}

impl WebSocket {
    /// The largest message unless told otherwise, as `gwproxy_ws` has it.
    pub const MAX_MESSAGE: Size = Size::bytes(16 << 20);
}

impl Protocol {
    /// Whether a listener of this protocol can be a forward proxy.
    pub const fn can_forward(self) -> bool {
        matches!(self, Self::Http | Self::Ws)
    }

    /// Whether a listener of this protocol can lead to a service of another.
    pub const fn leads_to(self, service: Self) -> bool {
        match self {
            // WebSocket and gRPC are HTTP that goes on differently.
            Self::Http => !matches!(service, Self::Tcp),
            Self::Ws => matches!(service, Self::Ws | Self::Http),
            Self::Grpc => matches!(service, Self::Grpc | Self::Http),
            Self::Tcp => matches!(service, Self::Tcp),
        }
    }
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
            keep_alive: Duration::from_mins(1),
            max_age: Some(Duration::from_hours(1)),
            idle: Duration::from_mins(5),
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { ping: Some(Duration::from_secs(30)), max_message: Self::MAX_MESSAGE }
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
    /// Every level, the quietest first.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

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

impl FromStr for AccessLogSink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("the access log goes to `off`, `-` (standard output) or a file".into()),
            "off" => Ok(Self::Off),
            "-" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for AccessLogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

string_conversions!(AccessLogSink, String);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
