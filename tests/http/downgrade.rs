//! HTTP/2 requests that would become something else as HTTP/1 (T15, T16, P44–P47, P51).

use crate::support::h2::{Frame, PREFACE, flag, kind};
use crate::support::{Conn, Origin, Proxy, text};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const PROTOCOL_ERROR: u32 = 1;

type Field<'a> = (&'a [u8], &'a [u8]);

const METHOD: Field<'_> = (b":method", b"POST");
const SCHEME: Field<'_> = (b":scheme", b"http");
const PATH: Field<'_> = (b":path", b"/");
const AUTHORITY: Field<'_> = (b":authority", b"a");

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A response, of which only the first byte of its field block is looked at.
    Answered(u8),
    Reset(u32),
    GoAway(u32),
    Closed,
}

/// Sends these frames on a fresh connection; how stream 1 ended.
#[track_caller]
fn send(proxy: &Proxy, frames: &[Frame]) -> End {
    let mut conn = Conn::open(proxy.addr(0));
    let mut all = PREFACE.to_vec();
    all.extend(frames.iter().flat_map(Frame::bytes));
    conn.send(all);
    loop {
        match Frame::read(&mut conn.stream) {
            None => return End::Closed,
            Some(frame) if frame.kind == kind::GOAWAY => return End::GoAway(frame.error()),
            Some(frame) if frame.stream != 1 => {}
            Some(frame) if frame.kind == kind::RST_STREAM => return End::Reset(frame.error()),
            Some(frame) if frame.kind == kind::HEADERS => return End::Answered(frame.payload[0]),
            Some(_) => {}
        }
    }
}

/// RFC 7541, appendix A: `:status: 200` and `:status: 400` as one indexed field.
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;

/// P44, P45, P46, P47, P51.
#[test]
fn t15_malformed_requests_end_their_stream() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let well = [METHOD, SCHEME, PATH, AUTHORITY];
    let extra: [(&str, Field<'_>); 20] = [
        ("transfer-encoding", (b"transfer-encoding", b"chunked")),
        ("connection", (b"connection", b"close")),
        ("keep-alive", (b"keep-alive", b"timeout=5")),
        ("proxy-connection", (b"proxy-connection", b"close")),
        ("upgrade", (b"upgrade", b"h2c")),
        ("te", (b"te", b"gzip")),
        ("upper case", (b"X-Upper", b"1")),
        ("CR LF in a value", (b"x-a", b"1\r\nTransfer-Encoding: chunked")),
        ("LF in a value", (b"x-a", b"1\nx-b: 2")),
        ("NUL in a value", (b"x-a", b"1\x002")),
        ("CR LF in a name", (b"x-a\r\nx-b", b"1")),
        ("colon in a name", (b"x-a: 1\r\nx-b", b"1")),
        ("space in a name", (b"x a", b"1")),
        ("an empty name", (b"", b"1")),
        ("a second :path", (b":path", b"/evil")),
        ("a second :method", (b":method", b"GET")),
        ("an unknown pseudo field", (b":evil", b"1")),
        ("a response's pseudo field", (b":status", b"200")),
        ("another host", (b"host", b"b")),
        ("a length that is none", (b"content-length", b"+5")),
    ];
    for (what, field) in extra {
        let mut fields = well.to_vec();
        fields.push(field);
        assert_refused(&proxy, what, &fields);
    }
    let wrong: [(&str, &[Field<'_>]); 13] = [
        ("no :path", &[METHOD, SCHEME, AUTHORITY]),
        ("no :method", &[SCHEME, PATH, AUTHORITY]),
        ("no :scheme", &[METHOD, PATH, AUTHORITY]),
        ("no host at all", &[METHOD, SCHEME, PATH]),
        ("an empty :path", &[METHOD, SCHEME, (b":path", b""), AUTHORITY]),
        ("a :path without slash", &[METHOD, SCHEME, (b":path", b"x"), AUTHORITY]),
        ("CR LF in :path", &[METHOD, SCHEME, (b":path", b"/ HTTP/1.1\r\nx: 1"), AUTHORITY]),
        ("a space in :path", &[METHOD, SCHEME, (b":path", b"/a b"), AUTHORITY]),
        ("a line in :method", &[(b":method", b"GET / HTTP/1.1\r\n"), SCHEME, PATH, AUTHORITY]),
        ("a space in :method", &[(b":method", b"GE T"), SCHEME, PATH, AUTHORITY]),
        ("CR LF in :authority", &[METHOD, SCHEME, PATH, (b":authority", b"a\r\nx: 1")]),
        ("userinfo in :authority", &[METHOD, SCHEME, PATH, (b":authority", b"u@a")]),
        ("a pseudo field after others", &[METHOD, SCHEME, PATH, (b"x-a", b"1"), AUTHORITY]),
    ];
    for (what, fields) in wrong {
        assert_refused(&proxy, what, fields);
    }
    assert_eq!(origin.connections(), 0, "the node saw {}", origin.seen());
    // The same without anything wrong passes, so the refusals above are about their reasons.
    let head = Frame::headers(1, flag::END_HEADERS | flag::END_STREAM, &well);
    assert_eq!(send(&proxy, &[head]), End::Answered(STATUS_200));
    assert!(origin.seen().to_lowercase().contains("\r\nhost: a\r\n"), "{}", origin.seen());
}

#[track_caller]
fn assert_refused(proxy: &Proxy, what: &str, fields: &[Field<'_>]) {
    let head = Frame::headers(1, flag::END_HEADERS | flag::END_STREAM, fields);
    let end = send(proxy, &[head]);
    let refused =
        [End::Reset(PROTOCOL_ERROR), End::GoAway(PROTOCOL_ERROR), End::Answered(STATUS_400)];
    assert!(refused.contains(&end), "{what}: {end:?}");
}

/// T16, P17, P44: a length and the content that comes must agree before the node takes it for
/// whole.
#[test]
fn t16_a_length_that_lies_ends_the_stream() {
    let origin = Origin::start(|peer| {
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let head = |length: &'static [u8], flags| {
        let length = (&b"content-length"[..], length);
        Frame::headers(1, flags, &[METHOD, SCHEME, PATH, AUTHORITY, length])
    };
    let data = |flags, bytes: &[u8]| Frame::new(kind::DATA, flags, 1, bytes);
    let cases: [(&str, Vec<Frame>); 4] = [
        ("100 and nothing", vec![head(b"100", flag::END_HEADERS | flag::END_STREAM)]),
        ("100 and five", vec![head(b"100", flag::END_HEADERS), data(flag::END_STREAM, b"hello")]),
        ("3 and five", vec![head(b"3", flag::END_HEADERS), data(flag::END_STREAM, b"hello")]),
        (
            "5 and a request behind it",
            vec![
                head(b"5", flag::END_HEADERS),
                data(0, b"hello"),
                data(flag::END_STREAM, b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
            ],
        ),
    ];
    for (what, frames) in cases {
        let end = send(&proxy, &frames);
        let refused =
            [End::Reset(PROTOCOL_ERROR), End::GoAway(PROTOCOL_ERROR), End::Answered(STATUS_400)];
        assert!(refused.contains(&end), "{what}: {end:?}");
    }
    for seen in origin.received() {
        let seen = text(&seen);
        assert!(!seen.contains("smuggled"), "{seen}");
    }
    // Nothing half sent is left for the next request.
    let head = head(b"5", flag::END_HEADERS);
    assert_eq!(send(&proxy, &[head, data(flag::END_STREAM, b"right")]), End::Answered(STATUS_200));
    assert!(origin.seen().ends_with("\r\n\r\nright"), "{}", origin.seen());
}
