//! What a user may set about WebSocket connections.

use std::time::Duration;

use crate::frames::Limits;

/// WebSocket settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A side that sent nothing for this long gets a ping. Default 30 s; 0 sends none.
    pub ping_interval: Duration,
    /// How long a pinged side may stay silent before the connection is closed. Any byte counts.
    /// Default 30 s.
    pub pong_timeout: Duration,
    /// The connection is closed when no byte moved in either direction for this long; answered
    /// pings count as movement. Default 300 s; 0 never closes.
    pub idle_timeout: Duration,
    /// How long both sides may take for the close handshake and the end of TCP once one of them,
    /// or the proxy, began it. Default 5 s.
    pub close_timeout: Duration,
    /// What each direction may carry.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(5),
            close_timeout: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    /// Messages of 16 MiB in at most 1024 frames, frames bounded by their message alone.
    ///
    /// The proxy holds no message, so these protect the endpoints and not its own memory; they
    /// lie above what common libraries accept by default (1 MiB in Python `websockets`, 16 MiB a
    /// frame in tungstenite) so that a proxy in between does not become the narrowest place. A
    /// frame limit of its own would break the many senders that never fragment.
    fn default() -> Self {
        Self { frame_bytes: 0, fragments: 1024, message_bytes: 16 * 1024 * 1024 }
    }
}
