//! Flags that several commands share. What each means stands in the help text, which is its doc
//! comment; values parse into the types that the plan holds, so that clap points at the value.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gwproxy_core::breaker::BreakerSettings;
use gwproxy_core::health::HealthSettings;
use gwproxy_core::health::passive::OutlierSettings;
use gwproxy_core::limit::LimitSettings;
use gwproxy_core::net::ListenAddr;
use gwproxy_core::tls::{CertificatePair, ClientAuth, ClientSettings, ServerSettings, TlsName};
use gwproxy_core::units::{MemoryLimit, Span};

use super::Wrong;
use super::balance::BalanceFlags;
use crate::config::{Network, Workers};
use crate::plan::{
    AccessLogFormat, AccessLogSink, Ambiguous, HostPolicy, LogLevel, Plan, ProxyProtocol,
    ProxyVersion, TlsFront, UpstreamTimeouts, Want, check_proxied,
};

/// The process as a whole; also overrides what a file says.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct ProcessFlags {
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", env = "GWPROXY_WORKERS", hide_env = true)]
    workers: Option<Workers>,
    /// Where the access log goes: off, - (standard output) or a file, which SIGUSR1 opens again
    /// after it was renamed [default: -]
    #[arg(long, value_name = "off|-|FILE", env = "GWPROXY_ACCESS_LOG", hide_env = true)]
    access_log: Option<AccessLogSink>,
    /// How a line of the access log looks [default: json]
    #[arg(long, value_name = "FORMAT", env = "GWPROXY_ACCESS_LOG_FORMAT", hide_env = true,
        value_parser = format_parser())]
    access_log_format: Option<AccessLogFormat>,
    #[command(flatten)]
    log: LogFlags,
    /// Where the admin API listens [default: nowhere]
    #[arg(long, value_name = "ADDR", env = "GWPROXY_ADMIN", hide_env = true)]
    admin: Option<ListenAddr>,
    /// How long what is open may finish after the first SIGTERM, silent tunnels and TCP connections
    /// too; a second signal ends it at once; if something is cut off, the exit code is 1 [default: 30s]
    #[arg(long, value_name = "TIME", env = "GWPROXY_GRACE", hide_env = true)]
    grace: Option<Span>,
    /// Refuse new requests (503) when so much memory is in use that the process would soon be ended
    /// for it: from 90% of this on; from 95% new connections too: auto (what its cgroup may), off or
    /// a size as 512MiB [default: auto]
    #[arg(long, value_name = "auto|off|SIZE", env = "GWPROXY_MEMORY_LIMIT", hide_env = true)]
    memory_limit: Option<MemoryLimit>,
    /// Networks whose X-Forwarded-* and Forwarded are believed (repeat or use commas)
    /// [default: nobody's]
    #[arg(
        long = "trusted-proxy",
        value_name = "CIDR",
        env = "GWPROXY_TRUSTED_PROXY",
        hide_env = true,
        value_delimiter = ','
    )]
    trusted_proxies: Vec<Network>,
    /// As many proxies in front are believed, whatever their addresses; 0 to 255 [default: 0]
    #[arg(long, value_name = "N", env = "GWPROXY_TRUSTED_HOPS", hide_env = true,
        value_parser = hops)]
    trusted_hops: Option<u8>,
    /// Print the file that means the same, and stop
    #[arg(long, env = "GWPROXY_PRINT_CONFIG", hide_env = true,
        value_parser = switch)]
    pub(super) print_config: bool,
}

/// The program's own log.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct LogFlags {
    /// How much the program's own log says [default: info]
    #[arg(long = "log", value_name = "LEVEL", env = "GWPROXY_LOG", hide_env = true,
        value_parser = level_parser())]
    pub(super) level: Option<LogLevel>,
}

/// Where to listen, and TLS there.
#[derive(Debug, Args)]
#[command(next_help_heading = "Listener")]
pub(super) struct ListenFlags {
    /// Where to listen: 8080, :8080, localhost:8080, [::1]:8080, unix:/path; port 0 is any free one
    #[arg(
        long,
        short,
        value_name = "ADDR",
        env = "GWPROXY_LISTEN",
        hide_env = true,
        default_value = "127.0.0.1:8080"
    )]
    pub(super) listen: ListenAddr,
    /// TLS in front: the certificate chain (PEM); repeat with --tls-key for more names, or use
    /// commas
    #[arg(
        long,
        value_name = "FILE",
        env = "GWPROXY_TLS_CERT",
        hide_env = true,
        value_delimiter = ','
    )]
    tls_cert: Vec<PathBuf>,
    /// TLS in front: the private key (PEM) of the --tls-cert at the same place
    #[arg(
        long,
        value_name = "FILE",
        env = "GWPROXY_TLS_KEY",
        hide_env = true,
        value_delimiter = ','
    )]
    tls_key: Vec<PathBuf>,
    /// TLS in front with a certificate of your own development authority (`gwproxy cert dev`)
    #[arg(long, env = "GWPROXY_TLS_DEV", hide_env = true,
        value_parser = switch)]
    tls_dev: bool,
    /// Ask clients for a certificate of one of these authorities (PEM)
    #[arg(long, value_name = "FILE", env = "GWPROXY_CLIENT_CA", hide_env = true)]
    client_ca: Option<PathBuf>,
    /// Whether a client may come without a certificate [default: required]
    #[arg(long, value_name = "WHEN", env = "GWPROXY_CLIENT_AUTH", hide_env = true,
        value_parser = auth_parser())]
    client_auth: Option<ClientAuth>,
}

/// What clients may do.
#[derive(Debug, Args)]
#[command(next_help_heading = "Listener")]
pub(super) struct FrontFlags {
    #[command(flatten)]
    pub(super) listen: ListenFlags,
    /// Rate limit, for example 100/s,burst=50,by=ip (by: ip, global, user, api_key, header:NAME,
    /// cookie:NAME, query:NAME, or several with +; algorithm, of, shadow and more: docs/limiting.md);
    /// repeat for more, all of which must agree [default: none]
    // Limits have commas in them; a line break separates in the environment.
    #[arg(
        long,
        value_name = "LIMIT",
        env = "GWPROXY_LIMIT",
        hide_env = true,
        value_delimiter = '\n'
    )]
    pub(super) limit: Vec<LimitSettings>,
    /// Connections open at once, over all workers [default: 10000]
    #[arg(long, value_name = "N", env = "GWPROXY_MAX_CONNECTIONS", hide_env = true,
        value_parser = count)]
    pub(super) max_connections: Option<NonZeroUsize>,
    /// Connections of one address (of IPv6, a /64) open at once, over all workers; more are closed;
    /// 0: any number. Trusted proxies are not counted [default: 512, and any number from this machine]
    #[arg(long, value_name = "N", env = "GWPROXY_MAX_CONNECTIONS_PER_IP", hide_env = true,
        value_parser = any_count)]
    pub(super) max_connections_per_ip: Option<usize>,
    /// Close tunnels, WebSockets and TCP connections on which nothing moved for so long; pings and
    /// their answers count, so that they keep a WebSocket open [default: 5m]
    #[arg(long, value_name = "TIME", env = "GWPROXY_IDLE_TIMEOUT", hide_env = true)]
    pub(super) idle_timeout: Option<Span>,
    /// The proxy in front says who the client is, in a PROXY header (v1 or v2) that each connection
    /// begins with: required (else the connection is closed) or optional
    /// [default: none; required with --proxy-protocol-from]
    #[arg(long, value_name = "required|optional", env = "GWPROXY_PROXY_PROTOCOL", hide_env = true,
        value_parser = want_parser())]
    proxy_protocol: Option<Want>,
    /// Networks whose PROXY headers are believed (repeat or use commas); others connect without one
    /// [default: everyone's]
    #[arg(
        long,
        value_name = "CIDR",
        env = "GWPROXY_PROXY_PROTOCOL_FROM",
        hide_env = true,
        value_delimiter = ','
    )]
    proxy_protocol_from: Vec<Network>,
}

/// The side of the nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct NodeFlags {
    #[command(flatten)]
    pub(super) balance: BalanceFlags,
    /// Circuit breaker: opens when this share of calls failed; 50 is 50%, and in full
    /// 50%,window=10s,min=20,open=5s: of the last 10s, from 20 calls on, for 5s; also
    /// consecutive=N, probes=N [default: none]
    #[arg(long, value_name = "BREAKER", env = "GWPROXY_BREAKER", hide_env = true)]
    pub(super) breaker: Option<BreakerSettings>,
    /// Circuit breaker of each node, written as --breaker: while a node's is open, the others get
    /// its work [default: none]
    #[arg(long, value_name = "BREAKER", env = "GWPROXY_NODE_BREAKER", hide_env = true)]
    pub(super) node_breaker: Option<BreakerSettings>,
    /// Passive health: leave a node out after so many failures in a row, or for doing worse than
    /// the others; in full 5,gateway=3,eject=30s,max_eject=5m,share=10%,interval=10s,stdev=1.9,
    /// failures=85%,latency=3,min_nodes=5,min_calls=100 [default: never]
    #[arg(long, value_name = "OUTLIERS", env = "GWPROXY_OUTLIERS", hide_env = true)]
    pub(super) outliers: Option<OutlierSettings>,
    /// Ask nodes whether they are well: a path as /healthz, tcp, tls, grpc or grpc:SERVICE; for example
    /// /healthz,interval=5s,timeout=2s,rise=2,fall=3 [default: never]
    #[arg(long, value_name = "CHECK", env = "GWPROXY_HEALTH", hide_env = true)]
    pub(super) health: Option<HealthSettings>,
    /// The Host that nodes see: preserve (the client's), node (the node's own) or a name
    /// [default: preserve]
    #[arg(long, value_name = "HOST", env = "GWPROXY_UPSTREAM_HOST", hide_env = true)]
    pub(super) upstream_host: Option<HostPolicy>,
    /// Trust these authorities (PEM) for TLS to nodes, instead of the system's
    #[arg(long, value_name = "FILE", env = "GWPROXY_UPSTREAM_CA", hide_env = true)]
    upstream_ca: Option<PathBuf>,
    /// The name to ask for and to look for in the certificates of nodes [default: the node's host]
    #[arg(long, value_name = "NAME", env = "GWPROXY_UPSTREAM_SERVER_NAME", hide_env = true)]
    upstream_server_name: Option<TlsName>,
    /// DANGER: take any certificate from nodes; whoever is in between can read and change all
    #[arg(long, env = "GWPROXY_UPSTREAM_DANGER_SKIP_VERIFY", hide_env = true,
        value_parser = switch)]
    upstream_danger_skip_verify: bool,
    /// Tell nodes who the client is, in a PROXY header before everything else; every request then
    /// has a connection of its own [default: no header]
    #[arg(long, value_name = "v1|v2", env = "GWPROXY_SEND_PROXY", hide_env = true,
        value_parser = version_parser())]
    pub(super) send_proxy: Option<ProxyVersion>,
}

/// Timeouts towards nodes and destinations.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct TimeoutFlags {
    /// Wait so long for the first byte of a response; 0s: no limit [default: 15s; gRPC: no limit]
    #[arg(long, value_name = "TIME", env = "GWPROXY_TIMEOUT", hide_env = true)]
    timeout: Option<Span>,
    /// Wait so long for a connection, TLS included [default: 2s]
    #[arg(long, value_name = "TIME", env = "GWPROXY_CONNECT_TIMEOUT", hide_env = true)]
    connect_timeout: Option<Span>,
}

/// A flag without a value; in the environment it needs one.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither yes nor no; write `true` or `false`")),
    }
}

/// A number of something that there must be one of.
fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not a number from 1 up; write it in digits, for example `10000`")
    })
}

/// A number of something that there may be none of.
fn any_count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not a number; write it in digits, for example `512`, or `0` for any")
    })
}

/// Proxies in front.
fn hops(text: &str) -> Result<u8, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a number of proxies; write one from 0 to 255"))
}

/// A TCP port.
pub(super) fn port(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not a port; write a number from 1 to 65535, and several with commas \
             (`443,8443`)"
        )
    })
}

fn format_parser() -> impl TypedValueParser<Value = AccessLogFormat> {
    PossibleValuesParser::new(["json", "combined"]).map(|name| match name.as_str() {
        "combined" => AccessLogFormat::Combined,
        _ => AccessLogFormat::Json,
    })
}

pub(super) fn ambiguous_parser() -> impl TypedValueParser<Value = Ambiguous> {
    PossibleValuesParser::new(["keep", "refuse"]).map(|name| match name.as_str() {
        "keep" => Ambiguous::Keep,
        _ => Ambiguous::Refuse,
    })
}

fn auth_parser() -> impl TypedValueParser<Value = ClientAuth> {
    PossibleValuesParser::new(["required", "optional"]).map(|name| match name.as_str() {
        "optional" => ClientAuth::Optional,
        _ => ClientAuth::Required,
    })
}

fn want_parser() -> impl TypedValueParser<Value = Want> {
    PossibleValuesParser::new(["required", "optional"]).map(|name| match name.as_str() {
        "optional" => Want::Optional,
        _ => Want::Required,
    })
}

fn version_parser() -> impl TypedValueParser<Value = ProxyVersion> {
    PossibleValuesParser::new(ProxyVersion::ALL.map(ProxyVersion::as_str)).map(|name| {
        match name.as_str() {
            "v1" => ProxyVersion::V1,
            _ => ProxyVersion::V2,
        }
    })
}

fn level_parser() -> impl TypedValueParser<Value = LogLevel> {
    PossibleValuesParser::new(LogLevel::ALL.map(LogLevel::as_str)).map(|name| {
        let level = LogLevel::ALL.into_iter().find(|level| level.as_str() == name);
        level.unwrap_or_default()
    })
}

impl ProcessFlags {
    /// Whether the admin address was given.
    pub(super) fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// Puts what was given over what the plan has.
    pub(super) fn apply(self, plan: &mut Plan) {
        fn put<T>(place: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *place = given;
            }
        }
        put(&mut plan.workers, self.workers.map(Workers::get));
        put(&mut plan.access_log.sink, self.access_log);
        put(&mut plan.access_log.format, self.access_log_format);
        put(&mut plan.log, self.log.level);
        put(&mut plan.admin, self.admin.map(Some));
        put(&mut plan.trusted_proxies.hops, self.trusted_hops);
        put(&mut plan.grace, self.grace.map(Duration::from));
        put(&mut plan.memory_limit, self.memory_limit);
        if !self.trusted_proxies.is_empty() {
            plan.trusted_proxies.networks =
                self.trusted_proxies.into_iter().map(|net| net.0).collect();
        }
    }
}

impl ListenFlags {
    pub(super) fn tls(&self) -> Result<Option<TlsFront>, Wrong> {
        if self.tls_cert.len() != self.tls_key.len() {
            let (more, less) = if self.tls_cert.len() > self.tls_key.len() {
                ("--tls-cert", "--tls-key")
            } else {
                ("--tls-key", "--tls-cert")
            };
            return Err(Wrong(format!("each {more} needs its {less}: a certificate and its key")));
        }
        let given = !self.tls_cert.is_empty();
        if given && self.tls_dev {
            return Err(Wrong(
                "--tls-dev brings its own certificate; take out --tls-cert and --tls-key or it"
                    .into(),
            ));
        }
        if !given && !self.tls_dev {
            if self.client_ca.is_some() || self.client_auth.is_some() {
                return Err(Wrong(
                    "--client-ca and --client-auth: client certificates need TLS in front; add \
                     --tls-cert and --tls-key, or --tls-dev"
                        .into(),
                ));
            }
            return Ok(None);
        }
        if self.client_auth.is_some() && self.client_ca.is_none() {
            return Err(Wrong(
                "--client-auth needs --client-ca, the file of the authorities that sign client \
                 certificates"
                    .into(),
            ));
        }
        let pairs = self.tls_cert.iter().zip(&self.tls_key);
        Ok(Some(TlsFront {
            dev: self.tls_dev,
            settings: ServerSettings {
                certificates: pairs
                    .map(|(cert, key)| CertificatePair { cert: cert.clone(), key: key.clone() })
                    .collect(),
                client_ca: self.client_ca.clone(),
                client_auth: self.client_auth,
                min_version: None,
            },
        }))
    }
}

impl FrontFlags {
    pub(super) fn proxy_protocol(&self) -> Result<Option<ProxyProtocol>, Wrong> {
        if self.proxy_protocol.is_none() && self.proxy_protocol_from.is_empty() {
            return Ok(None);
        }
        let from = self.proxy_protocol_from.iter().map(|net| net.0).collect();
        let one = ProxyProtocol { from, want: self.proxy_protocol.unwrap_or_default() };
        match check_proxied(&one, &self.listen.listen) {
            Ok(()) => Ok(Some(one)),
            Err(sentence) => Err(Wrong(format!("--proxy-protocol: {sentence}"))),
        }
    }
}

impl NodeFlags {
    pub(super) fn tls(&self) -> Result<ClientSettings, Wrong> {
        let settings = ClientSettings {
            ca: self.upstream_ca.clone(),
            danger_skip_verify: self.upstream_danger_skip_verify,
            server_name: self.upstream_server_name.clone(),
            certificate: None,
            min_version: None,
        };
        settings.check().map_err(|_| {
            Wrong(
                "--upstream-ca says whom to trust and --upstream-danger-skip-verify to trust \
                 everyone; keep one of the two"
                    .into(),
            )
        })?;
        Ok(settings)
    }

    /// The first flag given that is about TLS to nodes.
    pub(super) fn first_of_tls(&self) -> Option<&'static str> {
        [
            (self.upstream_ca.is_some(), "--upstream-ca"),
            (self.upstream_server_name.is_some(), "--upstream-server-name"),
            (self.upstream_danger_skip_verify, "--upstream-danger-skip-verify"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }

    /// The first flag given, which a forward proxy has no use for.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        [
            (self.breaker.is_some(), "--breaker"),
            (self.node_breaker.is_some(), "--node-breaker"),
            (self.outliers.is_some(), "--outliers"),
            (self.health.is_some(), "--health"),
            (self.upstream_host.is_some(), "--upstream-host"),
            (self.send_proxy.is_some(), "--send-proxy"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
        .or_else(|| self.balance.first_given())
        .or_else(|| self.first_of_tls())
    }
}

impl TimeoutFlags {
    pub(super) fn timeouts(&self) -> UpstreamTimeouts {
        let usual = UpstreamTimeouts::default();
        UpstreamTimeouts {
            connect: self.connect_timeout.map_or(usual.connect, Duration::from),
            response: self.timeout.map(Duration::from),
            ..usual
        }
    }
}
