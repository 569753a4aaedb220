//! What a user may set about TCP connections.

use gwproxy_core::units::Span;
use serde::Deserialize;

/// TCP settings. Every key may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A connection is ended when no byte moved in either direction for this long: in order, or by
    /// a reset towards a side that did not take what was sent to it. Default 300 s; 0 never ends
    /// one, and then the kernel asks a silent peer whether it is still there.
    pub idle: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle: Span::secs(300) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_from_text_and_refuse_what_they_do_not_know() {
        let read = |text| serde_json::from_str::<Settings>(text);
        assert_eq!(read("{}").unwrap().idle, Span::secs(300));
        assert!(read(r#"{"idle": "0s"}"#).unwrap().idle.is_zero());
        for wrong in [r#"{"idle_timeout": "1s"}"#, r#"{"idle": 30}"#] {
            read(wrong).unwrap_err();
        }
    }
}
