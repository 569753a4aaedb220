//! Limits through the built binary: algorithms, several at once, what a refusal looks like.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::support::h2::{H2, request};
use crate::support::{Conn, Message, Origin, Proxy, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn proxy(origin: &Origin, limits: &[&str]) -> Proxy {
    let mut options = vec!["--workers", "2", "--access-log", "off", "--admin", "127.0.0.1:0"];
    options.extend(limits.iter().flat_map(|limit| ["--limit", limit]));
    Proxy::http(&origin.url(), &options)
}

#[track_caller]
fn get(proxy: &Proxy, fields: &str) -> Message {
    Conn::open(proxy.addr(0)).ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

fn metrics(proxy: &Proxy) -> String {
    Conn::open(proxy.admin()).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").text()
}

/// Row 4.6: a window's worth over two workers and many connections at once, and not one more.
#[test]
#[expect(clippy::needless_collect, reason = "all begin before one is waited for")]
fn row_4_6_every_algorithm_is_exact_over_two_workers() {
    for algorithm in ["token-bucket", "sliding-window", "fixed-window"] {
        let origin = Origin::answering(OK);
        let proxy = proxy(&origin, &[&format!("100/d,algorithm={algorithm}")]);
        let admitted: usize = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let ask = |_: &usize| get(&proxy, "Connection: close\r\n").status() == 200;
                        (0..20).filter(ask).count()
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().expect("a client")).sum()
        });
        assert_eq!(admitted, 100, "{algorithm}");
        assert_eq!(origin.seen().matches("GET /").count(), 100, "{algorithm}");
    }
}

/// Row 4.6: all must agree, the tightest is told, and who is refused by one is charged by none.
#[test]
fn row_4_6_a_refusal_by_one_limit_costs_nothing_in_the_others() {
    let origin = Origin::answering(OK);
    let limits = ["3/d,by=global", "1/d,by=header:x-a+header:x-b"];
    let proxy = proxy(&origin, &limits);
    let told = |fields: &str| {
        let answer = get(&proxy, fields);
        let left = answer.fields.get("x-ratelimit-remaining").unwrap_or("-").to_owned();
        (answer.status(), left)
    };
    let (one, two) = ("X-A: 1\r\nX-B: 1\r\n", "X-A: 1\r\nX-B: 2\r\n");
    assert_eq!(told(one), (200, "0".into()));
    for _ in 0..10 {
        assert_eq!(told(one), (429, "0".into()));
    }
    // Ten refusals took nothing of the two that all together have left.
    assert_eq!(told(two), (200, "0".into()));
    assert_eq!(told("X-A: 2\r\nX-B: 2\r\n"), (200, "0".into()));
    assert_eq!(told("X-A: 3\r\nX-B: 2\r\n"), (429, "0".into()));
}

/// Listener, route and service: the last one refuses, the first ones keep their quota.
#[test]
fn row_4_6_limits_of_listener_route_and_service_agree() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::run_file(&format!(
        "access_log: 'off'
listeners:
  - {{bind: '127.0.0.1:0', limiter: ['4/d,by=global', {{rate: 2/d, by: route}}]}}
routes:
  - {{id: a, path: /a, service: s, limiter: {{rate: 9, window_size: 1d, by: global}}}}
  - {{id: b, path: /b, service: s}}
services:
  - {{id: s, nodes: ['{}'], limiter: {{rate: 3/d, by: [service, header:x-key]}}}}
",
        origin.url()
    ));
    let ask = |path: &str, key: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        Conn::open(proxy.addr(0)).ask(head).status()
    };
    assert_eq!((ask("/a", "1"), ask("/a", "1")), (200, 200));
    // By route: that one has none left, and the refused cost the listener nothing.
    assert_eq!((ask("/a", "1"), ask("/a", "2"), ask("/a", "3")), (429, 429, 429));
    assert_eq!((ask("/b", "1"), ask("/b", "1"), ask("/b", "2")), (200, 429, 200));
    assert_eq!(ask("/b", "3"), 429);
}

/// Shadow mode refuses nobody and counts whom it would have.
#[test]
fn row_4_6_shadow_mode_only_counts() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin, &["1/d,shadow=true,id=trial"]);
    for _ in 0..3 {
        let answer = get(&proxy, "");
        assert_eq!((answer.status(), answer.fields.get("x-ratelimit-limit")), (200, None));
    }
    let line = "gwproxy_limit_refused_total{place=\"listener http\",\
                limit=\"1/d,by=ip,shadow=true,id=trial\",shadow=\"true\"} 2";
    let metrics = metrics(&proxy);
    assert!(metrics.lines().any(|each| each == line), "{metrics}");
}

/// In-flight requests hold their place until the last byte, whoever ends them.
#[test]
fn row_4_6_concurrency_counts_what_is_under_way() {
    let origin = Origin::start(|peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
            let _ = peer.wait_end();
        }
    });
    let proxy = proxy(&origin, &["2,algorithm=concurrency"]);
    let under_way = || {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut byte = [0; 1];
        conn.stream.read_exact(&mut byte).expect("an answer begins");
        conn
    };
    let (one, _two) = (under_way(), under_way());
    let refused = get(&proxy, "");
    assert_eq!((refused.status(), refused.fields.get("retry-after")), (429, Some("1")));
    drop(one);
    eventually("a place is free again", || {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut status = [0; 12];
        conn.stream.read_exact(&mut status).ok()?;
        (&status == b"HTTP/1.1 200").then_some(())
    });
}

/// A leaky bucket spaces requests out instead of refusing them, as far as its queue goes.
#[test]
#[expect(clippy::needless_collect, reason = "all begin before one is waited for")]
fn row_4_6_a_leaky_bucket_makes_requests_wait() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin, &["5/s,algorithm=leaky-bucket,burst=2,by=global"]);
    let started = Instant::now();
    let answers: Vec<(u16, Duration)> = std::thread::scope(|scope| {
        let ask = || (get(&proxy, "").status(), started.elapsed());
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let mut admitted: Vec<_> =
        answers.iter().filter(|(status, _)| *status == 200).map(|(_, at)| *at).collect();
    admitted.sort();
    // Never early; how late a machine under load is says nothing.
    assert!(admitted.len() >= 3, "{answers:?}");
    for (place, at) in admitted.iter().enumerate() {
        assert!(*at >= Duration::from_millis(200) * place as u32, "{answers:?}");
    }
}

/// The fields of the IETF draft, if asked for.
#[test]
fn row_4_6_the_ietf_fields_are_told_when_asked_for() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin, &["2/min,headers=ietf,id=burst,algorithm=fixed-window"]);
    let answer = get(&proxy, "");
    assert_eq!(answer.fields.get("ratelimit-policy"), Some("\"burst\";q=2;w=60"));
    let told = answer.fields.get("ratelimit").unwrap_or_default();
    assert!(told.starts_with("\"burst\";r=1;t="), "{told}");
    assert_eq!(answer.fields.get("x-ratelimit-limit"), None);
}

/// New connections of any protocol: reset before a byte is read; HTTP/2 as HTTP/1.1.
#[test]
fn row_1_4_connections_beyond_a_limit_are_reset() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin, &["2/d,of=connections"]);
    let mut client = H2::open(proxy.addr(0));
    assert_eq!(client.ask(request("GET", "/", &[]), b"", None).status, 200);
    assert_eq!(get(&proxy, "").status(), 200);
    let mut conn = Conn::open(proxy.addr(0));
    let end = conn.stream.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    // The other requests of a connection are not counted.
    assert_eq!(client.ask(request("GET", "/", &[]), b"", None).status, 200);
}

/// Bandwidth: never faster than the rate after the burst, down and up.
#[test]
fn row_1_4_bytes_have_a_rate() {
    const BODY: usize = 60_000;
    let body = "x".repeat(BODY);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{body}");
    let origin = Origin::answering(head);
    let proxy = proxy(&origin, &["100000/s,burst=10000,of=bytes,by=connection"]);
    let started = Instant::now();
    assert_eq!(get(&proxy, "").body.len(), BODY);
    // 60 KB without the burst and the last step, which is only paid for by what would follow.
    assert!(started.elapsed() >= Duration::from_millis(330), "{:?}", started.elapsed());
    let started = Instant::now();
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n{body}");
    assert_eq!(Conn::open(proxy.addr(0)).ask(put).status(), 200);
    assert!(started.elapsed() >= Duration::from_millis(330), "{:?}", started.elapsed());
}
