//! The tables of the specification, and any message.

use gwproxy_http::h2::Reason;
use proptest::prelude::*;

use super::*;

/// What a client makes of a `grpc-message`: percent-decodes, leaving broken escapes alone.
fn decode(value: &HeaderValue) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let hex = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(escaped) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(escaped);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn numbers_are_those_of_statuscodes_md() {
    for (number, status) in Status::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(status.number()), number);
        let fields = status.trailers("");
        assert_eq!(fields.get(GRPC_STATUS).unwrap(), *number.to_string());
        assert!(!fields.contains_key(GRPC_MESSAGE));
        assert_eq!(Status::of_fields(&fields), Some(status));
    }
    assert_eq!(Status::Unauthenticated.number(), 16);
}

#[test]
fn a_status_of_no_meaning_is_unknown() {
    assert_eq!(Status::of_fields(&Fields::new()), None);
    for value in ["17", "-1", "", "ok", "99999999999999999999999", "1, 2"] {
        let fields = Fields::from_iter([(GRPC_STATUS, value.parse::<HeaderValue>().unwrap())]);
        assert_eq!(Status::of_fields(&fields), Some(Status::Unknown), "{value}");
    }
}

// PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping", Errors.
#[test]
fn p74_every_reset_code_has_its_status() {
    use Status::{Cancelled, Internal, PermissionDenied, ResourceExhausted, Unavailable};
    let table = [
        (h2_reason("NO_ERROR"), Internal),
        (h2_reason("PROTOCOL_ERROR"), Internal),
        (h2_reason("INTERNAL_ERROR"), Internal),
        (h2_reason("FLOW_CONTROL_ERROR"), Internal),
        (h2_reason("SETTINGS_TIMEOUT"), Internal),
        (h2_reason("STREAM_CLOSED"), Internal),
        (h2_reason("FRAME_SIZE_ERROR"), Internal),
        (h2_reason("REFUSED_STREAM"), Unavailable),
        (h2_reason("CANCEL"), Cancelled),
        (h2_reason("COMPRESSION_ERROR"), Internal),
        (h2_reason("CONNECT_ERROR"), Internal),
        (h2_reason("ENHANCE_YOUR_CALM"), ResourceExhausted),
        (h2_reason("INADEQUATE_SECURITY"), PermissionDenied),
        (h2_reason("HTTP_1_1_REQUIRED"), Internal),
        (0xdead_beef, Internal),
    ];
    for (code, status) in table {
        assert_eq!(Status::of_reset(code), status, "{code:#x}");
    }
}

fn h2_reason(name: &str) -> u32 {
    (0..14)
        .find(|&code| format!("{:?}", ::h2::Reason::from(code)) == name)
        .unwrap_or_else(|| panic!("no reason is called {name}"))
}

// http-grpc-status-mapping.md.
#[test]
fn p75_every_http_status_has_its_status() {
    for code in 200..600 {
        let status = Status::of_http(StatusCode::from_u16(code).unwrap());
        let expected = match code {
            400 | 431 => Status::Internal,
            401 => Status::Unauthenticated,
            403 => Status::PermissionDenied,
            404 => Status::Unimplemented,
            429 | 502 | 503 | 504 => Status::Unavailable,
            _ => Status::Unknown,
        };
        assert_eq!(status, expected, "{code}");
    }
}

#[test]
fn a_nodes_reset_is_told_by_its_code_and_a_lost_connection_as_unavailable() {
    let reset = |reason| Error::new(Code::UpstreamReset, "x").because(Reason(reason));
    assert_eq!(Status::of_error(&reset(0x8)), Status::Cancelled);
    assert_eq!(Status::of_error(&reset(0x2)), Status::Internal);
    // The node did not look at the call: another try may go well.
    assert_eq!(Status::of_error(&reset(0x0).unsent()), Status::Unavailable);
    assert_eq!(Status::of_error(&Error::new(Code::UpstreamReset, "x")), Status::Unavailable);
}

#[test]
fn messages_are_percent_encoded() {
    assert_eq!(encode_message("plain ~ text"), "plain ~ text");
    assert_eq!(encode_message("100%\n"), "100%25%0A");
    assert_eq!(encode_message("é"), "%C3%A9");
    assert_eq!(encode_message("\u{7f}"), "%7F");
    let long = encode_message(&"€".repeat(10_000));
    assert!(long.len() <= MESSAGE_BYTES_MAX);
    assert!(decode(&long).chars().all(|c| c == '€'));
}

proptest! {
    #[test]
    fn any_message_survives(message in "\\PC{0,100}|[ -~\\x00-\\x1f]{0,100}") {
        let encoded = encode_message(&message);
        prop_assert!(encoded.as_bytes().iter().all(|b| matches!(b, b' '..=b'~')));
        prop_assert_eq!(decode(&encoded), message);
    }
}
