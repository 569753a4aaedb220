//! Hop-by-hop fields (RFC 9110 §7.6.1): stripped before anything is forwarded, over *all*
//! `Connection` lines, and before the proxy adds fields of its own.

use http::header::{
    CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that never cross the proxy, listed or not (RFC 9110 §7.6.1). `TE` may come back for the
/// one thing that it may say.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields by which a proxy and its client get to know each other (RFC 9110 §11.7): in a response
/// they are for the client of the proxy that asked, and that is this one.
static PROXY_AUTHENTICATION: [HeaderName; 2] =
    [PROXY_AUTHENTICATE, HeaderName::from_static("proxy-authentication-info")];

/// Which of the fields a message has that decide about it and its connection: one look at each
/// name, where most messages have hardly any of them and a look into the map costs more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen(u16);

impl Seen {
    pub(crate) const CONNECTION: Self = Self(1);
    const TE: Self = Self(1 << 5);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 6);
    pub(crate) const UPGRADE: Self = Self(1 << 7);
    const HOP_BY_HOP: Self = Self(0xff);
    const PROXY_AUTHENTICATION: Self = Self(0x300);
    pub(crate) const EXPECT: Self = Self(1 << 10);
    pub(crate) const VIA: Self = Self(1 << 11);
    pub(crate) const CONTENT_LENGTH: Self = Self(1 << 12);
    /// A challenge, of a server or of a proxy (RFC 9110 §11.3).
    pub(crate) const CHALLENGE: Self = Self(1 << 8 | 1 << 13);

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |seen, name| seen | Self::bit(name)))
    }

    pub(crate) fn note(&mut self, name: &HeaderName) {
        self.0 |= Self::bit(name);
    }

    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// A match on text compiles to a look at its length first, which settles it for most. The
    /// numbers are places in [`HOP_BY_HOP`], then in [`PROXY_AUTHENTICATION`].
    fn bit(name: &HeaderName) -> u16 {
        let place = match name.as_str() {
            "connection" => 0,
            "http2-settings" => 1,
            "keep-alive" => 2,
            "proxy-authorization" => 3,
            "proxy-connection" => 4,
            "te" => 5,
            "transfer-encoding" => 6,
            "upgrade" => 7,
            "proxy-authenticate" => 8,
            "proxy-authentication-info" => 9,
            "expect" => 10,
            "via" => 11,
            "content-length" => 12,
            "www-authenticate" => 13,
            _ => return 0,
        };
        1 << place
    }
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
    // Nearly no message has the field, and an iterator over nothing costs more than this look.
    headers.contains_key(name) && tokens(headers, name).any(|each| each.eq_ignore_ascii_case(token))
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

/// The fields that the `Connection` lines name, for the head and for the trailer section; without
/// those that are hop-by-hop whether named or not.
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_known = |token: &[u8]| {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        is("keep-alive") || is("close") || HOP_BY_HOP.iter().any(|name| is(name.as_str()))
    };
    let mut lines = headers.get_all(CONNECTION).iter();
    if lines.all(|line| is_known(line.as_bytes())) {
        // As in nearly every message: one line, one word.
        return Vec::new();
    }
    tokens(headers, &CONNECTION)
        .filter(|token| !is_known(token.as_bytes()))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != HOST)
        .collect()
}

/// Removes every hop-by-hop field. `TE: trailers` is kept as the one thing it may say, because the
/// proxy carries trailers on every leg.
pub fn strip(headers: &mut HeaderMap) {
    strip_seen(headers, Seen::of(headers));
}

/// [`strip`] for a head that was looked at.
pub(crate) fn strip_seen(headers: &mut HeaderMap, seen: Seen) {
    if !seen.has(Seen::HOP_BY_HOP) {
        return;
    }
    let wants_trailers = seen.has(Seen::TE) && has_token(headers, &TE, "trailers");
    if seen.has(Seen::CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    remove_seen(headers, seen, &HOP_BY_HOP, 0);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// [`strip`] for a response, which has no `TE` and no proxy's authentication.
pub fn strip_response(headers: &mut HeaderMap) {
    let seen = Seen::of(headers);
    strip_seen(headers, seen);
    if seen.has(Seen::TE) {
        headers.remove(TE);
    }
    if seen.has(Seen::PROXY_AUTHENTICATION) {
        remove_seen(headers, seen, &PROXY_AUTHENTICATION, HOP_BY_HOP.len());
    }
}

fn remove_seen(headers: &mut HeaderMap, seen: Seen, names: &[HeaderName], first: usize) {
    for (place, name) in (first..).zip(names) {
        if seen.has(Seen(1 << place)) {
            headers.remove(name);
        }
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

    /// P02: the places of the names and their bits are the same.
    #[test]
    fn p02_every_hop_by_hop_field_is_found_by_its_place() {
        for (place, name) in HOP_BY_HOP.iter().chain(&PROXY_AUTHENTICATION).enumerate() {
            assert_eq!(Seen::bit(name), 1 << place, "{name}");
            let mut headers = map(&[(name.as_str(), "x"), ("x-kept", "1")]);
            strip_response(&mut headers);
            assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
        }
        assert!(Seen::of(&map(&[("via", "1.1 a")])).has(Seen::VIA));
        assert!(Seen::of(&map(&[("expect", "x")])).has(Seen::EXPECT));
        for (name, seen) in [
            ("connection", Seen::CONNECTION),
            ("www-authenticate", Seen(1 << 13)),
            ("content-length", Seen::CONTENT_LENGTH),
            ("te", Seen::TE),
            ("transfer-encoding", Seen::TRANSFER_ENCODING),
            ("upgrade", Seen::UPGRADE),
        ] {
            assert_eq!(Seen::of(&map(&[(name, "x")])), seen, "{name}");
        }
        assert_eq!(Seen::of(&map(&[("host", "a"), ("x-via", "b")])), Seen::default());
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

    /// P02.
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
