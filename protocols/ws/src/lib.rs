//! WebSocket (RFC 6455): handshake, frame-aware relay, ping, close codes.
//!
//! A handshake is checked on both sides ([`handshake`]); then [`relay::relay`] carries frames
//! untouched, so that subprotocols and extensions are the endpoints' own affair.

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod buffer;
pub mod close;
pub mod frames;
pub mod handshake;
pub mod relay;
pub mod settings;
pub mod upgrade;

pub use relay::{End, Opening, Report, Side, relay};
pub use settings::Settings;
pub use upgrade::WebSocket;
