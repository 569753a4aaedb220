//! The one-liners: `http`, `ws`, `tcp` and `grpc`, flags to plan.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gwproxy_core::limit::{LIMITS_MAX, Limits};
use gwproxy_core::units::{MemoryLimit, Size, Span};

use super::flags::{FrontFlags, NodeFlags, ProcessFlags, TimeoutFlags, ambiguous_parser};
use super::forward::ForwardFlags;
use super::target;
use super::{EXIT_USAGE, Invocation, Output, Wrong};
use crate::config;
use crate::plan::meaning::{self, LimitOf};
use crate::plan::{
    AccessLog, Action, Ambiguous, GRACE, GrpcSettings, HalfClose, Listener, ListenerTimeouts,
    LogLevel, Plan, Protocol, Service, ServiceId, Source, Trusted, WebSocket, check_subset,
    default_workers,
};

/// Proxy HTTP: HTTP/1.1 and HTTP/2, with WebSocket and gRPC passing through
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Reverse proxy to one node:
    gwproxy http --listen :8080 --to http://localhost:3000
  Behind TLS, with a development certificate:
    gwproxy http --listen :8443 --tls-dev --to http://localhost:3000
  Two nodes, three of four requests to the first:
    gwproxy http --to http://10.0.0.1:9000=3 --to http://10.0.0.2:9000=1 \\
      --balance weighted_round_robin
  Nodes that are asked every few seconds, a limit for each client, a breaker:
    gwproxy http --to http://a:9000 --to http://b:9000 --health /healthz \\
      --limit 100/s,burst=50,by=ip --breaker 50%,window=10s,min=20,open=5s
  HTTP/2 without TLS to the node:
    gwproxy http --to h2c://localhost:9000
  A forward proxy for this machine (HTTPS through CONNECT):
    gwproxy http --listen 127.0.0.1:3128 --forward
  A forward proxy for others, who must log in:
    gwproxy http --listen :3128 --forward --user \"ann:$(gwproxy hash-password)\" \\
      --allow '*.example.com'
  The file that means the same:
    gwproxy http --to http://localhost:3000 --print-config > gateway.yaml")]
pub(super) struct HttpArgs {
    #[command(flatten)]
    shared: SharedArgs,
    #[command(flatten)]
    forward: ForwardFlags,
    /// A node: http://, https:// or h2c://HOST:PORT, or unix:/path (repeat or use commas);
    /// WEIGHT is its share beside the others, 0 to 65535 [default: 1]; behind it ,priority=1 for a
    /// spare, ,zone=NAME and ,metadata.KEY=VALUE
    #[arg(
        long,
        value_name = "URL[=WEIGHT]",
        env = "GWPROXY_TO",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Nodes",
        display_order = 0
    )]
    to: Vec<String>,
    /// A client that ends its sending direction while its request is under way is gone (abort), or
    /// waits for the answer (allow), as `nc -N` does; nothing tells these apart before the answer
    /// is sent. HTTP/1.0 and `Connection: close` are answered either way [default: abort]
    #[arg(
        long,
        value_name = "abort|allow",
        env = "GWPROXY_HALF_CLOSE",
        hide_env = true,
        help_heading = "Listener",
        value_parser = half_close_parser()
    )]
    half_close: Option<HalfClose>,
    /// Requests with `_` in the name of a field, which some servers take for `-`: keep or refuse
    /// [default: refuse]
    #[arg(long, value_name = "WHAT", env = "GWPROXY_UNDERSCORES", hide_env = true,
        value_parser = ambiguous_parser(), help_heading = "Listener")]
    underscores: Option<Ambiguous>,
    /// The largest body of a request, 413 above it; 0 takes any [default: 10MiB; 0 with --forward and
    /// for gRPC calls]
    #[arg(
        long,
        value_name = "SIZE",
        env = "GWPROXY_MAX_BODY_SIZE",
        hide_env = true,
        help_heading = "Listener"
    )]
    max_body_size: Option<Size>,
}

/// Proxy WebSocket only; anything else gets 426
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  To one node:
    gwproxy ws --listen :8080 --to ws://localhost:9001
  To nodes behind TLS, pinging both sides every 20 seconds:
    gwproxy ws --to wss://chat1.example.com --to wss://chat2.example.com --ping 20s
  wss:// for clients, ws:// to the node:
    gwproxy ws --listen :8443 --tls-cert server.pem --tls-key server.key --to ws://localhost:9001
  Let WebSocket clients reach other hosts through this proxy:
    gwproxy ws --listen 127.0.0.1:3128 --forward --allow '*.example.com'")]
pub(super) struct WsArgs {
    #[command(flatten)]
    shared: SharedArgs,
    #[command(flatten)]
    forward: ForwardFlags,
    /// A node: ws://, wss://, http:// or https://HOST:PORT (repeat or use commas);
    /// WEIGHT is its share beside the others, 0 to 65535 [default: 1]; behind it ,priority=1 for a
    /// spare, ,zone=NAME and ,metadata.KEY=VALUE
    #[arg(
        long,
        value_name = "URL[=WEIGHT]",
        env = "GWPROXY_TO",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Nodes",
        display_order = 0
    )]
    to: Vec<String>,
    /// Ping a side that was silent for so long; no answer for 30s, or --idle-timeout if shorter:
    /// closed with 1011; 0s never pings [default: 30s]
    #[arg(
        long,
        value_name = "TIME",
        env = "GWPROXY_PING",
        hide_env = true,
        help_heading = "Listener"
    )]
    ping: Option<Span>,
    /// The largest message, over all its frames; 0 takes any [default: 16MiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "GWPROXY_MAX_MESSAGE",
        hide_env = true,
        help_heading = "Listener"
    )]
    max_message: Option<Size>,
}

/// Proxy raw TCP
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  To one node:
    gwproxy tcp --listen :5433 --to localhost:5432
  A node and a spare:
    gwproxy tcp --listen :5433 --to db1:5432 --to db2:5432 --balance first --health tcp
  TLS for clients, plain TCP to the node:
    gwproxy tcp --listen :6380 --tls-cert server.pem --tls-key server.key --to localhost:6379
  Plain TCP for clients, TLS to the node:
    gwproxy tcp --listen 127.0.0.1:6380 --to tls://redis.example.com:6379")]
pub(super) struct TcpArgs {
    #[command(flatten)]
    shared: SharedArgs,
    /// A node: HOST:PORT, tcp:// or tls://HOST:PORT, or unix:/path (repeat or use commas);
    /// WEIGHT is its share beside the others, 0 to 65535 [default: 1]; behind it ,priority=1 for a
    /// spare, ,zone=NAME and ,metadata.KEY=VALUE
    #[arg(
        long,
        value_name = "HOST:PORT[=WEIGHT]",
        env = "GWPROXY_TO",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Nodes",
        display_order = 0
    )]
    to: Vec<String>,
}

/// Proxy gRPC, any service, all four kinds of calls
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  To one node:
    gwproxy grpc --listen :50050 --to localhost:50051
  Over TLS on both sides:
    gwproxy grpc --listen :443 --tls-cert server.pem --tls-key server.key \\
      --to grpcs://rpc.example.com:443
  Calls spread over nodes by how busy they are:
    gwproxy grpc --to a:50051 --to b:50051 --balance least_connections")]
pub(super) struct GrpcArgs {
    #[command(flatten)]
    shared: SharedArgs,
    /// A node: HOST:PORT, grpc://, grpcs://, h2c://, http:// or https://HOST:PORT (repeat or use commas);
    /// WEIGHT is its share beside the others, 0 to 65535 [default: 1]; behind it ,priority=1 for a
    /// spare, ,zone=NAME and ,metadata.KEY=VALUE
    #[arg(
        long,
        value_name = "HOST:PORT[=WEIGHT]",
        env = "GWPROXY_TO",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Nodes",
        display_order = 0
    )]
    to: Vec<String>,
    /// The most that all messages of a call may have, RESOURCE_EXHAUSTED
    /// above it; 0 takes any [default: 0]
    #[arg(
        long,
        value_name = "SIZE",
        env = "GWPROXY_MAX_BODY_SIZE",
        hide_env = true,
        help_heading = "Listener"
    )]
    max_body_size: Option<Size>,
}

/// What all four have.
#[derive(Debug, Args)]
struct SharedArgs {
    #[command(flatten)]
    front: FrontFlags,
    #[command(flatten)]
    nodes: NodeFlags,
    #[command(flatten)]
    timeouts: TimeoutFlags,
    #[command(flatten)]
    process: ProcessFlags,
}

/// What a listener has that only some commands have flags for.
#[derive(Debug, Default)]
struct Own {
    half_close: HalfClose,
    websocket: WebSocket,
    underscores: Ambiguous,
    max_body_size: Option<Size>,
}

impl HttpArgs {
    pub(super) fn invocation(self) -> Result<Invocation, Wrong> {
        let own = Own {
            underscores: self.underscores.unwrap_or_default(),
            half_close: self.half_close.unwrap_or_default(),
            max_body_size: self.max_body_size,
            ..Own::default()
        };
        self.shared.invocation(Protocol::Http, &self.to, Some(&self.forward), own)
    }
}

impl WsArgs {
    pub(super) fn invocation(self) -> Result<Invocation, Wrong> {
        let usual = WebSocket::default();
        let websocket = WebSocket {
            ping: self.ping.map_or(usual.ping, |ping| (!ping.is_zero()).then_some(ping.get())),
            max_message: self.max_message.unwrap_or(usual.max_message),
        };
        let own = Own { websocket, ..Own::default() };
        self.shared.invocation(Protocol::Ws, &self.to, Some(&self.forward), own)
    }
}

impl TcpArgs {
    pub(super) fn invocation(self) -> Result<Invocation, Wrong> {
        self.shared.invocation(Protocol::Tcp, &self.to, None, Own::default())
    }
}

impl GrpcArgs {
    pub(super) fn invocation(self) -> Result<Invocation, Wrong> {
        let own = Own { max_body_size: self.max_body_size, ..Own::default() };
        self.shared.invocation(Protocol::Grpc, &self.to, None, own)
    }
}

impl SharedArgs {
    fn invocation(
        self,
        protocol: Protocol,
        to: &[String],
        forward: Option<&ForwardFlags>,
        own: Own,
    ) -> Result<Invocation, Wrong> {
        let print = self.process.print_config;
        let plan = self.plan(protocol, to, forward, own)?;
        Ok(if print {
            printed(&plan)
        } else {
            Invocation::Serve(Box::new(plan), Source::default())
        })
    }

    fn limits(&self, protocol: Protocol, forward: bool) -> Result<Option<Limits>, Wrong> {
        let limits = &self.front.limit;
        if limits.len() > LIMITS_MAX {
            return Err(Wrong(format!("--limit: at most {LIMITS_MAX} of them")));
        }
        let place = if forward { LimitOf::Forward } else { LimitOf::Listener };
        for limit in limits {
            meaning::check_limit(limit, protocol, place)
                .map_err(|sentence| Wrong(format!("--limit: {sentence}")))?;
        }
        Ok(Limits::new(limits.clone()))
    }

    fn plan(
        self,
        protocol: Protocol,
        to: &[String],
        forward: Option<&ForwardFlags>,
        own: Own,
    ) -> Result<Plan, Wrong> {
        let (action, services) = self.action(protocol, to, forward)?;
        let limits = self.limits(protocol, matches!(action, Action::Forward(_)))?;
        let usual = ListenerTimeouts::default();
        let front = &self.front;
        let listener = Listener {
            name: protocol.as_str().into(),
            bind: front.listen.listen.clone(),
            protocol,
            action,
            tls: front.listen.tls()?,
            proxy_protocol: front.proxy_protocol()?,
            max_connections: front
                .max_connections
                .map_or(Listener::MAX_CONNECTIONS, std::num::NonZero::get),
            max_connections_per_ip: front.max_connections_per_ip,
            limiter: limits,
            timeouts: ListenerTimeouts {
                idle: front.idle_timeout.map_or(usual.idle, Duration::from),
                ..usual
            },
            half_close: own.half_close,
            encoded_slash: Ambiguous::default(),
            underscores: own.underscores,
            max_body_size: own.max_body_size,
            websocket: own.websocket,
        };
        let mut plan = Plan {
            workers: default_workers(),
            listeners: vec![listener],
            routes: Vec::new(),
            services,
            admin: None,
            access_log: AccessLog::default(),
            log: LogLevel::default(),
            grace: GRACE,
            memory_limit: MemoryLimit::default(),
            trusted_proxies: Trusted::default(),
        };
        self.process.apply(&mut plan);
        Ok(plan)
    }

    fn action(
        &self,
        protocol: Protocol,
        to: &[String],
        forward: Option<&ForwardFlags>,
    ) -> Result<(Action, Vec<Service>), Wrong> {
        let asked = forward.filter(|flags| flags.forward);
        match (asked, to.is_empty()) {
            (Some(_), false) => Err(Wrong(format!(
                "--forward and --to exclude each other: with --to every client gets to {}, with \
                 --forward the client says where to",
                if to.len() == 1 { "that node" } else { "those nodes" }
            ))),
            (None, true) => Err(Wrong(format!(
                "where to? Give nodes with --to (as `gwproxy {protocol} --to {}`){}",
                example(protocol),
                if forward.is_some() { ", or let clients say it with --forward" } else { "" }
            ))),
            (Some(flags), true) => {
                let timeouts = self.timeouts.timeouts();
                let rules = flags.rules(&self.front.listen.listen, &self.nodes, timeouts)?;
                Ok((Action::Forward(Box::new(rules)), Vec::new()))
            }
            (None, false) => {
                if let Some(flag) = forward.and_then(ForwardFlags::first_given) {
                    return Err(Wrong(format!(
                        "{flag} is for forward proxies (--forward); with --to the nodes are known"
                    )));
                }
                Ok((Action::Serve(ServiceId(0)), vec![self.service(protocol, to)?]))
            }
        }
    }

    fn service(&self, protocol: Protocol, to: &[String]) -> Result<Service, Wrong> {
        let nodes = target::nodes(to, protocol)?;
        let load_balancer = self.nodes.balance.load_balancer(protocol, &nodes)?;
        let service = Service {
            id: "upstream".into(),
            protocol,
            nodes,
            load_balancer,
            subset: self.nodes.balance.subset(),
            health_check: self.nodes.health.clone(),
            breaker: self.nodes.breaker.clone(),
            node_breaker: self.nodes.node_breaker.clone(),
            outlier_detection: self.nodes.outliers.clone(),
            limiter: None,
            timeouts: self.timeouts.timeouts(),
            grpc: GrpcSettings::default(),
            tls: self.nodes.tls()?,
            proxy_protocol: self.nodes.send_proxy,
            upstream_host: self.nodes.upstream_host.clone().unwrap_or_default(),
            max_attempts: Service::MAX_ATTEMPTS,
        };
        check_subset(&service, &service.subset).map_err(|_| {
            Wrong("--subset: no node has this metadata; write --to URL,metadata.KEY=VALUE".into())
        })?;
        if let (Some(flag), Err(sentence)) = (self.nodes.first_of_tls(), service.check_tls()) {
            return Err(Wrong(format!("{flag} {sentence}")));
        }
        service.check().map_err(|_| {
            Wrong("--to: every node has the weight 0, which sends nothing; give one more".into())
        })?;
        Ok(service)
    }
}

/// The file that means the plan.
pub(super) fn printed(plan: &Plan) -> Invocation {
    Invocation::Done(match config::print(plan) {
        Ok(yaml) => Output::said(yaml),
        Err(sentence) => Output::failed(EXIT_USAGE, &sentence),
    })
}

fn half_close_parser() -> impl TypedValueParser<Value = HalfClose> {
    PossibleValuesParser::new(HalfClose::ALL.map(HalfClose::as_str)).map(|name| {
        let value = HalfClose::ALL.into_iter().find(|value| value.as_str() == name);
        value.unwrap_or_default()
    })
}

const fn example(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "localhost:50051",
        Protocol::Http => "http://localhost:3000",
        Protocol::Tcp => "localhost:5432",
        Protocol::Ws => "ws://localhost:9001",
    }
}
