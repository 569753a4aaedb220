//! Frames as bytes, and back.

use bytes::BytesMut;

use crate::h2::Reason;
use crate::h2::frame::{self, END_HEADERS, END_STREAM, Head, Kind};

/// `GET / http` of `a`, with what is in the static table.
pub(in crate::h2) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];
/// The same with POST.
pub(in crate::h2) const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 1, b'a'];
/// `:status: 200`.
pub(in crate::h2) const OK: &[u8] = &[0x88];

/// A frame that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::h2) struct Sent {
    pub(in crate::h2) kind: Kind,
    pub(in crate::h2) flags: u8,
    pub(in crate::h2) stream: u32,
    pub(in crate::h2) payload: Vec<u8>,
}

impl Sent {
    /// The error code of `RST_STREAM` or GOAWAY.
    pub(in crate::h2) fn reason(&self) -> Reason {
        let at = if self.kind == Kind::GoAway { 4 } else { 0 };
        Reason(u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()))
    }
}

pub(in crate::h2) fn sent(mut bytes: &[u8]) -> Vec<Sent> {
    if let Some(rest) = bytes.strip_prefix(frame::PREFACE) {
        bytes = rest;
    }
    let mut all = Vec::new();
    while let Some(head) = Head::parse(bytes) {
        let Head { length, kind, flags, stream } = head;
        let payload = bytes[9..9 + length].to_vec();
        all.push(Sent { kind, flags, stream, payload });
        bytes = &bytes[9 + length..];
    }
    assert!(bytes.is_empty(), "only whole frames are queued");
    all
}

pub(in crate::h2) fn frame_of(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out.to_vec()
}

/// A whole request head, or response head.
pub(in crate::h2) fn headers(stream: u32, block: &[u8], ends: bool) -> Vec<u8> {
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    frame_of(Kind::Headers, flags, stream, block)
}

pub(in crate::h2) fn data(stream: u32, size: usize, ends: bool) -> Vec<u8> {
    frame_of(Kind::Data, u8::from(ends), stream, &vec![b'x'; size])
}

pub(in crate::h2) fn reset(stream: u32) -> Vec<u8> {
    frame_of(Kind::RstStream, 0, stream, &Reason::CANCEL.0.to_be_bytes())
}

pub(in crate::h2) fn window(stream: u32, more: u32) -> Vec<u8> {
    frame_of(Kind::WindowUpdate, 0, stream, &more.to_be_bytes())
}

pub(in crate::h2) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_settings(&mut out, settings);
    out.to_vec()
}

pub(in crate::h2) fn go_away(last: u32) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_go_away(&mut out, last, 0, "");
    out.to_vec()
}
