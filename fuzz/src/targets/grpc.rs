//! The fields of gRPC: deadlines that never grow, statuses and messages that come through.

use gwproxy_http::Fields;
use std::time::Duration;

use gwproxy_grpc::Status;
use gwproxy_grpc::deadline::{self, GRPC_TIMEOUT};
use gwproxy_grpc::status::{GRPC_STATUS, encode_message};

use super::fields_of;
use crate::mutate::Rng;

/// The message in a `grpc-message` (gRPC's `PROTOCOL-HTTP2.md`), decoded on its own.
fn decoded(mut rest: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        let code = std::str::from_utf8(after.get(..2).unwrap_or_default()).unwrap_or_default();
        match u8::from_str_radix(code, 16) {
            Ok(code) if byte == b'%' => {
                message.push(code);
                rest = &after[2..];
            }
            _ => {
                message.push(byte);
                rest = after;
            }
        }
    }
    message
}

fn timeout(value: &[u8]) {
    let Some(time) = deadline::parse(value) else { return };
    assert!((2..=9).contains(&value.len()), "1 to 8 digits and a unit");
    let printed = deadline::print(time);
    let again = deadline::parse(printed.as_bytes());
    assert!(again.is_some_and(|again| again <= time), "{time:?} grows to {again:?}");
    // Eight digits: what is lost is less than one part in a million.
    let lost = again.map_or(time, |again| time.saturating_sub(again));
    assert!(lost <= time / 10_000, "{time:?} loses {lost:?}");
}

/// Of a deadline never more goes on than came; what comes of a status is in the table; a message
/// comes back as far as it fits.
pub(super) fn fields(data: &[u8]) {
    timeout(data);
    let given = fields_of(data);
    let mut rng = Rng::of(data);
    let max = Duration::from_millis([0, 1, 500, 10_000][rng.below(4)]);
    let spent = Duration::from_micros([0, 10, 700_000][rng.below(3)]);
    let mut fields: Fields = given.clone();
    let asked = given.get(GRPC_TIMEOUT).and_then(|value| deadline::parse(value.as_bytes()));
    match deadline::take(&mut fields, max, spent) {
        Ok(None) => assert!(!given.contains_key(GRPC_TIMEOUT)),
        Ok(Some(left)) => {
            let told = fields.get(GRPC_TIMEOUT).and_then(|value| deadline::parse(value.as_bytes()));
            assert!(asked.is_some_and(|asked| left <= asked && !left.is_zero()));
            assert!(told.is_some_and(|told| told <= left), "the node has longer than the call");
            assert!(max.is_zero() || left <= max);
            assert_eq!(fields.get_all(GRPC_TIMEOUT).count(), 1);
        }
        Err(_) => assert!(given.contains_key(GRPC_TIMEOUT)),
    }

    let status = Status::of_fields(&given);
    assert_eq!(status.is_some(), given.contains_key(GRPC_STATUS));
    if let (Some(status), Some(value)) = (status, given.get(GRPC_STATUS)) {
        let canonical = status.number().to_string();
        assert!(
            value == canonical.as_str() || status == Status::Unknown || value.as_bytes().len() > 1
        );
    }

    let message = String::from_utf8_lossy(data);
    let value = encode_message(&message);
    assert!(value.len() <= 1024 && value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~')));
    let back = decoded(value.as_bytes());
    assert!(message.as_bytes().starts_with(&back), "another message");
    assert!(std::str::from_utf8(&back).is_ok(), "half a character");
    assert!(back.len() == message.len() || value.len() > 1024 - 12, "cut too early");
}
