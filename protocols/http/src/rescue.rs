//! The one place where an error becomes an HTTP response.

use bytes::Bytes;
use gwproxy_core::telemetry::json;
use gwproxy_core::{Code, Error};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE, RETRY_AFTER,
};
use http::{HeaderValue, StatusCode};

use crate::Response;
use crate::body::Body;
use crate::h1::head::Reject;
use crate::reverse::PSEUDONYM;

/// RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The intermediary's own rules said no (RFC 9209 §2.3).
const HTTP_REQUEST_DENIED: &str = "http_request_denied";

/// Makes the response a client of this protocol understands out of an error.
pub trait Rescue: std::fmt::Debug {
    /// The response to a request that failed with `error`. What it needs to know of the request
    /// it was made with.
    fn answer(&self, error: &Error) -> Response;
}

/// HTTP: a status, `application/problem+json` (RFC 9457) and `Proxy-Status` (RFC 9209).
#[derive(Debug, Clone, Copy, Default)]
pub struct Problem {
    /// Also tell the client the human sentence, which names nodes. Default: only the log does.
    pub verbose: bool,
}

impl Rescue for Problem {
    fn answer(&self, error: &Error) -> Response {
        // What is wrong with its own bytes is no secret to the client, nor is which service it has to
        // wait for.
        let tells =
            self.verbose || matches!(error.code(), Code::BreakerOpen | Code::ClientMalformed);
        let detail = tells.then_some(error.sentence());
        let proxy_error = proxy_error_of(error.code());
        let mut response = problem(status_of(error.code()), error.code(), proxy_error, detail);
        if let Some(wait) = error.retry_after() {
            // Never 0: that invites the client to try again at once (RFC 9110 §10.2.3).
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.code() == Code::ProxyAuthRequired {
            let challenge = HeaderValue::from_static("Basic realm=\"gwproxy\", charset=\"UTF-8\"");
            response.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
        }
        response
    }
}

impl Problem {
    /// The response to a request that a rule denied for what it says: no address was judged, so
    /// that the error type is the general one (RFC 9209 §2.3).
    pub fn deny(self, error: &Error) -> Response {
        let detail = self.verbose.then_some(error.sentence());
        problem(status_of(error.code()), error.code(), HTTP_REQUEST_DENIED, detail)
    }
}

/// The status for a code.
pub const fn status_of(code: Code) -> StatusCode {
    match code {
        // nginx's 499, for the log: nobody is there to read it. RFC 9110 has no such status.
        Code::ClientClosed | Code::ClientMalformed | Code::ProxyHeader => StatusCode::BAD_REQUEST,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::DestinationDenied => StatusCode::FORBIDDEN,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::LoopDetected => StatusCode::LOOP_DETECTED,
        Code::ProxyAuthRequired => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::RouteNotFound => StatusCode::NOT_FOUND,
        Code::UpstreamConnectTimeout | Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::UpstreamMalformed
        | Code::UpstreamRefused
        | Code::UpstreamReset
        | Code::UpstreamTls
        | Code::UpstreamUnresolved
        | Code::UpstreamUnsupported => StatusCode::BAD_GATEWAY,
        Code::BreakerOpen | Code::Draining | Code::NoHealthyNode | Code::Overloaded => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// A short title: the same for every occurrence of a code (RFC 9457 §3.1.3).
pub const fn title_of(code: Code) -> &'static str {
    match code {
        Code::BodyTooLarge => "The request's content is larger than this proxy takes.",
        Code::BreakerOpen => "The service is failing; it is given time to recover.",
        Code::ClientClosed => "The client closed the connection.",
        Code::ClientMalformed => "The request is not valid.",
        Code::ClientTimeout => "The request did not arrive in time.",
        Code::DestinationDenied => "This destination is not allowed.",
        Code::Draining => "The proxy is shutting down.",
        Code::Internal => "The proxy failed.",
        Code::LoopDetected => "The request came back to the proxy that sent it.",
        Code::NoHealthyNode => "No node of the service is available.",
        Code::Overloaded => "The proxy is at its limit.",
        Code::ProxyAuthRequired => "The proxy wants credentials.",
        Code::ProxyHeader => "The PROXY header is missing or not valid.",
        Code::RateLimited => "Too many requests.",
        Code::RouteNotFound => "No route takes this host and path.",
        Code::UpstreamConnectTimeout => "The service took no connection in time.",
        Code::UpstreamMalformed => "The service's answer is not valid.",
        Code::UpstreamRefused => "The service refused the connection.",
        Code::UpstreamReset => "The service broke off.",
        Code::UpstreamTimeout => "The service did not answer in time.",
        Code::UpstreamTls => "TLS to the service failed.",
        Code::UpstreamUnresolved => "The service's name does not resolve.",
        Code::UpstreamUnsupported => "The service does not speak what was asked for.",
    }
}

/// The error type of RFC 9209 §2.3 for a code.
const fn proxy_error_of(code: Code) -> &'static str {
    match code {
        // Nobody reads this one; §2.3.7 is what an origin would have said.
        Code::BodyTooLarge
        | Code::ClientClosed
        | Code::ClientMalformed
        | Code::ClientTimeout
        | Code::ProxyHeader => "http_request_error",
        Code::DestinationDenied => "destination_ip_prohibited",
        // Of connections to nodes, `connection_limit_reached` would say.
        Code::Internal | Code::Overloaded => "proxy_internal_error",
        Code::LoopDetected => "proxy_loop_detected",
        Code::BreakerOpen | Code::NoHealthyNode => "destination_unavailable",
        Code::Draining => "connection_limit_reached",
        Code::ProxyAuthRequired | Code::RateLimited | Code::RouteNotFound => HTTP_REQUEST_DENIED,
        Code::UpstreamConnectTimeout => "connection_timeout",
        Code::UpstreamMalformed => "http_protocol_error",
        Code::UpstreamRefused => "connection_refused",
        Code::UpstreamReset => "connection_terminated",
        Code::UpstreamTimeout => "http_response_timeout",
        Code::UpstreamTls => "tls_protocol_error",
        Code::UpstreamUnresolved => "dns_error",
        Code::UpstreamUnsupported => "http_upgrade_failed",
    }
}

/// The answer to a head that never became a request; the connection closes after it.
pub fn rejected(reject: &Reject) -> Response {
    let code = reject.error().code();
    // What was wrong with its own bytes is no secret to the client.
    let mut response = problem(reject.status, code, proxy_error_of(code), Some(reject.reason));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer of a handler that panicked; the connection closes after it.
#[cold]
pub(crate) fn failed() -> Response {
    let mut response = Problem::default().answer(&Error::new(Code::Internal, "a bug"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn problem(
    status: StatusCode,
    code: Code,
    proxy_error: &'static str,
    detail: Option<&str>,
) -> Response {
    let mut body = Vec::with_capacity(160);
    body.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
    json::push_str(&mut body, title_of(code).as_bytes());
    body.extend_from_slice(
        format!(",\"status\":{},\"code\":\"{code}\"", status.as_u16()).as_bytes(),
    );
    if let Some(detail) = detail {
        body.extend_from_slice(b",\"detail\":");
        json::push_str(&mut body, detail.as_bytes());
    }
    body.extend_from_slice(b"}\n");
    let mut response = Response::new(Body::full(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let proxy_status = format!("{PSEUDONYM}; error={proxy_error}");
    if let Ok(value) = HeaderValue::from_str(&proxy_status) {
        headers.insert(PROXY_STATUS, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_code_has_a_status_and_a_stable_body() {
        for code in Code::ALL {
            let error = Error::new(code, "secret node 10.0.0.1");
            let response = Problem { verbose: false }.answer(&error);
            assert!(response.status().as_u16() >= 400, "{code}");
            assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
            let text = format!("{:?}", response.body());
            assert!(text.contains(code.as_str()), "{text}");
            // An open breaker names what it stands before, and no node.
            let tells = matches!(code, Code::BreakerOpen | Code::ClientMalformed);
            assert_eq!(text.contains("10.0.0.1"), tells, "{text}");
        }
    }

    /// P58, RFC 9209 §2: our name as a token, and an error type of the registry (§2.3).
    #[test]
    fn p58_every_error_has_its_proxy_status() {
        const TYPES: [&str; 15] = [
            "connection_limit_reached",
            "connection_refused",
            "connection_terminated",
            "connection_timeout",
            "destination_ip_prohibited",
            "destination_unavailable",
            "dns_error",
            "http_protocol_error",
            "http_request_denied",
            "http_request_error",
            "http_response_timeout",
            "http_upgrade_failed",
            "proxy_internal_error",
            "proxy_loop_detected",
            "tls_protocol_error",
        ];
        for code in Code::ALL {
            let response = Problem::default().answer(&Error::new(code, "x"));
            let value = response.headers().get("proxy-status").unwrap().to_str().unwrap();
            let error = value.strip_prefix("gwproxy; error=").unwrap();
            assert!(TYPES.contains(&error), "{code}: {value}");
        }
        let reject = Reject { status: StatusCode::URI_TOO_LONG, reason: "x" };
        assert_eq!(
            rejected(&reject).headers().get("proxy-status").unwrap(),
            "gwproxy; error=http_request_error"
        );
    }

    #[test]
    fn retry_after_is_never_zero() {
        let error = Error::new(Code::BreakerOpen, "x").retry_in(Duration::from_millis(1));
        let response = Problem::default().answer(&error);
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    }
}
