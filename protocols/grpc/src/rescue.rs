//! The one place where an error becomes the answer to a gRPC call.

use gwproxy_core::{Code, Error};
use gwproxy_http::fields::{Known, Value};
use gwproxy_http::rescue::{Rescue, title_of};
use gwproxy_http::{Body, Fields, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use crate::status::Status;

const MEDIA_TYPE: &str = "application/grpc";

/// When to try again, for clients that retry (gRFC A6).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Answers gRPC calls: HTTP 200 with nothing but a head, which carries the status
/// (`PROTOCOL-HTTP2.md`, Trailers-Only). Made per call, because it answers in the call's own
/// subtype.
#[derive(Debug, Clone)]
pub struct GrpcRescue {
    content_type: HeaderValue,
}

/// Whether the head is that of a gRPC message: `application/grpc`, with or without a subtype.
/// gRPC-Web has a content type that looks alike but is another protocol.
pub fn is_grpc(headers: &Fields) -> bool {
    headers.get(Known::CONTENT_TYPE).is_some_and(|value| media_type(value).is_some())
}

/// The rescue for a call with these headers; none if it is no gRPC call.
pub fn rescue_for(headers: &Fields) -> Option<GrpcRescue> {
    let value = headers.get(Known::CONTENT_TYPE)?;
    let media_type = media_type(value)?;
    let content_type = HeaderValue::from_bytes(media_type).ok()?;
    Some(GrpcRescue { content_type })
}

impl GrpcRescue {
    /// The answer with this status and this message for a human.
    pub fn with(&self, status: Status, message: &str) -> Response {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, &self.content_type);
        status.put(message, headers);
        response
    }
}

impl Rescue for GrpcRescue {
    fn answer(&self, error: &Error) -> Response {
        // What was wrong with its own words is no secret to the client; the others name nodes.
        let message = match error.code() {
            Code::ClientMalformed => format!("{}: {}", error.code(), error.sentence()),
            code => format!("{code}: {}", title_of(code)),
        };
        let mut response = self.with(Status::of_error(error), &message);
        if let Some(wait) = error.retry_after() {
            // Capped where clients read an `i32`; a negative number would mean "never".
            let millis = wait.as_millis().clamp(1, i32::MAX as u128) as u64;
            response.headers_mut().insert(PUSHBACK, HeaderValue::from(millis));
        }
        response
    }
}

/// The media type of a `content-type` without its parameters, if it is gRPC's.
fn media_type(value: Value<'_>) -> Option<&[u8]> {
    let bytes = value.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b';').unwrap_or(bytes.len());
    let media_type = bytes.get(..end)?.trim_ascii_end();
    let (name, rest) = media_type.split_at_checked(MEDIA_TYPE.len())?;
    let is_grpc = name.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
        && (rest.is_empty() || rest.first() == Some(&b'+'));
    is_grpc.then_some(media_type)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn head(content_type: &str) -> Fields {
        Fields::from_iter([(CONTENT_TYPE, content_type.parse::<HeaderValue>().unwrap())])
    }

    #[test]
    fn what_is_grpc_and_what_is_not() {
        for (content_type, answered) in [
            ("application/grpc", "application/grpc"),
            ("application/grpc+proto", "application/grpc+proto"),
            ("application/grpc+json; charset=utf-8", "application/grpc+json"),
            ("Application/GRPC ;x", "Application/GRPC"),
        ] {
            let headers = head(content_type);
            assert!(is_grpc(&headers));
            let answer = rescue_for(&headers).unwrap().with(Status::Ok, "");
            assert_eq!(answer.headers().get(CONTENT_TYPE).unwrap(), answered);
        }
        for other in [
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpcx",
            "application/json",
            "text/plain; a=application/grpc",
            "",
        ] {
            assert!(!is_grpc(&head(other)), "{other}");
            assert!(rescue_for(&head(other)).is_none(), "{other}");
        }
        assert!(!is_grpc(&Fields::new()));
    }

    #[test]
    fn p75_own_errors_are_trailers_only_and_keep_nodes_secret() {
        let rescue = rescue_for(&head("application/grpc")).unwrap();
        for code in Code::ALL {
            let error = Error::new(code, "what 10.0.0.1 did").retry_in(Duration::from_millis(1500));
            let response = rescue.answer(&error);
            assert_eq!(response.status(), 200);
            assert!(response.body().is_empty());
            let headers = response.headers();
            assert_eq!(Status::of_fields(headers), Some(Status::of_code(code)));
            assert_ne!(Status::of_fields(headers), Some(Status::Ok), "{code}");
            let message = headers.get("grpc-message").unwrap().to_str().unwrap();
            assert!(message.starts_with(code.as_str()), "{message}");
            assert_eq!(message.contains("10.0.0.1"), code == Code::ClientMalformed, "{message}");
            assert_eq!(headers.get("grpc-retry-pushback-ms").unwrap(), "1500");
        }
    }
}
