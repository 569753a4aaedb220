//! What a user may set about WebSocket connections.

use gwproxy_core::units::Span;
use serde::Deserialize;

use crate::frames::Limits;

/// WebSocket settings. Every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A side that sent nothing for this long gets a ping, and another one after each further
    /// such time. Default 30 s; 0 sends none.
    pub ping: Span,
    /// How long a side may stay silent after the first ping before the connection is closed. Any
    /// byte of its own counts, the other side's do not. Default 30 s; 0 never closes, so that
    /// pings only keep the path alive.
    pub pong_timeout: Span,
    /// The connection is closed when no byte moved in either direction for this long; pings and
    /// their answers count. A side that left pings of one interval or more unanswered is not kept
    /// for longer either, whatever the other one says. Default 300 s; 0 never closes.
    pub idle_timeout: Span,
    /// How long both sides may take for the close handshake and the end of TCP once one of them,
    /// or the proxy, began it. Default 5 s.
    pub close_timeout: Span,
    /// What each direction may carry.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping: Span::secs(30),
            pong_timeout: Span::secs(30),
            idle_timeout: Span::secs(300),
            close_timeout: Span::secs(5),
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_from_text_and_refuse_what_they_do_not_know() {
        let text = r#"{"ping": "0s", "limits": {"message": "1MiB", "frame": "256KiB"}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert!(settings.ping.is_zero());
        assert_eq!(settings.pong_timeout, Span::secs(30));
        assert_eq!(settings.limits.message.get(), 1 << 20);
        assert_eq!(settings.limits.fragments, 1024);
        for wrong in [r#"{"pings": "1s"}"#, r#"{"ping": 30}"#, r#"{"limits": {"mesage": 1}}"#] {
            serde_json::from_str::<Settings>(wrong).unwrap_err();
        }
    }
}
