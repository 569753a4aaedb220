//! Interim responses (RFC 9110 §15.2): what a node says before its answer.

use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::h2::{H2, request};
use crate::support::{Conn, Origin, Proxy};

const QUIET: [&str; 2] = ["--access-log", "off"];
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nX-Hop: 1\r\n\
                    Connection: X-Hop\r\nContent-Length: 9\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn pair(response: String) -> (Origin, Proxy) {
    let origin = Origin::answering(response);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    (origin, proxy)
}

/// P12, RFC 9110 §15.2: every interim response reaches the client, in order, and before the node
/// has its answer. P56, RFC 8297 §2: the final one has nothing of theirs.
#[test]
fn p12_early_hints_reach_the_client_before_the_answer() {
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |peer| {
        if peer.request().is_some() {
            peer.send(HINT);
            peer.send("HTTP/1.1 102 Processing\r\n\r\n");
            wait.lock().expect("one script").recv().expect("the client has read both");
            peer.send(OK);
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(GET);
    let hint = conn.head();
    assert_eq!(hint.start, "HTTP/1.1 103 Early Hints");
    assert_eq!(hint.fields.0, [("Link".to_owned(), "</x>; rel=preload".to_owned())]);
    let processing = conn.head();
    assert_eq!((processing.status(), processing.fields.0.len()), (102, 0));
    go_on.send(()).expect("the node waits");
    let answer = conn.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!((answer.fields.get("link"), answer.fields.get("x-hop")), (None, None));
}

/// RFC 9110 §15.2: a client of HTTP/1.0 does not know what they are.
#[test]
fn p12_a_client_of_http10_gets_the_answer_alone() {
    let (_origin, proxy) = pair(format!("{HINT}{OK}"));
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").head();
    assert_eq!((answer.status(), answer.fields.get("link")), (200, None));
    assert_eq!(conn.rest(), b"ok");
}

/// The same request over HTTP/2: the final response has nothing of the hints there either.
#[test]
fn p12_a_client_of_http2_is_answered() {
    let (_origin, proxy) = pair(format!("{HINT}{OK}"));
    let answer = H2::open(proxy.addr(0)).ask(request("GET", "/", &[]), b"", None);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    assert!(!answer.fields.contains_key("link"));
}

/// P12, P56: the same connection serves on, and each response has its own hints.
#[test]
fn p56_hints_stay_with_their_request() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/hint" {
                peer.send(HINT);
            }
            peer.send(OK);
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    for (target, hinted) in [("/hint", true), ("/", false), ("/hint", true)] {
        conn.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if hinted {
            assert_eq!(conn.head().status(), 103);
        }
        let answer = conn.head();
        assert_eq!((answer.status(), answer.fields.get("link")), (200, None));
        let mut body = [0; 2];
        conn.stream.read_exact(&mut body).expect("the body");
        assert_eq!(&body, b"ok");
    }
    assert_eq!(origin.connections(), 1);
}

/// T13: more than ten for one request is an attack; the client hears of ten at most.
#[test]
fn t13_a_flood_of_interim_responses_is_a_502() {
    let (_origin, proxy) = pair(format!("{}{OK}", HINT.repeat(11)));
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(GET);
    for _ in 0..10 {
        assert_eq!(conn.head().status(), 103);
    }
    assert_eq!(conn.head().status(), 502);
    let (_origin, proxy) = pair(format!("{}{OK}", HINT.repeat(10)));
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
}

/// An unread mass of hints costs no memory and not the answer.
#[test]
fn hints_beyond_the_room_are_left_out() {
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(15 * 1024));
    let (_origin, proxy) = pair(format!("{}{OK}", hint.repeat(10)));
    let mut conn = Conn::open(proxy.addr(0));
    let mut hints = 0;
    let mut head = conn.send(GET).head();
    while head.status() == 103 {
        hints += 1;
        head = conn.head();
    }
    assert_eq!(head.status(), 200);
    assert!((1..=10).contains(&hints), "{hints}");
}

/// P11, RFC 9110 §10.1.1: a `100 Continue` that nobody asked for means nothing and goes no further.
#[test]
fn p11_a_100_that_nobody_asked_for_ends_at_the_proxy() {
    let (_origin, proxy) = pair(format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"));
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).head().status(), 200);
}
