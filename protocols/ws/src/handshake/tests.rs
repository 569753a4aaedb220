//! RFC 6455 §4 (P62): what a handshake needs, on both sides.

use gwproxy_http::{Body, Request, Response};
use http::HeaderValue;

use super::*;

const KEY_OF_THE_RFC: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT_OF_THE_RFC: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The client's handshake of RFC 6455 §1.2.
fn request() -> RequestParts {
    let request = http::Request::get("/chat")
        .header("host", "server.example.com")
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-key", KEY_OF_THE_RFC)
        .header("origin", "http://example.com")
        .header("sec-websocket-protocol", "chat, superchat")
        .header("sec-websocket-version", "13");
    Request::from(request.body(Body::empty()).unwrap()).into_parts().0
}

/// The server's, with fields of the caller's.
fn response(fields: &[(&str, &str)]) -> ResponseParts {
    let mut response = http::Response::builder().status(101);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    Response::from(response.body(Body::empty()).unwrap()).into_parts().0
}

const GOOD: [(&str, &str); 3] = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-accept", ACCEPT_OF_THE_RFC),
];

#[test]
fn p62_the_example_of_the_rfc_passes() {
    assert_eq!(accept(KEY_OF_THE_RFC.as_bytes()), ACCEPT_OF_THE_RFC);
    assert_eq!(check_request(&request()), Ok(()));
    let mut fields = GOOD.to_vec();
    fields.push(("sec-websocket-protocol", "chat"));
    check_response(&request(), &response(&fields)).unwrap();
}

#[test]
fn tokens_are_found_over_all_lines_and_in_any_case() {
    let mut request = request();
    request.headers.insert("upgrade", "WebSocket".parse::<HeaderValue>().unwrap());
    request.headers.insert("connection", "keep-alive".parse::<HeaderValue>().unwrap());
    request.headers.append("connection", "foo , upgrade".parse::<HeaderValue>().unwrap());
    assert_eq!(check_request(&request), Ok(()));
    // The key with stray bits that RFC 6455 §4.1 itself shows.
    request
        .headers
        .insert("sec-websocket-key", "AQIDBAUGBwgJCgsMDQ4PEC==".parse::<HeaderValue>().unwrap());
    assert_eq!(check_request(&request), Ok(()));
}

#[test]
fn p62_each_flaw_of_a_request_has_its_reason() {
    let without = |name: &'static str| {
        let mut request = request();
        request.headers.remove(name);
        check_request(&request)
    };
    let with = |name: &'static str, values: &[&str]| {
        let mut request = request();
        request.headers.remove(name);
        for value in values {
            request.headers.append(name, value.parse::<HeaderValue>().unwrap());
        }
        check_request(&request)
    };
    assert_eq!(without("upgrade"), Err(Reject::NoUpgrade));
    assert_eq!(without("host"), Err(Reject::Host));
    assert_eq!(without("connection"), Err(Reject::ConnectionToken));
    assert_eq!(without("sec-websocket-key"), Err(Reject::Key));
    assert_eq!(without("sec-websocket-version"), Err(Reject::WebSocketVersion));
    assert_eq!(with("upgrade", &["h2c"]), Err(Reject::OtherUpgrade));
    assert_eq!(with("connection", &["keep-alive"]), Err(Reject::ConnectionToken));
    assert_eq!(with("sec-websocket-version", &["8"]), Err(Reject::WebSocketVersion));
    assert_eq!(with("sec-websocket-version", &["13", "13"]), Err(Reject::WebSocketVersion));
    assert_eq!(with("sec-websocket-key", &["short"]), Err(Reject::Key));
    assert_eq!(with("sec-websocket-key", &["AAAA"]), Err(Reject::Key));
    assert_eq!(with("sec-websocket-key", &[KEY_OF_THE_RFC; 2]), Err(Reject::Key));
    assert_eq!(with("content-length", &["5"]), Err(Reject::Body));
    assert_eq!(with("content-length", &["0"]), Ok(()));
    assert_eq!(with("transfer-encoding", &["chunked"]), Err(Reject::Body));

    let mut post = request();
    post.method = Method::POST;
    assert_eq!(check_request(&post), Err(Reject::Method));
    for version in [Version::HTTP_09, Version::HTTP_10] {
        let mut other = request();
        other.version = version;
        assert_eq!(check_request(&other), Err(Reject::HttpVersion));
    }
}

#[test]
fn p62_rejects_carry_the_fields_that_their_status_requires() {
    for reject in Reject::ALL {
        let names: Vec<_> = reject.fields().iter().map(|(name, _)| name.as_str()).collect();
        match reject.status().as_u16() {
            405 => assert_eq!(names, ["allow"]),
            426 => assert!(names.contains(&"upgrade")),
            400 | 505 => assert!(names.is_empty()),
            status => panic!("{reject:?}: {status}"),
        }
    }
    let version = Reject::WebSocketVersion.fields().first().unwrap();
    assert_eq!((version.0.as_str(), version.1), ("sec-websocket-version", "13"));
}

#[test]
fn p62_an_upstream_that_did_not_read_the_key_is_refused() {
    let check = |fields: &[(&str, &str)]| {
        let error = check_response(&request(), &response(fields)).unwrap_err();
        assert_eq!(error.code(), Code::UpstreamMalformed);
        error.sentence().to_owned()
    };
    let [upgrade, connection, accept] = GOOD;
    assert!(check(&[connection, accept]).contains("not WebSocket"));
    assert!(check(&[("upgrade", "h2c"), connection, accept]).contains("not WebSocket"));
    assert!(check(&[upgrade, accept]).contains("Connection"));
    assert!(check(&[upgrade, connection]).contains("Accept"));
    let other = ("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert!(check(&[upgrade, connection, other]).contains("Accept"));
    assert!(check(&[upgrade, connection, accept, other]).contains("Accept"));
}

#[test]
fn p62_nothing_is_agreed_that_was_not_offered() {
    let check = |offer: Option<&str>, more: &[(&str, &str)]| {
        let mut request = request();
        if let Some(offer) = offer {
            request
                .headers
                .append("sec-websocket-extensions", offer.parse::<HeaderValue>().unwrap());
        }
        let fields = [&GOOD, more].concat();
        check_response(&request, &response(&fields))
    };
    let protocol = "sec-websocket-protocol";
    check(None, &[(protocol, "superchat")]).unwrap();
    check(None, &[(protocol, "Chat")]).unwrap_err();
    check(None, &[(protocol, "mqtt")]).unwrap_err();
    check(None, &[(protocol, "chat"), (protocol, "superchat")]).unwrap_err();

    let chosen = ("sec-websocket-extensions", "permessage-deflate; server_no_context_takeover");
    check(None, &[chosen]).unwrap_err();
    check(Some("bbf-usp-protocol"), &[chosen]).unwrap_err();
    check(Some("foo, permessage-deflate; client_max_window_bits"), &[chosen]).unwrap();
    assert!(has_extensions(&response(&[chosen])));
    assert!(!has_extensions(&response(&GOOD)));
}
