//! The opening handshake (RFC 6455 §4), checked on both sides. One of HTTP/2 (RFC 8441) comes here in
//! the form of HTTP/1.1.
//!
//! The proxy forwards the client's key and the upstream's answer as they are; it checks both, so
//! that nothing but a real WebSocket gets a tunnel through it (request smuggling by Upgrade).

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use gwproxy_core::{Code, Error};
use gwproxy_http::fields::Known;
use gwproxy_http::wire::hop::{has_token, items};
pub use gwproxy_http::wire::websocket::accept;
use gwproxy_http::{Fields, RequestParts, ResponseParts};
use http::header::{self, HeaderName};
use http::{Method, StatusCode, Uri, Version};

/// The only version there is (§4.1).
const VERSION: &str = "13";

/// The key is base64 of 16 bytes. The RFC's own example, `AQIDBAUGBwgJCgsMDQ4PEC==`, has stray
/// bits behind its last byte, so those are let through.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a request is not a WebSocket handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// It announces a body, which would become the first bytes of the tunnel.
    Body,
    /// The Connection field does not name Upgrade.
    ConnectionToken,
    /// No Host field.
    Host,
    /// HTTP/1.0.
    HttpVersion,
    /// No Sec-WebSocket-Key, several, or not 16 bytes in base64.
    Key,
    /// Not a GET.
    Method,
    /// An ordinary request: it asks for no upgrade.
    NoUpgrade,
    /// It asks for an upgrade to something else.
    OtherUpgrade,
    /// Not version 13.
    WebSocketVersion,
}

impl Reject {
    /// Every reason, in alphabetical order.
    pub const ALL: [Self; 9] = [
        Self::Body,
        Self::ConnectionToken,
        Self::Host,
        Self::HttpVersion,
        Self::Key,
        Self::Method,
        Self::NoUpgrade,
        Self::OtherUpgrade,
        Self::WebSocketVersion,
    ];

    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Body | Self::ConnectionToken | Self::Host | Self::Key => StatusCode::BAD_REQUEST,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade | Self::OtherUpgrade | Self::WebSocketVersion => {
                StatusCode::UPGRADE_REQUIRED
            }
        }
    }

    /// What to tell the client and the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Body => "A WebSocket handshake has no body.",
            Self::ConnectionToken => "The Connection field of the handshake lacks Upgrade.",
            Self::Host => "The handshake has no Host field.",
            Self::HttpVersion => "A WebSocket handshake needs HTTP/1.1 or HTTP/2.",
            Self::Key => "Sec-WebSocket-Key must be one value of 16 bytes in base64.",
            Self::Method => "A WebSocket handshake is a GET request.",
            Self::NoUpgrade => "Only WebSocket connections are served here.",
            Self::OtherUpgrade => "Only an upgrade to websocket is served here.",
            Self::WebSocketVersion => "Sec-WebSocket-Version must be 13.",
        }
    }

    /// Fields that the answer must carry: RFC 9110 §15.5.6 and §15.5.22, RFC 6455 §4.2.2 and §4.4.
    /// The Connection field that goes with Upgrade is the connection's own business.
    pub fn fields(self) -> &'static [(HeaderName, &'static str)] {
        match self {
            Self::Method => &[(header::ALLOW, "GET")],
            Self::NoUpgrade | Self::OtherUpgrade => &[(header::UPGRADE, "websocket")],
            Self::WebSocketVersion => {
                &[(header::SEC_WEBSOCKET_VERSION, VERSION), (header::UPGRADE, "websocket")]
            }
            _ => &[],
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Reject {}

/// Checks a client's handshake (§4.2.1).
///
/// # Errors
/// The first thing that is wrong, beginning with what tells most.
pub fn check_request(request: &RequestParts) -> Result<(), Reject> {
    check(&request.method, &request.uri, request.version, &request.headers)
}

/// Checks a client's handshake by the parts of its head.
///
/// # Errors
/// As [`check_request`].
pub fn check(method: &Method, uri: &Uri, version: Version, fields: &Fields) -> Result<(), Reject> {
    if !has_token(fields, Known::UPGRADE, "websocket") {
        let asks = fields.contains_key(header::UPGRADE);
        return Err(if asks { Reject::OtherUpgrade } else { Reject::NoUpgrade });
    }
    if *method != Method::GET {
        return Err(Reject::Method);
    }
    if version < Version::HTTP_11 {
        return Err(Reject::HttpVersion);
    }
    if !fields.contains_key(header::HOST) && uri.authority().is_none() {
        return Err(Reject::Host);
    }
    if !has_token(fields, Known::CONNECTION, "upgrade") {
        return Err(Reject::ConnectionToken);
    }
    if sole(fields, header::SEC_WEBSOCKET_VERSION) != Some(VERSION.as_bytes()) {
        return Err(Reject::WebSocketVersion);
    }
    let key = sole(fields, header::SEC_WEBSOCKET_KEY).and_then(|key| KEY.decode(key).ok());
    if key.is_none_or(|key| key.len() != 16) {
        return Err(Reject::Key);
    }
    let has_length = fields.get_all(header::CONTENT_LENGTH).any(|n| n.as_bytes() != b"0");
    if has_length || fields.contains_key(header::TRANSFER_ENCODING) {
        return Err(Reject::Body);
    }
    Ok(())
}

/// Checks an upstream's 101 against the request that went to it (§4.1). Other statuses are
/// ordinary responses and none of this function's business.
///
/// # Errors
/// [`Code::UpstreamMalformed`] with the sentence that says what is wrong.
pub fn check_response(request: &RequestParts, response: &ResponseParts) -> Result<(), Error> {
    let malformed = |what: Cow<'static, str>| Err(Error::new(Code::UpstreamMalformed, what));
    let (asked, fields) = (&request.headers, &response.headers);
    if !has_token(fields, Known::UPGRADE, "websocket") {
        return malformed("The upstream switched to something that is not WebSocket.".into());
    }
    if !has_token(fields, Known::CONNECTION, "upgrade") {
        return malformed("The upstream's handshake lacks Upgrade in its Connection field.".into());
    }
    let key = sole(asked, header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    if sole(fields, header::SEC_WEBSOCKET_ACCEPT) != Some(accept(key).as_bytes()) {
        return malformed("The upstream's Sec-WebSocket-Accept does not answer the key.".into());
    }
    let mut subprotocols = fields.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(chosen) = subprotocols.next() {
        // Subprotocol names are compared as they are, in case too.
        let offered = items(asked, header::SEC_WEBSOCKET_PROTOCOL).any(|o| o == chosen.as_bytes());
        if !offered || subprotocols.next().is_some() {
            return malformed("The upstream chose a subprotocol that was not offered.".into());
        }
    }
    for extension in items(fields, header::SEC_WEBSOCKET_EXTENSIONS).map(name_of) {
        let mut offered = items(asked, header::SEC_WEBSOCKET_EXTENSIONS).map(name_of);
        if !offered.any(|offer| offer.eq_ignore_ascii_case(extension)) {
            let extension = String::from_utf8_lossy(extension);
            let what = format!("The upstream chose the extension {extension:?}, never offered.");
            return malformed(what.into());
        }
    }
    Ok(())
}

/// Whether the upstream's 101 agreed on any extension.
pub fn has_extensions(response: &ResponseParts) -> bool {
    items(&response.headers, header::SEC_WEBSOCKET_EXTENSIONS).next().is_some()
}

/// The value of a field that must stand exactly once.
fn sole(fields: &Fields, name: HeaderName) -> Option<&[u8]> {
    let mut lines = fields.get_all(name);
    let value = lines.next()?.as_bytes().trim_ascii();
    lines.next().is_none().then_some(value)
}

/// An extension without its parameters.
fn name_of(extension: &[u8]) -> &[u8] {
    extension.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests;
