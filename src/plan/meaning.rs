//! Which setting means something where: one table for flags and files, so that nothing is accepted
//! and then ignored.

use gwproxy_core::key::By;
use gwproxy_core::limit::{Counted, LimitSettings, Limits};

use super::Protocol;

/// A setting that does not mean something everywhere it could be written.
#[derive(Debug)]
pub struct Setting {
    /// The long flag, without its dashes; none: no command has it.
    pub flag: Option<&'static str>,
    /// The list of the file it stands in, and the keys that lead to it there; none: it is not of
    /// one listener or service.
    pub key: Option<(Section, &'static [&'static str])>,
    /// Where it means something.
    means: &'static [Use],
    /// Why it means nothing elsewhere, and what does: the second half of a sentence.
    instead: &'static str,
}

/// A list of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `listeners`.
    Listeners,
    /// `services`.
    Services,
}

/// What a listener is for. A service is [`Use::Serve`] of its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A forward proxy that speaks this.
    Forward(Protocol),
    /// Everything to one service; also what a service's nodes speak.
    Serve(Protocol),
    /// By routes.
    Route(Protocol),
}

use Protocol::{Grpc, Http, Tcp, Ws};
use Use::{Forward, Route, Serve};

/// Whatever has requests.
const REQUESTS: &[Use] = &[
    Forward(Http),
    Forward(Ws),
    Serve(Grpc),
    Serve(Http),
    Serve(Ws),
    Route(Grpc),
    Route(Http),
    Route(Ws),
];
/// Whatever may speak HTTP/1 with its clients.
const HTTP_1: &[Use] =
    &[Forward(Http), Forward(Ws), Serve(Http), Serve(Ws), Route(Http), Route(Ws)];

const fn listener(
    flag: Option<&'static str>,
    key: &'static [&'static str],
    means: &'static [Use],
    instead: &'static str,
) -> Setting {
    Setting { flag, key: Some((Section::Listeners, key)), means, instead }
}

const fn service(
    flag: Option<&'static str>,
    key: &'static [&'static str],
    means: &'static [Use],
    instead: &'static str,
) -> Setting {
    Setting { flag, key: Some((Section::Services, key)), means, instead }
}

const fn process(flag: &'static str, means: &'static [Use], instead: &'static str) -> Setting {
    Setting { flag: Some(flag), key: None, means, instead }
}

/// TCP has no requests.
const NO_REQUESTS: &str =
    "TCP has no requests and responses; its times are the idle timeout and the connect timeout";

/// The table. What is not in it means something everywhere.
pub const SETTINGS: &[Setting] = &[
    listener(
        None,
        &["encoded_slash"],
        &[Route(Grpc), Route(Http), Route(Ws)],
        "only `routes` look at paths; everywhere else they pass as they came",
    ),
    listener(
        Some("half-close"),
        &["half_close"],
        REQUESTS,
        "a tcp listener always passes a half-close on",
    ),
    listener(
        Some("idle-timeout"),
        &["timeouts", "idle"],
        &[Forward(Http), Forward(Ws), Serve(Http), Serve(Tcp), Serve(Ws), Route(Http), Route(Ws)],
        "a gRPC call may be silent until its deadline, which a service's `grpc: {max_deadline}` \
         bounds",
    ),
    listener(
        Some("max-body-size"),
        &["max_body_size"],
        &[Forward(Http), Serve(Grpc), Serve(Http), Route(Grpc), Route(Http)],
        "only requests of HTTP and gRPC have bodies; a WebSocket's messages have `max_message`",
    ),
    listener(None, &["timeouts", "body"], REQUESTS, NO_REQUESTS),
    listener(None, &["timeouts", "header"], REQUESTS, NO_REQUESTS),
    listener(None, &["timeouts", "keep_alive"], REQUESTS, NO_REQUESTS),
    listener(None, &["timeouts", "max_age"], REQUESTS, NO_REQUESTS),
    listener(
        Some("underscores"),
        &["underscores"],
        &[Serve(Http), Serve(Ws), Route(Http), Route(Ws)],
        "only HTTP and WebSocket to nodes of yours refuse field names with `_`",
    ),
    listener(None, &["websocket"], HTTP_1, "no WebSocket passes there"),
    process("trusted-hops", REQUESTS, "TCP has no X-Forwarded-For; the client is who connects"),
    process("trusted-proxy", REQUESTS, "TCP has no X-Forwarded-For; the client is who connects"),
    service(None, &["grpc"], &[Serve(Grpc), Serve(Http)], "no gRPC call passes there"),
    service(
        Some("sticky"),
        &["load_balancer", "sticky"],
        REQUESTS,
        "TCP has no cookies; `ip_hash` keeps a client on its node",
    ),
    service(Some("timeout"), &["timeouts", "response"], REQUESTS, NO_REQUESTS),
    service(
        Some("upstream-host"),
        &["upstream_host"],
        REQUESTS,
        "TCP has no Host; for TLS to nodes the name is `--upstream-server-name` \
         (`tls: {server_name}` in a file)",
    ),
];

impl Setting {
    /// Refuses the setting, written as `name`, where it means nothing.
    ///
    /// # Errors
    /// A sentence that says what applies instead.
    pub fn check(&self, name: &str, there: Use) -> Result<(), String> {
        if self.means.contains(&there) {
            return Ok(());
        }
        let place = match there {
            Serve(protocol) if self.means.contains(&Route(protocol)) => {
                "beside `service`".to_owned()
            }
            Forward(_) => "for a forward proxy".to_owned(),
            Serve(protocol) | Route(protocol) => format!("for {protocol}"),
        };
        Err(format!("{name} means nothing {place}: {}", self.instead))
    }
}

/// Where a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOf {
    /// At a listener that is a forward proxy.
    Forward,
    /// At another listener.
    Listener,
    /// At a route or a service.
    Behind,
}

/// Refuses a limit that counts what connections of this protocol have not, or by it.
///
/// # Errors
/// A sentence that says what applies instead.
pub fn check_limit(
    limit: &LimitSettings,
    protocol: Protocol,
    place: LimitOf,
) -> Result<(), String> {
    let of_request = |by: &By| !matches!(by, By::Connection | By::Global | By::Ip);
    match (protocol, limit.of) {
        (_, Counted::Messages) if place == LimitOf::Forward => {
            return Err("`of=messages` means nothing for a forward proxy: what passes between a \
                        client and its destination is not looked into"
                .into());
        }
        (Tcp, Counted::Messages) => {
            return Err("`of=messages` means nothing for tcp: it has bytes, not messages".into());
        }
        (_, Counted::Messages | Counted::Requests) => {}
        (_, of) if place == LimitOf::Behind => {
            return Err(format!(
                "`of={of}` belongs to a listener: connections are there before a route is known"
            ));
        }
        (_, of) if limit.by.iter().any(of_request) => {
            return Err(format!(
                "`by={}` means nothing for `of={of}`: a connection is there before its requests; \
                 count by `ip`, `connection` or `global`",
                limit.by
            ));
        }
        _ => {}
    }
    if protocol == Tcp && limit.by.iter().any(of_request) {
        return Err(format!(
            "`by={}` means nothing for tcp: a TCP connection has no requests; count by `ip` or \
             `global`",
            limit.by
        ));
    }
    Ok(())
}

/// [`check_limit`] of each.
///
/// # Errors
/// As it; the first.
pub fn check_limits(limits: &Limits, protocol: Protocol, place: LimitOf) -> Result<(), String> {
    limits.iter().try_for_each(|limit| check_limit(limit, protocol, place))
}
