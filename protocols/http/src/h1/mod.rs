//! HTTP/1.1 (RFC 9112), both roles, our own codec.
//!
//! The kernel ([`head`], [`body`], [`encode`]) is sans-I/O: bytes in, head, body part or verdict
//! out. [`server`] and [`client`] drive it from the request's own task. Every ambiguous message is
//! refused in both directions before a byte goes on; a connection whose framing is in doubt is
//! never used again.

pub mod body;
pub mod client;
pub mod encode;
pub mod head;
pub(crate) mod read;
pub mod server;
mod write;
