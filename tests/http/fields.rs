//! Fields: what the proxy takes out, what it adds, and what it leaves alone.

use crate::support::{Conn, Message, Origin, Proxy};

const QUIET: [&str; 2] = ["--access-log", "off"];
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the node receives when the client sends `request`, with these options of the proxy.
#[track_caller]
fn received(request: &str, options: &[&str]) -> Message {
    let origin = Origin::answering(OK);
    let mut arguments = QUIET.to_vec();
    arguments.extend(options);
    let proxy = Proxy::http(&origin.url(), &arguments);
    let answer = Conn::open(proxy.addr(0)).ask(request);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = origin.received().concat();
    Message::head(&mut &seen[..]).expect("a request")
}

/// What the client receives when the node sends `response`.
#[track_caller]
fn answered(response: &str) -> Message {
    let origin = Origin::answering(response);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// P01, P02: over all `Connection` lines, and what is hop-by-hop without being named.
#[test]
fn p01_hop_by_hop_fields_stay_on_their_hop() {
    let seen = received(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, keep-alive\r\nX-One: 1\r\n\
         Connection: x-two\r\nX-Two: 2\r\nX-Three: 3\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip;q=0.5\r\nUpgrade: foo/2\r\n\
         Proxy-Authorization: Basic eDp5\r\n\r\n",
        &[],
    );
    for gone in [
        "connection",
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "proxy-authorization",
        "transfer-encoding",
    ] {
        assert!(seen.fields.all(gone).is_empty(), "{gone}: {seen:?}");
    }
    assert_eq!(seen.fields.get("x-three"), Some("3"));
}

#[test]
fn p01_hop_by_hop_fields_of_a_response_stay_on_their_hop() {
    let answer = answered(
        "HTTP/1.1 200 OK\r\nConnection: X-One\r\nConnection: x-two\r\nX-One: 1\r\nX-Two: 2\r\n\
         X-Three: 3\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
         Proxy-Authentication-Info: nextnonce=\"x\"\r\n\
         Content-Length: 0\r\n\r\n",
    );
    for gone in [
        "connection",
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
    ] {
        assert!(answer.fields.all(gone).is_empty(), "{gone}: {answer:?}");
    }
    assert_eq!(answer.fields.get("x-three"), Some("3"));
}

/// T36: a client cannot make the proxy drop what it adds, or what the node relies on.
#[test]
fn t36_a_client_cannot_strip_what_the_proxy_adds() {
    let seen = received(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\
         Connection: close, X-Forwarded-For, X-Forwarded-Host, Forwarded, Via\r\n\r\n",
        &[],
    );
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("a"));
    assert!(seen.fields.get("forwarded").is_some() && seen.fields.get("via").is_some());
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    for name in ["Host", "Content-Length", "Transfer-Encoding", "Cookie", "Authorization"] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, {name}\r\n\r\n");
        assert_eq!(Conn::open(proxy.addr(0)).ask(request).status(), 400, "{name}");
    }
    assert_eq!(origin.connections(), 0);
}

/// P03.
#[test]
fn p03_via_is_extended() {
    let seen = received("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred\r\n\r\n", &[]);
    assert_eq!(seen.fields.all("via").join(", "), "1.0 fred, 1.1 gwproxy");
    let seen = received("GET / HTTP/1.0\r\nHost: a\r\n\r\n", &[]);
    assert_eq!(seen.fields.get("via"), Some("1.0 gwproxy"));
}

/// P07: repeated lines keep their order, unknown fields cross, values are not touched.
#[test]
fn p07_unknown_and_repeated_fields_cross_in_order() {
    let seen = received(
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: \"q, r\"\r\nX-A: 2\r\nX-A:\t3 \r\n\
         X-Bytes: caf\u{e9}\r\nX-Empty:\r\n\r\n",
        &[],
    );
    assert_eq!(seen.fields.all("x-a"), ["1", "2", "3"]);
    assert_eq!(seen.fields.get("x-b"), Some("\"q, r\""));
    // The two bytes of UTF-8, each as one character.
    assert_eq!(seen.fields.get("x-bytes"), Some("caf\u{c3}\u{a9}"));
    assert_eq!(seen.fields.get("x-empty"), Some(""));
}

/// P07: for peers that mind how names are written, and in which order (RFC 9110 §5.3).
#[test]
fn p07_names_and_their_order_are_kept() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nX-ID: 1\r\nServer: x\r\nX-id: 2\r\nKeep-Alive: timeout=5\r\n\
         Content-LENGTH: 2\r\nWWW-Authenticate: y\r\n\r\nok",
    );
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let answer = Conn::open(proxy.addr(0)).ask(
        "POST / HTTP/1.1\r\nSOAPAction: a\r\nHOST: b\r\nX-One: 1\r\nConnection: X-Gone\r\n\
         X-Gone: 2\r\nX-Empty:\r\nx-one: 3\r\nContent-length: 2\r\n\r\nhi",
    );
    let names = |message: &Message| {
        let names = message.fields.0.iter().map(|(name, value)| format!("{name}={value}"));
        names.collect::<Vec<_>>()
    };
    let kept = ["X-ID=1", "Server=x", "X-id=2", "Content-LENGTH=2", "WWW-Authenticate=y"];
    assert_eq!(names(&answer)[..5], kept);
    let seen = origin.received().concat();
    let seen = Message::head(&mut &seen[..]).expect("a request");
    assert_eq!(names(&seen)[..5], ["SOAPAction=a", "HOST=b", "X-One=1", "X-Empty=", "x-one=3"]);
    assert!(names(&seen).contains(&"Content-length=2".to_owned()), "{seen:?}");
    assert!(names(&seen).contains(&"x-forwarded-for=127.0.0.1".to_owned()), "{seen:?}");
}

/// P15.
#[test]
fn p15_credentials_and_challenges_are_not_touched() {
    let seen = received(
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer  a.b-c==\r\nCookie: a=1\r\n\
         Cookie: b=2\r\n\r\n",
        &[],
    );
    assert_eq!(seen.fields.get("authorization"), Some("Bearer  a.b-c=="));
    assert_eq!(seen.fields.all("cookie"), ["a=1", "b=2"]);
    let answer = answered(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\", Digest a=b\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(answer.fields.get("www-authenticate"), Some("Basic realm=\"x\", Digest a=b"));
    assert_eq!(answer.fields.all("set-cookie"), ["a=1", "b=2"]);
}

const CLAIMS: &str = "GET / HTTP/1.1\r\nHost: shop.test:8080\r\nX-Forwarded-For: 6.6.6.6\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
                      X-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n";

/// T35, D25: a stranger's word on who it is does not count.
#[test]
fn t35_forwarding_fields_are_set_afresh() {
    let seen = received(CLAIMS, &[]);
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test:8080"));
    assert_eq!(
        seen.fields.get("forwarded"),
        Some("for=127.0.0.1;proto=http;host=\"shop.test:8080\"")
    );
    assert_eq!(seen.fields.get("x-real-ip"), None);
    assert_eq!(seen.fields.get("x-forwarded-port"), None);
}

/// A trusted proxy's word is kept, and extended by what this one sees.
#[test]
fn a_trusted_proxys_forwarding_fields_are_extended() {
    let seen = received(CLAIMS, &["--trusted-proxy", "10.0.0.0/8,127.0.0.0/8"]);
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("evil.test"));
    let forwarded = seen.fields.get("forwarded").expect("a list");
    let told = "for=6.6.6.6;proto=https;host=evil.test, for=127.0.0.1;proto=http;";
    assert!(forwarded.starts_with(told), "{forwarded}");
}

/// P60: the number of proxies in front, instead of where they are.
#[test]
fn p60_hops_in_front_are_believed() {
    let seen = received(CLAIMS, &["--trusted-hops", "1"]);
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
}

#[test]
fn host_is_kept_unless_told() {
    let origin = Origin::answering(OK);
    let node = origin.addr().to_string();
    for (option, expected) in
        [("preserve", "shop.test:8080"), ("node", &*node), ("other.test", "other.test")]
    {
        let arguments = ["--upstream-host", option, "--access-log", "off"];
        let proxy = Proxy::http(&origin.url(), &arguments);
        let before = origin.seen().len();
        let answer =
            Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: shop.test:8080\r\n\r\n");
        assert_eq!(answer.status(), 200);
        let seen = origin.seen();
        let seen = Message::head(&mut &seen.as_bytes()[before..]).expect("a request");
        assert_eq!(seen.fields.get("host"), Some(expected), "--upstream-host {option}");
        // The node can always tell what the client asked for.
        assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test:8080"));
    }
}

/// T14, P24: the target's authority counts, `Host` is made from it.
#[test]
fn p24_an_absolute_target_beats_host() {
    let seen = received("GET http://a.test:81/x?y HTTP/1.1\r\nHost: b.test\r\n\r\n", &[]);
    assert_eq!(seen.target(), "/x?y");
    assert_eq!(seen.fields.get("host"), Some("a.test:81"));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("a.test:81"));
}

/// P25.
#[test]
fn p25_options_for_the_server_stays_that() {
    let seen = received("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
    assert_eq!(seen.start, "OPTIONS * HTTP/1.1");
    let seen = received("OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
    assert_eq!(seen.start, "OPTIONS /x HTTP/1.1");
    let seen = received("OPTIONS http://b.test:81 HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
    assert_eq!(seen.start, "OPTIONS * HTTP/1.1");
    assert_eq!(seen.fields.get("host"), Some("b.test:81"));
    let seen = received("OPTIONS http://b.test:81/ HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
    assert_eq!(seen.start, "OPTIONS / HTTP/1.1");
}

/// D24, T35: CGI reads `X_Real_IP` as the `X-Real-IP` that only a proxy may set.
#[test]
fn t35_names_with_underscores_are_refused_unless_wanted() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX_Real_IP: 6.6.6.6\r\n\r\n";
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let answer = Conn::open(proxy.addr(0)).ask(request);
    assert_eq!((answer.status(), origin.connections()), (400, 0));
    let text = answer.text();
    assert!(text.contains("underscore") && !text.contains("keep"), "{text}");
    let seen = received(request, &["--underscores", "keep"]);
    assert_eq!(seen.fields.get("x_real_ip"), Some("6.6.6.6"));
}

/// P04, RFC 9110 §7.6.2: a forward is counted, and none left is answered by the proxy itself.
#[test]
fn p04_max_forwards_ends_at_zero() {
    let asked = |fields: &str| format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    assert_eq!(received(&asked("Max-Forwards: 1\r\n"), &[]).fields.get("max-forwards"), Some("0"));
    assert_eq!(received(&asked(""), &[]).fields.get("max-forwards"), None);
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.ask(asked("Max-Forwards: 0\r\n"));
    assert_eq!((answer.status(), answer.fields.get("content-length")), (200, Some("0")));
    let answer = conn
        .ask("TRACE /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nCookie: s=1\r\nX-A: 1\r\n\r\n");
    assert_eq!(answer.fields.get("content-type"), Some("message/http"));
    assert!(answer.text().starts_with("TRACE /x HTTP/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().contains("X-A: 1\r\n") && !answer.text().contains("s=1"));
    assert_eq!(origin.connections(), 0);
}

/// T10: an upgrade to h2c would take the connection past every check.
#[test]
fn t10_an_upgrade_to_h2c_is_not_forwarded() {
    let seen = received(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\
         Connection: Upgrade, HTTP2-Settings\r\n\r\n",
        &[],
    );
    for gone in ["upgrade", "http2-settings", "connection"] {
        assert!(seen.fields.all(gone).is_empty(), "{gone}: {seen:?}");
    }
}

/// T09: a tunnel begins after 101 and no earlier; what is pipelined behind is a request again.
#[test]
fn t09_a_refused_upgrade_leaves_http_as_it_was() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\
         GET /admin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    );
    assert_eq!(conn.response().text(), "no");
    assert_eq!(conn.response().text(), "no");
    let seen = origin.seen();
    assert!(seen.contains("GET /admin HTTP/1.1\r\n") && !seen.contains("6.6.6.6"), "{seen}");
    // A body and an upgrade together leave no telling where either begins.
    let both = "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Content-Length: 5\r\n\r\nhello";
    assert_eq!(Conn::open(proxy.addr(0)).ask(both).status(), 400);
}
