//! The skeleton of the file: what a user types, before anything is looked up. What a setting
//! means stands beside the code that obeys it; here are only its places.
//!
//! Every key is optional unless its type says otherwise; the defaults are those of the plan. The
//! same structs print a plan ([`super::print`]), so what is printed is what is read.

mod leaves;
mod shorthands;

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use gwproxy_core::balance::Algorithm;
use gwproxy_core::breaker::BreakerSettings;
use gwproxy_core::health::HealthSettings;
use gwproxy_core::health::passive::OutlierSettings;
use gwproxy_core::key::By;
use gwproxy_core::limit::Limits;
use gwproxy_core::net::ListenAddr;
use gwproxy_core::tls::{CertificatePair, ClientAuth, ClientSettings, MinVersion, TlsName};
use gwproxy_core::units::{MemoryLimit, Percent, Size, Span, Weight};
use serde::{Deserialize, Serialize};

use super::de::Spanned;
use super::short::Short;
use crate::plan::{
    AccessLogFormat, AccessLogSink, Ambiguous, Destination, GrpcSettings, HalfClose, HostPattern,
    HostPolicy, LogLevel, Method, PathPrefix, Protocol, ProxyVersion, StickySettings, Subset, User,
    Want, ZoneSettings,
};

pub(super) use leaves::Name;
pub(crate) use leaves::{Network, Workers};

/// Keys that are other names of keys, so that a complaint about one is not doubled by the absence
/// of the other.
pub(super) const ALIASES: [(&str, &str); 3] =
    [("limiter_config", "limiter"), ("prefix", "path"), ("service_id", "service")];

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `listeners`, `routes`, `services`")]
pub(super) struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workers: Option<Workers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<LogLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access_log: Option<Short<AccessLogFile>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<LimitsFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) trusted_proxies: Vec<Network>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) trusted_hops: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<Spanned<Short<AdminFile>>>,
    pub(super) listeners: Vec<Spanned<ListenerFile>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) routes: Vec<Spanned<RouteFile>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) services: Vec<Spanned<ServiceFile>>,
}

/// What the process as a whole may take.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `memory`")]
pub(super) struct LimitsFile {
    #[serde(skip_serializing_if = "is_default")]
    pub(super) memory: MemoryLimit,
}

/// `off`, `-`, a path, or a map.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccessLogFile {
    pub(super) to: AccessLogSink,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<AccessLogFormat>,
}

/// An address, or a map.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminFile {
    pub(super) bind: ListenAddr,
}

/// What is listened on.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a listener (a map with `protocol`, `bind` …)")]
pub(super) struct ListenerFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Spanned<Name>>,
    #[serde(default)]
    pub(super) protocol: ListenerProtocol,
    /// Needed; that it is missing is told with all else that is wrong with the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bind: Option<Spanned<ListenAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Spanned<TlsFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proxy_protocol: Option<Spanned<Short<ProxyProtocolFile>>>,
    #[serde(default, alias = "service_id", skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<Spanned<Name>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) forward: Option<Spanned<ForwardFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<NonZeroUsize>,
    /// `0`: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_connections_per_ip: Option<usize>,
    #[serde(default, alias = "limiter_config", skip_serializing_if = "Option::is_none")]
    pub(super) limiter: Option<Spanned<Limits>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<ListenerTimeoutsFile>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) encoded_slash: Ambiguous,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) underscores: Ambiguous,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) half_close: Option<HalfClose>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_body_size: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) websocket: Option<WebSocketFile>,
}

/// `required`, `optional`, or a map.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProxyProtocolFile {
    pub(super) mode: Want,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) from: Vec<Network>,
}

/// `forward` is short for `http` with `forward: {}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListenerProtocol {
    Forward,
    Grpc,
    #[default]
    Http,
    Tcp,
    Ws,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `certificates` or `dev: true`")]
pub(super) struct TlsFile {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) dev: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) certificates: Vec<CertificateFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_ca: Option<Spanned<PathBuf>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_auth: Option<Spanned<ClientAuth>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_version: Option<MinVersion>,
}

/// A [`CertificatePair`] that knows where its paths stand.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a map with `cert` and `key`")]
pub(super) struct CertificateFile {
    pub(super) cert: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
}

impl CertificateFile {
    pub(super) fn pair(&self) -> CertificatePair {
        CertificatePair { cert: self.cert.value.clone(), key: self.key.value.clone() }
    }
}

impl From<CertificatePair> for CertificateFile {
    fn from(pair: CertificatePair) -> Self {
        Self { cert: pair.cert.into(), key: pair.key.into() }
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map (`{}` for the defaults)")]
pub(super) struct ForwardFile {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) users: Vec<User>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) allow: Vec<Destination>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) deny: Vec<Destination>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) allow_private: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) allow_ports: Vec<NonZeroU16>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) unsafe_open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<UpstreamTimeoutsFile>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `handshake`, `header`, `idle` …")]
pub(super) struct ListenerTimeoutsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handshake: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_alive: Option<Span>,
    /// `0s`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle: Option<Span>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `ping` or `max_message`")]
pub(super) struct WebSocketFile {
    /// `0s`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ping: Option<Span>,
    /// `0`: any size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_message: Option<Size>,
}

/// Which requests go where.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a route (a map with `path`, `service` …)")]
pub(super) struct RouteFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Spanned<Name>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hosts: Vec<HostPattern>,
    #[serde(default = "PathPrefix::root", alias = "prefix")]
    pub(super) path: PathPrefix,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) methods: Vec<Method>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rewrite_prefix: Option<Spanned<PathPrefix>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) strip_prefix: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) priority: i32,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(super) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_body_size: Option<Size>,
    #[serde(default, alias = "limiter_config", skip_serializing_if = "Option::is_none")]
    pub(super) limiter: Option<Spanned<Limits>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) breaker: Option<Spanned<BreakerSettings>>,
    /// Needed, as a listener's `bind` is.
    #[serde(default, alias = "service_id", skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<Spanned<Name>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subset: Option<Spanned<Subset>>,
}

/// Nodes that answer for the same thing.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a service (a map with `id`, `nodes` …)")]
pub(super) struct ServiceFile {
    pub(super) id: Spanned<Name>,
    #[serde(default = "http")]
    pub(super) protocol: Protocol,
    /// Needed, as a listener's `bind` is; missing, it stands nowhere.
    #[serde(default = "no_nodes")]
    pub(super) nodes: Spanned<Vec<Spanned<Short<NodeFile>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) load_balancer: Option<Short<LoadBalancerFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subset: Option<Spanned<Subset>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) health_check: Option<Spanned<HealthSettings>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outlier_detection: Option<OutlierSettings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) breaker: Option<Spanned<BreakerSettings>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node_breaker: Option<Spanned<BreakerSettings>>,
    #[serde(default, alias = "limiter_config", skip_serializing_if = "Option::is_none")]
    pub(super) limiter: Option<Spanned<Limits>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<UpstreamTimeoutsFile>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) grpc: GrpcSettings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Spanned<ClientTlsFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proxy_protocol: Option<ProxyVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upstream_host: Option<HostPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<RetryFile>,
}

/// A [`ClientSettings`] that knows where its paths stand.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `ca`, `server_name` …")]
pub(super) struct ClientTlsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<Spanned<PathBuf>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) danger_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_name: Option<TlsName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<CertificateFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_version: Option<MinVersion>,
}

impl ClientTlsFile {
    pub(super) fn settings(&self) -> ClientSettings {
        ClientSettings {
            ca: self.ca.as_ref().map(|ca| ca.value.clone()),
            danger_skip_verify: self.danger_skip_verify,
            server_name: self.server_name.clone(),
            certificate: self.certificate.as_ref().map(CertificateFile::pair),
            min_version: self.min_version,
        }
    }
}

impl From<ClientSettings> for ClientTlsFile {
    fn from(settings: ClientSettings) -> Self {
        Self {
            ca: settings.ca.map(Spanned::from),
            danger_skip_verify: settings.danger_skip_verify,
            server_name: settings.server_name,
            certificate: settings.certificate.map(CertificateFile::from),
            min_version: settings.min_version,
        }
    }
}

/// An address, or a map.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Spanned<Name>>,
    pub(super) address: Spanned<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) weight: Weight,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) priority: u8,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(super) enabled: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// An algorithm, or a map.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LoadBalancerFile {
    pub(super) algorithm: Algorithm,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hash_by: Option<Spanned<By>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sticky: Option<Spanned<Short<StickySettings>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slow_start: Option<Spanned<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) panic_threshold: Option<Percent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<Spanned<ZoneSettings>>,
    /// The gateway document's place for it; only if the service itself has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_check: Option<Spanned<HealthSettings>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `connect`, `response` …")]
pub(super) struct UpstreamTimeoutsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_alive: Option<Span>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with `max_attempts`")]
pub(super) struct RetryFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_attempts: Option<NonZeroU32>,
}

fn yes() -> bool {
    true
}

// serde wants a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn no_nodes() -> Spanned<Vec<Spanned<Short<NodeFile>>>> {
    Vec::new().into()
}

fn http() -> Protocol {
    Protocol::Http
}
