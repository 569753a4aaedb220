//! What a proxy must know of a message: hop-by-hop and forwarding fields, tokens, the one path. Used
//! by every HTTP-based protocol.

pub mod forwarded;
pub mod hop;
pub mod path;
pub mod websocket;

use serde::{Deserialize, Serialize};

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
