//! Fields a proxy must know: hop-by-hop, forwarding, tokens. Used by every HTTP-based protocol.

pub mod forwarded;
pub mod hop;
