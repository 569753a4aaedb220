//! What the fields of a head say of the body behind it and of the connection (RFC 9112 §6, §9).

use http::{Method, StatusCode, Version};

use super::{Framing, Reject};
use crate::Fields;
use crate::fields::{Known, Seen, Several, Value};
use crate::wire::{hop, number};

pub(super) fn request_framing(headers: &Fields, version: Version) -> Result<Framing, Reject> {
    match transfer_encoding(headers)? {
        Coding::Chunked if version == Version::HTTP_10 => {
            Err(Reject::bad("Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1)"))
        }
        Coding::Chunked if headers.seen().has(Seen::CONTENT_LENGTH) => {
            Err(Reject::bad("both Content-Length and Transfer-Encoding (RFC 9112 §6.1)"))
        }
        Coding::Chunked => Ok(Framing::Chunked),
        Coding::None => Ok(content_length(headers)?.map_or(Framing::None, Framing::Length)),
    }
}

pub(super) fn response_framing(
    headers: &Fields,
    version: Version,
    status: StatusCode,
    asked: &Method,
) -> Result<Framing, Reject> {
    let coding = transfer_encoding(headers)?;
    let length = content_length(headers)?;
    if matches!(coding, Coding::Chunked) {
        if length.is_some() {
            return Err(Reject::bad("both Content-Length and Transfer-Encoding (RFC 9112 §6.1)"));
        }
        if version == Version::HTTP_10 {
            return Err(Reject::bad("Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1)"));
        }
    }
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || asked == Method::HEAD
        || (asked == Method::CONNECT && status.is_success());
    Ok(match (coding, length) {
        _ if bodiless => Framing::None,
        (Coding::Chunked, _) => Framing::Chunked,
        (Coding::None, Some(length)) => Framing::Length(length),
        (Coding::None, None) => Framing::UntilClose,
    })
}

enum Coding {
    None,
    Chunked,
}

/// Only one coding is spoken: a single `chunked`. Everything else is where smuggling lives.
fn transfer_encoding(headers: &Fields) -> Result<Coding, Reject> {
    if !headers.seen().has(Seen::TRANSFER_ENCODING) {
        return Ok(Coding::None);
    }
    let several = |Several| Reject::bad("more than one Transfer-Encoding field");
    let Some(line) = headers.sole(Known::TRANSFER_ENCODING).map_err(several)? else {
        return Ok(Coding::None);
    };
    if line.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding::Chunked);
    }
    Err(Reject::new(
        StatusCode::NOT_IMPLEMENTED,
        "a transfer coding other than a single `chunked` (RFC 9112 §6.1)",
    ))
}

/// One field line of digits, nothing else (RFC 9110 §8.6). A list of equal values is legal to
/// accept; refusing it costs no honest client anything.
fn content_length(headers: &Fields) -> Result<Option<u64>, Reject> {
    if !headers.seen().has(Seen::CONTENT_LENGTH) {
        return Ok(None);
    }
    let bad = Reject::bad("Content-Length is not one number (RFC 9110 §8.6)");
    let length = headers.sole(Known::CONTENT_LENGTH).map_err(|Several| bad)?;
    length.map(|length| number(length.as_bytes()).ok_or(bad)).transpose()
}

fn is_continue(value: Value<'_>) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

pub(super) fn check_expect(headers: &Fields, version: Version) -> Result<bool, Reject> {
    let sole = headers.sole(Known::EXPECT);
    if sole == Ok(None) {
        return Ok(false);
    }
    if sole.is_ok_and(|line| line.is_some_and(is_continue)) {
        // RFC 9110 §10.1.1: a 1.0 client cannot know what a 100 is.
        return Ok(version != Version::HTTP_10);
    }
    Err(Reject::new(StatusCode::EXPECTATION_FAILED, "an expectation other than 100-continue"))
}

/// A proxy keeps no connection with an HTTP/1.0 peer, asked or not (RFC 9112 §9.3).
pub(super) fn keeps_alive(headers: &Fields, version: Version) -> bool {
    version == Version::HTTP_11
        && !(headers.seen().has(Seen::CONNECTION)
            && hop::has_token(headers, Known::CONNECTION, "close"))
}
