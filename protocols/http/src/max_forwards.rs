//! `Max-Forwards` (RFC 9110 §7.6.2): how far OPTIONS and TRACE go, so that a client can ask each
//! proxy on the way by itself.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, MAX_FORWARDS, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method};

use crate::body::Body;
use crate::{Fields, Request, Response};

/// What TRACE does not give back (RFC 9110 §9.3.8): a script could read what it must not see.
const SENSITIVE: [http::HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// Counts a forward. A request that has none left is answered here, as by its last recipient. The
/// field means nothing for other methods and is never added (§9.3.7); one that is no number is
/// passed on as it is.
pub(crate) fn take_one(request: &mut Request) -> Option<Response> {
    if !matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        return None;
    }
    match left(request.headers())? {
        0 => Some(last_recipient(request)),
        // At most what we count with, where more is asked for.
        left => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            None
        }
    }
}

/// The field's number; a larger one than we count with is the largest.
fn left(headers: &Fields) -> Option<u32> {
    let mut lines = headers.get_all(MAX_FORWARDS);
    let digits = lines.next()?.to_str().ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && lines.next().is_none()).then(|| digits.parse().unwrap_or(u32::MAX))
}

fn last_recipient(request: &Request) -> Response {
    if *request.method() == Method::OPTIONS {
        return Response::new(Body::full(Bytes::new()));
    }
    let mut seen = format!("TRACE {} {:?}\r\n", request.uri(), request.version()).into_bytes();
    for (name, value) in
        request.headers().iter().filter(|(name, _)| !SENSITIVE.iter().any(|secret| name == secret))
    {
        seen.extend_from_slice(name.as_str().as_bytes());
        seen.extend_from_slice(b": ");
        seen.extend_from_slice(value.as_bytes());
        seen.extend_from_slice(b"\r\n");
    }
    seen.extend_from_slice(b"\r\n");
    let mut response = Response::new(Body::full(Bytes::from(seen)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, fields: &[&str]) -> Request {
        let mut builder = http::Request::builder().method(method).uri("/x?y");
        for value in fields {
            builder = builder.header("max-forwards", *value);
        }
        builder.header("cookie", "a=1").body(Body::empty()).unwrap().into()
    }

    /// P04.
    #[test]
    fn p04_forwards_are_counted_for_options_and_trace_only() {
        for (method, given, sent) in [
            ("OPTIONS", "1", "0"),
            ("TRACE", "10", "9"),
            ("OPTIONS", "99999999999999999999", "4294967294"),
            ("OPTIONS", "-1", "-1"),
            ("OPTIONS", "x", "x"),
            ("GET", "0", "0"),
        ] {
            let mut request = request(method, &[given]);
            assert!(take_one(&mut request).is_none(), "{method} {given}");
            assert_eq!(request.headers().get("max-forwards").unwrap(), sent, "{method} {given}");
        }
        let mut none = request("OPTIONS", &[]);
        assert!(take_one(&mut none).is_none());
        assert!(!none.headers().contains_key("max-forwards"));
        assert!(take_one(&mut request("OPTIONS", &["0", "0"])).is_none());
    }

    /// P04: the last recipient answers; TRACE shows what came, without secrets.
    #[test]
    fn p04_none_left_is_answered_here() {
        let answer = take_one(&mut request("OPTIONS", &["0"])).unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().length()), (200, Some(0)));
        let answer = take_one(&mut request("TRACE", &["0"])).unwrap();
        assert_eq!(answer.headers().get("content-type").unwrap(), "message/http");
        let text = format!("{:?}", answer.body());
        assert!(text.contains("TRACE /x?y HTTP/1.1") && text.contains("max-forwards: 0"), "{text}");
        assert!(!text.contains("cookie"), "{text}");
    }
}
