//! How much content a request may have (D11), and what becomes of more.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::support::h2::{H2, H2Response, request};
use crate::support::{Conn, Message, Origin, Proxy, echo};

const QUIET: [&str; 2] = ["--access-log", "off"];
/// The limit of these tests, in bytes.
const MAX: usize = 1000;

const METHOD: &str = "/gwproxy.echo.v1.Echo/ClientStream";

/// Lengths of the bodies that came whole.
type Whole = Arc<Mutex<Vec<usize>>>;

/// Answers every whole request.
fn counting() -> (Origin, Whole) {
    let whole = Whole::default();
    let seen = Arc::clone(&whole);
    let origin = Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            seen.lock().expect("nobody panics with it").push(request.body.len());
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (origin, whole)
}

fn of_length(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
}

/// Two chunks; `end` is what follows them.
fn chunked(length: usize, end: &str) -> String {
    let (one, two) = (length / 2, length - length / 2);
    let (first, second) = ("x".repeat(one), "x".repeat(two));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{one:x}\r\n{first}\r\n{two:x}\r\n{second}\r\n{end}")
}

fn over_http2(
    proxy: &Proxy,
    path: &str,
    length: usize,
    fields: &[(&str, &str)],
    ends: bool,
) -> H2Response {
    let mut client = H2::open(proxy.addr(0));
    let mut open = client.begin(request("POST", path, fields), false);
    open.upload.send_data(Bytes::from(vec![b'x'; length]), ends).expect("sent");
    client.finish(open).expect("a response")
}

#[track_caller]
fn assert_too_large(response: &Message) {
    assert_eq!(response.status(), 413, "{}", response.text());
    assert_eq!(response.fields.get("proxy-status"), Some("gwproxy; error=http_request_error"));
    assert_eq!(response.json()["code"], "body_too_large");
}

/// T27, D11: at and below the limit a body passes, whether its length is known or not; above it
/// the answer is 413 and no node ever has a whole body. Where the length is known, none sees
/// anything at all.
#[test]
fn t27_content_above_its_limit_is_a_413() {
    let (origin, whole) = counting();
    let (h2_node, flags) = (echo("http", &[]), ["--max-body-size", "1000", "--access-log", "off"]);
    let h2c = format!("h2c://{}", h2_node.addr(0));
    let (proxy, to_h2) = (Proxy::http(&origin.url(), &flags), Proxy::http(&h2c, &flags));
    let length = |length: usize| length.to_string();

    let refused = Conn::open(proxy.addr(0)).ask(of_length(MAX + 1));
    assert_too_large(&refused);
    let refused = Conn::open(proxy.addr(0)).ask(of_length(MAX).replacen("1000", "100000", 1));
    assert_too_large(&refused);
    assert_eq!(refused.fields.get("connection"), Some("close"), "the rest of it is not awaited");
    let expecting =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n";
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(expecting).head().status(), 413, "and not 100");
    let refused = over_http2(&proxy, "/", 0, &[("content-length", &length(MAX + 1))], false);
    assert_eq!((refused.status, &refused.json()["code"]), (413, &"body_too_large".into()));
    assert_eq!(origin.connections(), 0, "the node sees nothing of it");

    for to in [&proxy, &to_h2] {
        for size in [MAX - 1, MAX] {
            assert_eq!(Conn::open(to.addr(0)).ask(of_length(size)).status(), 200);
            assert_eq!(Conn::open(to.addr(0)).ask(chunked(size, "0\r\n\r\n")).status(), 200);
            let known = [("content-length", &*length(size))];
            assert_eq!(over_http2(to, "/", size, &known, true).status, 200);
            assert_eq!(over_http2(to, "/", size, &[], true).status, 200);
        }
        for end in ["", "0\r\n\r\n"] {
            assert_too_large(&Conn::open(to.addr(0)).ask(chunked(MAX + 1, end)));
        }
        for ends in [false, true] {
            let refused = over_http2(to, "/", MAX + 1, &[], ends);
            assert_eq!((refused.status, &refused.json()["code"]), (413, &"body_too_large".into()));
        }
    }
    let whole = whole.lock().expect("nobody panics with it");
    assert_eq!(*whole, [[MAX - 1; 4], [MAX; 4]].concat());
}

/// T27: where the response has begun before the body is too large, it is cut off for both sides.
#[test]
fn t27_content_above_its_limit_cuts_a_response_that_has_begun() {
    let origin = Origin::start(|peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
            peer.wait_end();
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--max-body-size", "1000"]);
    let mut conn = Conn::open(proxy.addr(0));
    let upload = chunked(MAX + 1, "0\r\n\r\n");
    let (head, body) = upload.split_at(upload.find("\r\n\r\n").expect("a head") + 4);
    assert_eq!(conn.send(head).head().status(), 200);
    conn.send(body);
    assert!(conn.rest().len() < 5);
    origin.wait_ended(1);
    assert!(!origin.seen().contains("0\r\n\r\n"), "the node takes it for whole");
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_lines(1)[0]).expect("JSON");
    assert_eq!(line["error"], "body_too_large");
}

/// T27: of gRPC calls, which stream, the sum is bounded where that is said, in gRPC's own words.
#[test]
fn t27_a_call_above_its_limit_is_told_so() {
    let node = echo("grpc", &[]);
    let to = node.addr(0).to_string();
    let proxy = Proxy::start(
        &[&["grpc", "--listen", "127.0.0.1:0", "--to", &to, "--max-body-size", "1000"], &QUIET[..]]
            .concat(),
    );
    let call = [("content-type", "application/grpc"), ("te", "trailers")];
    let known = [call[0], call[1], ("content-length", "1001")];
    for (fields, length) in [(&call[..], MAX + 1), (&known[..], 0)] {
        let told = over_http2(&proxy, METHOD, length, fields, false);
        assert_eq!((told.status, &told.fields["grpc-status"]), (200, &"8".parse().expect("valid")));
        let message = told.fields["grpc-message"].to_str().expect("text");
        assert!(message.starts_with("body_too_large"), "{message}");
    }
}

/// D11: 10 MiB unless told otherwise; a route has the last word.
#[test]
fn d11_the_limit_is_10_mib_and_a_routes_own() {
    let (origin, _) = counting();
    let proxy = Proxy::run_file(&format!(
        "listeners:\n\
         - {{name: a, bind: \"127.0.0.1:0\"}}\n\
         - {{name: b, bind: \"127.0.0.1:0\", max_body_size: 1KiB}}\n\
         - {{name: c, bind: \"127.0.0.1:0\", protocol: forward, forward: {{allow_private: true, allow_ports: [{}]}}}}\n\
         access_log: 'off'\n\
         routes:\n\
         - {{path: /, service: app}}\n\
         - {{path: /any, service: app, max_body_size: 0}}\n\
         - {{path: /few, service: app, max_body_size: 10}}\n\
         services:\n\
         - {{id: app, nodes: [\"{}\"]}}\n",
        origin.addr().port(),
        origin.url()
    ));
    let mib = 1 << 20;
    let far = format!("{}/", origin.url());
    for (listener, target, length, is_taken) in [
        (0, "/", 10 * mib, true),
        (0, "/", 10 * mib + 1, false),
        (0, "/any", 11 * mib, true),
        (0, "/few", 10, true),
        (0, "/few", 11, false),
        (1, "/", 1024, true),
        (1, "/", 1025, false),
        (1, "/any", 1025, true),
        (2, &far, 11 * mib, true),
    ] {
        let mut conn = Conn::open(proxy.addr(listener));
        let line = format!("POST {target} HTTP/1.1\r\n");
        let asked = of_length(length).replacen("POST / HTTP/1.1\r\n", &line, 1);
        let asked = asked.replacen("Host: a", &format!("Host: {}", origin.addr()), 1);
        let status = if is_taken { 200 } else { 413 };
        assert_eq!(conn.ask(asked).status(), status, "{listener} {target} {length}");
    }
}
