//! What a peer can do wrong, and the close code that tells it.

use std::fmt;

use crate::close;

/// How a peer broke the protocol or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A Close frame with a code that must not be sent (§7.4).
    CloseCode(u16),
    /// A Close frame with one byte of payload (§5.5.1).
    ClosePayload,
    /// A Close reason that is not UTF-8 (§5.5.1).
    CloseReason,
    /// A continuation frame without a message to continue (§5.4).
    ContinuationWithoutMessage,
    /// A control frame without FIN (§5.5).
    ControlFragmented,
    /// A control frame of more than 125 bytes (§5.5).
    ControlTooLong,
    /// More frames in a message than [`super::Limits::fragments`].
    FragmentsExceeded,
    /// A frame longer than [`super::Limits::frame`].
    FrameTooBig,
    /// A 64-bit length with its top bit set (§5.2).
    LengthOverflow,
    /// A length not in its shortest form (§5.2).
    LengthNotMinimal,
    /// A server's frame is masked (§5.1).
    Masked,
    /// A new message before the last one ended (§5.4).
    MessageInterrupted,
    /// A message longer than [`super::Limits::message`].
    MessageTooBig,
    /// More messages than the sender's limit.
    MessagesExceeded,
    /// RSV bits without an extension that gives them a meaning (§5.2).
    ReservedBits,
    /// An opcode without a meaning (§5.2).
    ReservedOpcode(u8),
    /// More messages than a limit that all senders share.
    TryAgainLater,
    /// A client's frame is not masked (§5.1).
    Unmasked,
}

impl Violation {
    /// The close code that says so (§7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::CloseReason => close::INVALID_PAYLOAD,
            Self::MessagesExceeded => close::POLICY,
            Self::TryAgainLater => close::TRY_AGAIN_LATER,
            Self::FragmentsExceeded | Self::FrameTooBig | Self::MessageTooBig => close::TOO_BIG,
            _ => close::PROTOCOL_ERROR,
        }
    }

    /// A short reason for the Close frame and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::CloseCode(_) => "close code not allowed",
            Self::ClosePayload => "close payload of one byte",
            Self::CloseReason => "close reason is not UTF-8",
            Self::ContinuationWithoutMessage => "continuation without a message",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame over 125 bytes",
            Self::FragmentsExceeded => "too many fragments",
            Self::FrameTooBig => "frame too big",
            Self::LengthOverflow => "length over 63 bits",
            Self::LengthNotMinimal => "length not minimal",
            Self::Masked => "masked frame from a server",
            Self::MessageInterrupted => "new message inside a message",
            Self::MessageTooBig => "message too big",
            Self::MessagesExceeded => "too many messages",
            Self::TryAgainLater => "too many messages from all",
            Self::ReservedBits => "reserved bits without an extension",
            Self::ReservedOpcode(_) => "reserved opcode",
            Self::Unmasked => "unmasked frame from a client",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloseCode(code) => write!(f, "{} ({code})", self.reason()),
            Self::ReservedOpcode(opcode) => write!(f, "{} (0x{opcode:x})", self.reason()),
            _ => f.write_str(self.reason()),
        }
    }
}
