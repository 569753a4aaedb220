//! Real handshakes between the two roles, over sockets, with certificates minted on the spot.

mod handshake;
mod openssl;
mod reload;
mod resume;
mod sentences;
pub(super) mod support;
