//! What is left of connections in the access log.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Conn, Origin, Peer, Proxy, Signal, eventually, home, run, wrapped};

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn tcp(to: &str, flags: &[&str]) -> Proxy {
    let arguments = ["tcp", "--listen", "127.0.0.1:0", "--to", to];
    Proxy::start(&[&arguments[..], flags].concat())
}

/// Takes five bytes, says seven, and waits for the end.
fn five_for_seven() -> Origin {
    Origin::start(|peer: &mut Peer| {
        if peer.read_exact(&mut [0; 5]).is_ok() {
            peer.send("goodbye");
            peer.wait_end();
        }
    })
}

fn exchange(conn: &mut Conn) {
    conn.send("hello");
    let mut answer = [0; 7];
    conn.stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"goodbye");
}

/// A forward proxy that lets tunnels to `origin` through.
fn forwarding(origin: &Origin, flags: &[&str]) -> Proxy {
    let port = origin.addr().port().to_string();
    let arguments = ["http", "--listen", "127.0.0.1:0", "--forward", "--allow-private"];
    Proxy::start(&[&arguments[..], &["--allow-port", &port], flags].concat())
}

/// A tunnel to `origin` through which five bytes went there and seven back.
fn tunnel(proxy: &Proxy, origin: &Origin) -> Conn {
    let at = origin.addr();
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    assert_eq!(conn.head().status(), 200);
    exchange(&mut conn);
    conn
}

/// A tunnel's line says where it led, and what the client was sent through it.
#[test]
fn a_connects_line_has_host_port_and_bytes() {
    let origin = five_for_seven();
    for format in ["json", "combined"] {
        let proxy = forwarding(&origin, &["--access-log-format", format]);
        let at = origin.addr().to_string();
        let mut conn = tunnel(&proxy, &origin);
        assert_eq!(proxy.stdout(), "", "it is not over");
        conn.finish().assert_ends();
        let line = proxy.wait_lines(1).remove(0);
        if format == "combined" {
            assert!(line.contains(&format!("\"CONNECT {at} HTTP/1.1\" 200 7 ")), "{line}");
            continue;
        }
        let line = parsed(&line);
        assert_eq!((&line["method"], &line["path"]), (&"CONNECT".into(), &at.into()), "{line}");
        assert_eq!((&line["status"], &line["bytes_sent"]), (&200.into(), &7.into()), "{line}");
        assert!(line["duration_ms"].is_number() && line["error"].is_null(), "{line}");
        assert_eq!((&line["bytes_received"], &line["user"]), (&5.into(), &Value::Null), "{line}");
    }
}

/// What the grace period cuts off of a tunnel is in the log with the bytes that went through it.
#[test]
fn a_tunnel_that_is_cut_off_tells_what_it_carried() {
    let origin = five_for_seven();
    let mut proxy = forwarding(&origin, &["--grace", "300ms"]);
    let _conn = tunnel(&proxy, &origin);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(1));
    let line = parsed(&proxy.wait_lines(1)[0]);
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&5.into(), &7.into()), "{line}");
    assert_eq!((&line["error"], &line["status"]), (&"draining".into(), &200.into()), "{line}");
}

/// A tunnel that broke says so, and whose side it was, in the words of a TCP connection.
#[test]
fn a_tunnel_tells_what_ended_it() {
    let origin = Origin::start(|peer: &mut Peer| {
        let mut word = [0; 5];
        while peer.read_exact(&mut word).is_ok() {
            if &word == b"reset" {
                return peer.reset();
            }
            peer.send("goodbye");
        }
    });
    let proxy = forwarding(&origin, &[]);
    let open = || tunnel(&proxy, &origin);
    let mut told = 0;
    let mut line = || {
        told += 1;
        let line = parsed(&proxy.wait_lines(told)[told - 1]);
        (line["ending"].clone(), line["error"].clone())
    };
    open().finish().assert_ends();
    assert_eq!(line(), ("closed".into(), Value::Null));
    open().reset();
    assert_eq!(line(), ("client_reset".into(), "client_closed".into()));
    open().send("reset").rest();
    assert_eq!(line(), ("upstream_reset".into(), "upstream_reset".into()));
}

/// Who asked stands in every line of a request with right credentials, and in no other.
#[test]
fn a_user_of_the_forward_proxy_is_in_its_lines() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let hash = run(wrapped(&[], &home()).arg("hash-password"), b"secret\n").ok().text();
    let user = format!("ann:{}", hash.trim_end());
    let (at, closed) = (origin.addr().to_string(), closed.to_string());
    for format in ["json", "combined"] {
        let proxy = Proxy::start(&[
            "http",
            "--listen",
            "127.0.0.1:0",
            "--forward",
            "--allow",
            &closed,
            "--user",
            &user,
            "--allow",
            &at,
            "--access-log-format",
            format,
        ]);
        let ask = |target: &str, pair: &str| {
            Conn::open(proxy.addr(0))
                .ask(format!(
                    "GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\
                     Proxy-Authorization: Basic {pair}\r\n\r\n"
                ))
                .status()
        };
        // `ann:secret` and `ann:wrong`.
        for (number, (target, pair, status, user)) in [
            (&at, "YW5uOnNlY3JldA==", 200, "ann"),
            (&at, "YW5uOndyb25n", 407, "-"),
            (&closed, "YW5uOnNlY3JldA==", 502, "ann"),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(ask(target, pair), status);
            let line = proxy.wait_lines(number + 1).remove(number);
            if format == "combined" {
                assert!(line.starts_with(&format!("127.0.0.1 - {user} [")), "{line}");
            } else {
                let told = &parsed(&line)["user"];
                assert_eq!(told.as_str().unwrap_or("-"), user, "{line}");
            }
        }
    }
}

/// A 502 and a 504 name the node that was tried last.
#[test]
fn a_failure_names_the_last_node() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let silent = Origin::start(|peer: &mut Peer| {
        peer.wait_end();
    });
    for (to, status) in [(closed.to_string(), 502), (silent.addr().to_string(), 504)] {
        let proxy = Proxy::http(&format!("http://{to}"), &["--timeout", "200ms"]);
        let mut conn = Conn::open(proxy.addr(0));
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), status);
        let line = parsed(&proxy.wait_lines(1)[0]);
        assert!(line["node"].as_str().is_some_and(|node| node.contains(&to)), "{line}");
    }
}

/// A request that the proxy cuts off is not one that its client left.
#[test]
fn a_request_that_the_drain_cuts_off_is_a_503() {
    let origin = Origin::start(|peer: &mut Peer| {
        let _ = peer.request();
        peer.wait_end();
    });
    let mut proxy = Proxy::http(&origin.url(), &["--grace", "200ms"]);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("\r\n\r\n");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(1));
    let line = parsed(&proxy.wait_lines(1)[0]);
    assert_eq!((&line["error"], &line["status"]), (&"draining".into(), &503.into()), "{line}");
}

/// A TCP connection in the combined format has a number for a status, as every reader wants it.
#[test]
fn a_tcp_connection_in_the_combined_format() {
    let origin = five_for_seven();
    let flags = ["--access-log-format", "combined", "--grace", "200ms"];
    let mut proxy = tcp(&origin.addr().to_string(), &flags);
    let mut conn = Conn::open(proxy.addr(0));
    exchange(&mut conn);
    conn.finish().assert_ends();
    // Lines of several workers have no order; so each is there before the next may come.
    proxy.wait_lines(1);
    let mut conn = Conn::open(proxy.addr(0));
    exchange(&mut conn);
    conn.reset();
    proxy.wait_lines(2);
    let mut conn = Conn::open(proxy.addr(0));
    exchange(&mut conn);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(1));
    let ends = proxy.wait_lines(3).into_iter().map(|line| {
        let (head, end) = line.split_once("] ").expect("the time");
        assert!(head.starts_with("127.0.0.1 - - ["), "{line}");
        end.to_owned()
    });
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [
            "\"TCP tcp\" 200 7 \"-\" \"closed\"",
            "\"TCP tcp\" 499 7 \"-\" \"client_reset\"",
            "\"TCP tcp\" 503 7 \"-\" \"cut_off\"",
        ]
    );
}

/// A destination that is refused: the code, and a sentence with the address that is the reason.
#[test]
fn a_refused_destination_says_why() {
    let proxy = Proxy::start(&["http", "--listen", "127.0.0.1:0", "--forward"]);
    let ask = |request: &str| Conn::open(proxy.addr(0)).ask(request).status();
    assert_eq!(ask("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n"), 403);
    assert_eq!(ask("GET http://10.1.2.3/ HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n"), 403);
    assert_eq!(ask("CONNECT a.test:22 HTTP/1.1\r\nHost: a.test:22\r\n\r\n"), 403);
    let lines = proxy.wait_lines(3);
    for why in ["127.0.0.1:443, a private", "10.1.2.3:80, a private", "port 22 of `a.test`"] {
        let has = |line: &&String| parsed(line)["reason"].as_str().is_some_and(|r| r.contains(why));
        let line = lines.iter().find(has).unwrap_or_else(|| panic!("no {why}: {lines:?}"));
        assert_eq!(parsed(line)["error"], "destination_denied");
    }
}

/// Every TCP connection is one line: how long, how much each way, which node, how it ended.
#[test]
fn every_tcp_connection_is_one_line() {
    let origin = five_for_seven();
    let proxy = tcp(&origin.addr().to_string(), &[]);
    let mut conn = Conn::open(proxy.addr(0));
    exchange(&mut conn);
    conn.finish().assert_ends();
    let line = parsed(&proxy.wait_lines(1)[0]);
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&5.into(), &7.into()), "{line}");
    assert_eq!((&line["ending"], &line["protocol"]), (&"closed".into(), &"TCP".into()), "{line}");
    assert!(line["node"].as_str().is_some_and(|node| node.contains(&origin.addr().to_string())));
    assert!(line["duration_ms"].is_number() && line["error"].is_null(), "{line}");
    let mut conn = Conn::open(proxy.addr(0));
    exchange(&mut conn);
    conn.reset();
    let line = parsed(&proxy.wait_lines(2)[1]);
    assert_eq!(
        (&line["ending"], &line["bytes_sent"]),
        (&"client_reset".into(), &7.into()),
        "{line}"
    );
    assert_eq!(line["error"], "client_closed");

    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let proxy = tcp(&closed.to_string(), &[]);
    Conn::open(proxy.addr(0)).assert_ends();
    let line = parsed(&proxy.wait_lines(1)[0]);
    assert_eq!((&line["ending"], &line["bytes_sent"]), (&"refused".into(), &0.into()), "{line}");
    assert_eq!(line["error"], "upstream_refused");
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains(&closed.to_string())));
    assert!(line["node"].as_str().is_some_and(|node| node.contains(&closed.to_string())));
}

/// Tunnels and TCP connections may use the whole grace period. What its end cuts off is counted,
/// is in the log, and makes the exit code 1.
#[test]
fn what_the_grace_period_cuts_off_is_told() {
    let origin = five_for_seven();
    let mut proxy = tcp(&origin.addr().to_string(), &["--grace", "300ms"]);
    let mut conns = [Conn::open(proxy.addr(0)), Conn::open(proxy.addr(0))];
    conns.iter_mut().for_each(exchange);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(1));
    let said = proxy.stderr();
    assert!(said.contains("the grace period is over: 2 connections cut off after 300ms"), "{said}");
    for line in proxy.wait_lines(2) {
        let line = parsed(&line);
        assert_eq!((&line["ending"], &line["error"]), (&"cut_off".into(), &"draining".into()));
        assert_eq!(
            (&line["bytes_received"], &line["bytes_sent"]),
            (&5.into(), &7.into()),
            "{line}"
        );
    }
}

/// A TCP connection that ends within the grace period ends in order.
#[test]
fn a_tcp_connection_may_finish_within_the_grace_period() {
    let origin = five_for_seven();
    let mut proxy = tcp(&origin.addr().to_string(), &["--grace", "1h"]);
    let mut conn = Conn::open(proxy.addr(0));
    exchange(&mut conn);
    proxy.signal(Signal::TERM);
    proxy.wait_stderr("a second signal stops at once");
    eventually("new connections are refused", || std::net::TcpStream::connect(proxy.addr(0)).err());
    conn.stream.write_all(b"more").expect("it is open");
    conn.finish().assert_ends();
    assert_eq!(proxy.wait(), Some(0));
    // A connection that only asked whether there still are any may have its line as well.
    assert!(proxy.wait_lines(1).iter().any(|line| parsed(line)["bytes_received"] == 9));
}
