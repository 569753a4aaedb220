use bytes::BytesMut;
use http::Method;
use proptest::prelude::*;

use super::*;

fn request(text: &[u8]) -> Result<Option<RequestHead>, Reject> {
    parse_request(&mut BytesMut::from(text), &mut Scan::default(), &Limits::default())
}

/// P27: what is wrong is said as it is.
#[test]
fn p27_obs_fold_is_called_so() {
    for (fields, fold) in [
        ("X-A: 1\r\n 2\r\n", true),
        ("X-A: 1\r\n\tX-B: 2\r\n", true),
        ("X A: 1\r\n", false),
        ("X-A : 1\r\n", false),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let reason = request(text.as_bytes()).unwrap_err().reason;
        assert_eq!(reason.contains("obs-fold"), fold, "{fields:?}: {reason}");
    }
}

fn status(text: &str) -> u16 {
    match request(text.as_bytes()) {
        Err(reject) => reject.status.as_u16(),
        Ok(head) => panic!("accepted {text:?}: {head:?}"),
    }
}

fn accept(text: &str) -> RequestHead {
    request(text.as_bytes()).unwrap().unwrap()
}

fn response(text: &str, asked: &Method) -> Result<ResponseHead, Reject> {
    let mut buf = BytesMut::from(text);
    parse_response(&mut buf, &mut Scan::default(), &Limits::default(), asked)
        .map(|head| head.expect("incomplete"))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";

fn with(fields: &str) -> String {
    format!("{GET}{fields}\r\n")
}

#[test]
fn a_plain_request_is_taken_whole() {
    let mut buf = BytesMut::from(
        "\r\nPOST /a?b=%2F HTTP/1.1\r\nHost: x:80\r\nContent-Length: 3\r\n\r\nabcGET",
    );
    let head = parse_request(&mut buf, &mut Scan::default(), &Limits::default()).unwrap().unwrap();
    assert_eq!(*head.request.method(), Method::POST);
    assert_eq!(*head.request.uri(), "/a?b=%2F");
    assert_eq!(head.framing, Framing::Length(3));
    assert!(head.keep_alive);
    assert_eq!(&buf[..], b"abcGET");
}

/// T01, RFC 9112 §6.1.
#[test]
fn t01_content_length_with_transfer_encoding_is_refused_in_both_orders() {
    assert_eq!(status(&with("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n")), 400);
    assert_eq!(status(&with("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n")), 400);
    assert_eq!(status(&with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")), 400);
}

/// T02.
#[test]
fn t02_only_a_single_chunked_is_a_coding() {
    for coding in ["xchunked", "chunked, chunked", "chunked, gzip", "gzip", "chunked, identity", ""]
    {
        let refused = status(&with(&format!("Transfer-Encoding: {coding}\r\n")));
        assert!(matches!(refused, 400 | 501), "{coding}: {refused}");
    }
    assert_eq!(status(&with("Transfer-Encoding : chunked\r\n")), 400);
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(old), 400);
    assert_eq!(accept(&with("Transfer-Encoding: Chunked\r\n")).framing, Framing::Chunked);
}

/// T03, RFC 9110 §8.6.
#[test]
fn t03_content_length_is_one_number() {
    let zeros = "0".repeat(1000);
    let values =
        ["+5", "-1", "5,6", "5,5", "0x5", "5 5", "", "1e3", "18446744073709551616", &zeros];
    for value in values {
        assert_eq!(status(&with(&format!("Content-Length: {value}\r\n"))), 400, "{value}");
    }
    assert_eq!(status(&with("Content-Length: 5\r\nContent-Length: 5\r\n")), 400);
    assert_eq!(accept(&with("Content-Length: 5\r\n")).framing, Framing::Length(5));
}

/// T12, P20, P22, P26, P27.
#[test]
fn t12_malformed_heads_are_refused() {
    let cases: [&[u8]; 13] = [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.32\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for case in cases {
        assert!(request(case).is_err(), "{:?}", String::from_utf8_lossy(case));
    }
    let method = "M".repeat(33);
    assert_eq!(status(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")), 501);
}

/// T14, P23.
#[test]
fn t14_host_is_a_host() {
    for host in ["a b", "a@b", "a:99999", "a:b", "a/b", "[::1"] {
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
    }
    for host in ["a", "a:80", "a:", "[::1]", "[::1]:8080", ""] {
        accept(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

/// RFC 9112 §3.2: four forms.
#[test]
fn target_forms() {
    accept("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    accept("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    accept("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n");
    for line in [
        "CONNECT a",
        "CONNECT /",
        "CONNECT a:0",
        "GET *",
        "GET a",
        "GET a:443",
        "GET http://u@a/",
        "GET /a#b",
        "GET /#",
        "GET /?a#",
        "GET http://a#b",
        "OPTIONS *#",
        "CONNECT a:443#",
    ] {
        assert_eq!(status(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")), 400, "{line}");
    }
}

/// P25, RFC 9112 §3.2.4: an empty path of OPTIONS is the server, every other path is itself.
#[test]
fn p25_an_empty_path_of_options_is_the_asterisk() {
    let path = |line: &str| {
        let uri = accept(&format!("{line} HTTP/1.1\r\nHost: b\r\n\r\n")).request.uri().clone();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        format!("{authority} {}", uri.path_and_query().unwrap())
    };
    assert_eq!(path("OPTIONS http://a:8001"), "a:8001 *");
    assert_eq!(path("OPTIONS http://a:8001/"), "a:8001 /");
    assert_eq!(path("OPTIONS http://a/a"), "a /a");
    assert_eq!(path("OPTIONS http://a?x"), "a /?x");
    assert_eq!(path("GET http://a"), "a /");
}

/// T26, P22: at, below and above each bound.
#[test]
fn t26_bounds_are_exact() {
    let limits = Limits::default();
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1));
    accept(&target(limits.target_bytes));
    assert_eq!(status(&target(limits.target_bytes + 1)), 414);
    let field = |n: usize| with(&format!("X: {}\r\n", "x".repeat(n - 1)));
    accept(&field(limits.field_bytes));
    assert_eq!(status(&field(limits.field_bytes + 1)), 431);
    let fields = |n: usize| with(&"X: 1\r\n".repeat(n - 1));
    accept(&fields(limits.fields));
    assert_eq!(status(&fields(limits.fields + 1)), 431);
    let head = |n: usize| {
        let line = format!("X: {}\r\n", "x".repeat(7_000));
        let rest = n - GET.len() - 2 - 2 * line.len() - 5;
        with(&format!("{line}{line}Y: {}\r\n", "y".repeat(rest)))
    };
    assert_eq!(head(limits.head_bytes).len(), limits.head_bytes);
    accept(&head(limits.head_bytes));
    assert_eq!(status(&head(limits.head_bytes + 1)), 431);
    // An endless head is refused long before its end.
    assert_eq!(status(&"G".repeat(64 * 1024)), 414);
    assert_eq!(status(&format!("{GET}X: {}", "x".repeat(64 * 1024))), 431);
}

/// T06, T09.
#[test]
fn expectations_and_upgrades() {
    assert!(accept(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).expects_continue);
    assert!(!accept(&with("Expect: 100-continue\r\n")).expects_continue);
    assert_eq!(status(&with("Expect: y 100-continue\r\n")), 417);
    assert_eq!(status(&with("Upgrade: foo\r\nContent-Length: 1\r\n")), 400);
}

#[test]
fn t36_nominating_message_fields_is_refused() {
    assert_eq!(status(&with("Connection: close, Content-Length\r\n")), 400);
}

/// T13, P17, P26, P28: a node's ambiguous answer is not passed on.
#[test]
fn t13_ambiguous_responses_are_refused() {
    let get = Method::GET;
    let bad = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
    ];
    for text in bad {
        assert!(response(text, &get).is_err(), "{text:?}");
    }
}

/// RFC 9112 §6.3.
#[test]
fn response_framing_follows_the_method_and_status() {
    let framing = |text: &str, asked: &Method| response(text, asked).unwrap().framing;
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(framing(sized, &Method::GET), Framing::Length(5));
    assert_eq!(framing(sized, &Method::HEAD), Framing::None);
    assert_eq!(framing("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", &Method::GET), Framing::None);
    assert_eq!(framing("HTTP/1.1 204 X\r\n\r\n", &Method::GET), Framing::None);
    assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", &Method::GET), Framing::UntilClose);
    assert!(!response("HTTP/1.1 200 OK\r\n\r\n", &Method::GET).unwrap().keep_alive);
    assert!(
        !response("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", &Method::GET).unwrap().keep_alive
    );
}

proptest! {
    /// T12: however a head is cut into reads, the verdict is the same, and nothing panics.
    #[test]
    fn any_split_gives_the_same_verdict(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'\0'), any::<u8>()],
            0..200,
        ),
        cut in 0usize..200,
        fields in "[A-Za-z: \r\n]{0,60}",
    ) {
        let mut text = format!("{GET}{fields}").into_bytes();
        text.extend(&bytes);
        text.extend(b"\r\n\r\n");
        let whole = request(&text);
        let mut buf = BytesMut::new();
        let mut scan = Scan::default();
        let mut split = Ok(None);
        for piece in text.chunks(cut.max(1)) {
            buf.extend_from_slice(piece);
            split = parse_request(&mut buf, &mut scan, &Limits::default());
            if !matches!(split, Ok(None)) {
                break;
            }
        }
        match (whole, split) {
            (Ok(Some(a)), Ok(Some(b))) => {
                prop_assert_eq!(a.framing, b.framing);
                prop_assert_eq!(a.request.headers(), b.request.headers());
            }
            (a, b) => prop_assert_eq!(a.is_err(), b.is_err()),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = request(&bytes);
        let mut buf = BytesMut::from(&bytes[..]);
        let asked = Method::GET;
        let _ = parse_response(&mut buf, &mut Scan::default(), &Limits::default(), &asked);
    }
}

/// What is no HTTP is answered at once, not when the time for a head is over.
#[test]
fn an_unfinished_head_that_cannot_become_a_request_is_refused() {
    let hello = request(b"\x16\x03\x01\x02\x00\x01").unwrap_err();
    assert!(hello.reason.starts_with("TLS came"), "{hello:?}");
    for other in [
        &b"\x04\x01\x00\x50"[..],
        b"SSH-2.0-x\r\n",
        b"*1\r\n$4\r\n",
        b"{\"a\": 1}",
        b"GE\0T",
        "GÉT".as_bytes(),
    ] {
        assert_eq!(request(other).unwrap_err().status, StatusCode::BAD_REQUEST, "{other:?}");
    }
    for begin in ["", "\r", "\r\n", "\r\n\r", "G", "GET", "GET ", "GET /\u{1}", "BASELINE-CONTROL"]
    {
        assert!(request(begin.as_bytes()).unwrap().is_none(), "{begin:?}");
    }
    assert!(request("M".repeat(METHOD_BYTES_MAX).as_bytes()).unwrap().is_none());
    assert_eq!(status(&"M".repeat(METHOD_BYTES_MAX + 1)), 501);
}

proptest! {
    /// What is taken without the parser is what the parser takes.
    #[test]
    fn a_plain_host_is_an_authority(host in "[a-zA-Z0-9.:-]{1,24}(:[0-9]{0,6})?") {
        if is_plain(host.as_bytes()) {
            let parsed: Authority = host.parse().unwrap();
            prop_assert_eq!(parsed.as_str(), &*host);
            prop_assert!(!parsed.host().is_empty());
            let (_, port) = host.split_once(':').unwrap_or((&*host, ""));
            prop_assert!(port.is_empty() || parsed.port_u16().is_some());
        }
    }
}

/// P11, RFC 9110 §10.1.1: who sends no content waits for nothing, and nobody behind us does.
#[test]
fn p11_without_content_there_is_no_expectation() {
    for fields in ["", "Content-Length: 0\r\n"] {
        let head = accept(&with(&format!("{fields}Expect: 100-continue\r\n")));
        assert!(!head.expects_continue && !head.request.headers().contains_key(EXPECT), "{fields}");
    }
    let head = accept(&with("Content-Length: 1\r\nExpect: 100-continue\r\n"));
    assert!(head.expects_continue && head.request.headers().contains_key(EXPECT));
}
