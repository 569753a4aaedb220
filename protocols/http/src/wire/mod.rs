//! What a proxy must know of a message: hop-by-hop and forwarding fields, tokens, the one path. Used
//! by every HTTP-based protocol.

pub mod forwarded;
pub mod hop;
pub mod path;
