//! Requests that are wrong on purpose: refused, the connection closed, the node none the wiser.

use crate::support::{Conn, Message, Origin, Proxy, text};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A proxy and its node.
struct Bench {
    origin: Origin,
    proxy: Proxy,
}

impl Bench {
    fn new() -> Self {
        let origin = Origin::answering(OK);
        let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
        Self { origin, proxy }
    }

    /// Sends it with a request behind it: exactly one answer comes, with one of these statuses,
    /// then the end; nothing reaches the node.
    #[track_caller]
    fn refuses(&self, what: &str, request: impl AsRef<[u8]>, statuses: &[u16]) {
        let mut conn = Conn::open(self.proxy.addr(0));
        conn.send(request).send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = conn.response();
        assert!(statuses.contains(&answer.status()), "{what}: {answer:?}");
        assert_eq!(answer.json()["code"], "client_malformed", "{what}");
        assert!(answer.fields.lists("connection", "close"), "{what}: {answer:?}");
        let rest = conn.rest();
        assert!(rest.is_empty(), "{what}: answered again: {}", text(&rest));
        let seen = self.origin.seen();
        assert!(seen.is_empty(), "{what}: the node saw {seen}");
    }

    /// Sends it; the answer is a refusal and the end, and the node never gets a whole request,
    /// though it may have seen its head.
    #[track_caller]
    fn cuts(&self, what: &str, request: impl AsRef<[u8]>) {
        let mut conn = Conn::open(self.proxy.addr(0));
        conn.send(request).send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = conn.response();
        assert_eq!(answer.status(), 400, "{what}: {answer:?}");
        assert_eq!(answer.json()["code"], "client_malformed", "{what}");
        let rest = conn.rest();
        assert!(rest.is_empty(), "{what}: answered again: {}", text(&rest));
        for seen in self.origin.received() {
            let seen = text(&seen);
            assert!(!seen.contains("smuggled"), "{what}: {seen}");
            assert!(!seen.ends_with("0\r\n\r\n"), "{what}: the node got it whole: {seen}");
        }
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn t01_content_length_with_transfer_encoding() {
    let bench = Bench::new();
    let (cl, te) = ("Content-Length: 6", "Transfer-Encoding: chunked");
    let body = "0\r\n\r\nG";
    for fields in [
        format!("{cl}\r\n{te}"),
        format!("{te}\r\n{cl}"),
        format!("{te}\r\n{te}"),
        format!("{cl}\r\n{te}\r\n{te}"),
        format!("X-A: 1\r\n{te}\r\nX-B: 2\r\n{cl}"),
    ] {
        bench.refuses(&fields, post(&fields, body), &[400]);
    }
}

/// P28, P29.
#[test]
fn t02_transfer_encoding_in_disguise() {
    let bench = Bench::new();
    for value in [
        "xchunked",
        "chunked, chunked",
        "chunked, gzip",
        "gzip",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "",
        "chunked\x0b",
        "c hunked",
    ] {
        let fields = format!("Transfer-Encoding: {value}");
        bench.refuses(&fields, post(&fields, "0\r\n\r\n"), &[400, 501]);
    }
    for fields in [
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X-A: 1\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    ] {
        bench.refuses(fields, post(fields, "0\r\n\r\n"), &[400, 501]);
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    bench.refuses("HTTP/1.0", old, &[400]);
    // Any case is the same coding, and framed by it.
    for value in ["Chunked", "CHUNKED", " chunked\t"] {
        let fields = format!("Transfer-Encoding:{value}");
        let answer = Conn::open(bench.proxy.addr(0)).ask(post(&fields, "2\r\nok\r\n0\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{value:?}");
    }
    assert_eq!(bench.origin.seen().matches("\r\n\r\n2\r\nok\r\n0\r\n\r\n").count(), 3);
}

/// P17.
#[test]
fn t03_content_length_that_is_no_number() {
    let bench = Bench::new();
    let zeros = "0".repeat(1000) + "5";
    for value in [
        "+5",
        "-1",
        "5,6",
        "5,5",
        "5, 5",
        "0x5",
        "5 5",
        "",
        "1e3",
        "18446744073709551616",
        "5\0",
        "5;",
        "٥",
        &zeros,
    ] {
        let fields = format!("Content-Length: {value}");
        bench.refuses(&fields, post(&fields, "hello"), &[400]);
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length : 5",
        "Content-Length: 5\r\n ,5",
        "Content_Length: 5\r\nContent-Length: 5\r\nContent-Length: 5",
    ] {
        bench.refuses(fields, post(fields, "hello"), &[400]);
    }
}

#[test]
fn t04_chunk_sizes_that_are_none() {
    let bench = Bench::new();
    for size in [
        "ffffffffffffffff",
        "11111111111111111",
        "0x5",
        "5_0",
        "-1",
        "",
        " 5",
        "+5",
        "5 ",
        "g",
        "5\t",
        "5,",
    ] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        bench.cuts(&format!("size {size:?}"), post("Transfer-Encoding: chunked", &body));
    }
    // A size that cannot be: no memory is taken for what never comes.
    let before = bench.proxy.memory("VmHWM");
    for _ in 0..20 {
        let mut conn = Conn::open(bench.proxy.addr(0));
        conn.send(post("Transfer-Encoding: chunked", "7fffffffffffff\r\nhello"));
        bench.origin.wait_for("hello");
    }
    let grown = bench.proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} kB for chunks that never came");
}

#[test]
fn t05_chunks_that_do_not_end() {
    let bench = Bench::new();
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    let many =
        "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(1000);
    for body in [
        "5;\nx\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "2\r\r;a\r\nok\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\nX: 1\n\r\n",
        "5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
        &long,
        &many,
    ] {
        let what = &body[..body.len().min(40)];
        bench.cuts(what, post("Transfer-Encoding: chunked", body));
    }
}

#[test]
fn t06_expectations() {
    let bench = Bench::new();
    for value in ["y 100-continue", "100-continue, 100-continue", "200-ok", "100"] {
        let fields = format!("Expect: {value}\r\nContent-Length: 5");
        bench.refuses(&fields, post(&fields, "hello"), &[417]);
    }
    bench.refuses("a tab before Expect", post("\tExpect: 100-continue", ""), &[400]);
    // P11: a 1.0 client cannot wait for a 100.
    let old =
        "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
    let answer = Conn::open(bench.proxy.addr(0)).send(old).head();
    assert_eq!(answer.status(), 200);
    // A GET with content is odd, and framed like any other.
    let mut conn = Conn::open(bench.proxy.addr(0));
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inner.len();
    conn.send(format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}"));
    assert_eq!(conn.response().status(), 200);
    assert_eq!(conn.ask("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    let seen = bench.origin.seen();
    assert!(seen.to_lowercase().contains(&format!("content-length: {length}")), "{seen}");
}

/// T08, P33: content that the proxy does not forward is no request either.
#[test]
fn t08_an_unread_body_is_never_a_request() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &["--limit", "1/m,burst=1", "--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [format!("Content-Length: {}", inner.len()), "Transfer-Encoding: chunked".into()]
    {
        let body = if fields.starts_with('C') {
            inner.to_owned()
        } else {
            format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len())
        };
        // Exactly one answer for it, and the next answer is the next request's.
        assert_eq!(conn.ask(post(&fields, &body)).status(), 429);
    }
    conn.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(conn.response().status(), 429);
    conn.assert_ends();
    assert!(!origin.seen().contains("/inner"));
}

/// T11, P36: CONNECT is for forward proxies; what follows it is not read (RFC 9931).
#[test]
fn t11_connect_on_a_reverse_proxy() {
    let bench = Bench::new();
    let mut conn = Conn::open(bench.proxy.addr(0));
    conn.send(
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answer = conn.response();
    assert!((400..500).contains(&answer.status()), "{answer:?}");
    conn.assert_ends();
    for target in ["a", "a:", "a:0", "a:65536", "a:x", "/", "http://a:443/", "*"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        bench.refuses(target, request, &[400]);
    }
    assert_eq!(bench.origin.connections(), 0);
}

/// P20, P26, P27.
#[test]
fn t12_heads_that_are_none() {
    let bench = Bench::new();
    let host = "Host: a\r\n";
    for head in [
        format!("GET / HTTP/1.1\r\n{host}X-A: 1\r\n 2\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X-A : 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host} X-A: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n\tX-A: 1\r\n{host}\r\n"),
        format!(" GET / HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\n{host}\r\n"),
        "GET / HTTP/1.1\r\nHost: a\n\r\n".into(),
        format!("GET / HTTP/1.1\r\n{host}\n"),
        format!("GET / HTTP/1.1\r{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X-A: 1\r2\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X-A: 1\0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X\0A: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X\u{e9}: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X-A\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X(A): 1\r\n\r\n"),
        format!("GET  / HTTP/1.1\r\n{host}\r\n"),
        format!("GET /  HTTP/1.1\r\n{host}\r\n"),
        format!("GET / x HTTP/1.1\r\n{host}\r\n"),
        format!("GET\t/ HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.32\r\n{host}\r\n"),
        format!("GET / HTTP/1\r\n{host}\r\n"),
        format!("GET / HTTP/2.0\r\n{host}\r\n"),
        format!("GET / HTTP/0.9\r\n{host}\r\n"),
        format!("GET / http/1.1\r\n{host}\r\n"),
        format!("GET / FTP/1.1\r\n{host}\r\n"),
        "GET /\r\n\r\n".into(),
        format!("GET x HTTP/1.1\r\n{host}\r\n"),
        format!("GET a:80 HTTP/1.1\r\n{host}\r\n"),
        format!("GET * HTTP/1.1\r\n{host}\r\n"),
        format!("GET http:///x HTTP/1.1\r\n{host}\r\n"),
        format!("GET http://u@a/ HTTP/1.1\r\n{host}\r\n"),
        format!("GET http://a:99999/ HTTP/1.1\r\n{host}\r\n"),
        format!("GET /\0 HTTP/1.1\r\n{host}\r\n"),
        format!("G@T / HTTP/1.1\r\n{host}\r\n"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".into(),
    ] {
        bench.refuses(&format!("{head:?}"), &head, &[400, 505]);
    }
    let method = format!("{} / HTTP/1.1\r\n{host}\r\n", "M".repeat(64 * 1024));
    bench.refuses("a method of 64 KiB", method, &[400, 414, 501]);
}

/// P23.
#[test]
fn t14_hosts_that_are_none() {
    let bench = Bench::new();
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a, b\r\n",
        "Host: u@a\r\n",
        "Host: a:99999\r\n",
        "Host: a:x\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: [::1\r\n",
        "Host: http://a\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}\r\n");
        bench.refuses(&format!("{hosts:?}"), request, &[400]);
    }
    for host in ["A.Test", "a.test.", "a:8080", "[::1]:80", "127.0.0.1", "xn--bcher-kva.test"] {
        let request = format!("GET / HTTP/1.1\r\nHOST: {host}\r\n\r\n");
        assert_eq!(Conn::open(bench.proxy.addr(0)).ask(request).status(), 200, "{host}");
    }
}

/// T26, P22: limits are exact, and an honest request just below them passes.
#[test]
fn t26_heads_that_are_too_large() {
    let bench = Bench::new();
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    let field = |length: usize| format!("X: {}\r\n", "x".repeat(length - 1));
    let fields = |count: usize| "X-A: 1\r\n".repeat(count);
    bench.refuses("a target of 8 KiB and one", get(&path(8 * 1024 + 1), ""), &[414]);
    bench.refuses("a target of 64 KiB", get(&path(64 * 1024), ""), &[414]);
    bench.refuses("a field of 8 KiB and one", get("/", &field(8 * 1024 + 1)), &[431]);
    bench.refuses("a field of 64 KiB", get("/", &field(64 * 1024)), &[431]);
    bench.refuses("101 fields", get("/", &fields(100)), &[431]);
    bench.refuses("5000 fields", get("/", &"a: b\r\n".repeat(5000)), &[431]);
    bench.refuses("17 KiB in all", get("/", &field(1024).repeat(17)), &[431]);
    let proxy = bench.proxy.addr(0);
    assert_eq!(Conn::open(proxy).ask(get(&path(8 * 1024), "")).status(), 200);
    assert_eq!(Conn::open(proxy).ask(get("/", &field(8 * 1024))).status(), 200);
    assert_eq!(Conn::open(proxy).ask(get("/", &fields(99))).status(), 200);
    assert_eq!(Conn::open(proxy).ask(get("/", &field(1000).repeat(15))).status(), 200);
}

/// T34: a target elsewhere is no way there; the route decides.
#[test]
fn t34_an_absolute_target_goes_nowhere_else() {
    let bench = Bench::new();
    let answer = Conn::open(bench.proxy.addr(0))
        .ask("GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n");
    assert_eq!(answer.status(), 200);
    let seen = bench.origin.received().concat();
    let seen = Message::head(&mut &seen[..]).expect("a request");
    assert_eq!((seen.target(), seen.fields.get("host")), ("/latest/", Some("169.254.169.254")));
}

/// One client's bad bytes are its own problem.
#[test]
fn a_bad_connection_does_not_disturb_another() {
    let bench = Bench::new();
    let proxy = bench.proxy.addr(0);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut good = Conn::open(proxy);
    for n in 0..20 {
        assert_eq!(good.ask(get).status(), 200);
        let mut bad = Conn::open(proxy);
        match n % 4 {
            0 => drop(bad.send("GET / HTTP/1.1\r\nHo")),
            1 => bad.reset(),
            2 => assert_eq!(bad.ask("nonsense\r\n\r\n").status(), 400),
            _ => drop(bad.send([0xff; 5000])),
        }
    }
    assert_eq!(good.ask(get).status(), 200);
}
