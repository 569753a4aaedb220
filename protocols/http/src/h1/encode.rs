//! Message heads and body framing onto the wire.

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::head::Framing;
use super::spelling::{Spelling, put_name};

/// The longest chunk-size line we write: 16 digits and CRLF.
const CHUNK_LINE_BYTES: usize = 18;

/// Writes a request head. `target` and `host` are given because they depend on the form: a proxy
/// generates both (RFC 9112 §3.2). Framing and connection fields of `headers` are ours to write,
/// not the caller's.
pub(super) fn request_head(
    out: &mut BytesMut,
    method: &Method,
    target: &[u8],
    host: &[u8],
    headers: &HeaderMap,
    framing: Framing,
    spelling: Option<&Spelling>,
) {
    out.reserve(512);
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    put_name(out, &HOST, spelling);
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    fields(out, headers, spelling, |name| *name == HOST || is_framing(name));
    // A body of known length zero is announced for methods that usually have one (RFC 9110 §8.6).
    let announces_none = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match framing {
        Framing::Length(length) => content_length(out, length, spelling),
        Framing::Chunked => chunked(out, spelling),
        Framing::None if announces_none => content_length(out, 0, spelling),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response head. `connection` is the connection option to send, if any; `date` is used
/// when the response has none (RFC 9110 §6.6.1).
pub(super) fn response_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    framing: ResponseFraming,
    connection: Option<&'static str>,
    date: &[u8],
    spelling: Option<&Spelling>,
) {
    status_line(out, status);
    // RFC 9110 §8.6: a 1xx or 204 has no Content-Length.
    let keep_length = framing == ResponseFraming::AsGiven
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT;
    let is_ours = |name: &_| is_framing(name) && !(keep_length && *name == CONTENT_LENGTH);
    fields(out, headers, spelling, is_ours);
    match framing {
        ResponseFraming::Length(length) => content_length(out, length, spelling),
        ResponseFraming::Chunked => chunked(out, spelling),
        ResponseFraming::AsGiven | ResponseFraming::UntilClose => {}
    }
    if let Some(option) = connection {
        put_name(out, &CONNECTION, spelling);
        out.extend_from_slice(option.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !headers.contains_key(DATE) {
        put_name(out, &DATE, spelling);
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response; it has no content (RFC 9110 §15.2), so nothing that frames some.
pub fn interim_head(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status);
    fields(out, headers, None, is_framing);
    out.extend_from_slice(b"\r\n");
}

/// How a response's body is delimited towards the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body is sent; a `Content-Length` of the response (HEAD, 304) is passed as it is.
    AsGiven,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Closing the connection; the client speaks HTTP/1.0.
    UntilClose,
}

impl ResponseFraming {
    /// Chooses the framing for a body of `length` (if known) in answer to a client of `version`.
    pub fn choose(length: Option<u64>, version: Version) -> Self {
        match length {
            Some(length) => Self::Length(length),
            None if version == Version::HTTP_10 => Self::UntilClose,
            None => Self::Chunked,
        }
    }
}

/// Writes the line before a chunk's data.
pub fn chunk_size(out: &mut BytesMut, size: usize) {
    out.reserve(CHUNK_LINE_BYTES);
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut left = size;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b"0123456789abcdef".get(left & 15).copied().unwrap_or(b'0');
        }
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body, with trailers if there are any.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        fields(out, trailers, None, is_framing);
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    out.reserve(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn fields(
    out: &mut BytesMut,
    headers: &HeaderMap,
    spelling: Option<&Spelling>,
    skip: impl Fn(&HeaderName) -> bool,
) {
    let mut put = |name: &[u8], value: &HeaderValue| {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    if let Some(spelling) = spelling {
        spelling.fields(headers, skip, put);
        return;
    }
    for (name, value) in headers {
        if !skip(name) {
            put(name.as_str().as_bytes(), value);
        }
    }
}

fn chunked(out: &mut BytesMut, spelling: Option<&Spelling>) {
    put_name(out, &TRANSFER_ENCODING, spelling);
    out.extend_from_slice(b"chunked\r\n");
}

fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING || *name == CONNECTION
}

fn content_length(out: &mut BytesMut, length: u64, spelling: Option<&Spelling>) {
    put_name(out, &CONTENT_LENGTH, spelling);
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = length;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (left % 10) as u8;
        }
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_formatted() {
        for number in [0, 1, 9, 10, 15, 16, 255, 4096, 65_535, 1 << 40] {
            let mut out = BytesMut::new();
            chunk_size(&mut out, number);
            assert_eq!(out, format!("{number:x}\r\n").as_bytes());
            let mut out = BytesMut::new();
            content_length(&mut out, number as u64, None);
            assert_eq!(out, format!("content-length: {number}\r\n").as_bytes());
        }
        let mut out = BytesMut::new();
        content_length(&mut out, u64::MAX, None);
        assert_eq!(out, format!("content-length: {}\r\n", u64::MAX).as_bytes());
    }
}
