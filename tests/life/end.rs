//! SIGTERM and SIGINT: what is open finishes, nothing new begins, and it does end.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::h2::{H2, request};
use crate::support::{Conn, Origin, PATIENCE, Peer, Proxy, Signal, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that answers `/` at once and anything else when told.
pub(super) fn held() -> (Origin, Sender<()>) {
    let (go, told) = channel::<()>();
    let told = Mutex::new(told);
    let origin = Origin::start(move |peer: &mut Peer| {
        while let Some(request) = peer.request() {
            if request.target() != "/" {
                // An error: the test is over.
                let _ = told.lock().expect("nobody panics with it").recv_timeout(PATIENCE);
            }
            peer.send(OK);
        }
    });
    (origin, go)
}

fn slow(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn an_idle_process_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (origin, _go) = held();
        for log in ["off", "-"] {
            let mut proxy = Proxy::http(&origin.url(), &["--access-log", log]);
            assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
            proxy.signal(signal);
            assert_eq!(proxy.wait(), Some(0));
            // Its last line is not lost.
            assert_eq!(proxy.stdout().lines().count(), usize::from(log == "-"));
        }
    }
}

/// R04: the open request finishes, the idle connection ends, a new one is refused.
#[test]
fn r04_a_drain_finishes_what_is_open() {
    let (origin, go) = held();
    let arguments = ["--admin", "127.0.0.1:0", "--access-log", "-"];
    let mut proxy = Proxy::http(&origin.url(), &arguments);
    let mut idle = Conn::open(proxy.addr(0));
    assert_eq!(idle.ask(GET).status(), 200);
    let mut busy = Conn::open(proxy.addr(0));
    busy.send(slow("/busy"));
    origin.wait_for("/busy");
    proxy.signal(Signal::TERM);
    proxy.wait_stderr("a second signal stops at once");
    idle.assert_ends();
    eventually("new connections are refused", || TcpStream::connect(proxy.addr(0)).err());
    // Whoever balances over this one is told to go elsewhere; it is alive all the same.
    let admin = |path: &str| {
        Conn::open(proxy.admin()).ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    };
    assert_eq!((admin("/readyz").status(), admin("/livez").status()), (503, 200));
    go.send(()).expect("the node waits");
    let answer = busy.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert!(answer.fields.lists("connection", "close"), "{answer:?}");
    busy.assert_ends();
    assert_eq!(proxy.wait(), Some(0));
    assert_eq!(proxy.stdout().lines().count(), 2, "{}", proxy.stdout());
}

/// A body that is still coming is not cut.
#[test]
fn r04_a_drain_does_not_cut_a_body() {
    let (go, told) = channel::<()>();
    let told = Mutex::new(told);
    let origin = Origin::start(move |peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
            let _ = told.lock().expect("nobody panics with it").recv_timeout(PATIENCE);
            peer.send("world");
        }
    });
    let mut proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).head().status(), 200);
    let mut first = [0; 5];
    conn.stream.read_exact(&mut first).expect("the beginning");
    proxy.signal(Signal::TERM);
    proxy.wait_stderr("a second signal stops at once");
    go.send(()).expect("the node waits");
    assert_eq!(conn.rest(), b"world");
    assert_eq!(proxy.wait(), Some(0));
}

/// HTTP/2: GOAWAY, and the open stream finishes (RFC 9113 §6.8).
#[test]
fn r04_a_drain_finishes_open_streams() {
    let (origin, go) = held();
    let mut proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut idle = H2::open(proxy.addr(0));
    assert_eq!(idle.ask(request("GET", "/", &[]), b"", None).status, 200);
    let mut busy = H2::open(proxy.addr(0));
    let open = busy.begin(request("GET", "/busy", &[]), true);
    busy.run_until(|| origin.seen().contains("/busy").then_some(()));
    proxy.signal(Signal::TERM);
    proxy.wait_stderr("a second signal stops at once");
    // In order: NO_ERROR, not a broken connection.
    idle.wait_end().expect("an orderly end");
    go.send(()).expect("the node waits");
    let answer = busy.finish(open).expect("a response");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    busy.wait_end().expect("an orderly end");
    assert_eq!(proxy.wait(), Some(0));
}

/// WebSocket: both sides hear Close 1001, "going away" (RFC 6455 §7.4.1).
#[test]
fn r04_a_drain_closes_websockets_with_1001() {
    let origin = Origin::start(|peer| {
        if peer.head().is_none() {
            return;
        }
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        let mut head = [0; 6];
        peer.read_exact(&mut head).expect("a frame");
        let [kind, length, mask @ ..] = head;
        assert_eq!(kind, 0x88, "a close");
        let mut code = vec![0; usize::from(length & 0x7f)];
        peer.read_exact(&mut code).expect("its payload");
        let code: Vec<u8> = code.iter().zip(mask.iter().cycle()).map(|(c, m)| c ^ m).collect();
        assert_eq!(code[..2], 1001_u16.to_be_bytes());
        peer.send(b"\x88\x02\x03\xe9");
        peer.wait_end();
    });
    let mut proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(conn.head().status(), 101);
    proxy.signal(Signal::TERM);
    let mut head = [0; 4];
    conn.stream.read_exact(&mut head).expect("a frame");
    assert_eq!((head[0], &head[2..]), (0x88, &1001_u16.to_be_bytes()[..]));
    let mut reason = vec![0; usize::from(head[1]) - 2];
    conn.stream.read_exact(&mut reason).expect("a reason");
    conn.send(b"\x88\x82\0\0\0\0\x03\xe9");
    assert_eq!(proxy.wait(), Some(0));
    origin.wait_ended(1);
}

#[test]
fn a_second_signal_stops_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let (origin, _go) = held();
        let mut proxy = Proxy::http(&origin.url(), &["--grace", "1h", "--access-log", "-"]);
        let mut busy = Conn::open(proxy.addr(0));
        busy.send(slow("/busy"));
        origin.wait_for("/busy");
        proxy.signal(Signal::TERM);
        proxy.wait_stderr("a second signal stops at once");
        // One of the same kind counts only when it is another one, so it is sent until it is.
        let name = if second == Signal::TERM { "SIGTERM" } else { "SIGINT" };
        let said = format!("gwproxy: a second signal ({name}): 1 connection cut off");
        eventually("it ends", || {
            proxy.try_signal(second);
            proxy.stderr().contains(&said).then_some(())
        });
        assert_eq!(proxy.wait(), Some(1));
        assert_eq!(busy.rest(), b"");
        // What was cut off is in the log as well.
        assert_eq!(proxy.stdout().lines().count(), 1, "{}", proxy.stdout());
    }
}

/// Every operator's word for "read the file again": until that is there, it ends nothing.
#[test]
fn a_hang_up_ends_nothing() {
    let (origin, go) = held();
    let mut proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut busy = Conn::open(proxy.addr(0));
    busy.send(slow("/busy"));
    origin.wait_for("/busy");
    proxy.signal(Signal::HUP);
    proxy.wait_stderr("SIGHUP changes nothing");
    drop(go);
    assert_eq!(busy.response().status(), 200);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(0));
}

/// What `logrotate` does: rename, tell, and the old file has ended. Where there is no file, and for
/// the signal that means nothing, one line and no end.
#[test]
fn sigusr1_opens_the_access_log_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let lines = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(String::from).collect::<Vec<_>>()
    };
    let origin = Origin::answering(OK);
    let file = log.display().to_string();
    let mut proxy = Proxy::http(&origin.url(), &["--access-log", &file]);
    let ask = |path: &str| {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(slow(path));
        assert_eq!(conn.response().status(), 200);
    };
    ask("/before");
    eventually("the line is written", || (lines(&log).len() == 1).then_some(()));
    std::fs::rename(&log, &old).expect("a rename");
    proxy.signal(Signal::USR1);
    proxy.wait_stderr("is opened again");
    ask("/after");
    proxy.signal(Signal::USR2);
    proxy.wait_stderr("SIGUSR2 changes nothing");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(0));
    let (before, after) = (lines(&old), lines(&log));
    assert!(before.len() == 1 && before[0].contains("/before"), "{before:?}");
    assert!(after.len() == 1 && after[0].contains("/after"), "{after:?}");

    let mut proxy = Proxy::http(&origin.url(), &["--access-log", "-"]);
    proxy.signal(Signal::USR1);
    proxy.wait_stderr("SIGUSR1 changes nothing");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn the_grace_period_is_the_longest_it_takes() {
    let (origin, _go) = held();
    let mut proxy = Proxy::http(&origin.url(), &["--grace", "200ms", "--access-log", "off"]);
    let mut busy = Conn::open(proxy.addr(0));
    busy.send(slow("/busy"));
    origin.wait_for("/busy");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(1));
    let said = "gwproxy: the grace period is over: 1 connection cut off after 200ms";
    assert!(proxy.stderr().contains(said), "{}", proxy.stderr());
    assert_eq!(busy.rest(), b"");
}

/// A file's every listener drains.
#[test]
fn every_listener_drains() {
    let mut proxy = Proxy::run_file(
        "access_log: 'off'
grace: 1h
listeners:
  - {name: web, protocol: http, bind: '127.0.0.1:0', service: hello}
  - {name: chat, protocol: ws, bind: '127.0.0.1:0', service: messages}
services:
  - {id: hello, nodes: ['echo:http']}
  - {id: messages, protocol: ws, nodes: ['echo:ws']}
",
    );
    let mut idle = Conn::open(proxy.addr(0));
    assert_eq!(idle.ask(GET).status(), 200);
    let mut silent = Conn::open(proxy.addr(1));
    proxy.signal(Signal::TERM);
    idle.assert_ends();
    silent.assert_ends();
    assert_eq!(proxy.wait(), Some(0));
}
