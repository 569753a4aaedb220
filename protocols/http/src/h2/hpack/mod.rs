//! HPACK (RFC 7541): field sections to bytes and back.
//!
//! The decoder keeps its table as fields that are already parsed and checked, so that a field the
//! peer refers to costs a reference count. The encoder looks a field up by one hash.

mod decode;
mod encode;
pub mod huffman;
mod table;

pub use decode::{Decoder, Field, Section};
pub use encode::Encoder;

/// Bytes that a field counts beyond its name and value (RFC 7541 §4.1).
pub const FIELD_OVERHEAD: usize = 32;

/// Bytes of a dynamic table, ours and the peer's (`SETTINGS_HEADER_TABLE_SIZE`). It is the initial
/// value of RFC 9113 §6.5.2; we ask for no more and use no more when we are offered it.
pub const TABLE_BYTES: usize = 4096;

/// Why a field block cannot be decoded: the connection's compression state is lost
/// (`COMPRESSION_ERROR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

#[cfg(test)]
mod tests;
