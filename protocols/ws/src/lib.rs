//! WebSocket (RFC 6455): handshake, frame-aware relay, ping, close codes.
//!
//! A handshake is checked on both sides ([`handshake`]); then [`relay::relay`] carries frames
//! untouched, so that subprotocols and extensions are the endpoints' own affair.

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
