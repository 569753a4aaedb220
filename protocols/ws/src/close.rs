//! Close codes (RFC 6455 §7.4 and the IANA registry), and the frames that the proxy itself sends.

use gwproxy_http::wire::websocket::random;

use crate::frames::{CONTROL_PAYLOAD_BYTES_MAX, Sender, Violation};

/// 1000: done.
pub const NORMAL: u16 = 1000;
/// 1001: a side is going away. Sent to both on drain and when idle, and to the upstream when the
/// client was lost.
pub const GOING_AWAY: u16 = 1001;
/// 1005: a Close frame without a code. Never on the wire.
pub const NO_STATUS: u16 = 1005;
/// 1002: a violation of the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// 1007: payload that is not what it says.
pub const INVALID_PAYLOAD: u16 = 1007;
/// 1008: a violation of a policy. Sent for messages beyond the sender's limit.
pub const POLICY: u16 = 1008;
/// 1009: more than the limits allow.
pub const TOO_BIG: u16 = 1009;
/// 1011: an unexpected condition. Sent when a side answers no ping.
pub const UNEXPECTED: u16 = 1011;
/// 1013: no room now. Sent for messages beyond a limit that all share.
pub const TRY_AGAIN_LATER: u16 = 1013;
/// 1014: a bad gateway, the 502 of WebSocket. Sent to the client when the upstream was lost.
pub const BAD_GATEWAY: u16 = 1014;

/// The payload of the proxy's own pings.
pub type Nonce = [u8; 8];

/// Whether a Close frame may carry `code`: 1004 has no meaning, 1005, 1006 and 1015 are only
/// words for the absence of a code, and what is not registered means nothing.
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code in the payload of a Close frame, if there is one.
pub fn code_of(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|&code| u16::from_be_bytes(code))
}

/// Checks the unmasked payload of a Close frame (§5.5.1).
///
/// # Errors
/// A code that must not be sent, half a code, or a reason that is not UTF-8.
pub fn check(payload: &[u8]) -> Result<(), Violation> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(()) } else { Err(Violation::ClosePayload) };
    };
    let code = u16::from_be_bytes(code);
    if !is_sendable(code) {
        return Err(Violation::CloseCode(code));
    }
    std::str::from_utf8(reason).map(|_| ()).map_err(|_| Violation::CloseReason)
}

/// A Close frame as `sender` writes it; without a code its payload is empty. A reason that does
/// not fit is cut at a character.
pub fn close_frame(sender: Sender, code: Option<u16>, reason: &str) -> Vec<u8> {
    let mut payload = Vec::with_capacity(CONTROL_PAYLOAD_BYTES_MAX);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let fits = reason.floor_char_boundary(CONTROL_PAYLOAD_BYTES_MAX - 2);
        payload.extend_from_slice(reason.get(..fits).unwrap_or_default().as_bytes());
    }
    control_frame(sender, 0x8, &payload)
}

/// A Ping frame as `sender` writes it.
pub fn ping_frame(sender: Sender, nonce: Nonce) -> Vec<u8> {
    control_frame(sender, 0x9, &nonce)
}

fn control_frame(sender: Sender, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(2 + 4 + payload.len());
    frame.push(0x80 | opcode);
    match sender {
        Sender::Server => {
            frame.push(payload.len() as u8); // at most 125
            frame.extend_from_slice(payload);
        }
        Sender::Client => {
            let key = random::<4>();
            frame.push(0x80 | payload.len() as u8);
            frame.extend_from_slice(&key);
            frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Frames, Item, Limits};

    // P62: RFC 6455 §7.4.1, §7.4.2 (the cases of Autobahn 7.7 and 7.9).
    #[test]
    fn p62_codes_that_may_be_sent() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
            assert!(is_sendable(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!is_sendable(code), "{code}");
        }
    }

    #[test]
    fn own_frames_read_back_and_are_masked_as_the_role_requires() {
        let long = "é".repeat(100);
        for sender in [Sender::Client, Sender::Server] {
            let close = close_frame(sender, Some(1001), &long);
            let mut frames = Frames::new(sender, false, Limits::OFF);
            let Ok(Some(Item::Control(header))) = frames.next(&close) else { panic!("no frame") };
            assert_eq!(header.mask.is_some(), sender == Sender::Client);
            let payload = header.control_payload(&close);
            assert_eq!(code_of(payload.as_slice()), Some(1001));
            let reason = std::str::from_utf8(payload.as_slice().get(2..).unwrap()).unwrap();
            assert_eq!(reason, "é".repeat(61));
        }
    }
}
