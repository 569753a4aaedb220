//! Frames on the wire (RFC 9113 §4, §6).

use bytes::{BufMut, BytesMut};

/// Bytes of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;
/// The first bytes of a connection (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// The largest window (RFC 9113 §6.9.1).
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// A window and a frame size before any SETTINGS (RFC 9113 §6.5.2).
pub(super) const INITIAL_WINDOW: i64 = 65_535;
pub(super) const INITIAL_FRAME_BYTES: usize = 16_384;

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// RFC 9113 §5.5: ignored.
    Unknown,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// The head that `buf` begins with, once it is all there.
    pub(super) fn parse(buf: &[u8]) -> Option<Self> {
        let (length, rest) = buf.get(..HEAD_BYTES)?.split_first_chunk::<3>()?;
        let (&[kind, flags], stream) = rest.split_first_chunk::<2>()?;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::RstStream,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        };
        Some(Self {
            length: length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)),
            kind,
            flags,
            stream: u32::from_be_bytes(*stream.first_chunk()?) & 0x7fff_ffff,
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

fn head_bytes(length: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    let kind = match kind {
        Kind::Data => 0,
        Kind::Headers => 1,
        Kind::Priority => 2,
        Kind::RstStream => 3,
        Kind::Settings => 4,
        Kind::PushPromise => 5,
        Kind::Ping => 6,
        Kind::GoAway => 7,
        Kind::WindowUpdate => 8,
        Kind::Continuation => 9,
        Kind::Unknown => 0xff,
    };
    let mut head = [0; HEAD_BYTES];
    let mut rest = &mut head[..];
    rest.put_uint(length as u64, 3);
    rest.put_slice(&[kind, flags]);
    rest.put_u32(stream);
    head
}

/// Writes a frame's head. `length` is at most 2^24 - 1.
pub(super) fn put_head(out: &mut BytesMut, length: usize, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(&head_bytes(length, kind, flags, stream));
}

pub(super) fn put_rst_stream(out: &mut BytesMut, stream: u32, reason: u32) {
    put_head(out, 4, Kind::RstStream, 0, stream);
    out.put_u32(reason);
}

pub(super) fn put_window_update(out: &mut BytesMut, stream: u32, increment: u32) {
    put_head(out, 4, Kind::WindowUpdate, 0, stream);
    out.put_u32(increment);
}

pub(super) fn put_ping(out: &mut BytesMut, flags: u8, payload: [u8; 8]) {
    put_head(out, 8, Kind::Ping, flags, 0);
    out.extend_from_slice(&payload);
}

pub(super) fn put_go_away(out: &mut BytesMut, last: u32, reason: u32, text: &str) {
    put_head(out, 8 + text.len(), Kind::GoAway, 0, 0);
    out.put_u32(last);
    out.put_u32(reason);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, Kind::Settings, 0, 0);
    for &(name, value) in settings {
        out.put_u16(name);
        out.put_u32(value);
    }
}

/// Closes a field block that was written from `start` on, where its HEADERS frame's head stands:
/// what does not fit into one frame goes into CONTINUATION frames (RFC 9113 §4.3).
pub(super) fn close_block(
    out: &mut BytesMut,
    start: usize,
    frame_bytes: usize,
    flags: u8,
    id: u32,
) {
    let block = out.len() - start - HEAD_BYTES;
    if block <= frame_bytes {
        return set_head(out, start, block, Kind::Headers, flags | END_HEADERS, id);
    }
    let mut rest = out.split_off(start + HEAD_BYTES);
    let first = rest.split_to(frame_bytes);
    out.unsplit(first);
    set_head(out, start, frame_bytes, Kind::Headers, flags, id);
    while !rest.is_empty() {
        let part = rest.split_to(frame_bytes.min(rest.len()));
        let flags = if rest.is_empty() { END_HEADERS } else { 0 };
        put_head(out, part.len(), Kind::Continuation, flags, id);
        out.extend_from_slice(&part);
    }
}

/// Reserves the place of a frame's head.
pub(super) fn open_block(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    start
}

fn set_head(out: &mut BytesMut, at: usize, length: usize, kind: Kind, flags: u8, stream: u32) {
    if let Some(place) = out.get_mut(at..at + HEAD_BYTES) {
        place.copy_from_slice(&head_bytes(length, kind, flags, stream));
    }
}

/// SETTINGS (RFC 9113 §6.5.2, RFC 8441 §3).
pub(super) mod setting {
    pub(in crate::h2) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in crate::h2) const ENABLE_PUSH: u16 = 2;
    pub(in crate::h2) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::h2) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::h2) const MAX_FRAME_SIZE: u16 = 5;
    pub(in crate::h2) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(in crate::h2) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// What a frame's payload is without its padding, and where it begins; None if the padding is too
/// long.
pub(super) fn without_padding(head: &Head, payload: &[u8]) -> Option<(usize, usize)> {
    if !head.has(PADDED) {
        return Some((0, payload.len()));
    }
    let pad = usize::from(*payload.first()?);
    let end = payload.len().checked_sub(pad)?;
    (end >= 1).then_some((1, end))
}
