//! A client that ends its sending direction: when that means that it waits, and when that it left.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::{Conn, Origin, PATIENCE, Proxy, start, tool};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// One worker: what it was sent first it has seen first.
const FLAGS: [&str; 4] = ["--workers", "1", "--access-log", "-"];

/// An origin that answers `/slow` when told and everything else at once.
fn held() -> (Origin, Sender<()>) {
    let (go, told) = channel::<()>();
    let told = Mutex::new(told);
    let origin = Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/slow" {
                // An error: the test is over.
                let _ = told.lock().expect("nobody panics with it").recv_timeout(PATIENCE);
            }
            peer.send(OK);
        }
    });
    (origin, go)
}

/// Sends all of `request` and the end, and gives the answer, which begins only after the proxy saw
/// the end.
fn half_closed(flags: &[&str], request: &str) -> Vec<u8> {
    let (origin, go) = held();
    let proxy = Proxy::http(&origin.url(), &[&FLAGS[..], flags].concat());
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(request);
    origin.wait_for("/slow");
    conn.finish();
    // A whole request on another connection comes after the end of this one.
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
    go.send(()).expect("the node waits");
    conn.rest()
}

/// `printf … | nc -N`, scripts of HTTP/1.0: a request that is the last of its connection is
/// answered in full.
#[test]
fn a_half_closed_last_request_is_answered() {
    for request in [
        "GET /slow HTTP/1.0\r\n\r\n",
        "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST /slow HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        "POST /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    ] {
        let answer = crate::support::text(&half_closed(&[], request));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request}: {answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{request}: {answer}");
    }
}

/// With `--half-close allow` every whole request is answered, those sent ahead too.
#[test]
fn half_close_allow_answers_every_whole_request() {
    let slow = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    let one = crate::support::text(&half_closed(&["--half-close", "allow"], slow));
    assert!(one.to_lowercase().contains("\r\nconnection: close\r\n"), "{one}");
    let two = half_closed(&["--half-close", "allow"], &format!("{slow}{GET}"));
    let two = crate::support::text(&two);
    assert_eq!(two.matches("HTTP/1.1 200 ").count(), 2, "{two}");
    assert!(two.ends_with("\r\n\r\nok"), "{two}");
}

/// What came in part is no request, whatever the setting: no node answers it.
#[test]
fn a_request_cut_short_is_not_answered() {
    for (flag, request) in [
        ("abort", "POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\nhello"),
        ("allow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello"),
        ("allow", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("allow", "GET / HTTP/1.1\r\nHost: a\r\n"),
    ] {
        let origin = Origin::answering(OK);
        let flags = ["--half-close", flag, "--access-log", "off"];
        let proxy = Proxy::http(&origin.url(), &flags);
        let answer = crate::support::text(&Conn::open(proxy.addr(0)).send(request).finish().rest());
        assert!(!answer.contains(" 200 "), "{request}: {answer}");
    }
}

/// Where another request could follow, the end means by default that nobody waits; the node hears
/// of it. `curl` that is killed looks the same.
#[test]
fn a_client_that_ends_before_its_last_request_cancels_it() {
    let origin = Origin::start(|peer| {
        let _ = peer.request();
        peer.wait_end();
    });
    let proxy = Proxy::http(&origin.url(), &FLAGS);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(GET);
    origin.wait_for("\r\n\r\n");
    conn.finish().assert_ends();
    origin.wait_ended(1);
    let (mut curl, _out, _err) = start(tool("curl").args(["-s", &proxy.url("http", "/curl")]));
    origin.wait_for("/curl");
    curl.kill().expect("it runs");
    curl.wait().expect("it ends");
    origin.wait_ended(2);
    for line in proxy.wait_lines(2) {
        assert!(line.contains("\"error\":\"client_closed\""), "{line}");
    }
}

/// A client that half-closed and is gone after all: the first write that fails ends the exchange.
#[test]
fn a_reset_after_a_half_close_ends_the_exchange() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            while peer.stream.write_all(&[0; 16 * 1024]).is_ok() {}
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--half-close", "allow", "--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).finish().head().status(), 200);
    conn.reset();
    origin.wait_ended(1);
}
