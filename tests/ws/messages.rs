//! What is carried: every kind of message, both ways, untouched.

use serde_json::json;

use super::frame::{Frame, PING, PONG, TEXT, handshake, node, open, switching};
use crate::clients::{PythonServer, websocket};
use crate::support::{Authority, Conn, Origin, Proxy, echo};

/// `gwproxy ws --listen 127.0.0.1:0 --to TO OPTIONS`.
#[track_caller]
pub(super) fn ws(to: &str, options: &[&str]) -> Proxy {
    let mut all = vec!["ws", "--listen", "127.0.0.1:0", "--to", to];
    all.extend(options);
    Proxy::start(&all)
}

/// One of each kind goes there and comes back.
#[track_caller]
pub(super) fn assert_echoes(url: &str, ca: Option<&str>, compression: bool) {
    let mut ask = json!({ "url": url, "compression": compression, "steps": [
        ["send", "grüße, 世界"], ["recv"],
        ["send", ""], ["recv"],
        ["send_bytes", 1], ["recv"],
        ["send_bytes", 70000], ["recv"],
        ["send_text", "text of some length ", 50000], ["recv"],
        ["send_bytes", 5_000_000], ["recv"],
        ["send_parts", ["in ", "", "three parts"]], ["recv"],
        ["ping", "are you there"],
        ["close", 1000, "done"],
    ]});
    if let Some(ca) = ca {
        ask["ca"] = ca.into();
    }
    let told = websocket(&ask);
    let results = told["results"].as_array().expect("results");
    assert_eq!(results[0], "grüße, 世界");
    assert_eq!(results[1], "");
    for sent in [2, 4, 6, 8] {
        assert_eq!(results[sent], results[sent + 1], "{told}");
    }
    assert_eq!(results[9]["bytes"], 5_000_000);
    assert_eq!(results[10], "in three parts");
    assert_eq!(results[11], "pong");
    assert_eq!(results[12], json!({ "code": 1000, "reason": "done" }));
}

#[test]
fn messages_of_every_kind_cross() {
    let (echo, mint) = (echo("ws", &[]), Authority::new());
    let proxy = ws(&echo.url("ws", ""), &[]);
    assert_echoes(&proxy.url("ws", "/"), None, false);
    let tls = mint.leaf("front", &["127.0.0.1"]);
    let flags = tls.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let proxy = ws(&echo.url("ws", ""), &flags);
    assert_echoes(&proxy.url("wss", "/"), Some(&mint.ca()), false);
}

#[test]
fn messages_cross_to_a_node_behind_tls() {
    let mint = Authority::new();
    let node = PythonServer::websocket(Some(&mint.leaf("node", &["127.0.0.1"])));
    let to = format!("wss://{}", node.addr);
    let proxy = ws(&to, &["--upstream-ca", &mint.ca()]);
    assert_echoes(&proxy.url("ws", "/"), None, true);
    // Nobody vouches for the node: nothing is said to it.
    let proxy = ws(&to, &[]);
    let told = websocket(&json!({ "url": proxy.url("ws", "/"), "steps": [] }));
    assert_eq!(told["refused"], 502, "{told}");
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_lines(1)[0]).expect("JSON");
    assert_eq!(line["error"], "upstream_tls", "{line}");
    // Unless told to.
    let proxy = ws(&to, &["--upstream-danger-skip-verify"]);
    assert_echoes(&proxy.url("ws", "/"), None, false);
}

#[test]
fn messages_cross_an_http_listener() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http::<&str>(&echo.url("http", ""), &[]);
    assert_echoes(&proxy.url("ws", "/ws"), None, false);
}

/// T28, T56: extensions are the endpoints' own: compressed frames pass as they are.
#[test]
fn compression_is_agreed_between_client_and_node() {
    let node = PythonServer::websocket(None);
    let proxy = ws(&format!("ws://{}", node.addr), &[]);
    assert_echoes(&proxy.url("ws", "/"), None, true);
    let told = websocket(&json!({
        "url": proxy.url("ws", "/seen"), "compression": true, "steps": [["send", "?"], ["recv"]],
    }));
    assert_eq!(told["extensions"], json!(["PerMessageDeflate"]));
    let seen: serde_json::Value =
        serde_json::from_str(told["results"][0].as_str().expect("text")).expect("JSON");
    assert_eq!(seen["extensions"], json!(["PerMessageDeflate"]), "{seen}");
}

#[test]
fn the_subprotocol_is_agreed_between_client_and_node() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let told = websocket(&json!({
        "url": proxy.url("ws", "/report"), "subprotocols": ["Soap.v2", "chat"],
        "steps": [["recv"]],
    }));
    assert_eq!(told["subprotocol"], "Soap.v2");
    let report: serde_json::Value =
        serde_json::from_str(told["results"][0].as_str().expect("text")).expect("JSON");
    assert_eq!(report["subprotocol"], "Soap.v2");
    // A node that takes the second, and one that takes none.
    let node = PythonServer::websocket(None);
    let proxy = ws(&format!("ws://{}", node.addr), &[]);
    let ask = |offered: &[&str]| {
        websocket(&json!({
            "url": proxy.url("ws", "/"), "subprotocols": offered, "steps": [["close", 1000, ""]],
        }))
    };
    assert_eq!(ask(&["Soap.v2", "chat"])["subprotocol"], "chat");
    assert_eq!(ask(&["other"])["subprotocol"], serde_json::Value::Null);
}

#[test]
fn a_node_can_speak_first() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let told = websocket(&json!({
        "url": proxy.url("ws", "/push?count=4&interval=1ms"),
        "steps": [["recv"], ["recv"], ["recv"], ["recv"], ["send", "done"], ["recv"]],
    }));
    assert_eq!(told["results"], json!(["push 0", "push 1", "push 2", "push 3", "done"]));
}

/// What either side sends in one go with its handshake belongs to the connection.
#[test]
fn frames_right_behind_the_handshake_are_not_lost() {
    let node = Origin::start(|peer| {
        if peer.head().is_some() {
            let hello = Frame::new(TEXT, "hello").bytes(false);
            peer.send([switching("").as_bytes(), &hello].concat());
            assert_eq!(Frame::read(peer, true), Some(Frame::new(TEXT, "early")));
            peer.send(Frame::new(TEXT, "got it").bytes(false));
            peer.wait_end();
        }
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &[]);
    let mut conn = Conn::open(proxy.addr(0));
    let early = Frame::new(TEXT, "early").bytes(true);
    conn.send([handshake("/", "").as_bytes(), &early].concat());
    assert_eq!(conn.head().status(), 101);
    assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "hello")));
    assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "got it")));
}

/// The bytes that a node gets are those the client sent, down to the mask and to where frames
/// begin and end.
#[test]
fn frames_pass_as_they_are() {
    let first = Frame { fin: false, opcode: TEXT, payload: b"hel".to_vec() };
    let ping = Frame::new(PING, "in between");
    let last = Frame { fin: true, opcode: 0, payload: b"lo".to_vec() };
    let sent = [first.bytes(true), ping.bytes(true), last.bytes(true)].concat();
    let expected = sent.clone();
    let node = node(move |peer| {
        let mut got = vec![0; expected.len()];
        std::io::Read::read_exact(peer, &mut got).expect("all of it");
        assert_eq!(got, expected);
        peer.send(Frame::new(PONG, "in between").bytes(false));
        peer.wait_end();
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &[]);
    let mut conn = open(proxy.addr(0), "/");
    for byte in &sent {
        conn.send([*byte]);
    }
    assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(PONG, "in between")));
}

/// `--ping`: silent sides are asked, and their answers stay between them and the proxy.
#[test]
fn silent_sides_are_pinged() {
    let node = node(|peer| {
        for _ in 0..2 {
            let ping = Frame::read(peer, true).expect("a ping");
            assert_eq!(ping.opcode, PING, "{ping:?}");
            peer.send(Frame::new(PONG, ping.payload).bytes(false));
        }
        // Pings to this side may go on; of the client's pongs there must be none.
        loop {
            match Frame::read(peer, true) {
                Some(frame) if frame.opcode == PING => {
                    peer.send(Frame::new(PONG, frame.payload).bytes(false));
                }
                Some(frame) => {
                    assert_eq!(frame, Frame::new(TEXT, "still here"));
                    peer.send(Frame::new(TEXT, "so am I").bytes(false));
                    break;
                }
                None => panic!("the connection ended"),
            }
        }
        peer.wait_end();
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &["--ping", "50ms"]);
    let mut conn = open(proxy.addr(0), "/");
    for _ in 0..2 {
        let ping = Frame::read(&mut conn.stream, false).expect("a ping");
        assert_eq!(ping.opcode, PING, "{ping:?}");
        conn.send(Frame::new(PONG, ping.payload).bytes(true));
    }
    conn.send(Frame::new(TEXT, "still here").bytes(true));
    loop {
        match Frame::read(&mut conn.stream, false) {
            Some(frame) if frame.opcode == PING => {
                conn.send(Frame::new(PONG, frame.payload).bytes(true));
            }
            frame => {
                assert_eq!(frame, Some(Frame::new(TEXT, "so am I")));
                break;
            }
        }
    }
}
