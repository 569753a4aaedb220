//! Hop-by-hop fields (RFC 9110 §7.6.1): stripped before anything is forwarded, over *all*
//! `Connection` lines, and before the proxy adds fields of its own.

use http::header::{
    CONNECTION, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that never cross the proxy, listed or not. `TE` is handled apart: `trailers` may pass.
static HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
];

/// Fields by which a proxy and its client get to know each other (RFC 9110 §11.7): in a response
/// they are for the client of the proxy that asked, and that is this one.
const PROXY_AUTHENTICATION: [&str; 2] = ["proxy-authenticate", "proxy-authentication-info"];

/// Whether there is anything to strip for a name. A match on text compiles to a look at its length
/// first, which settles it for most.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields that a `Connection` line must not name: a client could make the proxy drop what a
/// backend relies on (CVE-2022-31813 and its kin).
const NEVER_NOMINATED: [&str; 7] = [
    "host",
    "content-length",
    "transfer-encoding",
    "authorization",
    "cookie",
    "content-type",
    "expect",
];

/// The comma-separated tokens of all lines of a field, trimmed, without empty ones. What is not
/// text is no token, and hides none that stands beside it.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| std::str::from_utf8(token).ok())
        .map(|token| token.trim_matches([' ', '\t']))
        .filter(|token| !token.is_empty())
}

/// Whether a field's list has `token`, case-insensitively.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|each| each.eq_ignore_ascii_case(token))
}

/// Refuses `Connection` lines that name fields of the message itself.
///
/// # Errors
/// The rest of a sentence for the client.
pub fn check_connection(headers: &HeaderMap) -> Result<(), &'static str> {
    if !headers.contains_key(CONNECTION) {
        return Ok(());
    }
    let forbidden =
        |token: &str| NEVER_NOMINATED.iter().any(|name| token.eq_ignore_ascii_case(name));
    if tokens(headers, &CONNECTION).any(forbidden) {
        return Err("Connection names a field that is not hop-by-hop");
    }
    Ok(())
}

/// Whether a name has a `_`, which CGI and its kin take for a `-`: `X_Real_IP` would be read as the
/// `X-Real-IP` that only a proxy may set (D24).
pub fn has_underscore(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().as_bytes().contains(&b'_'))
}

/// The fields that the `Connection` lines name, for the head and for the trailer section.
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    if !headers.contains_key(CONNECTION) {
        return Vec::new();
    }
    tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != HOST)
        .collect()
}

/// Removes every hop-by-hop field. `TE: trailers` is kept as the one thing it may say, because the
/// proxy carries trailers on every leg.
pub fn strip(headers: &mut HeaderMap) {
    // Most messages have none of them.
    if headers.keys().any(is_hop_by_hop) {
        strip_some(headers);
    }
}

fn strip_some(headers: &mut HeaderMap) {
    let wants_trailers = headers.contains_key(TE) && has_token(headers, &TE, "trailers");
    for name in nominated(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    // A `Connection` line may have named TE: what it wanted was read before.
    if wants_trailers || headers.contains_key(TE) {
        headers.remove(TE);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// [`strip`] for a response, which has no `TE` and no proxy's authentication.
pub fn strip_response(headers: &mut HeaderMap) {
    let is_proxys = |name: &HeaderName| PROXY_AUTHENTICATION.contains(&name.as_str());
    if !headers.keys().any(|name| is_hop_by_hop(name) || is_proxys(name)) {
        return;
    }
    strip_some(headers);
    headers.remove(TE);
    for name in PROXY_AUTHENTICATION {
        headers.remove(name);
    }
}

/// Removes from a trailer section what must not be there (RFC 9110 §6.5.1): fields of framing,
/// routing, authentication, and those the head's `Connection` named ([`nominated`]).
pub fn strip_trailers(trailers: &mut HeaderMap, nominated: &[HeaderName]) {
    strip(trailers);
    for name in nominated {
        trailers.remove(name);
    }
    for name in NEVER_NOMINATED {
        trailers.remove(name);
    }
    trailers.remove(TE);
    trailers.remove(TRAILER);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// P01, RFC 9110 §7.6.1.
    #[test]
    fn names_in_every_connection_line_are_stripped() {
        let mut headers = map(&[
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ]);
        strip(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-three"], "3");
    }

    #[test]
    fn te_keeps_trailers_alone() {
        let mut headers = map(&[("te", "gzip;q=0.5, trailers"), ("connection", "te")]);
        strip(&mut headers);
        assert_eq!(headers["te"], "trailers");
        let mut headers = map(&[("te", "gzip")]);
        strip(&mut headers);
        assert!(headers.is_empty());
    }

    /// T36.
    #[test]
    fn message_fields_cannot_be_nominated() {
        assert!(check_connection(&map(&[("connection", "close, Cookie")])).is_err());
        assert!(check_connection(&map(&[("connection", "a"), ("connection", "HOST")])).is_err());
        assert!(check_connection(&map(&[("connection", "TE, keep-alive")])).is_ok());
    }

    /// P14.
    #[test]
    fn trailers_cannot_carry_framing_or_credentials() {
        let mut trailers = map(&[
            ("content-length", "5"),
            ("authorization", "x"),
            ("x-sum", "1"),
            ("trailer", "x"),
            ("x-hop", "1"),
        ]);
        let head = map(&[("connection", "close"), ("connection", "X-Hop")]);
        strip_trailers(&mut trailers, &nominated(&head));
        assert_eq!(trailers.len(), 1);
        assert!(trailers.contains_key("x-sum"));
    }
}
