//! Message heads and body framing onto the wire.

use bytes::BytesMut;
use http::{Method, StatusCode, Version};

use super::head::Framing;
use crate::Fields;
use crate::fields::{Known, Seen};

/// Room for a first line and what a proxy adds behind the fields.
const LINE_BYTES: usize = 160;

/// The longest chunk-size line we write: 16 digits and CRLF.
const CHUNK_LINE_BYTES: usize = 18;

/// Writes a request head. `target` is given because it depends on the form; `authority` is the
/// `Host` of a request that has none (RFC 9112 §3.2). Framing and connection fields of `headers`
/// are ours to write, not the caller's.
pub(super) fn request_head(
    out: &mut BytesMut,
    method: &Method,
    target: &[u8],
    authority: &[u8],
    headers: &Fields,
    framing: Framing,
) {
    out.reserve(LINE_BYTES + target.len() + headers.bytes());
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !headers.seen().has(Seen::HOST) {
        put(out, b"host", authority);
    }
    // A body of known length zero is announced for methods that usually have one (RFC 9110 §8.6).
    let announces_none = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match framing {
        Framing::Length(length) => fields(out, headers, Some(length)),
        Framing::None if announces_none => fields(out, headers, Some(0)),
        Framing::Chunked | Framing::None | Framing::UntilClose => fields(out, headers, None),
    }
    if framing == Framing::Chunked {
        put(out, b"transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response head. `connection` is the connection option to send, if any; `date` is used
/// when the response has none (RFC 9110 §6.6.1).
pub(super) fn response_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &Fields,
    framing: ResponseFraming,
    connection: Option<&'static str>,
    date: &[u8],
) {
    out.reserve(LINE_BYTES + headers.bytes());
    status_line(out, status);
    // RFC 9110 §8.6: a 1xx or 204 has no Content-Length.
    let keep_length = !status.is_informational() && status != StatusCode::NO_CONTENT;
    match framing {
        ResponseFraming::Length(length) => fields(out, headers, Some(length)),
        ResponseFraming::AsGiven if keep_length => {
            headers.write(out, Seen::FRAMING.but(Seen::CONTENT_LENGTH));
        }
        _ => fields(out, headers, None),
    }
    if framing == ResponseFraming::Chunked {
        put(out, b"transfer-encoding", b"chunked");
    }
    if let Some(option) = connection {
        put(out, b"connection", option.as_bytes());
    }
    if !headers.seen().has(Seen::DATE) {
        put(out, b"date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response; it has no content (RFC 9110 §15.2), so nothing that frames some.
pub fn interim_head(out: &mut BytesMut, status: StatusCode, headers: &Fields) {
    status_line(out, status);
    headers.write(out, Seen::FRAMING);
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
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write(out, Seen::FRAMING);
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    if status == StatusCode::OK {
        // Nearly every response's.
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// All fields but those that frame the message, which are ours, and its length if it has one. A
/// field that says the same already stays as it is, where it is.
fn fields(out: &mut BytesMut, headers: &Fields, length: Option<u64>) {
    let Some(length) = length else { return headers.write(out, Seen::FRAMING) };
    let mut digits = [0u8; 20];
    let digits = decimal(length, &mut digits);
    if headers.get(Known::CONTENT_LENGTH).is_some_and(|said| said.as_bytes() == digits) {
        return headers.write(out, Seen::FRAMING.but(Seen::CONTENT_LENGTH));
    }
    headers.write(out, Seen::FRAMING);
    put(out, b"content-length", digits);
}

fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    let mut left = number;
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
    digits.get(at..).unwrap_or_default()
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
            let number = number as u64;
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
        assert_eq!(decimal(u64::MAX, &mut [0; 20]), u64::MAX.to_string().as_bytes());
    }
}
