//! Hop-by-hop fields: what a Connection line names does not go on.

use gwproxy_http::Fields;
use gwproxy_http::wire::hop;
use http::HeaderName;

use super::fields_of;

/// What never crosses a proxy (RFC 9110 §7.6.1), `TE` apart.
const NEVER: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "http2-settings",
];

/// The fields that all Connection lines list, read on their own.
fn listed(fields: &Fields) -> Vec<HeaderName> {
    let lines = fields.get_all("connection");
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Not the name of a field, and never will be (RFC 9110 §18.4).
        .filter(|name| *name != "close")
        .collect()
}

/// Each name once.
fn names(fields: &Fields) -> Vec<HeaderName> {
    http::HeaderMap::from(fields).keys().cloned().collect()
}

/// Nothing listed survives, nothing hop-by-hop does, nothing else goes, and once is enough.
pub(super) fn hop_by_hop(data: &[u8]) {
    let given = fields_of(data);
    let listed = listed(&given);
    let kept = |name: &HeaderName| {
        !NEVER.contains(&name.as_str())
            && *name != "te"
            && (*name == "host" || !listed.contains(name))
    };

    let mut request = given.clone();
    hop::strip(&mut request);
    for name in names(&given).iter().filter(|name| **name != "te") {
        assert_eq!(request.contains_key(name), kept(name), "{name}");
        let count = |fields: &Fields| fields.get_all(name).count();
        assert!(!kept(name) || count(&request) == count(&given), "a line of {name} is lost");
    }
    assert!(request.get_all("te").all(|value| value == "trailers"));
    assert!(request.get_all("te").count() <= 1);
    assert!(!request.contains_key("te") || given.contains_key("te"));
    let once = request.clone();
    hop::strip(&mut request);
    assert_eq!(request, once);

    let mut response = given.clone();
    hop::strip_response(&mut response);
    let proxys = ["proxy-authenticate", "proxy-authentication-info"];
    for name in &names(&given) {
        let is_kept = kept(name) && !proxys.contains(&name.as_str());
        assert_eq!(response.contains_key(name), is_kept, "{name} of a response");
    }

    let mut trailers = given.clone();
    hop::strip_trailers(&mut trailers, &hop::nominated(&given));
    let framing = ["content-length", "host", "authorization", "cookie", "content-type", "trailer"];
    for name in &names(&trailers) {
        assert!(kept(name) && !framing.contains(&name.as_str()), "{name} in trailers");
    }

    let names_message = listed.iter().any(|name| {
        let own = ["host", "content-length", "transfer-encoding", "authorization", "cookie"];
        own.contains(&name.as_str()) || ["content-type", "expect"].contains(&name.as_str())
    });
    assert_eq!(hop::check_connection(&given).is_err(), names_message);
}
