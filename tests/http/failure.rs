//! Nodes that fail: another one is tried where that is safe, and the client is told the truth.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::h2::{H2, request};
use crate::support::{Conn, Message, Origin, Peer, Proxy, raw, text};

const QUIET: [&str; 2] = ["--access-log", "off"];
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An address where nobody listens. The socket keeps the port from others.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let addr = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    (socket, addr)
}

/// Sends `request` to a proxy with these nodes; its answer.
#[track_caller]
fn ask(proxy: &Proxy, request: &str) -> Message {
    Conn::open(proxy.addr(0)).ask(request)
}

/// The proxy's own answer: problem+json with this code, and `Proxy-Status`.
#[track_caller]
fn assert_problem(answer: &Message, status: u16, code: &str, proxy_error: &str) {
    assert_eq!(answer.status(), status, "{}", answer.text());
    assert_eq!(answer.fields.get("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()));
    // What is inside is nobody's business outside.
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    // P58.
    assert_eq!(answer.fields.get("proxy-status"), Some(&*format!("gwproxy; error={proxy_error}")));
}

/// P58.
#[test]
fn a_node_that_refuses_is_a_502_with_its_code() {
    let (_held, addr) = refusing();
    let proxy = Proxy::http(&format!("http://{addr}"), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    assert_problem(&conn.ask(GET), 502, "upstream_refused", "connection_refused");
    // The client's connection is as good as before, also after a body that nobody took.
    assert_problem(&conn.ask(POST), 502, "upstream_refused", "connection_refused");
    assert_problem(&conn.ask(GET), 502, "upstream_refused", "connection_refused");
    // B.10: the log says in one sentence what and where.
    proxy.wait_stderr(&format!("{addr}"));
    proxy.wait_stderr("upstream_refused");
}

/// Row 4.11: what was not sent may go to another node, whatever its method.
#[test]
fn a_request_goes_to_the_next_node_when_one_refuses() {
    let (_held, addr) = refusing();
    let origin = Origin::answering(OK);
    let good = origin.url();
    let proxy = Proxy::http(&format!("http://{addr}"), &["--to", &good, "--access-log", "off"]);
    for _ in 0..4 {
        assert_eq!(ask(&proxy, GET).text(), "ok");
        assert_eq!(ask(&proxy, POST).text(), "ok");
    }
    assert_eq!(origin.seen().matches("hello").count(), 4);
}

#[test]
fn when_every_node_refuses_the_client_is_told() {
    let (_one, first) = refusing();
    let (_two, second) = refusing();
    let (first, second) = (format!("http://{first}"), format!("http://{second}"));
    let proxy = Proxy::http(&first, &["--to", &second, "--access-log", "off"]);
    assert_problem(&ask(&proxy, GET), 502, "upstream_refused", "connection_refused");
}

/// A node that ends the connection in the middle of a request without a word.
fn hangs_up(peer: &mut Peer) {
    let _ = peer.request();
    peer.reset();
}

/// T66, P09: repeating is safe for GET; for POST nobody knows, so the client is told.
#[test]
fn p09_a_reset_is_tried_again_only_where_that_is_safe() {
    let bad = Origin::start(hangs_up);
    let good = Origin::answering(OK);
    let (to_bad, to_good) = (bad.url(), good.url());
    let proxy =
        Proxy::http(&to_bad, &["--to", &to_good, "--balance", "first", "--access-log", "off"]);
    assert_eq!(ask(&proxy, GET).text(), "ok");
    assert_eq!((bad.connections(), good.connections()), (1, 1));
    assert_problem(&ask(&proxy, POST), 502, "upstream_reset", "connection_terminated");
    assert_eq!(bad.seen().matches("hello").count(), 1, "sent once");
    assert!(!good.seen().contains("hello"), "sent to another node");
}

/// A kept connection that the node closes just as the next request arrives: the request that may
/// be repeated finds a fresh one, also where there is only one node.
#[test]
fn a_stale_connection_costs_no_idempotent_request() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            peer.send(OK);
        }
        // The first connection ends as soon as the second request has come.
        if peer.number == 0 {
            let _ = peer.request();
            return;
        }
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask(GET).text(), "ok");
    assert_eq!(conn.ask(GET).text(), "ok", "the request met a closing connection and was lost");
    assert_eq!(origin.connections(), 2);
}

/// P09.
#[test]
fn a_stale_connection_fails_a_post_once() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            peer.send(OK);
        }
        let _ = peer.request();
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask(GET).text(), "ok");
    assert_problem(&conn.ask(POST), 502, "upstream_reset", "connection_terminated");
    assert_eq!(origin.seen().matches("hello").count(), 1);
}

/// A connection that the node closed between requests is found out before anything is sent.
#[test]
fn a_connection_closed_in_between_costs_nothing() {
    let origin = Origin::saying(OK);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    for n in 1..=3 {
        assert_eq!(conn.ask(POST).text(), "ok");
        origin.wait_ended(n);
    }
}

#[test]
fn a_node_that_does_not_answer_is_a_504() {
    let origin = Origin::start(|peer| {
        let _ = peer.request();
        peer.wait_end();
    });
    let proxy = Proxy::http(&origin.url(), &["--timeout", "200ms", "--access-log", "off"]);
    assert_problem(&ask(&proxy, GET), 504, "upstream_timeout", "http_response_timeout");
    // The connection is given up, not kept for the next one to get a late answer.
    origin.wait_ended(1);
}

#[test]
fn a_node_that_does_not_accept_is_a_504() {
    // A queue of one that is full: the kernel answers no further SYN.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(0).expect("listening");
    let addr = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 10, "the queue does not fill");
    }
    let arguments = ["--connect-timeout", "200ms", "--access-log", "off"];
    let proxy = Proxy::http(&format!("http://{addr}"), &arguments);
    assert_problem(&ask(&proxy, GET), 504, "upstream_connect_timeout", "connection_timeout");
}

/// T13, P27: what is no valid response never reaches a client, and the connection is not used
/// again.
#[test]
fn t13_a_malformed_response_is_a_502() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let many = format!("{}{OK}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000));
    let cases: [(&str, &str); 20] = [
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("no version", "200 OK\r\n\r\n"),
        ("HTTP/2 in words", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
        ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            "both lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "both lengths, the other way round",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
        ("a coding we did not ask for", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"),
        ("obs-fold", "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok"),
        ("bare CR in a value", "HTTP/1.1 200 OK\r\nX-A: 1\r2\r\nContent-Length: 2\r\n\r\nok"),
        ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: 1\0\r\nContent-Length: 2\r\n\r\nok"),
        ("space in a name", "HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 2\r\n\r\nok"),
        ("switching unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        ("a field of 1 MiB", &long),
        ("10,000 interim responses", &many),
    ];
    for (what, response) in cases {
        let origin = Origin::saying(response);
        let proxy = Proxy::http(&origin.url(), &QUIET);
        let mut conn = Conn::open(proxy.addr(0));
        let answer = conn.ask(POST);
        assert_eq!(answer.status(), 502, "{what}: {answer:?}");
        assert_eq!(answer.json()["code"], "upstream_malformed", "{what}");
        assert_eq!(conn.ask(POST).status(), 502, "{what}");
        assert_eq!(origin.connections(), 2, "{what}: the connection was used again");
    }
}

/// T06, T13, P30, P32: bytes behind a response belong to nobody.
#[test]
fn t13_what_follows_a_response_is_never_one() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (response, extra) in [
        (OK, "extra bytes"),
        (OK, evil),
        // T06: these have no body, whatever they say.
        ("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", "evil"),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", evil),
    ] {
        let said = format!("{response}{extra}");
        let text = if response.starts_with(OK) { "ok" } else { "" };
        let origin = Origin::start(move |peer| {
            while peer.request().is_some() {
                peer.send(&said);
            }
        });
        let proxy = Proxy::http(&origin.url(), &QUIET);
        let mut conn = Conn::open(proxy.addr(0));
        for n in 1..=3 {
            assert_eq!(conn.ask(GET).text(), text, "{response}");
            assert_eq!(origin.connections(), n, "{response}: the connection was used again");
        }
    }
}

/// T07: a node that answers before it has read the body is not given another request behind it.
#[test]
fn t07_a_node_that_ignores_bodies_does_not_poison_the_next_response() {
    let origin = Origin::start(|peer| {
        // Heads only: the chunks look like the next request.
        while let Some(head) = peer.head() {
            peer.send(OK);
            if head.method() == "OPTIONS" {
                peer.wait_end();
                return;
            }
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--workers", "1", "--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send("OPTIONS / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(conn.response().status(), 200);
    conn.send("1e\r\nGET /x HTTP/1.1\r\nHost: evil\r\n\r\n\r\n0\r\n\r\n");
    let mut other = Conn::open(proxy.addr(0));
    assert_eq!(other.ask(GET).text(), "ok");
    assert_eq!(origin.connections(), 2);
}

/// P29, R06: a body that was cut off is never taken for a whole one.
#[test]
fn r06_a_cut_body_is_seen_as_cut() {
    for (what, response) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        ("chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhello"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
        ("size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n"),
        ("end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloxx0\r\n\r\n"),
    ] {
        let origin = Origin::saying(response);
        let proxy = Proxy::http(&origin.url(), &QUIET);
        // In order: a reset would take away what had arrived.
        let got = text(&raw(proxy.addr(0), GET));
        let (head, body) = got.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 200") && body.contains("hello"), "{what}: {got:?}");
        let whole = if head.to_lowercase().contains("content-length: 10") {
            body.len() == 10
        } else {
            body.ends_with("0\r\n\r\n")
        };
        assert!(!whole, "{what}: the body looks complete: {got:?}");
        let mut client = H2::open(proxy.addr(0));
        let open = client.begin(request("GET", "/", &[]), true);
        assert!(client.finish(open).is_err(), "{what}: the stream ended in order");
    }
}

/// T16, P29, R06 the other way: a client that ends in mid-body is no reason for the node to act.
#[test]
fn r06_a_cut_request_is_never_whole_for_the_node() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let origin = Origin::start(|peer| {
            peer.wait_end();
        });
        let proxy = Proxy::http(&origin.url(), &QUIET);
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(request);
        origin.wait_for("hello");
        conn.finish();
        origin.wait_ended(1);
        assert!(!origin.seen().ends_with("0\r\n\r\n"), "{}", origin.seen());
    }
}

/// T34: a request that comes back is not sent around for ever.
#[test]
fn p05_a_proxy_in_front_of_itself_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let own = format!("unix:{}", dir.path().join("own.sock").display());
    let yaml = format!(
        "access_log: 'off'
listeners:
  - {{name: in, bind: '127.0.0.1:0', service: own}}
  - {{name: own, bind: '{own}', service: own}}
services: [{{id: own, nodes: ['{own}']}}]
"
    );
    let answer = ask(&Proxy::run_file(&yaml), GET);
    assert_eq!((answer.status(), &answer.json()["code"]), (508, &"loop_detected".into()));
}

/// D04: a connection to a node that nothing uses is closed when the service says so, and with zero
/// none is kept.
#[test]
fn d04_unused_connections_to_nodes_are_closed() {
    for (keep_alive, shared) in [("1s", true), ("0s", false)] {
        let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let proxy = Proxy::run_file(&format!(
            "workers: 1\nlisteners:\n  - {{ name: front, bind: 127.0.0.1:0, service: s }}\n\
             services:\n  - id: s\n    nodes: [{}]\n    timeouts: {{ keep_alive: {keep_alive} }}\n",
            origin.url()
        ));
        let mut conn = Conn::open(proxy.addr(0));
        for _ in 0..3 {
            assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
        }
        // The default is more than a test waits for.
        origin.wait_ended(origin.connections());
        assert_eq!(origin.connections() < 3, shared, "{keep_alive}");
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
}

/// T66, D34: nodes that take every request and answer none, under load. What they see in all is what
/// clients asked, a fifth more, and ten each second, ten seconds of which may have been saved up; what
/// has an effect they see once.
#[test]
fn t66_nodes_that_fail_everything_are_not_asked_more() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 500;
    let nodes = [(); 3].map(|()| Origin::start(hangs_up));
    let more = nodes.each_ref().map(Origin::url);
    let proxy = Proxy::http(
        &more[0],
        &["--to", &more[1], "--to", &more[2], "--access-log", "off", "--workers", "2"],
    );
    let seen = |needle: &str| -> usize {
        nodes.iter().map(|node| node.seen().matches(needle).count()).sum()
    };
    let load = |request: &'static str| {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    for _ in 0..REQUESTS {
                        assert_eq!(ask(&proxy, request).status(), 502);
                    }
                });
            }
        });
    };
    let began = std::time::Instant::now();
    load(GET);
    let seconds = began.elapsed().as_secs() as usize + 1;
    let (asked, tries) = (CLIENTS * REQUESTS, seen("GET / "));
    let most = asked + asked / 5 + 10 * (10 + seconds);
    assert!(tries <= most, "{tries} tries for {asked} requests, above {most}");
    assert!(tries > asked + asked / 10, "{tries} tries for {asked} requests: none is repeated");
    load(POST);
    assert_eq!(seen("POST / "), asked, "sent once each");
}
