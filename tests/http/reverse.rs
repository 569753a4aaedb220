//! `gwproxy http --to`: which protocols meet on which side, and where a request goes.

use std::collections::BTreeMap;

use crate::support::h2::{H2, request};
use crate::support::{Authority, Conn, Origin, Proxy, curl, echo, gwproxy};

const QUIET: [&str; 2] = ["--access-log", "off"];

/// The report of an echo server behind the proxy, asked by curl with these options.
#[track_caller]
fn report(proxy: &Proxy, scheme: &str, options: &[&str]) -> serde_json::Value {
    let url = proxy.url(scheme, "/path?query=1");
    let mut arguments = options.to_vec();
    arguments.push(&url);
    curl(&arguments).json()
}

/// Row 1.2.
#[test]
fn a_request_reaches_the_node_and_its_answer_comes_back() {
    let echo = echo("http", &["--name", "one"]);
    let proxy = Proxy::http(&echo.url("http", ""), &QUIET);
    let report = report(&proxy, "http", &["-d", "hello", "-H", "X-Mine: 1"]);
    assert_eq!(report["node"], "one");
    assert_eq!(report["method"], "POST");
    assert_eq!(report["path"], "/path");
    assert_eq!(report["query"], "query=1");
    assert_eq!(report["body"], "hello");
    assert_eq!(report["version"], "HTTP/1.1");
    let fields = report["headers"].as_array().expect("a list").clone();
    assert!(fields.contains(&serde_json::json!(["x-mine", "1"])), "{fields:?}");
}

/// P06: the target crosses byte by byte.
#[test]
fn p06_the_target_is_not_rewritten() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let target = "/%7Ea//b;p=1/./x?x=%2F&&y=a+b?#".trim_end_matches('#');
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).status(), 200);
    assert!(origin.seen().starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{}", origin.seen());
}

#[test]
fn http2_with_prior_knowledge_reaches_an_http1_node() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("http", ""), &QUIET);
    let report = report(&proxy, "http", &["--http2-prior-knowledge", "-d", "hello"]);
    assert_eq!(report["version"], "HTTP/1.1");
    assert_eq!(report["body"], "hello");
}

/// P47.
#[test]
fn http1_reaches_an_http2_node() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("h2c", ""), &QUIET);
    let report = report(&proxy, "http", &["--http1.1", "-d", "hello"]);
    assert_eq!(report["version"], "HTTP/2.0");
    assert_eq!(report["body"], "hello");
    assert_eq!(report["authority"], proxy.addr(0).to_string());
}

#[test]
fn http2_reaches_an_http2_node() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("h2c", ""), &QUIET);
    let mut client = H2::open(proxy.addr(0));
    let response = client.ask(request("PUT", "/x", &[("x-mine", "1")]), b"hello", None);
    assert_eq!(response.status, 200);
    let report = response.json();
    assert_eq!(report["version"], "HTTP/2.0");
    assert_eq!((&report["path"], &report["body"]), (&"/x".into(), &"hello".into()));
}

/// Rows 0.4 and C.2: one certificate authority of one's own, both protocols by ALPN.
#[test]
fn tls_in_front_speaks_http1_and_http2_by_alpn() {
    let authority = Authority::new();
    let pair = authority.leaf("server", &["gw.test", "127.0.0.1"]);
    let echo = echo("http", &[]);
    let flags = pair.flags();
    let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    arguments.extend(QUIET);
    let proxy = Proxy::http(&echo.url("http", ""), &arguments);
    let ca = authority.ca();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let url = proxy.url("https", "/");
        let asked = ["--cacert", &ca, option, "-w", "\n%{http_version}", &url];
        let answer = curl(&asked).ok().text();
        let (report, spoken) = answer.trim().rsplit_once('\n').expect("two lines");
        assert_eq!(spoken, version);
        assert!(report.contains(r#"["x-forwarded-proto","https"]"#), "{report}");
    }
    let stranger = Authority::new();
    let refused = curl(&["--cacert", &stranger.ca(), &proxy.url("https", "/")]);
    assert_eq!(refused.code, Some(60), "{}", refused.stderr);
}

/// `--tls-dev`: an authority in the data directory, trusted by who is given its file.
#[test]
fn tls_dev_serves_a_certificate_of_its_own_authority() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("http", ""), &["--tls-dev", "--access-log", "off"]);
    let home = proxy.home().to_str().expect("UTF-8").to_owned();
    let shown =
        crate::support::gwproxy_with(&["cert", "show", "--ca"], &[("GWPROXY_DATA_DIR", &home)]);
    let ca = shown.ok().text().trim().to_owned();
    assert!(ca.starts_with(&home), "{ca}");
    let report = curl(&["--cacert", &ca, "--http2", &proxy.url("https", "/x")]).json();
    assert_eq!(report["path"], "/x");
    // Nothing on this machine trusts it unless told to.
    assert_eq!(curl(&[&proxy.url("https", "/")]).code, Some(60));
    let none = gwproxy(&["cert", "show", "--ca"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("gwproxy cert dev"), "{}", none.stderr);
}

/// P52, rows 0.4 and D21: TLS to nodes is verified, unless one says loudly that it must not be.
#[test]
fn tls_to_nodes_is_verified() {
    let authority = Authority::new();
    let pair = authority.leaf("node", &["127.0.0.1"]);
    let flags = pair.flags();
    let echo = echo("http", &flags.each_ref().map(String::as_str));
    let (url, ca) = (echo.url("https", ""), authority.ca());

    let verified = Proxy::http(&url, &["--upstream-ca", &ca, "--access-log", "off"]);
    let report = report(&verified, "http", &[]);
    assert_eq!(report["version"], "HTTP/2.0", "what TLS agrees on");
    assert!(report["tls"].is_object(), "{report}");

    let unknown = Proxy::http(&url, &QUIET);
    let answer = Conn::open(unknown.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json()["code"], "upstream_tls");
    unknown.wait_stderr("upstream_tls");

    let stranger = Authority::new();
    let other = Proxy::http(&url, &["--upstream-ca", &stranger.ca(), "--access-log", "off"]);
    let answer = Conn::open(other.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status(), &answer.json()["code"]), (502, &"upstream_tls".into()));

    let skips = Proxy::http(&url, &["--upstream-danger-skip-verify", "--access-log", "off"]);
    let answer = Conn::open(skips.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status(), 200);

    // The right authority for another name is as wrong.
    let named = ["--upstream-ca", &ca, "--upstream-server-name", "b.test", "--access-log", "off"];
    let named = Proxy::http(&url, &named);
    let answer = Conn::open(named.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status(), &answer.json()["code"]), (502, &"upstream_tls".into()));
}

/// Row 0.2: weights are exact over a cycle, over all workers together.
#[test]
fn row_0_2_weights_are_exact_over_all_workers() {
    let (one, two) = (echo("http", &["--name", "one"]), echo("http", &["--name", "two"]));
    let (to_one, to_two) = (one.url("http", "") + "=3", two.url("http", "") + "=1");
    let arguments = ["--to", &to_two, "--workers", "2", "--access-log", "off"];
    let proxy = Proxy::http(&to_one, &arguments);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..40 {
        let answer = Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let node = answer.fields.get("x-echo-node").expect("the node's name").to_owned();
        *seen.entry(node).or_default() += 1;
    }
    assert_eq!(seen, BTreeMap::from([("one".to_owned(), 30), ("two".to_owned(), 10)]));
}

/// Row 0.2: without weights every node has its turn.
#[test]
fn row_0_2_round_robin_is_even_over_all_workers() {
    let nodes = [echo("http", &["--name", "0"]), echo("http", &["--name", "1"])];
    let second = nodes[1].url("http", "");
    let proxy = Proxy::http(
        &nodes[0].url("http", ""),
        &["--to", &second, "--workers", "2", "--access-log", "off"],
    );
    let mut seen = [0, 0];
    for _ in 0..20 {
        let answer = Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let node: usize =
            answer.fields.get("x-echo-node").expect("a name").parse().expect("a number");
        seen[node] += 1;
    }
    assert_eq!(seen, [10, 10]);
}

/// Row 1.3, through `http` as through `ws`.
#[test]
fn a_websocket_passes_through() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("http", ""), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let answer = conn.head();
    assert_eq!(answer.status(), 101);
    // The example of RFC 6455 §1.3.
    assert_eq!(answer.fields.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(answer.fields.lists("connection", "upgrade"));
    // "Hello", masked by 37 fa 21 3d (RFC 6455 §5.7); it comes back unmasked.
    conn.send(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    let mut hello = [0; 7];
    std::io::Read::read_exact(&mut conn.stream, &mut hello).expect("the echo");
    assert_eq!(&hello, b"\x81\x05Hello");
    // Close 1000, masked by zeros; the answer is the same close, and the end.
    conn.send(b"\x88\x82\0\0\0\0\x03\xe8");
    assert_eq!(conn.rest(), b"\x88\x02\x03\xe8");
}

/// Row 1.5, through `http` as through `grpc`: a unary call, its trailers and its status.
#[test]
fn a_grpc_call_passes_through() {
    let echo = echo("grpc", &[]);
    let proxy = Proxy::http(&format!("h2c://{}", echo.addr(0)), &QUIET);
    let mut client = H2::open(proxy.addr(0));
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = || request("POST", "/gwproxy.echo.v1.Echo/Unary", &fields);
    // Field 1 (message), length 5, in a frame of 7 bytes.
    let answer = client.ask(call(), b"\0\0\0\0\x07\x0a\x05hello", None);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert!(answer.body.windows(5).any(|part| part == b"hello"), "{:?}", answer.body);
    let unknown = request("POST", "/gwproxy.echo.v1.Echo/Nothing", &fields);
    let answer = client.ask(unknown, b"\0\0\0\0\0", None);
    // UNIMPLEMENTED, trailers-only.
    let status = answer.fields.get("grpc-status").or_else(|| answer.trailers.get("grpc-status"));
    assert_eq!(status.expect("a status"), "12");
}
