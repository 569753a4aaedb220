//! Where frames begin and end (RFC 6455 §5), without touching a byte.
//!
//! A relay that forwards frames as they came must still know their boundaries: only there may it
//! put a frame of its own, and only there can it refuse what is to come. [`Frames`] follows one
//! direction of a connection. It is sans-I/O and keeps no bytes: what it cannot judge yet, the
//! caller keeps and shows again with more behind it ([`HELD_BYTES_MAX`] bounds that).
//!
//! Payloads of data frames are opaque. With an extension such as permessage-deflate nobody between
//! the endpoints can read them, so UTF-8 of text messages (§8.1) is the endpoints' business.

mod violation;

use gwproxy_core::units::Size;
use serde::Deserialize;

use crate::close;

pub use violation::Violation;

/// The longest frame header: two bytes, a 64-bit length, a masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (§5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// The most bytes [`Frames::next`] leaves unjudged: one byte short of a masked control frame.
pub const HELD_BYTES_MAX: usize = 2 + 4 + CONTROL_PAYLOAD_BYTES_MAX - 1;

/// Who sends, which decides whether frames are masked (§5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Masks every frame.
    Client,
    /// Masks none.
    Server,
}

/// What one direction may carry. 0 switches a limit off.
///
/// The proxy holds no message, so these protect the endpoints and not its own memory. The
/// defaults lie above what common libraries accept by default (1 MiB in Python `websockets`,
/// 16 MiB a frame in tungstenite), so that a proxy in between is not the narrowest place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Payload bytes of one data frame. Default 0: only the message counts, for many senders
    /// never fragment.
    pub frame: Size,
    /// Frames of one message; empty ones count. Default 1024.
    pub fragments: u32,
    /// Payload bytes of one message over all its frames, as on the wire (before inflation).
    /// Default 16 MiB.
    pub message: Size,
}

/// Frame types (§11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further frame of the message under way.
    Continuation,
    /// The first frame of a text message.
    Text,
    /// The first frame of a binary message.
    Binary,
    /// Close.
    Close,
    /// Ping.
    Ping,
    /// Pong.
    Pong,
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// RSV1–3 as the bits 4, 2, 1.
    pub rsv: u8,
    /// The type.
    pub opcode: Opcode,
    /// The length of the header itself.
    pub header_bytes: usize,
    /// The length of what follows it.
    pub payload_bytes: u64,
    /// The masking key, from a client.
    pub mask: Option<[u8; 4]>,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A part of a data frame.
    Data {
        /// Its header, when these bytes begin with one.
        begins: Option<Header>,
        /// How many bytes this is, the header included.
        bytes: usize,
        /// Whether the frame ends with them.
        ends: bool,
    },
    /// A whole control frame.
    Control(Header),
    /// Bytes behind a Close frame, which mean nothing (§5.5.1).
    AfterClose {
        /// How many.
        bytes: usize,
    },
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub struct Frames {
    sender: Sender,
    extensions: bool,
    limits: Limits,
    payload_left: u64,
    message: Option<Message>,
    messages: u64,
    closed: bool,
}

/// The fragmented message under way.
#[derive(Debug, Clone, Copy)]
struct Message {
    bytes: u64,
    frames: u32,
}

impl Limits {
    /// No limits.
    pub const OFF: Self = Self { frame: Size::bytes(0), fragments: 0, message: Size::bytes(0) };
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: Size::bytes(0), fragments: 1024, message: Size::bytes(16 << 20) }
    }
}

impl Frames {
    /// Follows what `sender` sends from the first byte after the handshake. `extensions` says
    /// whether the handshake agreed on any, which is what makes RSV bits legal.
    pub fn new(sender: Sender, extensions: bool, limits: Limits) -> Self {
        Self {
            sender,
            extensions,
            limits,
            payload_left: 0,
            message: None,
            messages: 0,
            closed: false,
        }
    }

    /// Judges what `bytes` begin with; the caller then takes [`Item::bytes`] off their front.
    /// `None` asks for more bytes behind these, which were not taken.
    ///
    /// # Errors
    /// What the peer did wrong. It is always told at the header of the offending frame, so that
    /// everything before it was whole; the frames behind it cannot be followed.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Item>, Violation> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.closed {
            return Ok(Some(Item::AfterClose { bytes: bytes.len() }));
        }
        if self.payload_left > 0 {
            let bytes = self.take_payload(bytes.len());
            let ends = self.payload_left == 0;
            return Ok(Some(Item::Data { begins: None, bytes, ends }));
        }
        let Some(header) = self.parse_header(bytes)? else { return Ok(None) };
        if header.opcode.is_control() {
            return self.control(header, bytes);
        }
        self.admit(&header)?;
        self.payload_left = header.payload_bytes;
        let payload = self.take_payload(bytes.len() - header.header_bytes);
        Ok(Some(Item::Data {
            begins: Some(header),
            bytes: header.header_bytes + payload,
            ends: self.payload_left == 0,
        }))
    }

    /// Whether these bytes, which come next, have the whole header of a new message's first frame.
    pub fn begins_message(&self, bytes: &[u8]) -> bool {
        let is_first = |header: Header| matches!(header.opcode, Opcode::Text | Opcode::Binary);
        let header = || self.parse_header(bytes).ok().flatten();
        !self.closed && self.payload_left == 0 && header().is_some_and(is_first)
    }

    /// Whether the bytes taken so far end with a frame.
    pub fn at_boundary(&self) -> bool {
        self.payload_left == 0
    }

    /// Messages whose last frame has begun.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    fn take_payload(&mut self, available: usize) -> usize {
        let taken = self.payload_left.min(available as u64);
        self.payload_left -= taken;
        taken as usize // at most `available`
    }

    /// Checks byte for byte, so that the verdict does not depend on how the bytes were cut.
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<Header>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let (fin, rsv) = (first & 0x80 != 0, (first >> 4) & 7);
        if rsv != 0 && !self.extensions {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::parse(first & 0x0f)?;
        match (opcode, self.message.is_some()) {
            (Opcode::Continuation, false) => return Err(Violation::ContinuationWithoutMessage),
            (Opcode::Text | Opcode::Binary, true) => return Err(Violation::MessageInterrupted),
            _ if opcode.is_control() && !fin => return Err(Violation::ControlFragmented),
            _ => {}
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match (self.sender, masked) {
            (Sender::Client, false) => return Err(Violation::Unmasked),
            (Sender::Server, true) => return Err(Violation::Masked),
            _ => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() && short > 125 {
            return Err(Violation::ControlTooLong);
        }
        let Some((payload_bytes, length_bytes)) = parse_length(short, bytes)? else {
            return Ok(None);
        };

        let key_at = 2 + length_bytes;
        let mask = if masked {
            let Some(key) = bytes.get(key_at..).and_then(<[u8]>::first_chunk::<4>) else {
                return Ok(None);
            };
            Some(*key)
        } else {
            None
        };
        let header_bytes = key_at + if masked { 4 } else { 0 };
        Ok(Some(Header { fin, rsv, opcode, header_bytes, payload_bytes, mask }))
    }

    /// Counts a data frame into its message, if the limits allow.
    fn admit(&mut self, header: &Header) -> Result<(), Violation> {
        let over = |value: u64, limit: u64| limit != 0 && value > limit;
        let mut message = self.message.unwrap_or(Message { bytes: 0, frames: 0 });
        message.bytes = message.bytes.saturating_add(header.payload_bytes);
        message.frames = message.frames.saturating_add(1);
        if over(header.payload_bytes, self.limits.frame.get()) {
            return Err(Violation::FrameTooBig);
        }
        if over(message.bytes, self.limits.message.get()) {
            return Err(Violation::MessageTooBig);
        }
        if over(message.frames.into(), self.limits.fragments.into()) {
            return Err(Violation::FragmentsExceeded);
        }
        self.messages += u64::from(header.fin);
        self.message = (!header.fin).then_some(message);
        Ok(())
    }

    /// Control frames are short: they are judged whole, so that nobody waits for their rest.
    fn control(&mut self, header: Header, bytes: &[u8]) -> Result<Option<Item>, Violation> {
        if bytes.len() < header.frame_bytes() {
            return Ok(None);
        }
        if header.opcode == Opcode::Close {
            close::check(header.control_payload(bytes).as_slice())?;
            self.closed = true;
        }
        Ok(Some(Item::Control(header)))
    }
}

impl Item {
    /// How many bytes this is.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Data { bytes, .. } | Self::AfterClose { bytes } => *bytes,
            Self::Control(header) => header.frame_bytes(),
        }
    }
}

impl Header {
    /// The length of the whole frame; saturates on machines whose memory could not hold it.
    pub fn frame_bytes(&self) -> usize {
        usize::try_from(self.payload_bytes)
            .map_or(usize::MAX, |n| n.saturating_add(self.header_bytes))
    }

    /// The unmasked payload of the control frame that `frame` begins with. What `frame` lacks is
    /// missing in the payload.
    pub fn control_payload(&self, frame: &[u8]) -> ControlPayload {
        let mut payload = ControlPayload { bytes: [0; CONTROL_PAYLOAD_BYTES_MAX], len: 0 };
        let masked = frame.iter().skip(self.header_bytes).take(self.payload_bytes as usize);
        let key = self.mask.unwrap_or_default();
        for ((to, &from), key) in payload.bytes.iter_mut().zip(masked).zip(key.iter().cycle()) {
            *to = from ^ key;
            payload.len += 1;
        }
        payload
    }
}

/// The unmasked payload of a control frame.
#[derive(Debug, Clone, Copy)]
pub struct ControlPayload {
    bytes: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    len: usize,
}

impl ControlPayload {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Opcode {
    /// Whether frames of this type may stand between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn parse(nibble: u8) -> Result<Self, Violation> {
        match nibble {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            reserved => Err(Violation::ReservedOpcode(reserved)),
        }
    }
}

/// The payload length (§5.2) and how many bytes of it stand behind the first two.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let extended = bytes.get(2..).unwrap_or_default();
    match short {
        127 => {
            // The first byte already tells an overflow.
            if extended.first().is_some_and(|top| top & 0x80 != 0) {
                return Err(Violation::LengthOverflow);
            }
            let Some(&length) = extended.first_chunk::<8>() else { return Ok(None) };
            let length = u64::from_be_bytes(length);
            if length <= u16::MAX.into() {
                return Err(Violation::LengthNotMinimal);
            }
            Ok(Some((length, 8)))
        }
        126 => {
            let Some(&length) = extended.first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(length);
            if length < 126 {
                return Err(Violation::LengthNotMinimal);
            }
            Ok(Some((length.into(), 2)))
        }
        short => Ok(Some((short.into(), 0))),
    }
}

#[cfg(test)]
mod tests;
