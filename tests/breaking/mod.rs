//! Breakers and passive health through the built binary.
//!
//! Goal: whatever leaves a service, a node or a route alone does so on HTTP, WebSocket, TCP and gRPC
//! alike, says why, and lets exactly the probes through that it may.
//! Method: nodes that refuse, fail or hang on purpose, echo servers as good ones; the proxy's own
//! count and log of what its breakers did.

mod checks;
mod fallback;
mod passive;
mod scopes;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clients::Refusing;
use crate::support::h2::{H2, request};
use crate::support::{Conn, Origin, Proxy, echo, eventually};
use crate::ws::frame::handshake;

const PROTOCOLS: [&str; 4] = ["http", "ws", "tcp", "grpc"];

/// How an exchange ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// Well.
    Good,
    /// With what the proxy or the node said instead.
    Bad(String),
}

/// One exchange on a connection of its own.
#[track_caller]
fn ask(protocol: &str, addr: SocketAddr) -> Answer {
    match protocol {
        "tcp" => {
            let mut byte = [0];
            let mut conn = Conn::open(addr);
            // It may be closed before the byte is out.
            let _ = std::io::Write::write_all(&mut conn.stream, b"x");
            match conn.stream.read_exact(&mut byte) {
                Ok(()) => Answer::Good,
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "neither closed nor answered");
                    Answer::Bad("closed".into())
                }
            }
        }
        "grpc" => {
            let fields = [("content-type", "application/grpc"), ("te", "trailers")];
            let call = request("POST", "/gwproxy.echo.v1.Echo/Unary", &fields);
            let answer = H2::open(addr).ask(call, &[0; 5], None);
            let all = if answer.trailers.contains_key("grpc-status") {
                &answer.trailers
            } else {
                &answer.fields
            };
            let said = |name: &str| all.get(name).map_or("", |value| value.to_str().unwrap_or(""));
            match said("grpc-status") {
                "0" => Answer::Good,
                status => Answer::Bad(format!("{status} {}", said("grpc-message"))),
            }
        }
        "ws" => {
            let mut conn = Conn::open(addr);
            let mut answer = conn.send(handshake("/", "")).head();
            if answer.status() == 101 {
                return Answer::Good;
            }
            answer.read_body(&mut conn.stream, false).expect("a body");
            Answer::Bad(format!("{} {}", answer.status(), answer.text()))
        }
        _ => {
            let answer = get(addr, "/");
            match answer.status() {
                200 => Answer::Good,
                status => Answer::Bad(format!("{status} {}", answer.text())),
            }
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
fn get(addr: SocketAddr, path: &str) -> crate::support::Message {
    Conn::open(addr).ask(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
}

/// `gwproxy run` with one listener of this protocol that serves `nodes`.
#[track_caller]
fn front(protocol: &str, services: &str) -> Proxy {
    Proxy::run_file(&format!(
        "access_log: 'off'
admin: '127.0.0.1:0'
workers: 2
listeners: [{{protocol: {protocol}, bind: '127.0.0.1:0', service: nodes}}]
services:
{services}"
    ))
}

/// `- {id: ID, protocol: PROTOCOL, nodes: […], SAID}`.
fn service(id: &str, protocol: &str, nodes: &[(&str, SocketAddr)], said: &str) -> String {
    let node = |(name, addr): &(&str, SocketAddr)| {
        format!("      - {{id: {name}, address: '{protocol}://{addr}'}}\n")
    };
    let nodes: String = nodes.iter().map(node).collect();
    format!("  - id: {id}\n    protocol: {protocol}\n    nodes:\n{nodes}{said}\n")
}

fn metrics(proxy: &Proxy) -> String {
    Conn::open(proxy.admin()).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text()
}

/// The number on the line of the metrics that begins so.
#[track_caller]
fn metric(proxy: &Proxy, line: &str) -> u64 {
    let metrics = metrics(proxy);
    let found = metrics.lines().find_map(|one| one.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("`{line}` is not in:\n{metrics}"))
}

/// Row 2.4, row 0.5: on each protocol an open breaker refuses in the words of the protocol, names
/// the service, says when to come back, and is seen in the log and the metrics.
#[test]
fn row_2_4_a_breaker_opens_on_every_protocol_and_says_so() {
    for protocol in PROTOCOLS {
        let node = Refusing::new();
        let breaker = "    breaker: 50%,min=2,open=1h,max_open=1h";
        let nodes = service("nodes", protocol, &[("dead", node.addr())], breaker);
        let proxy = front(protocol, &nodes);
        let refused = eventually("the breaker is open", || {
            assert_ne!(ask(protocol, proxy.addr(0)), Answer::Good);
            let open = "gwproxy_breaker_state{scope=\"service\",name=\"nodes\",state=\"open\"}";
            (metric(&proxy, open) == 1).then(|| ask(protocol, proxy.addr(0)))
        });
        let Answer::Bad(said) = refused else { panic!("{protocol}: {refused:?}") };
        match protocol {
            "tcp" => assert_eq!(said, "closed"),
            "grpc" => assert!(said.starts_with("14 breaker_open"), "{said}"),
            _ => {
                assert!(said.starts_with("503 "), "{said}");
                assert!(said.contains("breaker_open") && said.contains("`nodes`"), "{said}");
            }
        }
        proxy.wait_stderr("the breaker is open: too many calls of the service `nodes` failed");
        let event = "gwproxy_breaker_events_total{scope=\"service\",name=\"nodes\",event=";
        assert_eq!(metric(&proxy, &format!("{event}\"open\"}}")), 1, "{protocol}");
        let refused = "gwproxy_breaker_refused_total{scope=\"service\",name=\"nodes\"}";
        assert!(metric(&proxy, refused) >= 1, "{protocol}");
        if protocol == "http" {
            let wait: u64 =
                get(proxy.addr(0), "/").fields.get("retry-after").unwrap().parse().unwrap();
            // An hour, up to a tenth longer by chance.
            assert!((3_000..=3_960).contains(&wait), "{wait}");
        }
    }
}

/// T65: when the open time is over and hundreds of requests are there on two workers, exactly the
/// probes reach the node; the others are refused at once.
#[test]
fn t65_a_stampede_at_half_open_lets_exactly_the_probes_through() {
    let hangs = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&hangs);
    let node = Origin::start(move |peer| {
        while peer.request().is_some() {
            if held.load(Ordering::SeqCst) {
                peer.wait_end();
                return;
            }
            peer.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let breaker = "    breaker: 50%,min=2,open=50ms,jitter=0%,probes=3,probe_timeout=1h";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr())], breaker));
    eventually("the breaker is open", || {
        // Each probe that fails makes the open time longer: no more than it takes.
        (get(proxy.addr(0), "/").status() == 503).then_some(())
    });
    hangs.store(true, Ordering::SeqCst);
    let before = node.received().concat().len();
    let mut conns: Vec<Conn> = Vec::new();
    let one = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    eventually("a probe hangs on the node", || {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(one);
        conns.push(conn);
        (node.received().concat().len() > before).then_some(())
    });
    let many: Vec<Conn> = (0..400)
        .map(|_| {
            let mut conn = Conn::open(proxy.addr(0));
            conn.send(one);
            conn
        })
        .collect();
    conns.extend(many);
    eventually("all but the probes are answered", || {
        let waiting = conns.iter().filter(|conn| !conn.is_ready()).count();
        (waiting == 3).then_some(())
    });
    let seen = String::from_utf8(node.received().concat().split_off(before)).unwrap();
    assert_eq!(seen.matches("GET / HTTP/1.1").count(), 3, "{seen}");
    assert_eq!(
        metric(
            &proxy,
            "gwproxy_breaker_state{scope=\"service\",name=\"nodes\",state=\"half_open\"}"
        ),
        1
    );
}

/// Answers that are good but slow open the breaker.
#[test]
fn slow_calls_open_it() {
    let node = echo("http", &[]);
    let breaker = "    breaker: 50%,min=2,open=1h,slow=20ms,slow_share=100%";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr(0))], breaker));
    assert_eq!(get(proxy.addr(0), "/").status(), 200);
    for _ in 0..2 {
        // The first was fast, so that two of two or three are needed.
        assert_eq!(get(proxy.addr(0), "/delay/100ms").status(), 200);
    }
    let line = "gwproxy_breaker_state{scope=\"service\",name=\"nodes\",state=\"open\"}";
    assert_eq!(metric(&proxy, line), 0, "two of three");
    let all = "    breaker: 50%,min=2,open=1h,slow=20ms,slow_share=60%";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr(0))], all));
    (0..2).for_each(|_| drop(get(proxy.addr(0), "/delay/100ms")));
    assert_eq!(metric(&proxy, line), 1);
    assert_eq!(get(proxy.addr(0), "/").status(), 503);
    proxy.wait_stderr("too many calls of the service `nodes` were slow");
}

/// Row 2.3: the breaker's own timeout ends a call, and the call has failed.
#[test]
fn row_2_3_a_call_that_takes_longer_than_its_timeout_has_failed() {
    let node = echo("http", &[]);
    let breaker = "    breaker: {timeout: 50, volumeThreshold: 2, resetTimeout: 3600000}";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr(0))], breaker));
    for _ in 0..2 {
        assert_eq!(get(proxy.addr(0), "/delay/1m").status(), 504);
    }
    assert_eq!(get(proxy.addr(0), "/").status(), 503);
}

/// Being asked too often is no failure, in a row or not; it does not end a row either.
#[test]
fn a_429_is_no_failure() {
    let node = echo("http", &[]);
    let breaker = "    breaker: 1%,min=1,consecutive=3,open=1h";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr(0))], breaker));
    for _ in 0..10 {
        assert_eq!(get(proxy.addr(0), "/status/429").status(), 429);
    }
    assert_eq!(get(proxy.addr(0), "/").status(), 200);
    assert_eq!(get(proxy.addr(0), "/status/500").status(), 500);
    assert_eq!(get(proxy.addr(0), "/").status(), 503);
}

/// What is kept open touches no node; what is kept closed touches it whatever happens.
#[test]
fn a_breaker_is_kept_open_or_closed() {
    for protocol in PROTOCOLS {
        let node = echo(protocol, &[]);
        let with = |force: &str| {
            let breaker = format!("    breaker: {{consecutive_failures: 1, force: {force}}}");
            front(protocol, &service("nodes", protocol, &[("a", node.addr(0))], &breaker))
        };
        assert_ne!(ask(protocol, with("open").addr(0)), Answer::Good, "{protocol}");
        assert_eq!(ask(protocol, with("closed").addr(0)), Answer::Good, "{protocol}");
    }
    let node = echo("http", &[]);
    let off = "    breaker: {consecutive_failures: 1, enabled: false}";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr(0))], off));
    for _ in 0..5 {
        assert_eq!(get(proxy.addr(0), "/status/500").status(), 500);
    }
}

/// So many at a time and no more: what lasts counts for as long as it lasts.
#[test]
fn a_capacity_holds_for_connections_that_last() {
    for protocol in ["ws", "tcp"] {
        let node = echo(protocol, &[]);
        let breaker = "    breaker: {capacity: 2}";
        let proxy = front(protocol, &service("nodes", protocol, &[("a", node.addr(0))], breaker));
        let hold = || {
            let mut conn = Conn::open(proxy.addr(0));
            if protocol == "ws" {
                assert_eq!(conn.send(handshake("/", "")).head().status(), 101);
            } else {
                conn.send("x").stream.read_exact(&mut [0]).expect("the byte comes back");
            }
            conn
        };
        let mut held = [hold(), hold()].map(Some);
        let refused = ask(protocol, proxy.addr(0));
        match protocol {
            "ws" => assert!(matches!(&refused, Answer::Bad(said) if said.contains("overloaded"))),
            _ => assert_ne!(refused, Answer::Good),
        }
        drop(held[0].take());
        eventually("a place is free", || {
            (ask(protocol, proxy.addr(0)) == Answer::Good).then_some(())
        });
        let line = "gwproxy_breaker_state{scope=\"service\",name=\"nodes\",state=\"closed\"}";
        assert_eq!(metric(&proxy, line), 1, "{protocol}: refusals are no failures");
    }
}
