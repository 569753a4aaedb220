//! WebSocket: frames however they are cut, and handshakes that are what they say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gwproxy_core::units::Size;
use gwproxy_http::{Fields, RequestParts, ResponseParts};
use gwproxy_ws::frames::{Frames, HELD_BYTES_MAX, Item, Limits, Opcode, Sender, Violation};
use gwproxy_ws::{close, handshake};
use http::{Method, StatusCode, Uri, Version};

use super::fields_of;
use crate::mutate::Rng;

/// What was followed: headers with where they stand, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Followed {
    /// Place, type, payload length, whether it is the last of its message.
    frames: Vec<(usize, Opcode, u64, bool)>,
    /// Bytes judged.
    judged: usize,
    violation: Option<Violation>,
    messages: u64,
}

fn follow(pieces: &[&[u8]], sender: Sender, extensions: bool, limits: Limits) -> Followed {
    let mut frames = Frames::new(sender, extensions, limits);
    let mut followed = Followed { frames: Vec::new(), judged: 0, violation: None, messages: 0 };
    let mut held: Vec<u8> = Vec::new();
    'all: for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let item = match frames.next(&held) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(violation) => {
                    followed.violation = Some(violation);
                    break 'all;
                }
            };
            assert!(item.bytes() > 0 && item.bytes() <= held.len(), "{item:?} of {}", held.len());
            let header = match item {
                Item::Data { begins, .. } => begins,
                Item::Control(header) => Some(header),
                Item::AfterClose { .. } => None,
            };
            if let Some(header) = header {
                assert_eq!(header.mask.is_some(), sender == Sender::Client);
                let (length, fin) = (header.payload_bytes, header.fin);
                followed.frames.push((followed.judged, header.opcode, length, fin));
            }
            followed.judged += item.bytes();
            held.drain(..item.bytes());
        }
        assert!(held.len() <= HELD_BYTES_MAX, "{} bytes are held", held.len());
    }
    followed.messages = frames.messages();
    followed
}

/// The first byte says whose frames they are and what limits them; the rest is what came. It means
/// the same however it is cut, every message is within the limits, and a Close that is passed on
/// is one that may be sent.
pub(super) fn frames(data: &[u8]) {
    let Some((&knobs, data)) = data.split_first() else { return };
    let sender = if knobs & 1 == 0 { Sender::Client } else { Sender::Server };
    let extensions = knobs & 2 != 0;
    let limits = match knobs >> 2 & 3 {
        0 => Limits::OFF,
        1 => Limits::default(),
        2 => Limits { frame: Size::bytes(100), fragments: 3, message: Size::bytes(200) },
        _ => Limits { frame: Size::bytes(0), fragments: 1, message: Size::bytes(70_000) },
    };
    let whole = follow(&[data], sender, extensions, limits);
    let pieces = Rng::of(data).pieces(data);
    assert_eq!(whole, follow(&pieces, sender, extensions, limits), "cut differently");

    let (mut size, mut count) = (0u64, 0u32);
    let over = |value: u64, limit: u64| limit != 0 && value > limit;
    for &(at, opcode, length, fin) in &whole.frames {
        if opcode.is_control() {
            assert!(fin && length <= 125);
            if opcode == Opcode::Close {
                let header = if sender == Sender::Client { 6 } else { 2 };
                assert_ne!(length, 1, "half a code");
                assert!(data.len() >= at + header + length as usize, "a whole frame");
            }
            continue;
        }
        assert_eq!(opcode == Opcode::Continuation, count > 0, "{opcode:?} after {count} frames");
        size = size.saturating_add(length);
        count += 1;
        assert!(!over(length, limits.frame.get()) && !over(size, limits.message.get()));
        assert!(!over(count.into(), limits.fragments.into()));
        if fin {
            (size, count) = (0, 0);
        }
    }
    if let Some(code) = close::code_of(data) {
        let passes = close::check(data).is_ok();
        assert!(!passes || close::is_sendable(code));
    }
}

fn says(fields: &Fields, name: &'static str, token: &str) -> bool {
    let lines = fields.get_all(name).map(|line| String::from_utf8_lossy(line.as_bytes()));
    let mut items =
        lines.flat_map(|line| line.split(',').map(|i| i.trim().to_owned()).collect::<Vec<_>>());
    items.any(|item| item.eq_ignore_ascii_case(token))
}

/// Two heads, parted by an empty line. A request that passes is a handshake (RFC 6455 §4.2.1); an
/// answer passes only with the key's own digest and with nothing that was not offered.
pub(super) fn handshake(data: &[u8]) {
    let parting = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (asked, answered) = data.split_at(parting);
    let request = RequestParts { headers: fields_of(asked), ..RequestParts::default() };
    let passes = handshake::check_request(&request).is_ok();
    let fields = &request.headers;
    if passes {
        assert!(says(fields, "upgrade", "websocket") && says(fields, "connection", "upgrade"));
        assert_eq!(fields.get_all("sec-websocket-version").collect::<Vec<_>>(), ["13"]);
        let keys: Vec<_> = fields.get_all("sec-websocket-key").collect();
        assert!(keys.len() == 1 && keys[0].as_bytes().len() == 24, "{keys:?}");
        assert!(fields.contains_key("host") && !fields.contains_key("transfer-encoding"));
        assert!(fields.get_all("content-length").all(|length| length == "0"));
        let uri = Uri::from_static("/");
        for (method, version) in [(Method::POST, Version::HTTP_11), (Method::GET, Version::HTTP_10)]
        {
            assert!(handshake::check(&method, &uri, version, fields).is_err());
        }
    }

    let mut response = ResponseParts {
        status: StatusCode::SWITCHING_PROTOCOLS,
        headers: fields_of(answered),
        ..ResponseParts::default()
    };
    let key = fields.get("sec-websocket-key").map_or(&b""[..], |key| key.as_bytes());
    let digest = gwproxy_http::wire::websocket::accept(key);
    assert!(STANDARD.decode(&digest).is_ok_and(|digest| digest.len() == 20));
    // Without the right digest nothing passes; with it, what was never offered does not.
    if handshake::check_response(&request, &response).is_ok() && passes {
        let given = response.headers.get_all("sec-websocket-accept").collect::<Vec<_>>();
        assert_eq!(given, [digest.as_str()]);
    }
    if let Ok(digest) = digest.parse::<http::HeaderValue>() {
        response.headers.insert("sec-websocket-accept", digest);
    }
    if handshake::check_response(&request, &response).is_err() {
        return;
    }
    assert!(says(&response.headers, "upgrade", "websocket"));
    let chosen = response.headers.get_all("sec-websocket-protocol").count();
    assert!(chosen <= 1, "several subprotocols");
    if handshake::has_extensions(&response) {
        assert!(request.headers.contains_key("sec-websocket-extensions"), "nothing was offered");
    }
}
