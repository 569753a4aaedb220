//! Message bodies off the wire: length, chunked, until close (RFC 9112 §6–§7).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderName;

use super::head::{Framing, parse_trailers};
use crate::Fields;
use crate::wire::hop;

/// Bytes a chunk-size line may have, with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of chunk extensions in one body; they carry nothing a proxy may act on (RFC 9112 §7.1.1).
const EXTENSION_BYTES_MAX: usize = 1024;
/// Bytes of a trailer section.
const TRAILER_BYTES_MAX: usize = 4 * 1024;
/// Fields of a trailer section.
const TRAILER_FIELDS_MAX: usize = 32;

/// Finds the parts of one body in the bytes of a connection.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    /// What the head's `Connection` named; not in the trailers either.
    nominated: Vec<HeaderName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers { scanned: usize },
    UntilClose,
    Done,
}

/// One part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes of content, never empty.
    Data(Bytes),
    /// The trailer section, without what must not be forwarded from it
    /// ([`hop::strip_trailers`]); the body ends with it.
    Trailers(Fields),
    /// The body is over.
    End,
}

/// Why a body cannot go on, as the rest of a sentence. The connection must not be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extension_bytes: 0, nominated: Vec::new() }
    }

    /// A decoder at the start of the body of a message with this head.
    pub fn of_message(framing: Framing, head: &Fields) -> Self {
        let mut decoder = Self::new(framing);
        if framing == Framing::Chunked {
            decoder.nominated = hop::nominated(head);
        }
        decoder
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes still to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Bytes of content that come next on the wire with nothing between them: those of a body with
    /// a length.
    pub fn contiguous(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            _ => 0,
        }
    }

    /// `count` bytes, at most [`Self::contiguous`], were taken past this decoder.
    pub fn skip(&mut self, count: u64) {
        debug_assert!(count <= self.contiguous());
        self.state = match self.contiguous().saturating_sub(count) {
            0 => State::Done,
            left => State::Length(left),
        };
    }

    /// The connection was closed by the peer; whether that ends the body in order.
    ///
    /// # Errors
    /// When the body is cut off (RFC 9112 §8).
    pub fn close(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Malformed("the connection was closed before the end of the body")),
        }
    }

    /// Takes the next part off the front of `buf`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes break the framing.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Part>, Malformed> {
        loop {
            match self.state {
                State::Done => return Ok(Some(Part::End)),
                State::Length(left) => return Ok(self.take(buf, left, State::Length)),
                State::ChunkData(left) => return Ok(self.take(buf, left, State::ChunkData)),
                State::UntilClose => {
                    let data = buf.split().freeze();
                    return Ok((!data.is_empty()).then_some(Part::Data(data)));
                }
                State::ChunkSize => {
                    let Some(size) = self.chunk_size(buf)? else { return Ok(None) };
                    self.state = match size {
                        0 => State::Trailers { scanned: 0 },
                        _ => State::ChunkData(size),
                    };
                }
                State::ChunkEnd => {
                    let Some(end) = buf.get(..2) else {
                        return match buf.first() {
                            None | Some(b'\r') => Ok(None),
                            Some(_) => Err(Malformed("chunk data is not followed by CRLF")),
                        };
                    };
                    if end != b"\r\n" {
                        return Err(Malformed("chunk data is not followed by CRLF"));
                    }
                    buf.advance(2);
                    self.state = State::ChunkSize;
                }
                State::Trailers { scanned } => return self.trailers(buf, scanned),
            }
        }
    }

    fn take(&mut self, buf: &mut BytesMut, left: u64, next: fn(u64) -> State) -> Option<Part> {
        let ready = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if ready == 0 {
            return None;
        }
        let left = left - ready as u64;
        self.state = match next(left) {
            State::ChunkData(0) => State::ChunkEnd,
            State::Length(0) => State::Done,
            state => state,
        };
        Some(Part::Data(buf.split_to(ready).freeze()))
    }

    fn chunk_size(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let window = buf.get(..CHUNK_LINE_BYTES_MAX.min(buf.len())).unwrap_or_default();
        let Some(newline) = memchr::memchr(b'\n', window) else {
            return if buf.len() >= CHUNK_LINE_BYTES_MAX {
                Err(Malformed("a chunk-size line is too long"))
            } else {
                Ok(None)
            };
        };
        let line = window.get(..newline).unwrap_or_default();
        let Some((b'\r', line)) = line.split_last() else {
            return Err(Malformed("a chunk-size line does not end in CRLF"));
        };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (number, extension) = line.split_at(digits);
        if !matches!(extension.first(), None | Some(b';')) || digits == 0 || digits > 15 {
            return Err(Malformed("a chunk size is not a hexadecimal number"));
        }
        if extension.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err(Malformed("a chunk extension has a control character"));
        }
        self.extension_bytes += extension.len();
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Malformed("the chunk extensions are too long"));
        }
        // At most 15 hexadecimal digits: no overflow.
        let size = number.iter().fold(0u64, |size, &digit| {
            size << 4 | u64::from((digit as char).to_digit(16).unwrap_or(0))
        });
        buf.advance(newline + 1);
        Ok(Some(size))
    }

    fn trailers(
        &mut self,
        buf: &mut BytesMut,
        mut scanned: usize,
    ) -> Result<Option<Part>, Malformed> {
        let mut line_start = scanned;
        while let Some(at) = buf.get(scanned..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let newline = scanned + at;
            if newline == line_start || buf.get(newline - 1) != Some(&b'\r') {
                return Err(Malformed("a trailer line ends in a bare LF"));
            }
            if newline == line_start + 1 {
                self.state = State::Done;
                if newline == 1 {
                    buf.advance(2);
                    return Ok(Some(Part::End));
                }
                if newline + 1 > TRAILER_BYTES_MAX {
                    return Err(Malformed("the trailer section is too large"));
                }
                let section = buf.split_to(newline + 1).freeze();
                let mut trailers = parse_trailers(&section, TRAILER_FIELDS_MAX)
                    .map_err(|reject| Malformed(reject.reason))?;
                hop::strip_trailers(&mut trailers, &self.nominated);
                return Ok(Some(Part::Trailers(trailers)));
            }
            scanned = newline + 1;
            line_start = scanned;
        }
        if buf.len() > TRAILER_BYTES_MAX {
            return Err(Malformed("the trailer section is too large"));
        }
        // Only whole lines count as scanned, so that the next call sees each line's start.
        self.state = State::Trailers { scanned: line_start };
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
