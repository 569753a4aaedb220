//! The one error of the data path: what went wrong, whose fault it is, and whether another try
//! is safe. It becomes a status, a close code or a reset at exactly one place per protocol.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A boxed cause, kept for the log.
pub type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// Stable names for everything the proxy itself can answer. The string form
/// ([`Code::as_str`]) is part of the public contract: logs, metrics and
/// `application/problem+json` bodies carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request's content is larger than it may be.
    BodyTooLarge,
    /// The circuit breaker of the service or node is open.
    BreakerOpen,
    /// The client went away before the exchange was over.
    ClientClosed,
    /// The client sent something that breaks the protocol.
    ClientMalformed,
    /// The client did not finish its request head or body in time.
    ClientTimeout,
    /// The destination address or host is not allowed (forward proxy).
    DestinationDenied,
    /// The proxy is shutting down and takes no new work.
    Draining,
    /// A fault of the proxy itself (a panic, a broken invariant).
    Internal,
    /// A request came back to the proxy that sent it.
    LoopDetected,
    /// No node of the service may be used now (all unhealthy, disabled or already tried).
    NoHealthyNode,
    /// A limit on concurrent work is reached.
    Overloaded,
    /// Proxy credentials are missing or wrong (forward proxy).
    ProxyAuthRequired,
    /// The PROXY header that a listener wants is missing, malformed or late.
    ProxyHeader,
    /// A rate limit refused the request.
    RateLimited,
    /// No route takes this host and path.
    RouteNotFound,
    /// The node did not accept a connection in time.
    UpstreamConnectTimeout,
    /// The node's answer breaks the protocol.
    UpstreamMalformed,
    /// The node refused the connection, or the network did.
    UpstreamRefused,
    /// The node closed or reset the connection during the exchange.
    UpstreamReset,
    /// The node did not answer in time.
    UpstreamTimeout,
    /// TLS to the node failed (certificate, name, version).
    UpstreamTls,
    /// The node's name does not resolve.
    UpstreamUnresolved,
    /// The node does not speak what was asked for.
    UpstreamUnsupported,
}

/// Who caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client.
    Downstream,
    /// The proxy or its configuration.
    Proxy,
    /// The node.
    Upstream,
}

impl Code {
    /// Every code, in alphabetical order.
    pub const ALL: [Self; 23] = [
        Self::BodyTooLarge,
        Self::BreakerOpen,
        Self::ClientClosed,
        Self::ClientMalformed,
        Self::ClientTimeout,
        Self::DestinationDenied,
        Self::Draining,
        Self::Internal,
        Self::LoopDetected,
        Self::NoHealthyNode,
        Self::Overloaded,
        Self::ProxyAuthRequired,
        Self::ProxyHeader,
        Self::RateLimited,
        Self::RouteNotFound,
        Self::UpstreamConnectTimeout,
        Self::UpstreamMalformed,
        Self::UpstreamRefused,
        Self::UpstreamReset,
        Self::UpstreamTimeout,
        Self::UpstreamTls,
        Self::UpstreamUnresolved,
        Self::UpstreamUnsupported,
    ];

    /// The stable name, as in logs and problem bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body_too_large",
            Self::BreakerOpen => "breaker_open",
            Self::ClientClosed => "client_closed",
            Self::ClientMalformed => "client_malformed",
            Self::ClientTimeout => "client_timeout",
            Self::DestinationDenied => "destination_denied",
            Self::Draining => "draining",
            Self::Internal => "internal",
            Self::LoopDetected => "loop_detected",
            Self::NoHealthyNode => "no_healthy_node",
            Self::Overloaded => "overloaded",
            Self::ProxyAuthRequired => "proxy_auth_required",
            Self::ProxyHeader => "proxy_header",
            Self::RateLimited => "rate_limited",
            Self::RouteNotFound => "route_not_found",
            Self::UpstreamConnectTimeout => "upstream_connect_timeout",
            Self::UpstreamMalformed => "upstream_malformed",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamUnresolved => "upstream_unresolved",
            Self::UpstreamUnsupported => "upstream_unsupported",
        }
    }

    /// Who caused it.
    pub const fn blame(self) -> Blame {
        match self {
            Self::BodyTooLarge
            | Self::ClientClosed
            | Self::ClientMalformed
            | Self::ClientTimeout
            | Self::DestinationDenied
            | Self::LoopDetected
            | Self::ProxyAuthRequired
            | Self::ProxyHeader
            | Self::RateLimited
            | Self::RouteNotFound => Blame::Downstream,
            Self::Draining | Self::Internal | Self::Overloaded => Blame::Proxy,
            Self::BreakerOpen
            | Self::NoHealthyNode
            | Self::UpstreamConnectTimeout
            | Self::UpstreamMalformed
            | Self::UpstreamRefused
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::UpstreamTls
            | Self::UpstreamUnresolved
            | Self::UpstreamUnsupported => Blame::Upstream,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of the data path. `Display` is one human sentence: what, where, and why if known.
#[derive(Debug)]
pub struct Error {
    code: Code,
    sentence: Cow<'static, str>,
    unsent: bool,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
    node: Option<Arc<str>>,
}

impl Error {
    /// A new error with the sentence a human reads.
    pub fn new(code: Code, sentence: impl Into<Cow<'static, str>>) -> Self {
        let sentence = sentence.into();
        Self { code, sentence, unsent: false, retry_after: None, cause: None, node: None }
    }

    /// Keeps what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Marks that no byte of the request reached the node, so that any request may be tried
    /// again elsewhere (RFC 9110 §9.2.2).
    #[must_use]
    pub fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// Says when another try makes sense (an open breaker, a spent limit).
    #[must_use]
    pub fn retry_in(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says which node it happened at, unless that is known.
    #[must_use]
    pub fn at(mut self, node: Option<Arc<str>>) -> Self {
        self.node = self.node.or(node);
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The human sentence without its cause.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Whether provably no byte of the request reached the node.
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// The name of the node it happened at, if one was tried.
    pub fn node(&self) -> Option<&Arc<str>> {
        self.node.as_ref()
    }

    /// How long to wait before another try, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_sorted() {
        let names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }
}
