//! WebSocket's handshake, which HTTP/1.1 (RFC 6455 §4) and HTTP/2 (RFC 8441) write differently.
//!
//! Between both wires it has one form, that of HTTP/1.1: a GET with `Upgrade: websocket`, answered
//! by 101. An HTTP/2 message with an `Upgrade` of its own is malformed, so one that has it was an
//! extended CONNECT. The keys, which HTTP/2 does without, are the proxy's.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, StatusCode};

use crate::fields::{Name, Value};
use crate::{Fields, ResponseParts};

/// The `:protocol` of extended CONNECT, and the token of `Upgrade`.
pub(crate) const PROTOCOL: &str = "websocket";

/// Appended to the key before hashing (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` that answers a key (RFC 6455 §4.2.2).
pub fn accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

/// Random bytes from a strong source, as RFC 6455 wants them for keys, masking keys (§10.3) and
/// the payloads of pings that nobody should guess.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if rand::fill(&mut bytes).is_err() {
        // Cannot happen once the process has started: the generator is seeded by then. A fixed
        // key still is a legal one, and a frame's payload is never an attacker's.
        tracing::error!("the random number generator failed");
    }
    bytes
}

/// Adds to the fields of an extended CONNECT what makes it a handshake of HTTP/1.1.
pub(crate) fn add_handshake(headers: &mut Fields) {
    let key = STANDARD.encode(random::<16>());
    let key = HeaderValue::from_maybe_shared(bytes::Bytes::from(key));
    headers.insert(SEC_WEBSOCKET_KEY, key.unwrap_or(HeaderValue::from_static("")));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Whether a field of a handshake stays behind where it becomes an extended CONNECT.
pub(crate) fn is_of_handshake(name: Name<'_>) -> bool {
    name == UPGRADE || name == SEC_WEBSOCKET_KEY
}

/// A node's 2xx to extended CONNECT becomes the 101 that answers `key`.
pub(crate) fn to_101(head: &mut ResponseParts, key: Option<Value<'_>>) {
    let key = key.map_or(&b""[..], |key| key.as_bytes());
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    // RFC 9110 §9.3.6: what says how long content would be means nothing.
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::from_maybe_shared(bytes::Bytes::from(accept(key))) {
        head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// A 101 becomes the 2xx that answers extended CONNECT.
pub(crate) fn to_200(status: &mut StatusCode, headers: &mut Fields) {
    *status = StatusCode::OK;
    headers.remove(UPGRADE);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
}
