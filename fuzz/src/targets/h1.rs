//! Heads of HTTP/1 messages: one verdict however they are cut, and what is accepted keeps the rules
//! of RFC 9112 that smuggling breaks.

use bytes::BytesMut;
use gwproxy_http::Fields;
use gwproxy_http::h1::head::{
    Framing, Limits, Reject, RequestHead, ResponseHead, Scan, parse_request, parse_response,
};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode, Version};

use crate::mutate::Rng;

type Verdict<H> = Result<Option<H>, Reject>;

/// Shows the parser `data` in pieces. Besides the verdict: how many bytes are left.
fn in_pieces<H>(
    pieces: &[&[u8]],
    mut parse: impl FnMut(&mut BytesMut, &mut Scan) -> Verdict<H>,
) -> (Verdict<H>, usize) {
    let (mut buf, mut scan) = (BytesMut::new(), Scan::default());
    let mut all = pieces.iter();
    for piece in all.by_ref() {
        buf.extend_from_slice(piece);
        let verdict = parse(&mut buf, &mut scan);
        if !matches!(verdict, Ok(None)) {
            return (verdict, buf.len() + all.map(|rest| rest.len()).sum::<usize>());
        }
    }
    (Ok(None), buf.len())
}

/// A limit that is met now and then.
fn limits(rng: &mut Rng) -> Limits {
    let usual = Limits::default();
    match rng.below(2) {
        0 => Limits { head_bytes: 200, fields: 4, field_bytes: 40, target_bytes: 40 },
        _ => usual,
    }
}

/// One meaning, however it is cut; the limits hold; the fields that frame agree with the framing.
pub(super) fn request(data: &[u8]) {
    let mut rng = Rng::of(data);
    let limits = limits(&mut rng);
    let (whole, left) = in_pieces(&[data], |buf, scan| parse_request(buf, scan, &limits));
    let pieces = rng.pieces(data);
    let (cut, left_of_cut) = in_pieces(&pieces, |buf, scan| parse_request(buf, scan, &limits));
    match (&whole, &cut) {
        (Ok(Some(one)), Ok(Some(other))) => {
            assert_eq!(facts(one), facts(other), "cut differently, read differently");
            assert_eq!(left, left_of_cut);
        }
        (Ok(None), Ok(None)) => {
            assert!(left <= limits.head_bytes, "{left} bytes are kept");
        }
        (Err(one), Err(other)) => {
            assert!(one.status.is_client_error() || one.status == StatusCode::NOT_IMPLEMENTED);
            assert!(other.status.is_client_error() || other.status == StatusCode::NOT_IMPLEMENTED);
        }
        _ => panic!("cut differently, judged differently: {whole:?} {cut:?}"),
    }
    if let Ok(Some(head)) = whole {
        assert!(data.len() - left <= limits.head_bytes + 8, "a head above its limit");
        sound_request(&head, &limits);
    }
}

type Facts = (String, String, Version, Vec<(String, Vec<u8>)>, Framing, bool, bool);

fn facts(head: &RequestHead) -> Facts {
    let parts = &head.request;
    let (method, uri) = (parts.method().to_string(), parts.uri().to_string());
    let fields = list(parts.headers());
    (method, uri, parts.version(), fields, head.framing, head.keep_alive, head.expects_continue)
}

fn list(headers: &Fields) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn sound_request(head: &RequestHead, limits: &Limits) {
    let (headers, version) = (head.request.headers(), head.request.version());
    sound_fields(headers, limits);
    let hosts = headers.get_all(HOST).count();
    assert!(hosts == 1 || (hosts == 0 && version == Version::HTTP_10), "{hosts} hosts");
    assert!(head.request.uri().to_string().len() <= limits.target_bytes + 2);
    assert_ne!(head.framing, Framing::UntilClose, "a request cannot end with its connection");
    match head.framing {
        Framing::Chunked => assert_eq!(version, Version::HTTP_11),
        Framing::Length(_) | Framing::None | Framing::UntilClose => {
            assert!(!headers.contains_key(TRANSFER_ENCODING), "Transfer-Encoding without chunks");
        }
    }
    sound_framing(headers, head.framing);
    if headers.contains_key(UPGRADE) {
        assert!(matches!(head.framing, Framing::None | Framing::Length(0)), "Upgrade with a body");
    }
    assert!(!head.keep_alive || version == Version::HTTP_11);
    assert!(!head.expects_continue || head.framing != Framing::None);
}

fn sound_fields(headers: &Fields, limits: &Limits) {
    assert!(headers.len() <= limits.fields);
    for (name, value) in headers.iter() {
        let value = value.as_bytes();
        assert!(name.as_str().len() + value.len() <= limits.field_bytes);
        let is_bad = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.iter().any(is_bad), "a line end within a value");
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        assert!(!is_space(value.first()) && !is_space(value.last()), "white space round {name}");
    }
}

/// Content-Length and Transfer-Encoding never meet, and each says what the framing says.
fn sound_framing(headers: &Fields, framing: Framing) {
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).collect();
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).collect();
    assert!(lengths.len() <= 1 && codings.len() <= 1, "framed twice");
    assert!(lengths.is_empty() || codings.is_empty(), "framed by two fields");
    if let Some(length) = lengths.first() {
        assert!(length.as_bytes().iter().all(u8::is_ascii_digit));
        let length: u64 = length.to_str().unwrap_or_default().parse().unwrap_or(u64::MAX);
        assert!(matches!(framing, Framing::None) || framing == Framing::Length(length));
    }
    if let Some(coding) = codings.first() {
        assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        assert!(matches!(framing, Framing::Chunked | Framing::None));
    }
}

/// As [`request`]; and a response without a body has none whatever its fields say.
pub(super) fn response(data: &[u8]) {
    let mut rng = Rng::of(data);
    let limits = limits(&mut rng);
    let pieces = rng.pieces(data);
    for asked in [Method::GET, Method::HEAD, Method::CONNECT] {
        let parse =
            |buf: &mut BytesMut, scan: &mut Scan| parse_response(buf, scan, &limits, &asked);
        let (whole, left) = in_pieces(&[data], parse);
        let (cut, left_of_cut) = in_pieces(&pieces, parse);
        match (&whole, &cut) {
            (Ok(Some(one)), Ok(Some(other))) => {
                assert_eq!(one.parts.status, other.parts.status);
                assert_eq!(list(&one.parts.headers), list(&other.parts.headers));
                assert_eq!((one.framing, one.keep_alive), (other.framing, other.keep_alive));
                assert_eq!(left, left_of_cut);
                sound_response(one, &asked, &limits);
            }
            (Ok(None), Ok(None)) => assert!(left <= limits.head_bytes),
            (Err(_), Err(_)) => {}
            _ => panic!("cut differently, judged differently: {whole:?} {cut:?}"),
        }
    }
}

fn sound_response(head: &ResponseHead, asked: &Method, limits: &Limits) {
    sound_fields(&head.parts.headers, limits);
    sound_framing(&head.parts.headers, head.framing);
    let status = head.parts.status;
    let never_has_body = status.is_informational() || matches!(status.as_u16(), 204 | 304);
    if never_has_body || asked == Method::HEAD || (asked == Method::CONNECT && status.is_success())
    {
        assert_eq!(head.framing, Framing::None, "RFC 9112 §6.3");
    } else {
        assert_ne!(head.framing, Framing::None, "nothing says that there is no body");
    }
    assert!(!(head.keep_alive && head.framing == Framing::UntilClose));
    assert!(!head.keep_alive || head.parts.version == Version::HTTP_11);
}
