//! HTTP/2 frames, made of bytes: what no proper client would send (RFC 9113 §4.1).

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`.
pub(crate) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];
/// The same with POST.
pub(crate) const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 1, b'a'];
/// GET of `/large`.
pub(crate) const GET_LARGE: &[u8] =
    &[0x82, 0x86, 0x04, 6, b'/', b'l', b'a', b'r', b'g', b'e', 0x01, 1, b'a'];
/// POST to `/slow`.
pub(crate) const POST_SLOW: &[u8] =
    &[0x83, 0x86, 0x04, 5, b'/', b's', b'l', b'o', b'w', 0x01, 1, b'a'];

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend_from_slice(&length[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The preface and SETTINGS with these values.
pub(crate) fn opening(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}
