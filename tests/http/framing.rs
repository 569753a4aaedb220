//! Bodies and their ends: what goes in on one side comes out on the other, whole and in order.

use std::io::Read;

use http::{HeaderMap, HeaderValue};

use crate::support::h2::{H2, request};
use crate::support::{Conn, Origin, Proxy, echo};

const QUIET: [&str; 2] = ["--access-log", "off"];

/// An origin that answers every request with these bytes, and a proxy to it.
fn pair(response: &str) -> (Origin, Proxy) {
    let origin = Origin::answering(response);
    let proxy = Proxy::http(&origin.url(), &QUIET);
    (origin, proxy)
}

#[test]
fn a_content_length_body_crosses_with_its_length() {
    let (origin, proxy) = pair("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere");
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nhere");
    assert_eq!(answer.text(), "there");
    assert_eq!(answer.fields.get("content-length"), Some("5"));
    assert_eq!(answer.fields.get("transfer-encoding"), None);
    let seen = origin.seen();
    assert!(seen.to_lowercase().contains("content-length: 4\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nhere"), "{seen}");
}

/// T05.
#[test]
fn a_chunked_body_crosses_chunked() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nthe\r\n2;x=y\r\nre\r\n0\r\n\r\n";
    let origin = Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            assert_eq!(request.text(), "hello world");
            assert_eq!(request.fields.get("content-length"), None);
            peer.send(response);
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    for _ in 0..2 {
        let answer = conn.ask(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             6\r\nhello \r\n5;ext=1\r\nworld\r\n0\r\n\r\n",
        );
        assert_eq!(answer.text(), "there");
        assert_eq!(answer.fields.get("transfer-encoding"), Some("chunked"));
    }
    // T05: extensions are not passed on.
    assert!(!origin.seen().contains("ext=1"), "{}", origin.seen());
}

/// RFC 9112 §6.3: a body without length ends with the connection; the client gets it chunked, so
/// that it can tell the end from a cut.
#[test]
fn a_body_until_close_crosses_whole() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.text(), "until the end");
    assert_eq!(answer.fields.get("transfer-encoding"), Some("chunked"));
    // The client's connection is as good as before.
    assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "until the end");
}

/// P21, P28, P33: a 1.0 client cannot read chunks: it gets the bytes, and the end of the
/// connection.
#[test]
fn an_http10_client_gets_the_bytes_and_the_end() {
    let (origin, proxy) =
        pair("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let mut conn = Conn::open(proxy.addr(0));
    conn.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = conn.head();
    assert_eq!(head.fields.get("transfer-encoding"), None);
    assert_eq!(conn.rest(), b"ok");
    // P21: the proxy speaks its own version.
    assert!(origin.seen().starts_with("GET / HTTP/1.1\r\n"), "{}", origin.seen());
}

#[test]
fn head_204_and_304_have_no_body_and_keep_their_fields() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let answer = match request.target() {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
                _ => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n",
            };
            peer.send(answer);
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    let head = conn.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!((head.status(), head.fields.get("content-length")), (200, Some("1000")));
    assert_eq!(head.fields.get("transfer-encoding"), None);
    let none = conn.ask("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((none.status(), none.fields.get("x-a")), (204, Some("1")));
    assert_eq!(none.fields.get("content-length"), None);
    assert_eq!(none.fields.get("transfer-encoding"), None);
    // P18: conditionals cross untouched.
    let same = conn.ask("GET /304 HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n");
    assert_eq!((same.status(), same.fields.get("etag")), (304, Some("\"x\"")));
    assert!(origin.seen().to_lowercase().contains("if-none-match: \"x\"\r\n"));
    // All on one connection to the node: nobody mistook where a response ends.
    assert_eq!(origin.connections(), 1);
}

#[test]
fn head_over_http2_has_the_length_and_no_body() {
    let (_origin, proxy) = pair("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let mut client = H2::open(proxy.addr(0));
    let answer = client.ask(request("HEAD", "/", &[]), b"", None);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.fields["content-length"], "1000");
}

/// R08: trailers cross in both directions, from any version to any other.
#[test]
fn r08_trailers_cross_from_http1_to_http2() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("h2c", ""), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.ask(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailers.get("x-sum"), Some("42"));
}

#[test]
fn r08_trailers_cross_from_http2_to_http1() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            assert_eq!(request.trailers.get("x-sum"), Some("42"));
            peer.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n\
                 2\r\nok\r\n0\r\nX-Back: 43\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut client = H2::open(proxy.addr(0));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let answer = client.ask(request("POST", "/", &[("te", "trailers")]), b"hi", Some(trailers));
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    assert_eq!(answer.trailers["x-back"], "43");
}

/// P01, P14: what must not stand in a trailer does not cross.
#[test]
fn p14_trailers_cannot_smuggle_fields() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            assert_eq!(request.trailers.get("x-sum"), Some("42"));
            for name in ["content-length", "authorization", "transfer-encoding", "x-hop", "host"] {
                assert!(request.trailers.all(name).is_empty(), "{name}: {:?}", request.trailers);
            }
            peer.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                 X-Back: 43\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    let answer = conn.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: X-Hop\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\n\
         Authorization: Basic eDp5\r\nTransfer-Encoding: gzip\r\nHost: b\r\nX-Hop: 1\r\n\r\n",
    );
    assert_eq!(answer.trailers.0, [("X-Back".to_owned(), "43".to_owned())]);
}

/// P11: the node says 100, the client gets it and sends, the node gets all.
#[test]
fn p11_100_continue_comes_from_the_node() {
    let origin = Origin::start(|peer| {
        let Some(mut request) = peer.head() else { return };
        assert_eq!(request.fields.get("expect"), Some("100-continue"));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        request.read_body(peer, false).expect("the body");
        assert_eq!(request.text(), "hello");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        peer.wait_end();
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(conn.head().status(), 100);
    // Not before: the node asked for the content, the proxy did not.
    origin.wait_for("\r\n\r\n");
    assert_eq!(conn.ask("hello").status(), 200);
}

/// T06, P11: a node that refuses gets nothing of the body, and neither does the proxy.
#[test]
fn p11_a_refusal_reaches_the_client_before_its_body() {
    let origin = Origin::start(|peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
            assert_eq!(peer.wait_end(), 0, "a body came after the refusal");
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let answer = conn.head();
    assert_eq!(answer.status(), 401);
    assert!(answer.fields.lists("connection", "close"), "{answer:?}");
    assert_eq!(conn.rest(), b"no");
    // The connection to the node is not used again: it still waits for five bytes.
    origin.wait_ended(1);
}

/// P34, P35, R08: responses come in the order of requests, however they were sent.
#[test]
fn p34_pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let target = request.target().to_owned();
            let (length, body) = (target.len(), request.text());
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}{body}",
                length + body.len()
            ));
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    let requests = (0..10).map(|n| match n % 3 {
        0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n!"),
        _ => format!(
            "POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\n?\r\n0\r\n\r\n"
        ),
    });
    conn.send(requests.collect::<String>());
    for n in 0..10 {
        assert_eq!(conn.response().text(), format!("/{n}{}", ["", "!", "?"][n % 3]));
    }
    // P35: what follows `close` is not processed.
    conn.send(
        "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
         GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(conn.response().text(), "/last");
    conn.assert_ends();
    assert!(!origin.seen().contains("/never"));
    assert_eq!(origin.connections(), 1, "one connection to the node serves them all");
}

/// R08: an answer in the middle of an upload reaches the client, and the node's connection, in
/// whose middle nobody knows where the next request begins, is not used again.
#[test]
fn r08_an_early_answer_ends_the_upload() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.head() {
            if request.method() == "GET" {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nget");
                continue;
            }
            let mut first = [0; 1000];
            peer.read_exact(&mut first).expect("some of the body");
            peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
            peer.wait_end();
            return;
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--workers", "1", "--access-log", "off"]);
    let mut conn = Conn::open(proxy.addr(0));
    // The rest never comes: the answer must not wait for it.
    conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").send([b'x'; 1000]);
    let answer = conn.response();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no"));
    assert!(answer.fields.lists("connection", "close"), "{answer:?}");
    conn.assert_ends();
    let mut again = Conn::open(proxy.addr(0));
    assert_eq!(again.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "get");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn many_requests_share_one_connection_to_the_node() {
    let (origin, proxy) = pair("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut conn = Conn::open(proxy.addr(0));
    for _ in 0..50 {
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
}

/// P16, P03: the proxy adds Date where the node has none, and leaves the node's alone.
#[test]
fn p16_a_response_without_date_gets_one() {
    let (_origin, proxy) = pair("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let answer = Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let date = answer.fields.get("date").expect("a date");
    assert!(date.ends_with(" GMT"), "{date}");
    let (_origin, proxy) =
        pair("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n");
    let answer = Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.fields.get("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
}
