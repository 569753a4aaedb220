//! WebSocket over HTTP/2 (RFC 8441), between every pair of wires.
//!
//! Python's `websockets` speaks HTTP/1.1 alone, so it talks to a proxy in front, which speaks HTTP/2
//! to the one behind it; the echo server behind that one speaks both.

use serde_json::{Value, json};

use super::frame::{CLOSE, Frame, handshake, open};
use super::messages::{assert_echoes, ws};
use crate::clients::chromium;
use crate::clients::site::{Site, assert_told};
use crate::clients::websocket;
use crate::support::h2::{H2, request};
use crate::support::{Conn, Origin, Proxy, Signal, echo};

/// A proxy that speaks HTTP/2 to `node`.
#[track_caller]
fn before(node: &Proxy) -> Proxy {
    Proxy::http::<&str>(&node.url("h2c", ""), &[])
}

#[track_caller]
fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).expect("JSON");
    proxy.wait_lines(count).iter().map(parse).collect()
}

#[test]
fn p54_messages_cross_every_pair_of_wires() {
    let echo = echo("http", &[]);
    for scheme in ["http", "h2c"] {
        let back = Proxy::http::<&str>(&echo.url(scheme, ""), &[]);
        let front = before(&back);
        // `/ws` is the echo server's WebSocket.
        assert_echoes(&front.url("ws", "/ws"), None, false);
        for (proxy, protocol) in [(&front, "HTTP/1.1"), (&back, "HTTP/2.0")] {
            let line = &lines(proxy, 1)[0];
            let told = (&line["method"], &line["protocol"], &line["status"], &line["client_close"]);
            let expected = (&json!("GET"), &json!(protocol), &json!(101), &json!(1000));
            assert_eq!(told, expected, "{scheme}: {line}");
            assert!(line["bytes_sent"].as_u64() > Some(5_000_000), "{line}");
        }
    }
}

/// What the relay watches over holds on either wire: limits, pings, close codes, the end of a side.
#[test]
fn p54_ends_are_told_over_http2() {
    let echo = echo("ws", &[]);
    let back = ws(&echo.url("ws", ""), &["--max-message", "1000", "--ping", "50ms"]);
    let front = before(&back);
    let end = |path: &str, steps: Value| {
        let told = websocket(&json!({ "url": front.url("ws", path), "steps": steps }));
        told["results"].as_array().and_then(|all| all.last()).expect("an end").clone()
    };
    let bye = end("/", json!([["send", "hi"], ["recv"], ["close", 4001, "bye"]]));
    assert_eq!(bye, json!({ "code": 4001, "reason": "bye" }));
    let late = end(
        "/close/4003?reason=too%20late&after=1",
        json!([["send", "hi"], ["recv"], ["wait_closed"]]),
    );
    assert_eq!(late, json!({ "code": 4003, "reason": "too late" }));
    let gone = end("/reset?after=1", json!([["send", "hi"], ["wait_closed"]]));
    assert_eq!(gone["code"], 1014);
    let large = end("/", json!([["send_bytes", 1001], ["wait_closed"]]));
    assert_eq!(large["code"], 1009);
}

#[test]
fn p54_a_drain_says_1001_over_http2() {
    let echo = echo("ws", &[]);
    let mut back = ws(&echo.url("ws", ""), &["--grace", "1h"]);
    let front = before(&back);
    let mut conn = open(front.addr(0), "/");
    back.signal(Signal::TERM);
    let end = Frame::read(&mut conn.stream, false).expect("a frame");
    assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    conn.send(Frame::close(1001, "").bytes(true));
    conn.assert_ends();
    assert_eq!(back.wait(), Some(0));
    let line = &lines(&back, 1)[0];
    assert_eq!((&line["client_close"], &line["upstream_close"]), (&json!(1001), &json!(1001)));
}

#[test]
fn p54_a_node_without_it_costs_its_client_a_502_and_no_health() {
    // It announces no extended CONNECT.
    let node = Origin::start(|peer| {
        peer.send(b"\0\0\0\x04\0\0\0\0\0");
        peer.wait_end();
    });
    let proxy = Proxy::http::<&str>(&format!("h2c://{}", node.addr()), &[]);
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.ask(handshake("/", ""));
    assert_eq!((answer.status(), &answer.json()["code"]), (502, &json!("upstream_unsupported")));
    let line = &lines(&proxy, 1)[0];
    assert_eq!(line["error"], "upstream_unsupported", "{line}");
}

/// P54: a listener for WebSocket takes extended CONNECT and answers what is not with 426.
#[test]
fn over_http2_the_answer_is_426_without_connection_fields() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let answer = H2::open(proxy.addr(0)).ask(request("GET", "/", &[]), b"", None);
    assert_eq!(answer.status, 426);
    for name in ["upgrade", "connection"] {
        assert!(!answer.fields.contains_key(name), "{:?}", answer.fields);
    }
}

#[test]
fn p54_chromium_speaks_websocket_over_http2() {
    let site = Site::start();
    let [_, https] = site.ports();
    let options = ["--ignore-certificate-errors"];
    assert_told(&chromium(&format!("https://127.0.0.1:{https}/page"), &options));
    let line = site.line_of("/ws/");
    assert_eq!((&line["protocol"], &line["status"]), (&json!("HTTP/2.0"), &json!(101)), "{line}");
}
