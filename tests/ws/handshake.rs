//! What becomes a WebSocket, and what is answered to everything else.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::frame::{ACCEPT, Frame, KEY, TEXT, handshake, open, switching};
use super::messages::ws;
use crate::clients::{Refusing, websocket};
use crate::support::{Conn, Origin, Proxy, curl, echo, eventually, gwproxy};

/// A handshake whose line or field is replaced.
fn changed(from: &str, to: &str) -> String {
    let handshake = handshake("/", "");
    assert!(handshake.contains(from), "{from}");
    handshake.replace(from, to)
}

#[test]
fn an_ordinary_request_gets_426() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = ws(&format!("ws://{}", origin.addr()), &[]);
    let told = curl(&["--include", &proxy.url("http", "/")]).ok().text().to_lowercase();
    assert!(told.starts_with("http/1.1 426 "), "{told}");
    assert!(told.contains("\r\nupgrade: websocket\r\n"), "{told}");
    let connection = told.lines().find(|line| line.starts_with("connection:"));
    assert!(connection.is_some_and(|line| line.contains("upgrade")), "{told}");
    assert_eq!(origin.connections(), 0, "the node hears nothing of it");
}

/// RFC 6455 §4.2.1, each requirement by a request that misses it; the node hears of none.
#[test]
fn a_malformed_handshake_is_refused() {
    let origin = Origin::answering(switching(""));
    let proxy = ws(&format!("ws://{}", origin.addr()), &[]);
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let cases = [
        (changed("GET ", "POST "), 405),
        (changed("HTTP/1.1", "HTTP/1.0"), 505),
        (changed("Host: a.test\r\n", ""), 400),
        (changed("Connection: Upgrade", "Connection: keep-alive"), 400),
        (changed("Upgrade: websocket", "Upgrade: h2c"), 426),
        (changed("Version: 13", "Version: 8"), 426),
        (changed("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (changed(&key, ""), 400),
        (changed(&key, &format!("{key}{key}")), 400),
        (changed(KEY, "c2hvcnQ="), 400),
        (changed(KEY, "not base64 at all!!!!!!!"), 400),
        (changed(&key, &format!("{key}Content-Length: 5\r\n")) + "hello", 400),
        (changed(&key, &format!("{key}Transfer-Encoding: chunked\r\n")) + "0\r\n\r\n", 400),
    ];
    for (request, status) in cases {
        let answer = Conn::open(proxy.addr(0)).ask(&request);
        assert_eq!(answer.status(), status, "{request}\n{answer:?}");
        match status {
            405 => assert_eq!(answer.fields.get("allow"), Some("GET")),
            426 => assert_eq!(answer.fields.get("upgrade"), Some("websocket")),
            _ => {}
        }
        if request.contains("Version: 8") {
            // §4.4: the versions that would do.
            assert_eq!(answer.fields.get("sec-websocket-version"), Some("13"));
        }
    }
    assert_eq!(origin.connections(), 0);
}

/// What is legal and unusual passes: lists, case, a subprotocol over two lines.
#[test]
fn an_unusual_handshake_is_taken() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let request = changed("Connection: Upgrade", "connection: keep-alive, UPGRADE")
        .replace("Upgrade: websocket", "UPGRADE: WebSocket")
        .replace("Host:", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\nHost:");
    let answer = Conn::open(proxy.addr(0)).ask(request);
    assert_eq!(answer.status(), 101, "{answer:?}");
    assert_eq!(answer.fields.get("sec-websocket-protocol"), Some("a"));
}

/// The node's answer is judged too: what is no WebSocket gets no tunnel (request smuggling).
#[test]
fn a_malformed_answer_is_502() {
    let good = switching("");
    let answers = [
        good.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        good.replace("Sec-WebSocket-Accept", "X-Nothing"),
        good.replace("Upgrade: websocket", "Upgrade: other"),
        good.replace("Connection: Upgrade", "Connection: close"),
        switching("Sec-WebSocket-Protocol: never-offered\r\n"),
        switching("Sec-WebSocket-Extensions: x-never-offered\r\n"),
    ];
    for answer in answers {
        let origin = Origin::saying(answer.clone());
        let proxy = ws(&format!("ws://{}", origin.addr()), &[]);
        let told = Conn::open(proxy.addr(0)).ask(handshake("/", ""));
        assert_eq!(told.status(), 502, "{answer}");
        assert_eq!(told.json()["code"], "upstream_malformed", "{answer}");
        origin.wait_ended(1);
    }
}

#[test]
fn a_node_may_refuse() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let answer = Conn::open(proxy.addr(0)).ask(handshake("/status/403", ""));
    assert_eq!((answer.status(), answer.fields.get("x-echo-node")), (403, Some("echo-ws")));
    let told = websocket(&json!({ "url": proxy.url("ws", "/status/503"), "steps": [] }));
    assert_eq!(told["refused"], 503);
}

#[test]
fn the_path_and_fields_reach_the_node() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let mut conn = Conn::open(proxy.addr(0));
    let fields = "Origin: http://page.test\r\nCookie: a=b\r\nX-Forwarded-For: 6.6.6.6\r\n";
    assert_eq!(conn.ask(handshake("/report?x=1", fields)).status(), 101);
    let report = Frame::read(&mut conn.stream, false).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report.payload).expect("JSON");
    assert_eq!((&report["path"], &report["query"]), (&json!("/report"), &json!("x=1")));
    let field = |name: &str| {
        let fields = report["headers"].as_array().expect("fields");
        let values: Vec<_> =
            fields.iter().filter(|each| each[0] == name).map(|each| each[1].clone()).collect();
        values
    };
    assert_eq!(field("origin"), ["http://page.test"]);
    assert_eq!(field("cookie"), ["a=b"]);
    assert_eq!(field("host"), ["a.test"]);
    // As everywhere, what a stranger says of itself is replaced.
    assert_eq!(field("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(field("sec-websocket-key"), [KEY]);
}

#[test]
fn a_node_that_is_down_is_passed_over() {
    let echo = echo("ws", &[]);
    let refusing = Refusing::new();
    let down = format!("ws://{}", refusing.addr());
    let proxy = ws(&down, &["--to", &echo.url("ws", "")]);
    for _ in 0..4 {
        let mut conn = open(proxy.addr(0), "/");
        conn.send(Frame::new(TEXT, "hi").bytes(true));
        assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "hi")));
    }
    let proxy = ws(&down, &[]);
    let answer = Conn::open(proxy.addr(0)).ask(handshake("/", ""));
    assert_eq!((answer.status(), &answer.json()["code"]), (502, &json!("upstream_refused")));
}

#[test]
fn handshakes_are_limited() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &["--limit", "1/h,burst=2"]);
    let _first = open(proxy.addr(0), "/");
    let _second = open(proxy.addr(0), "/");
    let answer = Conn::open(proxy.addr(0)).ask(handshake("/", ""));
    assert_eq!((answer.status(), &answer.json()["code"]), (429, &json!("rate_limited")));
    assert!(answer.fields.get("retry-after").is_some(), "{answer:?}");
}

/// A WebSocket can last for hours: as a half-open breaker's probe it is done when it has opened.
#[test]
fn row_0_5_a_websocket_is_a_probe_that_ends_with_its_handshake() {
    let failing = AtomicBool::new(true);
    let origin = Origin::start(move |peer| {
        if peer.head().is_none() {
            return;
        }
        if failing.swap(false, Ordering::SeqCst) {
            peer.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n");
        } else {
            peer.send(switching(""));
        }
        peer.wait_end();
    });
    let breaker = ["--breaker", "50%,window=60s,min=1,open=100ms"];
    let proxy = ws(&origin.url().replace("http://", "ws://"), &breaker);
    let ask = || {
        let mut conn = Conn::open(proxy.addr(0));
        let status = conn.ask(handshake("/", "")).status();
        (status, conn)
    };
    assert_eq!(ask().0, 500);
    assert_eq!(ask().0, 503);
    let probe = eventually("the breaker lets a probe through", || {
        Some(ask()).filter(|(status, _)| *status == 101)
    });
    // The probe is still open, and the breaker is closed.
    assert_eq!(ask().0, 101);
    drop(probe);
}

#[test]
fn an_http_listener_checks_handshakes_as_well() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::http::<&str>(&origin.url(), &[]);
    let answer = Conn::open(proxy.addr(0)).ask(changed(KEY, "c2hvcnQ="));
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn it_serves_by_a_development_certificate() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &["--tls-dev"]);
    let data = proxy.home().to_str().expect("UTF-8");
    let shown =
        crate::support::gwproxy_with(&["cert", "show", "--ca"], &[("GWPROXY_DATA_DIR", data)]);
    let told = websocket(&json!({
        "url": format!("wss://localhost:{}/", proxy.addr(0).port()),
        "ca": shown.ok().text().trim(), "steps": [["send", "hi"], ["recv"]],
    }));
    assert_eq!(told["results"], json!(["hi"]));
}

#[test]
fn what_makes_no_sense_is_refused_at_start() {
    for (arguments, sentence) in [
        (&["ws", "--to", "ftp://a:1"][..], "ftp"),
        (&["ws", "--to", "ws://a:1", "--ping", "soon"][..], "soon"),
        (&["ws", "--to", "ws://a:1", "--max-message", "big"][..], "big"),
        (&["ws"][..], "--forward"),
        (&["ws", "--forward", "--to", "ws://a:1"][..], "exclude each other"),
    ] {
        let done = gwproxy(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(sentence), "{arguments:?}: {}", done.stderr);
    }
}
