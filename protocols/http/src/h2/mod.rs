//! HTTP/2 (RFC 9113), both roles, on an engine of our own.
//!
//! One task drives a connection: it reads, takes frames apart and writes what has gathered. Streams
//! live in the tasks of their requests, on the same thread, and reach the connection through a cell:
//! no channel, no lock, no copy of a message between both. `conn` is the kernel, without I/O and
//! without a clock; `drive` gives it both.

mod ahead;
pub(crate) mod client;
mod conn;
mod drive;
mod frame;
mod handle;
mod head;
pub mod hpack;
mod out;
mod pump;
mod rate;
pub(crate) mod server;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use gwproxy_core::{Code, Error};

pub(crate) use ahead::{Ahead, Loan};
pub(crate) use conn::Conn;
pub use conn::engine::{Engine, Load};
pub(crate) use frame::PREFACE;
pub(crate) use handle::{Recv, StreamIo};

/// Bytes a client's stream may send before it is read (`SETTINGS_INITIAL_WINDOW_SIZE`).
const CLIENT_STREAM_BYTES: u32 = 256 * 1024;
/// The same of a node's stream at first: as many as a client has streams must fit into memory
/// when it reads none of them.
const NODE_STREAM_BYTES: u32 = 32 * 1024;
/// And when its reader has shown that it keeps up.
const NODE_STREAM_BYTES_MAX: u32 = 256 * 1024;
/// Bytes a client's connection may send before it is read.
const CLIENT_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same of a node's, whose streams belong to many: as much as they may all hold, so that those
/// who do not read their answers hold up nobody else's.
const NODE_WINDOW_BYTES: u32 = crate::pool::STREAMS_MAX as u32 * NODE_STREAM_BYTES_MAX;
/// Bytes read ahead for one of a client's tunnels, each way: with as many as it can have, and all
/// that it may send besides, less than 4 MiB.
pub(crate) const TUNNEL_BYTES: usize = 12 * 1024;
/// Bytes read ahead of a node's HTTP/1.1 response for one of a client's streams. What single ones
/// may have above that is [`Ahead`]'s to say.
pub(crate) const BODY_BYTES: usize = 16 * 1024;
/// Bytes read of a connection after which its peer is told.
const RETURN_BYTES: u32 = CLIENT_WINDOW_BYTES / 2;
/// Bytes queued on a connection above which its streams wait.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// Silence after which the peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    pub(crate) const NO_ERROR: Self = Self(0x0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x1);
    pub(crate) const INTERNAL_ERROR: Self = Self(0x2);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub(crate) const STREAM_CLOSED: Self = Self(0x5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub(crate) const REFUSED_STREAM: Self = Self(0x7);
    /// Nobody wants the exchange any more.
    pub const CANCEL: Self = Self(0x8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(0x9);
    pub(crate) const CONNECT_ERROR: Self = Self(0xa);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(0xb);

    const NAMES: [&'static str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {:#x}", self.0),
        }
    }
}

impl std::error::Error for Reason {}

/// The error code (RFC 9113 §7) with which the peer reset the stream, if that is what `error`
/// comes from.
pub fn reset_code(error: &Error) -> Option<u32> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<Reason>() {
            return Some(reason.0);
        }
        cause = error.source();
    }
    None
}

/// An error that, met in a body, resets its stream with CANCEL: nobody wants the exchange any
/// more (RFC 9113 §7).
pub fn cancel(code: Code, sentence: impl Into<Cow<'static, str>>) -> Error {
    Error::new(code, sentence).because(Reason::CANCEL)
}
