//! What RFC 9110 and RFC 9112 ask of an intermediary, row by row, where no other suite shows it.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use socket2::{Domain, Socket, Type};

use crate::support::{Conn, Message, Origin, Proxy};

const QUIET: [&str; 2] = ["--access-log", "off"];
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the node receives when the client sends `request`.
#[track_caller]
fn received(request: &str) -> Message {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    assert_eq!(Conn::open(proxy.addr(0)).ask(request).status(), 200);
    let seen = origin.received().concat();
    Message::head(&mut &seen[..]).expect("a request")
}

/// P08, RFC 9110 §5.5: a value with CR, LF or NUL crosses in neither direction.
#[test]
fn p08_values_with_control_characters_do_not_cross() {
    for byte in ["\0", "\r", "\n", "\x01", "\x7f"] {
        let origin = Origin::answering(format!(
            "HTTP/1.1 200 OK\r\nX-A: a{byte}b\r\nContent-Length: 0\r\n\r\n"
        ));
        let proxy = Proxy::http(&origin.url(), &QUIET);
        assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 502, "{byte:?}");
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: a{byte}b\r\n\r\n");
        let refused = Conn::open(proxy.addr(0)).ask(request);
        assert_eq!((refused.status(), origin.connections()), (400, 1), "{byte:?}");
    }
}

/// P11, RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored; the body is there already.
#[test]
fn p11_an_expectation_in_http10_goes_no_further() {
    let seen = received(
        "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
    );
    assert_eq!(seen.fields.get("expect"), None);
}

/// P13, RFC 9110 §7.8: `Upgrade` in HTTP/1.0 means nothing.
#[test]
fn p13_an_upgrade_in_http10_is_ignored() {
    let seen = received(
        "GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert!(seen.fields.all("upgrade").is_empty() && seen.fields.all("connection").is_empty());
}

/// T09, P13: a node switches to nothing that was not asked for.
#[test]
fn p13_a_switch_that_nobody_asked_for_is_a_502() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n";
    let origin = Origin::answering(switch);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 502);
    let websocket = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert_eq!(Conn::open(proxy.addr(0)).ask(websocket).status(), 502);
}

/// P18, RFC 9110 §13.2.1: who has no cache leaves conditions to the origin.
#[test]
fn p18_conditions_cross_untouched() {
    let fields = [
        ("if-match", "\"x\", W/\"y\""),
        ("if-none-match", "*"),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("if-range", "\"x\""),
        ("range", "bytes=0-1, 5-"),
    ];
    let lines = fields.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let seen = received(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    for (name, value) in fields {
        assert_eq!(seen.fields.get(name), Some(value));
    }
}

/// P06, P19, RFC 9110 §10.2.1, §12.5.5: `Allow` and `Vary` are the origin's, as are partial
/// answers.
#[test]
fn p19_what_an_origin_says_of_itself_crosses_untouched() {
    let fields = "Allow: GET, X-Own\r\nVary: *\r\nAge: 7\r\nServer: x/1 (y)\r\n\
                  Cache-Control: no-transform, max-age=5\r\nETag: W/\"z\"\r\n";
    let origin = Origin::answering(format!("HTTP/1.1 405 No\r\n{fields}Content-Length: 0\r\n\r\n"));
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let answer = Conn::open(proxy.addr(0)).ask(GET);
    assert_eq!(answer.status(), 405);
    for (name, value) in fields.lines().filter_map(|line| line.split_once(": ")) {
        assert_eq!(answer.fields.get(name), Some(value), "{name}");
    }
}

/// P21, P33, RFC 9112 §2.3, §9.3: a node of HTTP/1.0 is answered for in HTTP/1.1, and its
/// connection is not used again, whatever it says.
#[test]
fn p21_a_node_of_http10_is_spoken_for_in_http11() {
    let origin = Origin::answering(
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    for _ in 0..2 {
        let answer = conn.ask(GET);
        assert_eq!((&*answer.start, answer.text().as_str()), ("HTTP/1.1 200 OK", "ok"));
        assert_eq!(answer.fields.get("connection"), None);
    }
    assert_eq!(origin.connections(), 2);
}

/// P28, RFC 9112 §6.1: no transfer coding where there is no content, even if a node says so.
#[test]
fn p28_a_204_has_no_transfer_coding() {
    let origin =
        Origin::answering("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    for _ in 0..2 {
        let answer = conn.ask(GET);
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.fields.get("transfer-encoding"), None);
        assert_eq!(answer.fields.get("content-length"), None);
    }
}

/// P32, RFC 9112 §9.2: what a node sends unasked is nobody's response; its connection is closed.
#[test]
fn p32_bytes_that_nobody_asked_for_answer_no_request() {
    let (go_on, wait) = channel();
    let (tell, told) = channel();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |peer| {
        while peer.request().is_some() {
            peer.send(OK);
            if peer.number == 0 {
                wait.lock().expect("one script").recv().expect("the client has its answer");
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
                tell.send(()).expect("the test waits");
            }
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--workers", "1", "--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask(GET).text(), "ok");
    go_on.send(()).expect("the node waits");
    told.recv().expect("the node has sent");
    assert_eq!(conn.ask(GET).text(), "ok");
    assert_eq!(conn.ask(GET).text(), "ok");
    assert_eq!(origin.connections(), 2);
}

/// P35, RFC 9112 §9.6: closing waits for the client to have read: a reset in the middle of its
/// upload would take the rest of the answer from it.
#[test]
fn p35_a_close_lingers_so_that_the_answer_is_read() {
    let answer = "x".repeat(30_000);
    let response = format!("HTTP/1.1 413 No\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    let (tell, told) = channel();
    let origin = Origin::start(move |peer| {
        if peer.head().is_some() {
            peer.send(&response);
            peer.wait_end();
            tell.send(()).expect("the test waits");
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    // A client that takes in little while it sends: most of the answer waits at the proxy.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("it can be set");
    socket.connect(&proxy.addr(0).into()).expect("connect");
    let mut conn = Conn::of(socket.into());
    // More than ever comes, so that the connection cannot be kept.
    conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n");
    told.recv().expect("the proxy has the answer and leaves the node");
    conn.send("y".repeat(100_000));
    let got = conn.response();
    assert_eq!((got.status(), got.text().len()), (413, 30_000));
    assert!(got.fields.lists("connection", "close"), "{got:?}");
}
