//! gRPC status codes, and how everything that can go wrong becomes one.
//!
//! Sources: gRPC's `PROTOCOL-HTTP2.md` (errors, `Status-Message`), `statuscodes.md` and
//! `http-grpc-status-mapping.md`.

use gwproxy_core::upstream::Outcome;
use gwproxy_core::{Code, Error};
use gwproxy_http::Fields;
use gwproxy_http::h2;
use http::{HeaderName, HeaderValue, StatusCode};

/// The status of a call.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What a human may read about it, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status code of `statuscodes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// No error.
    Ok = 0,
    /// The caller gave the call up.
    Cancelled = 1,
    /// Nothing is known about the error.
    Unknown = 2,
    /// The caller's argument is wrong whatever the state of the service.
    InvalidArgument = 3,
    /// The deadline passed before the call was over.
    DeadlineExceeded = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// What was to be made exists already.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A quota or a resource is used up.
    ResourceExhausted = 8,
    /// The service is not in the state the call needs.
    FailedPrecondition = 9,
    /// The call conflicts with another one.
    Aborted = 10,
    /// Past the valid range.
    OutOfRange = 11,
    /// The service has no such method.
    Unimplemented = 12,
    /// Something that must hold is broken.
    Internal = 13,
    /// The service cannot be reached now; another try may succeed.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller has no valid credentials.
    Unauthenticated = 16,
}

impl Status {
    /// Every status, by its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The status for what the proxy itself says no with.
    pub const fn of_code(code: Code) -> Self {
        match code {
            // No byte reached a node, or none is to be bothered: another try may succeed. A
            // connect timeout is of this kind too; the call's own deadline has not passed.
            Code::BreakerOpen
            | Code::Draining
            | Code::NoHealthyNode
            | Code::Overloaded
            | Code::UpstreamConnectTimeout
            | Code::UpstreamRefused
            | Code::UpstreamReset
            | Code::UpstreamTls
            | Code::UpstreamUnresolved => Self::Unavailable,
            Code::ClientClosed => Self::Cancelled,
            Code::ClientTimeout | Code::UpstreamTimeout => Self::DeadlineExceeded,
            Code::DestinationDenied => Self::PermissionDenied,
            // As for the HTTP status of the same meaning, 400.
            Code::ClientMalformed | Code::Internal | Code::LoopDetected | Code::ProxyHeader => {
                Self::Internal
            }
            // As gRPC itself says of messages that are too large.
            Code::BodyTooLarge | Code::RateLimited => Self::ResourceExhausted,
            Code::ProxyAuthRequired => Self::Unauthenticated,
            Code::RouteNotFound | Code::UpstreamUnsupported => Self::Unimplemented,
            // What the table says of an answer that is no gRPC.
            Code::UpstreamMalformed => Self::Unknown,
        }
    }

    /// The status for an error: by the node's reset code where it reset the stream, else by its
    /// code.
    pub fn of_error(error: &Error) -> Self {
        match (error.code(), h2::reset_code(error)) {
            (Code::UpstreamReset, Some(reset)) if !error.is_unsent() => Self::of_reset(reset),
            (code, _) => Self::of_code(code),
        }
    }

    /// The status for an HTTP status without `grpc-status` (`http-grpc-status-mapping.md`).
    pub const fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 431 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            // 200 too: a call that went well has a `grpc-status`.
            _ => Self::Unknown,
        }
    }

    /// The status for the error code of `RST_STREAM` (`PROTOCOL-HTTP2.md`, HTTP2 Transport
    /// Mapping; the numbers are RFC 9113 §7).
    pub const fn of_reset(code: u32) -> Self {
        match code {
            REFUSED_STREAM => Self::Unavailable,
            CANCEL => Self::Cancelled,
            ENHANCE_YOUR_CALM => Self::ResourceExhausted,
            INADEQUATE_SECURITY => Self::PermissionDenied,
            _ => Self::Internal,
        }
    }

    /// The status in a head or in trailers: none without `grpc-status`; a number without a
    /// meaning is [`Status::Unknown`].
    pub fn of_fields(fields: &Fields) -> Option<Self> {
        let value = fields.get(GRPC_STATUS)?;
        let number = value.to_str().ok().and_then(|text| text.parse::<usize>().ok());
        Some(number.and_then(|number| Self::ALL.get(number).copied()).unwrap_or(Self::Unknown))
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// How a node did that ended a call like this. A failure is what HTTP would tell by a 5xx
    /// other than 501: not what the call asked for, but the node is at fault.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Unknown | Self::DeadlineExceeded | Self::Internal | Self::DataLoss => {
                Outcome::Failure
            }
            Self::ResourceExhausted => Outcome::Limited,
            Self::Unavailable => Outcome::GatewayFailure,
            _ => Outcome::Success,
        }
    }

    /// Puts this status into `fields`, with `message` for a human unless it is empty.
    pub(crate) fn put(self, message: &str, fields: &mut Fields) {
        fields.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.number())));
        if message.is_empty() {
            fields.remove(GRPC_MESSAGE);
        } else {
            fields.insert(GRPC_MESSAGE, encode_message(message));
        }
    }

    /// Trailers of this status.
    pub(crate) fn trailers(self, message: &str) -> Fields {
        let mut trailers = Fields::new();
        self.put(message, &mut trailers);
        trailers
    }
}

const REFUSED_STREAM: u32 = 0x7;
const CANCEL: u32 = 0x8;
const ENHANCE_YOUR_CALM: u32 = 0xb;
const INADEQUATE_SECURITY: u32 = 0xc;

/// Bytes of a message put on the wire at most: a client may refuse heads of more than 8 KiB.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The field value for a message (`PROTOCOL-HTTP2.md`, `Status-Message`): UTF-8, with everything
/// but printable ASCII and with `%` itself percent-encoded. Cut after 1024 bytes.
pub fn encode_message(message: &str) -> HeaderValue {
    let hex = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' - 10 + nibble,
    };
    let mut encoded = Vec::with_capacity(message.len());
    for character in message.chars() {
        let mut utf8 = [0; 4];
        let before = encoded.len();
        for byte in character.encode_utf8(&mut utf8).bytes() {
            if matches!(byte, b' '..=b'~') && byte != b'%' {
                encoded.push(byte);
            } else {
                encoded.extend([b'%', hex(byte >> 4), hex(byte & 0xf)]);
            }
        }
        if encoded.len() > MESSAGE_BYTES_MAX {
            // Never half a character.
            encoded.truncate(before);
            break;
        }
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(encoded))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
