//! What the process does when something runs short: memory, descriptors, places for one client.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::h2::{Frame, H2, PREFACE, flag, kind, request};
use crate::support::{Conn, Message, Origin, Proxy, curl, echo, eventually, home, wrapped};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How often a node that waits looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// A node that takes its time with `/hold`: it reads nothing more. `/wait` it answers when the whole
/// body is there.
fn node(is_over: &Arc<AtomicBool>) -> Origin {
    let is_over = Arc::clone(is_over);
    Origin::start(move |peer| {
        while let Some(mut head) = peer.head() {
            if head.target() == "/hold" {
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::park_timeout(LOOK);
                }
                return;
            }
            if head.read_body(peer, false).is_none() {
                return;
            }
            peer.send(OK);
        }
    })
}

/// As much of uploads as HTTP/2 windows allow, on one connection.
fn upload(proxy: &Proxy) -> Conn {
    const POST_HOLD: &[u8] = b"\x83\x86\x04\x05/hold\x01\x01a";
    let mut client = Conn::open(proxy.addr(0));
    client.send(PREFACE);
    for stream in [1, 3, 5, 7] {
        client.send(Frame::new(kind::HEADERS, flag::END_HEADERS, stream, POST_HOLD).bytes());
    }
    for _ in 0..15 {
        for stream in [1, 3, 5, 7] {
            client.send(Frame::new(kind::DATA, 0, stream, vec![b'u'; 16 * 1024]).bytes());
        }
    }
    client
}

#[track_caller]
fn metric(proxy: &Proxy, name: &str) -> u64 {
    let metrics = curl(&[&format!("http://{}/metrics", proxy.admin())]).ok().text();
    let of = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    metrics.lines().find_map(of).unwrap_or_default()
}

/// R17, D17: at 90 % of the limit new requests get 503 and when to come again, each protocol in its
/// way; what is under way goes on; the admin address answers; when the memory is back, so is the
/// service.
#[test]
fn r17_short_of_memory_new_requests_are_refused_until_it_is_back() {
    let is_over = Arc::new(AtomicBool::new(false));
    let origin = node(&is_over);
    let options = ["--workers", "1", "--access-log", "off", "--admin", "127.0.0.1:0"];
    let own = {
        let proxy = Proxy::http(&origin.url(), &options);
        assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
        proxy.memory("VmRSS")
    };
    // 90 % are some 20 MiB above what it takes by itself.
    let limit = format!("{}KiB", (own + 20 * 1024) * 100 / 90);
    let proxy = Proxy::http(&origin.url(), &[&options[..], &["--memory-limit", &limit]].concat());
    let mut honest = Conn::open(proxy.addr(0));
    assert_eq!(honest.ask(GET).status(), 200);
    let mut under_way = Conn::open(proxy.addr(0));
    under_way.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    origin.wait_for("hel");
    let mut uploads = Vec::new();
    let refused = eventually("a request is refused", || {
        uploads.push(upload(&proxy));
        let answer = honest.ask(GET);
        (answer.status() != 200).then_some(answer)
    });
    assert_eq!((refused.status(), refused.fields.get("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["code"], "overloaded");
    proxy.wait_stderr("new requests");
    assert!(metric(&proxy, "gwproxy_memory_refused_total") >= 1);
    assert!(metric(&proxy, "gwproxy_memory_pressure") >= 1);
    assert_eq!(under_way.ask("lo").status(), 200, "what is under way goes on");
    is_over.store(true, Ordering::Relaxed);
    drop(uploads);
    eventually("it serves again", || (honest.ask(GET).status() == 200).then_some(()));
    proxy.wait_stderr("everybody is served again");
    assert_eq!(metric(&proxy, "gwproxy_memory_pressure"), 0);
}

/// Listeners of all four protocols in one process, the one for HTTP first.
fn four(node: &Origin, more: &str) -> Proxy {
    Proxy::run_file(&format!(
        "{more}workers: 1
access_log: 'off'
listeners:
  - {{protocol: http, bind: '127.0.0.1:0', service: web}}
  - {{protocol: grpc, bind: '127.0.0.1:0', service: calls}}
  - {{protocol: ws, bind: '127.0.0.1:0', service: chat}}
  - {{protocol: tcp, bind: '127.0.0.1:0', service: raw}}
services:
  - {{id: web, nodes: ['{}']}}
  - {{id: calls, protocol: grpc, nodes: ['echo:grpc']}}
  - {{id: chat, protocol: ws, nodes: ['echo:ws']}}
  - {{id: raw, protocol: tcp, nodes: ['echo:tcp']}}
",
        node.url()
    ))
}

/// R17, D17, the same for the others: a call is `UNAVAILABLE`, a handshake gets 503, a TCP
/// connection is closed without a byte; a WebSocket and a TCP connection that are there go on.
#[test]
fn r17_calls_websockets_and_tcp_are_refused_too() {
    let is_over = Arc::new(AtomicBool::new(false));
    let origin = node(&is_over);
    let own = {
        let proxy = four(&origin, "");
        assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
        proxy.memory("VmRSS")
    };
    let limit = (own + 20 * 1024) * 100 / 90;
    let proxy = four(&origin, &format!("limits: {{memory: {limit}KiB}}\n"));
    let [web, rpc, chat, raw] = [0, 1, 2, 3].map(|number| proxy.addr(number));
    let mut calls = H2::open(rpc);
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut call = || {
        let answer = calls.ask(request("POST", "/test.Any/Thing", &fields), &[0; 5], None);
        assert_eq!(answer.status, 200);
        answer.fields["grpc-status"].clone()
    };
    let talks = |conn: &mut Conn, sent: &[u8], expected: &[u8]| {
        let mut answer = vec![0; expected.len()];
        conn.send(sent).stream.read_exact(&mut answer).is_ok_and(|()| answer == expected)
    };
    let handshake = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    // `hi` in a text frame, with a mask of zeros, and as it comes back.
    let (said, echoed) = (b"\x81\x82\0\0\0\0hi", b"\x81\x02hi");
    // UNIMPLEMENTED, by the node.
    assert_eq!(call(), "12");
    let (mut websocket, mut next, mut tcp) = (Conn::open(chat), Conn::open(chat), Conn::open(raw));
    assert_eq!(websocket.ask(handshake).status(), 101);
    assert!(talks(&mut websocket, said, echoed) && talks(&mut tcp, b"hi", b"hi"));

    let (mut honest, mut uploads) = (Conn::open(web), Vec::new());
    eventually("a request is refused", || {
        uploads.push(upload(&proxy));
        (honest.ask(GET).status() == 503).then_some(())
    });
    assert_eq!(call(), "14", "UNAVAILABLE");
    let refused = next.ask(handshake);
    assert_eq!((refused.status(), refused.fields.get("retry-after")), (503, Some("1")));
    assert!(!talks(&mut Conn::open(raw), b"hi", b"hi"), "a TCP connection");
    assert!(talks(&mut websocket, said, echoed) && talks(&mut tcp, b"hi", b"hi"));

    is_over.store(true, Ordering::Relaxed);
    drop(uploads);
    eventually("it serves again", || (honest.ask(GET).status() == 200).then_some(()));
    assert_eq!(call(), "12");
    assert_eq!(Conn::open(chat).ask(handshake).status(), 101);
    assert!(talks(&mut Conn::open(raw), b"hi", b"hi"));
}

/// D17: without a limit, and with `off`, nothing is watched and nothing told.
#[test]
fn d17_switched_off_the_memory_guard_tells_nothing() {
    let origin = Origin::answering(OK);
    let options = ["--memory-limit", "off", "--admin", "127.0.0.1:0", "--access-log", "off"];
    let proxy = Proxy::http(&origin.url(), &options);
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
    let metrics = curl(&[&format!("http://{}/metrics", proxy.admin())]).ok().text();
    assert!(!metrics.contains("gwproxy_memory"), "{metrics}");
}

/// R16: when clients have taken every descriptor that they may have, the admin address still
/// answers, again and again.
#[test]
fn r16_the_admin_address_answers_when_descriptors_are_out() {
    let origin = Origin::answering(OK);
    let home = home();
    let mut command = wrapped(&["prlimit", "--nofile=128:128"], &home);
    command.args(["http", "--listen", "127.0.0.1:0", "--to", &origin.url(), "--workers", "2"]);
    command.args(["--access-log", "off", "--admin", "127.0.0.1:0"]);
    let proxy = Proxy::launch(&mut command, home, 2);
    let crowd: Vec<Conn> = (0..300).map(|_| Conn::open(proxy.addr(0))).collect();
    proxy.wait_stderr("accept failed");
    for _ in 0..20 {
        let mut admin = Conn::open(proxy.admin());
        assert_eq!(admin.ask("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
    drop(crowd);
    eventually("it serves again", || {
        let mut conn = Conn::open(proxy.addr(0));
        // It may still be refused, which is an end without an answer.
        let answer = Message::head(&mut conn.send(GET).stream);
        answer.filter(|answer| answer.status() == 200).map(|_| ())
    });
}

/// D16: an address has as many connections as it may over all workers, and another one is closed at
/// once; other addresses are let in, and whoever leaves makes room.
#[test]
fn d16_an_address_has_its_connections_and_no_more() {
    let echo = echo("tcp", &[]);
    let to = echo.addr(0).to_string();
    let proxy = Proxy::start(&[
        "tcp",
        "--listen",
        "127.0.0.1:0",
        "--to",
        &to,
        "--workers",
        "2",
        "--max-connections-per-ip",
        "3",
        "--access-log",
        "off",
        "--admin",
        "127.0.0.1:0",
    ]);
    let talks = |conn: &mut Conn| {
        let mut answer = [0; 2];
        conn.send("hi").stream.read_exact(&mut answer).is_ok_and(|()| &answer == b"hi")
    };
    let enter = || Conn::open(proxy.addr(0));
    let mut inside: Vec<Conn> = (0..3).map(|_| enter()).collect();
    assert!(inside.iter_mut().all(talks));
    assert!(!talks(&mut enter()), "a fourth one");
    proxy.wait_stderr("max_connections_per_ip");
    let line = "gwproxy_errors_total{service=\"-\",code=\"overloaded\"}";
    assert_eq!(metric(&proxy, line), 1);
    assert!(talks(&mut Conn::open_from("127.0.0.2", proxy.addr(0))), "another address");
    drop(inside.pop());
    eventually("there is room again", || talks(&mut enter()).then_some(()));
    assert!(inside.iter_mut().all(talks), "the others stayed");
}

/// D16: nobody set it, and whoever tests from this machine is not held to what strangers may have.
#[test]
fn d16_this_machine_has_as_many_as_it_likes() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut crowd: Vec<Conn> = (0..600).map(|_| Conn::open(proxy.addr(0))).collect();
    assert_eq!(crowd[599].ask(GET).status(), 200);
    assert_eq!(crowd[0].ask(GET).status(), 200);
}
