//! What a proxy must know of a message: hop-by-hop and forwarding fields, tokens, the one path. Used
//! by every HTTP-based protocol.

pub mod cookie;
pub mod forwarded;
pub mod hop;
pub mod path;
pub mod websocket;

use serde::{Deserialize, Serialize};

/// A number as fields have it (RFC 9110 §8.6): one to 19 digits, which fit, and nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// What becomes of a request with something in it that servers read in two ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ambiguous {
    /// It goes on as it is: the service is known to read it in one way.
    Keep,
    /// It is refused with 400.
    #[default]
    Refuse,
}
