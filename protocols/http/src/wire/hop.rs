//! Hop-by-hop fields (RFC 9110 §7.6.1): stripped before anything is forwarded, over *all*
//! `Connection` lines, and before the proxy adds fields of its own.

use http::header::{HOST, TE, TRAILER};
use http::{HeaderName, HeaderValue};

use crate::Fields;
use crate::fields::{AsName, Known, Seen, Value};

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

/// The comma-separated items of all lines of a field, trimmed, without empty ones.
pub fn items(headers: &Fields, name: impl AsName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).map(Value::as_bytes);
    let items = lines.flat_map(|line| line.split(|byte| *byte == b','));
    items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// The [`items`] that are text. What is not hides none that stands beside it.
pub fn tokens(headers: &Fields, name: impl AsName) -> impl Iterator<Item = &str> {
    items(headers, name).filter_map(|token| std::str::from_utf8(token).ok())
}

/// Whether a field's list has `token`, case-insensitively.
pub fn has_token(headers: &Fields, name: Known, token: &str) -> bool {
    let is = |item: &[u8]| item.eq_ignore_ascii_case(token.as_bytes());
    match headers.sole(name) {
        Ok(None) => false,
        // One line with one word, as in nearly every message that has the field.
        Ok(Some(line)) if memchr::memchr(b',', line.as_bytes()).is_none() => is(line.as_bytes()),
        _ => items(headers, name).any(is),
    }
}

/// Refuses `Connection` lines that name fields of the message itself.
///
/// # Errors
/// The rest of a sentence for the client.
pub fn check_connection(headers: &Fields) -> Result<(), &'static str> {
    if !headers.seen().has(Seen::CONNECTION) {
        return Ok(());
    }
    let forbidden =
        |token: &str| NEVER_NOMINATED.iter().any(|name| token.eq_ignore_ascii_case(name));
    if tokens(headers, Known::CONNECTION).any(forbidden) {
        return Err("Connection names a field that is not hop-by-hop");
    }
    Ok(())
}

/// Whether a name has a `_`, which CGI and its kin take for a `-`: `X_Real_IP` would be read as the
/// `X-Real-IP` that only a proxy may set (D24).
pub fn has_underscore(headers: &Fields) -> bool {
    headers.have(b'_') && headers.names().any(|name| name.as_bytes().contains(&b'_'))
}

/// The fields that the `Connection` lines name, for the head and for the trailer section; without
/// those that are hop-by-hop whether named or not.
pub fn nominated(headers: &Fields) -> Vec<HeaderName> {
    let is_known =
        |token: &[u8]| token.eq_ignore_ascii_case(b"close") || Seen::HOP_BY_HOP.names(token);
    if matches!(headers.sole(Known::CONNECTION), Ok(Some(line)) if is_known(line.as_bytes())) {
        // As in nearly every message: one line, one word.
        return Vec::new();
    }
    items(headers, Known::CONNECTION)
        .filter(|token| !is_known(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != HOST)
        .collect()
}

/// Removes every hop-by-hop field. `TE: trailers` is kept as the one thing it may say, because the
/// proxy carries trailers on every leg.
pub fn strip(headers: &mut Fields) {
    let seen = headers.seen();
    if !seen.has(Seen::HOP_BY_HOP) {
        return;
    }
    let wants_trailers = seen.has(Seen::TE) && has_token(headers, Known::TE, "trailers");
    if seen.has(Seen::CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    headers.remove_known(Seen::HOP_BY_HOP);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// [`strip`] for a response, which has no `TE` and no proxy's authentication.
pub fn strip_response(headers: &mut Fields) {
    strip(headers);
    headers.remove_known(Seen::TE.and(Seen::PROXY_AUTHENTICATION));
}

/// Removes from a trailer section what must not be there (RFC 9110 §6.5.1): fields of framing,
/// routing, authentication, and those the head's `Connection` named ([`nominated`]).
pub fn strip_trailers(trailers: &mut Fields, nominated: &[HeaderName]) {
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
    use crate::fields::Name;

    fn map(fields: &[(&str, &str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// P02.
    #[test]
    fn p02_no_hop_by_hop_field_crosses() {
        for name in [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
            "proxy-authentication-info",
        ] {
            for name in [name.to_owned(), name.to_uppercase()] {
                let mut headers = map(&[(&name, "x"), ("x-kept", "1")]);
                strip_response(&mut headers);
                assert_eq!(headers.names().map(Name::as_str).collect::<Vec<_>>(), ["x-kept"]);
            }
        }
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
        assert_eq!(headers.get("x-three").unwrap(), "3");
    }

    /// P02.
    #[test]
    fn te_keeps_trailers_alone() {
        let mut headers = map(&[("te", "gzip;q=0.5, trailers"), ("connection", "te")]);
        strip(&mut headers);
        assert_eq!(headers.get("te").unwrap(), "trailers");
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
