//! Headers that come in.

use serde_json::{Value, json};

use super::{curl_from, haproxy};
use crate::clients::{grpc, websocket};
use crate::support::{Authority, Conn, Proxy, Server, Signal, curl, echo, eventually};

const REQUIRED: [&str; 2] = ["--proxy-protocol", "required"];
const LINE: &str = "PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";
const GET: &str = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// HAProxy before this proxy, which it sends a header of this kind.
#[track_caller]
fn in_front(proxy: &Proxy, send: &str) -> Server {
    let to = proxy.addr(0);
    haproxy("tcp", &format!("listen front\n  bind ADDR\n  server gw {to} {send}"))
}

/// `gwproxy KIND --to TO --proxy-protocol required OPTIONS`.
#[track_caller]
fn behind(kind: &str, to: &str, options: &[&str]) -> Proxy {
    let all = [&[kind, "--listen", "127.0.0.1:0", "--to", to], &REQUIRED[..], options].concat();
    Proxy::start(&all)
}

/// What the access log says of the first connection or request that was answered. One that only
/// asked whether there is somebody in front may have a line as well.
#[track_caller]
fn logged(proxy: &Proxy) -> Value {
    let parsed = |line: String| serde_json::from_str::<Value>(&line).expect("JSON");
    eventually("an answer is in the log", || {
        proxy.wait_lines(1).into_iter().map(parsed).find(|line| line["bytes_sent"] != 0)
    })
}

/// A number of the metrics, 0 if it is not there.
#[track_caller]
fn refusals(proxy: &Proxy) -> u64 {
    let metrics = curl(&[&format!("http://{}/metrics", proxy.admin())]).ok().text();
    let line = "gwproxy_errors_total{service=\"-\",code=\"proxy_header\"} ";
    metrics.lines().find_map(|each| each.strip_prefix(line)?.parse().ok()).unwrap_or_default()
}

#[test]
fn row_1_4_haproxy_says_who_the_http_client_is() {
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let flags = mint.leaf("server", &["127.0.0.1"]).flags();
    let flags = flags.each_ref().map(String::as_str);
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        for (scheme, tls) in [("http", &[][..]), ("https", &flags)] {
            let proxy = behind("http", &echo.url("http", ""), tls);
            let front = in_front(&proxy, send);
            let (url, ca) = (front.url(scheme), mint.ca());
            let report = curl_from("127.0.0.2", &["--cacert", &ca, &url]).json();
            let wanted = json!(["x-forwarded-for", "127.0.0.2"]);
            let fields = report["headers"].as_array().expect("fields");
            assert!(fields.contains(&wanted), "{send} {scheme}: {report}");
            let line = logged(&proxy);
            assert_eq!(line["client"], "127.0.0.2", "{line}");
        }
    }
}

#[test]
fn row_1_4_haproxy_says_who_the_other_clients_are() {
    for send in ["send-proxy", "send-proxy-v2"] {
        let (bytes, messages, calls) = (echo("tcp", &[]), echo("ws", &[]), echo("grpc", &[]));
        let proxy = behind("tcp", &bytes.addr(0).to_string(), &[]);
        let front = in_front(&proxy, send);
        let mut conn = Conn::open(front.addr());
        conn.send("hello").finish();
        assert_eq!(conn.rest(), b"hello");
        assert_eq!(logged(&proxy)["ending"], "closed");
        let proxy = behind("ws", &messages.url("ws", ""), &[]);
        let front = in_front(&proxy, send);
        let told = websocket(&json!({
            "url": front.url("ws"), "steps": [["send", "hi"], ["recv"], ["close", 1000, ""]],
        }));
        assert_eq!(told["results"][0], "hi", "{told}");
        let proxy = behind("grpc", &calls.addr(0).to_string(), &[]);
        let front = in_front(&proxy, send);
        let calls =
            json!([{ "method": "Unary", "steps": [["send", { "message": "hi" }], ["recv"]] }]);
        let told = grpc(&json!({ "target": front.addr().to_string(), "calls": calls }));
        assert_eq!(told[0]["replies"][0]["message"], "hi", "{told}");
    }
}

/// What the header says is the client everywhere: log, limits, forwarding fields.
#[test]
fn t38_the_address_of_the_header_is_the_clients() {
    let echo = echo("http", &[]);
    let proxy = behind("http", &echo.url("http", ""), &["--limit", "1/min,by=ip"]);
    let ask = |line: &str| Conn::open(proxy.addr(0)).ask(format!("{line}{GET}"));
    let report = ask(LINE).json();
    assert!(report["headers"].to_string().contains("203.0.113.9"), "{report}");
    assert!(!report["headers"].to_string().contains("127.0.0.1"), "{report}");
    // Each address has its own limit; of one there is no second request.
    assert_eq!(ask("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").status(), 200);
    assert_eq!(ask(LINE).status(), 429);
    // The sender's own connection, as of a health check.
    assert_eq!(ask("PROXY UNKNOWN\r\n").status(), 200);
    let lines = proxy.wait_lines(4);
    let count = |client: &str| lines.iter().filter(|line| line.contains(client)).count();
    let clients = ["203.0.113.9", "2001:db8::1", "127.0.0.1"];
    let fields = clients.map(|client| count(&format!("\"client\":\"{client}\"")));
    assert_eq!(fields, [2, 1, 1], "{lines:?}");
}

#[test]
fn t38_from_elsewhere_a_header_is_never_believed() {
    let echo = echo("http", &[]);
    let proxy =
        Proxy::http(&echo.url("http", ""), &["--proxy-protocol-from", "127.0.0.9,10.0.0.0/8"]);
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
    assert_eq!(Conn::open(proxy.addr(0)).ask(format!("{LINE}{GET}")).status(), 400);
    for line in proxy.wait_lines(2) {
        assert!(line.contains("\"client\":\"127.0.0.1\""), "{line}");
    }
    // And from there it must come.
    let refused = curl_from("127.0.0.9", &[&proxy.url("http", "/")]);
    assert_ne!(refused.code, Some(0), "{}", refused.text());
    proxy.wait_stderr("code=\"proxy_header\"");
}

#[test]
fn t38_an_optional_header_may_be_missing() {
    let echo = echo("http", &[]);
    let options = ["--proxy-protocol", "optional", "--proxy-protocol-from", "127.0.0.1"];
    let proxy = Proxy::http(&echo.url("http", ""), &options);
    for (line, client) in [("", "127.0.0.1"), (LINE, "203.0.113.9")] {
        let report = Conn::open(proxy.addr(0)).ask(format!("{line}{GET}")).json();
        assert!(report["headers"].to_string().contains(client), "{report}");
    }
    // One that is malformed is no missing one.
    Conn::open(proxy.addr(0)).send("PROXY TCP4 1.2.3.4\r\n").assert_ends();
}

/// Nothing reaches the node, nothing is answered, and both the log and the metrics tell.
#[test]
fn t38_what_is_no_header_is_cut_off_and_counted() {
    let echo = echo("http", &[]);
    let proxy = behind("http", &echo.url("http", ""), &["--admin", "127.0.0.1:0"]);
    let mut long_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    long_v2.resize(9000, b'x');
    let bad: [&[u8]; 7] = [
        GET.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\nGET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\nGET / HTTP/1.1\r\n\r\n",
        &[b'P'; 5000],
        &long_v2,
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 5000]].concat(),
    ];
    for bytes in bad {
        Conn::open(proxy.addr(0)).send(bytes).assert_ends();
    }
    eventually("they are counted", || (refusals(&proxy) == bad.len() as u64).then_some(()));
    proxy.wait_stderr("has no PROXY header");
    assert_eq!(proxy.stderr().matches("proxy_header").count(), 1, "one warning for all of them");
    assert!(proxy.stdout().is_empty(), "{}", proxy.stdout());
}

/// D01: whoever is slow holds nobody up. How slow they may be is shown with paused time, at the
/// code. Taken one after the other, these would be in the way for four minutes.
#[test]
fn t38_slow_headers_hold_nobody_up() {
    let echo = echo("http", &[]);
    let proxy = behind("http", &echo.url("http", ""), &["--workers", "1"]);
    let mut slow: Vec<Conn> = (0..50).map(|_| Conn::open(proxy.addr(0))).collect();
    for (number, conn) in slow.iter_mut().enumerate() {
        conn.send(&LINE[..number % LINE.len()]);
    }
    assert_eq!(Conn::open(proxy.addr(0)).ask(format!("{LINE}{GET}")).status(), 200);
}

/// Whoever was told that it is connected is served, if its header was cut in two by the signal.
#[test]
fn r04_a_header_may_end_after_sigterm() {
    let (http, bytes) = (echo("http", &[]), echo("tcp", &[]));
    let web = behind("http", &http.url("http", ""), &["--workers", "1"]);
    let raw = behind("tcp", &bytes.addr(0).to_string(), &["--workers", "1"]);
    for (mut proxy, sent, wanted) in [(web, GET, "HTTP/1.1 200"), (raw, "hello", "hello")] {
        let before = proxy.descriptors();
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(&LINE[..20]);
        eventually("it is accepted", || (proxy.descriptors() > before).then_some(()));
        proxy.signal(Signal::TERM);
        proxy.wait_stderr("a second signal stops at once");
        conn.send(format!("{}{sent}", &LINE[20..])).finish();
        let answer = String::from_utf8_lossy(&conn.rest()).into_owned();
        assert!(answer.starts_with(wanted), "{answer}");
        assert_eq!(proxy.wait(), Some(0));
    }
}

/// D16: behind a proxy that says who the client is, clients are counted and not the proxy.
#[test]
fn d16_the_client_that_a_header_names_is_counted() {
    let echo = echo("tcp", &[]);
    let proxy = behind("tcp", &echo.addr(0).to_string(), &["--max-connections-per-ip", "2"]);
    let enter = |client: &str| {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(format!("PROXY TCP4 {client} 198.51.100.1 4711 443\r\nhi"));
        conn
    };
    let is_in = |conn: &mut Conn| {
        let mut answer = [0; 2];
        std::io::Read::read_exact(&mut conn.stream, &mut answer).is_ok()
    };
    let mut inside: Vec<Conn> = (0..2).map(|_| enter("203.0.113.9")).collect();
    assert!(inside.iter_mut().all(is_in));
    assert!(!is_in(&mut enter("203.0.113.9")), "a third one");
    assert!(is_in(&mut enter("203.0.113.10")), "another client of the same proxy");
    proxy.wait_stderr("203.0.113.9");
    drop(inside.pop());
    eventually("there is room again", || is_in(&mut enter("203.0.113.9")).then_some(()));
}
