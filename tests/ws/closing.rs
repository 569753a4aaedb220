//! How connections end, and what each side is told.

use serde_json::json;

use super::frame::{CLOSE, Frame, PING, TEXT, handshake, node, open};
use super::messages::ws;
use crate::clients::websocket;
use crate::support::{Conn, Proxy, Signal, echo};

/// The frames that come until the connection ends, which must be in order.
#[track_caller]
fn last_frames(conn: &mut Conn) -> Vec<Frame> {
    std::iter::from_fn(|| Frame::read(&mut conn.stream, false)).collect()
}

#[test]
fn the_close_of_a_client_reaches_the_node_with_its_code() {
    let node = node(|peer| {
        assert_eq!(Frame::read(peer, true), Some(Frame::close(4001, "enough")));
        // Another code than the client's: the client must get this one.
        peer.send(Frame::close(4002, "as you like").bytes(false));
        // RFC 6455 §7.1.1: the server ends TCP.
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &[]);
    let mut conn = open(proxy.addr(0), "/");
    conn.send(Frame::close(4001, "enough").bytes(true));
    assert_eq!(last_frames(&mut conn), [Frame::close(4002, "as you like")]);
    drop(conn);
    node.wait_ended(1);
}

#[test]
fn the_close_of_a_node_reaches_the_client_with_its_code() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let told = websocket(&json!({
        "url": proxy.url("ws", "/close/4003?reason=too%20late&after=1"),
        "steps": [["send", "hi"], ["recv"], ["wait_closed"]],
    }));
    assert_eq!(told["results"], json!(["hi", { "code": 4003, "reason": "too late" }]), "{told}");
}

/// A Close without a code passes as one without (§7.4.1: 1005 is never on the wire).
#[test]
fn a_close_without_code_stays_one() {
    let node = node(|peer| {
        assert_eq!(Frame::read(peer, true), Some(Frame::new(CLOSE, "")));
        peer.send(Frame::new(CLOSE, "").bytes(false));
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &[]);
    let mut conn = open(proxy.addr(0), "/");
    conn.send(Frame::new(CLOSE, "").bytes(true));
    assert_eq!(last_frames(&mut conn), [Frame::new(CLOSE, "")]);
}

/// Row B.5: a message too many ends the connection, on both sides, with the code that says whose
/// fault it is; fragments and pings are no messages.
#[test]
fn row_b_5_a_client_with_too_many_messages_is_told_by_close_code() {
    for (by, code) in [("ip", 1008), ("connection", 1008), ("global", 1013)] {
        let node = node(|peer| {
            let texts = std::iter::from_fn(|| Frame::read(peer, true));
            let texts: Vec<_> = texts.take_while(|frame| frame.opcode != CLOSE).collect();
            assert_eq!(texts.len(), 3, "two messages and a ping: {texts:?}");
        });
        let limit = format!("2/h,of=messages,by={by}");
        let proxy = ws(&format!("ws://{}", node.addr()), &["--limit", &limit]);
        let mut conn = open(proxy.addr(0), "/");
        for frame in [Frame::new(TEXT, "one"), Frame::new(PING, "?"), Frame::new(TEXT, "two")] {
            conn.send(frame.bytes(true));
        }
        conn.send(Frame::new(TEXT, "three").bytes(true));
        let frames = last_frames(&mut conn);
        let end = frames.last().expect("a Close frame");
        assert_eq!(end.opcode, CLOSE, "{by}: {frames:?}");
        assert_eq!(end.payload[..2], u16::to_be_bytes(code), "{by}: {frames:?}");
        drop(conn);
        node.wait_ended(1);
        // Per connection: the next one begins anew; else nothing is left of the hour's two.
        if by == "connection" {
            let mut again = open(proxy.addr(0), "/");
            again.send(Frame::new(TEXT, "one").bytes(true));
            again.send(Frame::close(1000, "").bytes(true));
        }
    }
}

#[test]
fn a_client_is_told_when_its_node_is_gone() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    // 1014, bad gateway, of the IANA registry of close codes.
    let told = websocket(&json!({
        "url": proxy.url("ws", "/reset?after=1"),
        "steps": [["send", "hi"], ["wait_closed"]],
    }));
    let end = told["results"].as_array().and_then(|all| all.last()).expect("an end");
    assert_eq!(end["code"], 1014, "{told}");
}

#[test]
fn a_node_is_told_when_its_client_is_gone() {
    let node = node(|peer| {
        peer.send(Frame::new(TEXT, "hi").bytes(false));
        let end = Frame::read(peer, true).expect("a frame");
        assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
        peer.send(Frame::close(1001, "").bytes(false));
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &[]);
    for reset in [false, true] {
        let mut conn = open(proxy.addr(0), "/");
        assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "hi")));
        if reset {
            conn.reset();
        }
    }
    node.wait_ended(2);
}

#[test]
fn too_large_a_message_ends_the_connection_with_1009() {
    let node = node(|peer| {
        let end = Frame::read(peer, true).expect("a frame");
        assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1009_u16.to_be_bytes()[..]));
        peer.send(Frame::close(1009, "").bytes(false));
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &["--max-message", "1000"]);
    let mut conn = open(proxy.addr(0), "/");
    conn.send(Frame::new(TEXT, [b'x'; 1001]).bytes(true));
    let [end] = &last_frames(&mut conn)[..] else { panic!("one frame") };
    assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1009_u16.to_be_bytes()[..]));
    node.wait_ended(1);
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_the_connection_with_1002() {
    let node = node(|peer| {
        let end = Frame::read(peer, true).expect("a frame");
        assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]));
    });
    let proxy = ws(&format!("ws://{}", node.addr()), &[]);
    // Unmasked; a reserved opcode; a reserved bit; a continuation of nothing.
    let mut reserved_bit = Frame::new(TEXT, "x").bytes(true);
    reserved_bit[0] |= 0x40;
    let wrong = [
        Frame::new(TEXT, "x").bytes(false),
        Frame::new(3, "x").bytes(true),
        reserved_bit,
        Frame::new(0, "x").bytes(true),
    ];
    for (number, wrong) in wrong.iter().enumerate() {
        let mut conn = open(proxy.addr(0), "/");
        conn.send(wrong);
        let [end] = &last_frames(&mut conn)[..] else { panic!("one frame for {wrong:x?}") };
        assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]));
        node.wait_ended(number + 1);
    }
}

/// RFC 6455 §7.4.1: 1001, going away, to both ends; then the process is over, well within the
/// grace period.
#[test]
fn a_drain_closes_with_1001_on_both_sides() {
    let node = node(|peer| {
        assert_eq!(Frame::read(peer, true), Some(Frame::new(TEXT, "hi")));
        peer.send(Frame::new(TEXT, "there").bytes(false));
        let end = Frame::read(peer, true).expect("a frame");
        assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
        peer.send(Frame::close(1001, "").bytes(false));
    });
    let mut proxy = ws(&format!("ws://{}", node.addr()), &["--grace", "1h"]);
    let mut conn = open(proxy.addr(0), "/");
    conn.send(Frame::new(TEXT, "hi").bytes(true));
    assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "there")));
    proxy.signal(Signal::TERM);
    let end = Frame::read(&mut conn.stream, false).expect("a frame");
    assert_eq!((end.opcode, &end.payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    conn.send(Frame::close(1001, "").bytes(true));
    conn.assert_ends();
    drop(conn);
    node.wait_ended(1);
    assert_eq!(proxy.wait(), Some(0));
}

/// A client that keeps its socket after both Close frames is over all the same: shorter than any
/// wait for it, the grace period cuts nothing off.
#[test]
fn a_client_that_stays_after_its_close_is_not_cut_off() {
    let node = node(|peer| {
        let end = Frame::read(peer, true).expect("a frame");
        peer.send(Frame::new(CLOSE, end.payload).bytes(false));
    });
    let mut proxy = ws(&format!("ws://{}", node.addr()), &["--grace", "4s"]);
    let mut conn = open(proxy.addr(0), "/");
    proxy.signal(Signal::TERM);
    let end = Frame::read(&mut conn.stream, false).expect("a frame");
    conn.send(Frame::new(CLOSE, end.payload).bytes(true));
    // FIN, not a reset.
    conn.assert_ends();
    assert_eq!(proxy.wait(), Some(0), "{}", proxy.stderr());
    drop(conn);
}

/// A WebSocket is a connection for as long as it lives: it has its place under the maximum, its
/// 1001 at shutdown and its line, from a file as from flags.
#[test]
fn a_file_and_flags_count_close_and_log_alike() {
    let node = node(|peer| {
        let end = Frame::read(peer, true).expect("a frame");
        peer.send(Frame::new(CLOSE, end.payload).bytes(false));
    });
    let flags = ws(&format!("ws://{}", node.addr()), &["--max-connections", "1"]);
    let file = Proxy::run_file(&format!(
        "listeners:
  - {{name: ws, protocol: ws, bind: '127.0.0.1:0', max_connections: 1, service: chat}}
services:
  - {{id: chat, protocol: ws, nodes: ['ws://{}']}}
",
        node.addr()
    ));
    for mut proxy in [flags, file] {
        let mut first = open(proxy.addr(0), "/first");
        let mut next = Conn::open(proxy.addr(0));
        next.send(handshake("/next", ""));
        proxy.wait_stderr("the listener is full; new connections wait");
        assert!(!next.is_ready());
        first.send(Frame::close(1000, "").bytes(true));
        assert_eq!(last_frames(&mut first), [Frame::close(1000, "")]);
        // Lines of several workers have no order; so this one is there before the next may come.
        proxy.wait_lines(1);
        // It keeps its socket, and its place is free.
        assert_eq!(next.head().status(), 101);
        proxy.signal(Signal::TERM);
        let end = Frame::read(&mut next.stream, false).expect("a frame");
        next.send(Frame::new(CLOSE, end.payload).bytes(true)).assert_ends();
        assert_eq!(proxy.wait(), Some(0), "{}", proxy.stderr());
        let codes = proxy.wait_lines(2).into_iter().map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((&line["status"], &line["error"]), (&json!(101), &json!(null)), "{line}");
            (line["client_close"].as_u64(), line["upstream_close"].as_u64())
        });
        let codes: Vec<_> = codes.collect();
        assert_eq!(codes, [(Some(1000), Some(1000)), (Some(1001), Some(1001))]);
    }
}

/// Two sides that answer no Close until the grace period is over: what they said until then is in
/// the log.
#[test]
fn a_websocket_that_is_cut_off_tells_what_it_carried() {
    let node = node(|peer| {
        assert_eq!(Frame::read(peer, true), Some(Frame::new(TEXT, "hello")));
        peer.send(Frame::new(TEXT, "goodbye").bytes(false));
        peer.wait_end();
    });
    let mut proxy = ws(&format!("ws://{}", node.addr()), &["--grace", "300ms"]);
    let mut conn = open(proxy.addr(0), "/");
    conn.send(Frame::new(TEXT, "hello").bytes(true));
    assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "goodbye")));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(1));
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_lines(1)[0]).expect("JSON");
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&json!(11), &json!(9)), "{line}");
    assert_eq!((&line["error"], &line["client_close"]), (&json!("draining"), &json!(null)));
}

/// One line in the access log for each connection, when it is over, with what it carried.
#[test]
fn a_connection_is_one_line_in_the_access_log() {
    let echo = echo("ws", &[]);
    let proxy = ws(&echo.url("ws", ""), &[]);
    let mut conn = open(proxy.addr(0), "/");
    conn.send(Frame::new(TEXT, "hello").bytes(true));
    assert_eq!(Frame::read(&mut conn.stream, false), Some(Frame::new(TEXT, "hello")));
    assert_eq!(proxy.stdout(), "", "it is not over");
    conn.send(Frame::close(1000, "").bytes(true));
    let end = Frame::read(&mut conn.stream, false).expect("a frame");
    assert_eq!(end.opcode, CLOSE);
    drop(conn);
    let lines = proxy.wait_lines(1);
    let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!((&line["status"], &line["path"]), (&json!(101), &json!("/")), "{line}");
    let bytes = line["bytes_sent"].as_u64().expect("a number");
    assert_eq!(bytes, 2 + 5 + 2 + 2, "a text frame and a Close frame: {line}");
    assert_eq!(line["bytes_received"], 6 + 5 + 6 + 2, "the same with masks: {line}");
    assert_eq!((&line["client_close"], &line["upstream_close"]), (&json!(1000), &json!(1000)));
    // A refusal is a line too.
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask(handshake("/status/403", "")).status(), 403);
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_lines(2)[1]).expect("JSON");
    assert_eq!(line["status"], 403, "{line}");
}
