//! `gwproxy run FILE`: routes, limits, breaker, health, and what the logs say about it all.

use serde_json::Value;

use crate::support::h2::{H2, request};
use crate::support::{Conn, Message, Origin, Proxy, echo, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The answer to a request for this host and target, on a connection of its own.
#[track_caller]
fn ask(proxy: &Proxy, method: &str, host: &str, target: &str) -> Message {
    Conn::open(proxy.addr(0)).ask(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// Row 0.1: prefixes with their rewrites and methods, hosts, several services side by side.
#[test]
fn row_0_1_routes_lead_to_their_services() {
    let nodes = ["shop", "api", "writes"].map(|name| echo("http", &["--name", name]));
    let [shop, api, writes] = nodes.each_ref().map(|node| node.url("http", ""));
    let proxy = Proxy::run_file(&format!(
        "access_log: 'off'
listeners:
  - {{bind: '127.0.0.1:0'}}
routes:
  - {{id: shop, hosts: [shop.test], service: shop}}
  - {{id: api, hosts: ['*.test'], path: /api, rewrite_prefix: /v2, service: api}}
  - {{id: writes, hosts: ['*.test'], path: /api, methods: [POST, DELETE], service: writes}}
  - {{id: files, path: /files, strip_prefix: true, service: shop}}
services:
  - {{id: shop, nodes: ['{shop}']}}
  - {{id: api, nodes: ['{api}']}}
  - {{id: writes, nodes: ['{writes}']}}
"
    ));
    let to = |method: &str, host: &str, target: &str| {
        let answer = ask(&proxy, method, host, target);
        let report = answer.json();
        let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {} {}", answer.status(), text("node"), text("path"), text("query"))
    };
    assert_eq!(to("GET", "shop.test", "/"), "200 shop / ");
    assert_eq!(to("GET", "SHOP.test:80", "/api/x"), "200 shop /api/x ");
    assert_eq!(to("GET", "b.test", "/api/x?y=1"), "200 api /v2/x y=1");
    assert_eq!(to("GET", "b.test", "/api"), "200 api /v2 ");
    assert_eq!(to("POST", "b.test", "/api/x"), "200 writes /api/x ");
    assert_eq!(to("GET", "other.example", "/files/a%20b/"), "200 shop /a%20b/ ");
    for (host, target) in [("b.test", "/apix"), ("b.test", "/"), ("other.example", "/api")] {
        let answer = ask(&proxy, "GET", host, target);
        assert_eq!(answer.status(), 404, "{host}{target}");
        assert_eq!(answer.json()["code"], "route_not_found");
        assert_eq!(answer.fields.get("content-type"), Some("application/problem+json"));
    }
}

/// Row 4.16: one valid line for every request, whatever bytes it came with (T59).
#[test]
fn row_4_16_every_request_is_one_line_of_json() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &["--access-log", "-"]);
    let get = |agent: &str| format!("GET /x?y HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n");
    let hostile = ["a\"b\\c", "\u{1b}[2J", "caf\u{e9}", "tab\there", "{\"status\":200}", "%0a"];
    let mut conn = Conn::open(proxy.addr(0));
    for agent in hostile {
        let status = conn.ask(get(agent)).status();
        if status == 400 {
            conn = Conn::open(proxy.addr(0));
        }
    }
    let long = "u".repeat(8000);
    assert_eq!(Conn::open(proxy.addr(0)).ask(get(&long)).status(), 200);
    assert_eq!(Conn::open(proxy.addr(0)).ask("G@T / HTTP/1.1\r\n\r\n").status(), 400);
    assert_eq!(H2::open(proxy.addr(0)).ask(request("GET", "/h2", &[]), b"", None).status, 200);
    let lines = proxy.wait_lines(hostile.len() + 3);
    assert_eq!(lines.len(), hostile.len() + 3);
    let parsed: Vec<Value> = lines
        .iter()
        .map(|line| {
            assert!(line.len() <= 8 * 1024, "{} bytes", line.len());
            assert!(!line.chars().any(char::is_control), "{line:?}");
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .collect();
    let first = parsed.iter().find(|line| line["user_agent"] == "a\"b\\c").expect("its line");
    assert_eq!((&first["method"], &first["path"]), (&"GET".into(), &"/x?y".into()));
    assert_eq!((&first["status"], &first["bytes_sent"]), (&200.into(), &2.into()));
    assert_eq!((&first["host"], &first["client"]), (&"a".into(), &"127.0.0.1".into()));
    assert_eq!((&first["service"], &first["tls"]), (&"upstream".into(), &false.into()));
    assert!(first["node"].is_string() && first["duration_ms"].is_number(), "{first}");
    assert!(parsed.iter().any(|line| line["status"] == 400 && line["error"].is_string()));
    assert!(parsed.iter().any(|line| line["path"] == "/h2" && line["protocol"] == "HTTP/2.0"));
}

#[test]
fn row_4_16_the_combined_format_is_apaches() {
    let origin = Origin::answering(OK);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    let mut proxy =
        Proxy::http(&origin.url(), &["--access-log", &path, "--access-log-format", "combined"]);
    let asked =
        "GET /x?y=\"z\" HTTP/1.1\r\nHost: a\r\nReferer: http://b/\r\nUser-Agent: q\"q\r\n\r\n";
    let _ = Conn::open(proxy.addr(0)).ask(asked);
    let asked = "GET /x?y HTTP/1.1\r\nHost: a\r\nReferer: http://b/\r\nUser-Agent: q\"q\r\n\r\n";
    assert_eq!(Conn::open(proxy.addr(0)).ask(asked).status(), 200);
    // What is said before the end is written by the end.
    proxy.signal(crate::support::Signal::TERM);
    assert_eq!(proxy.wait(), Some(0));
    let log = std::fs::read_to_string(&path).expect("the log");
    let line = log.lines().find(|line| line.contains("GET /x?y HTTP")).expect("its line");
    let (client, rest) = line.split_once(" - - [").expect("client and users");
    let (time, rest) = rest.split_once("] ").expect("the time");
    assert_eq!(client, "127.0.0.1");
    assert!(
        time.len() == 26 && time.as_bytes()[2] == b'/' && time.as_bytes()[11] == b':',
        "{time}"
    );
    assert_eq!(rest, "\"GET /x?y HTTP/1.1\" 200 2 \"http://b/\" \"q\\\"q\"");
}

/// Row 0.6: so many and no more, said in the headers, one count for all workers and connections.
#[test]
fn row_0_6_a_limit_counts_over_all_workers() {
    let origin = Origin::answering(OK);
    let limit = ["--limit", "5/h,burst=5", "--workers", "2", "--access-log", "off"];
    let proxy = Proxy::http(&origin.url(), &limit);
    for left in (0..5).rev() {
        let answer = ask(&proxy, "GET", "a", "/");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.fields.get("x-ratelimit-limit"), Some("5"));
        assert_eq!(answer.fields.get("x-ratelimit-remaining"), Some(&*left.to_string()));
        assert!(answer.fields.get("x-ratelimit-reset").is_some(), "{answer:?}");
    }
    let mut conn = Conn::open(proxy.addr(0));
    for _ in 0..3 {
        let answer = conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((answer.status(), &answer.json()["code"]), (429, &"rate_limited".into()));
        assert_eq!(answer.fields.get("x-ratelimit-remaining"), Some("0"));
        let wait: u64 = answer.fields.get("retry-after").expect("a wait").parse().expect("seconds");
        assert!((1..=720).contains(&wait), "one more every 12 minutes: {wait}");
    }
    let mut client = H2::open(proxy.addr(0));
    assert_eq!(client.ask(request("GET", "/", &[]), b"", None).status, 429);
    assert_eq!(origin.seen().matches("GET /").count(), 5);
}

/// A limit by a header counts each value apart, and those without one together.
#[test]
fn a_limit_counts_each_key_apart() {
    let origin = Origin::answering(OK);
    let limit = ["--limit", "1/h,burst=1,by=header:X-Key", "--access-log", "off"];
    let proxy = Proxy::http(&origin.url(), &limit);
    let with = |key: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        Conn::open(proxy.addr(0)).ask(request).status()
    };
    assert_eq!((with("one"), with("two"), with("one"), with("two")), (200, 200, 429, 429));
    let without = || ask(&proxy, "GET", "a", "/").status();
    assert_eq!((without(), without()), (200, 429));
}

/// Row 0.5: open at once after enough failures, closed again by a probe that succeeds.
#[test]
fn row_0_5_a_breaker_opens_and_closes() {
    let node = echo("http", &[]);
    let breaker = ["--breaker", "50%,window=60s,min=4,open=300ms", "--access-log", "off"];
    let proxy = Proxy::http(&node.url("http", ""), &breaker);
    for _ in 0..4 {
        assert_eq!(ask(&proxy, "GET", "a", "/status/500").status(), 500);
    }
    let answer = ask(&proxy, "GET", "a", "/");
    assert_eq!((answer.status(), &answer.json()["code"]), (503, &"breaker_open".into()));
    assert_eq!(answer.fields.get("retry-after"), Some("1"));
    assert_eq!(answer.fields.get("proxy-status"), Some("gwproxy; error=destination_unavailable"));
    eventually("a probe closes the breaker", || {
        (ask(&proxy, "GET", "a", "/").status() == 200).then_some(())
    });
    for _ in 0..4 {
        assert_eq!(ask(&proxy, "GET", "a", "/").status(), 200);
    }
}

/// A client's own mistakes and its leaving are not the node's failures.
#[test]
fn a_breaker_does_not_count_what_is_not_the_nodes_fault() {
    let node = echo("http", &[]);
    let breaker = ["--breaker", "1%,window=60s,min=1,open=60s", "--access-log", "off"];
    let proxy = Proxy::http(&node.url("http", ""), &breaker);
    for status in [400, 401, 403, 404, 409, 422, 429, 501] {
        assert_eq!(ask(&proxy, "GET", "a", &format!("/status/{status}")).status(), status);
    }
    for _ in 0..3 {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send("GET /delay/1m HTTP/1.1\r\nHost: a\r\n\r\n");
        drop(conn);
    }
    assert_eq!(ask(&proxy, "GET", "a", "/").status(), 200);
}

/// Row 4.11: a node that says it is not well gets nothing until it says it is.
#[test]
fn row_4_11_a_health_check_takes_a_node_out_and_brings_it_back() {
    let (one, two) = (echo("http", &["--name", "one"]), echo("http", &["--name", "two"]));
    let (to_one, to_two) = (one.url("http", ""), two.url("http", ""));
    let health = "/health,interval=50ms,timeout=20s,rise=2,fall=2";
    let arguments = ["--to", &to_two, "--health", health, "--access-log", "off"];
    let proxy = Proxy::http(&to_one, &arguments);
    // One round over both nodes: who answered.
    let round = || {
        let names: Vec<String> = (0..6)
            .map(|_| {
                let answer = ask(&proxy, "GET", "a", "/");
                answer.fields.get("x-echo-node").unwrap_or("nobody").to_owned()
            })
            .collect();
        let count = |name: &str| names.iter().filter(|each| *each == name).count();
        (count("one"), count("two"))
    };
    let set = |node: &Proxy, status: u16| {
        let put = format!("PUT /health/{status} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(Conn::open(node.addr(0)).ask(put).status(), 204);
    };
    eventually("both nodes are in", || (round() == (3, 3)).then_some(()));
    set(&one, 503);
    eventually("one is out", || (round() == (0, 6)).then_some(()));
    set(&one, 200);
    eventually("one is back", || (round() == (3, 3)).then_some(()));
    set(&one, 503);
    set(&two, 503);
    let answer = eventually("both are out", || {
        let answer = ask(&proxy, "GET", "a", "/");
        (answer.status() != 200).then_some(answer)
    });
    assert_eq!((answer.status(), &answer.json()["code"]), (503, &"no_healthy_node".into()));
    set(&two, 200);
    eventually("two is back", || (round() == (0, 6)).then_some(()));
}

/// The admin address tells whether the process is alive and ready, and what it counts.
#[test]
fn the_admin_address_counts() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &["--admin", "127.0.0.1:0", "--access-log", "off"]);
    for _ in 0..3 {
        assert_eq!(ask(&proxy, "GET", "a", "/").status(), 200);
    }
    let get = |path: &str| {
        Conn::open(proxy.admin()).ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    };
    assert_eq!((get("/livez").status(), get("/readyz").status()), (200, 200));
    let metrics = eventually("three requests are counted", || {
        let metrics = get("/metrics").text();
        let line = "gwproxy_request_duration_seconds_count{service=\"upstream\"} 3";
        metrics.contains(line).then_some(metrics)
    });
    assert!(metrics.contains("gwproxy_response_bytes_total{service=\"upstream\"} 6"), "{metrics}");
    assert_eq!(get("/nothing").status(), 404);
    let put = "PUT /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Conn::open(proxy.admin()).ask(put).status(), 405);
}

/// A route's own time is shorter than the service's.
#[test]
fn a_routes_timeout_counts_for_the_route() {
    let node = echo("http", &[]);
    let url = node.url("http", "");
    let proxy = Proxy::run_file(&format!(
        "access_log: 'off'
listeners: [{{bind: '127.0.0.1:0'}}]
routes:
  - {{id: quick, path: /delay, timeout: 100ms, service: app}}
  - {{id: other, path: /, service: app}}
services: [{{id: app, nodes: ['{url}']}}]
"
    ));
    let answer = ask(&proxy, "GET", "a", "/delay/1m");
    assert_eq!((answer.status(), &answer.json()["code"]), (504, &"upstream_timeout".into()));
    assert_eq!(ask(&proxy, "GET", "a", "/").status(), 200);
}

/// C.1: all of a file's listeners work side by side, over echo nodes of the process itself.
#[test]
fn c_1_a_file_brings_every_protocol_at_once() {
    let proxy = Proxy::run_file(
        "access_log: 'off'
listeners:
  - {name: web, protocol: http, bind: '127.0.0.1:0'}
  - {name: raw, protocol: tcp, bind: '127.0.0.1:0', service: bytes}
  - {name: rpc, protocol: grpc, bind: '127.0.0.1:0', service: calls}
  - {name: chat, protocol: ws, bind: '127.0.0.1:0', service: messages}
routes: [{id: all, path: /, service: hello}]
services:
  - {id: hello, nodes: ['echo:http']}
  - {id: messages, protocol: ws, nodes: ['echo:ws']}
  - {id: bytes, protocol: tcp, nodes: ['echo:tcp']}
  - {id: calls, protocol: grpc, nodes: ['echo:grpc']}
",
    );
    assert_eq!(ask(&proxy, "GET", "a", "/hello").json()["path"], "/hello");
    let mut raw = Conn::open(proxy.addr(1));
    assert_eq!(raw.send("any bytes").finish().rest(), b"any bytes");
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = request("POST", "/gwproxy.echo.v1.Echo/Unary", &fields);
    let answer = H2::open(proxy.addr(2)).ask(call, b"\0\0\0\0\x04\x0a\x02hi", None);
    assert_eq!(answer.trailers["grpc-status"], "0");
    let plain = Conn::open(proxy.addr(3)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((plain.status(), plain.fields.get("upgrade")), (426, Some("websocket")));
}
