//! Messages out of fields, and the rules that make one malformed (RFC 9113 §8).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::hpack::{Field, Section};
use crate::body::Body;
use crate::fields::{Known, Value};
use crate::wire::{number, websocket};
use crate::{Fields, Request, ResponseParts};

/// Fields, and bytes of them, that a request's head has room for at first: most fit, with those
/// that the proxy adds.
const REQUEST_ROOM: (usize, usize) = (16, 640);
/// The same of a response.
const RESPONSE_ROOM: (usize, usize) = (8, 256);

/// The fields of one section, as they come.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    method: Option<Method>,
    scheme: Option<Bytes>,
    authority: Option<(Authority, HeaderValue)>,
    path: Option<PathAndQuery>,
    protocol: Option<Bytes>,
    status: Option<StatusCode>,
    headers: Fields,
    length: Option<u64>,
    cookies: u32,
    count: usize,
    malformed: Option<&'static str>,
    has_pseudo: bool,
}

/// A head that is not malformed.
#[derive(Debug)]
pub(super) struct RequestHead {
    /// Without its content. Boxed from birth: it is handed on and on. Extended CONNECT (RFC 8441)
    /// is a handshake of HTTP/1.1 if it is WebSocket's, and else a CONNECT with a path.
    pub(super) request: Box<Request>,
    pub(super) length: Option<u64>,
    /// The section or the number of its fields exceeds the limit; `request` has not all of them.
    pub(super) is_too_large: bool,
}

/// A head that is not malformed.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) parts: ResponseParts,
    pub(super) length: Option<u64>,
}

impl Gathered {
    /// The next field. Of more than `max` only the number is kept.
    pub(super) fn take(&mut self, field: Field, max: usize) {
        let (is_new, is_pseudo) = match field {
            Field::Header(name, value) => {
                self.count += 1;
                if self.count <= max {
                    self.header(name, value);
                }
                return;
            }
            Field::Malformed(reason) => {
                self.malformed.get_or_insert(reason);
                return;
            }
            Field::Method(method) => (self.method.replace(method).is_none(), true),
            Field::Scheme(scheme) => (self.scheme.replace(scheme).is_none(), true),
            Field::Authority(name, host) => (self.authority.replace((name, host)).is_none(), true),
            Field::NoAuthority => (true, true),
            Field::Path(path) => (self.path.replace(path).is_none(), true),
            Field::Protocol(protocol) => (self.protocol.replace(protocol).is_none(), true),
            Field::Status(status) => (self.status.replace(status).is_none(), true),
        };
        self.has_pseudo |= is_pseudo;
        if !is_new {
            self.malformed.get_or_insert("a pseudo-header field twice");
        } else if self.count > 0 {
            self.malformed.get_or_insert("a pseudo-header field after a field");
        }
    }

    /// Whether it is a message's head: trailers have no pseudo-header field.
    pub(super) fn is_head(&self) -> bool {
        self.has_pseudo
    }

    fn header(&mut self, name: HeaderName, value: HeaderValue) {
        if name == CONTENT_LENGTH {
            let length = number(value.as_bytes());
            // Two that agree are refused as over HTTP/1: who is behind may know one only.
            if length.is_none() || self.length.is_some() {
                self.malformed.get_or_insert("Content-Length is not one number");
            }
            self.length = length;
        } else if name == COOKIE {
            self.cookies += 1;
        }
        if self.headers.is_empty() {
            let (lines, bytes) = if self.status.is_none() { REQUEST_ROOM } else { RESPONSE_ROOM };
            self.headers = Fields::with_capacity(lines, bytes);
        }
        self.headers.append(name, value);
    }

    /// The head of a request (§8.3.1).
    ///
    /// # Errors
    /// Why it is malformed.
    pub(super) fn request(self, section: Section, max: usize) -> Result<RequestHead, &'static str> {
        if let Some(reason) = self.malformed {
            return Err(reason);
        }
        if self.status.is_some() {
            return Err(":status in a request");
        }
        let is_too_large = section == Section::TooLarge || self.count > max;
        let method = match self.method {
            Some(method) => method,
            None if is_too_large => Method::GET,
            None => return Err(":method is missing"),
        };
        let (authority, host) = self.authority.unzip();
        let mut uri = http::uri::Parts::default();
        if self.protocol.is_some() && method != Method::CONNECT && !is_too_large {
            return Err(":protocol without CONNECT (RFC 8441 §4)");
        }
        if method == Method::CONNECT && self.protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() || authority.is_none() {
                return Err("CONNECT takes :authority and nothing else (RFC 9113 §8.5)");
            }
            uri.authority = authority;
        } else {
            let scheme = self.scheme.as_deref().map(scheme_of);
            if self.protocol.is_some() && authority.is_none() {
                return Err("CONNECT without :authority (RFC 8441 §4)");
            }
            uri.path_and_query = self.path;
            uri.authority = authority;
            match scheme {
                Some(Some(scheme)) if uri.authority.is_some() => uri.scheme = Some(scheme),
                Some(Some(_)) => {}
                Some(None) => return Err(":scheme is not a scheme"),
                None if is_too_large => {}
                None => return Err(":scheme is missing"),
            }
            if uri.path_and_query.is_none() {
                if !is_too_large {
                    return Err(":path is missing");
                }
                uri.path_and_query = Some(PathAndQuery::from_static("/"));
                uri.authority = None;
                uri.scheme = None;
            }
        }
        let mut headers = self.headers;
        if let Some(host) = host {
            add_host(&mut headers, host)?;
        }
        if self.cookies > 1 {
            join_cookies(&mut headers);
        }
        headers.shrink();
        let mut request = Box::new(Request::new(Body::empty()));
        *request.method_mut() = match self.protocol {
            Some(protocol) if protocol == websocket::PROTOCOL => {
                websocket::add_handshake(&mut headers);
                Method::GET
            }
            _ => method,
        };
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| "the target is not valid")?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(RequestHead { request, length: self.length, is_too_large })
    }

    /// The head of a response (§8.3.2).
    ///
    /// # Errors
    /// Why it is malformed.
    pub(super) fn response(
        self,
        section: Section,
        max: usize,
    ) -> Result<ResponseHead, &'static str> {
        if let Some(reason) = self.malformed {
            return Err(reason);
        }
        if section == Section::TooLarge || self.count > max {
            return Err("the head is larger than the limit");
        }
        let is_request = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some();
        if is_request {
            return Err("a pseudo-header field of requests in a response");
        }
        let Some(status) = self.status else { return Err(":status is missing") };
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err("101 does not exist in HTTP/2 (RFC 9113 §8.6)");
        }
        let parts = ResponseParts { status, version: Version::HTTP_2, headers: self.headers };
        Ok(ResponseHead { parts, length: self.length })
    }

    /// A trailer section (§8.1).
    ///
    /// # Errors
    /// Why it is malformed.
    pub(super) fn trailers(self, section: Section, max: usize) -> Result<Fields, &'static str> {
        if let Some(reason) = self.malformed {
            return Err(reason);
        }
        if self.has_pseudo {
            return Err("a pseudo-header field in the trailers");
        }
        if section == Section::TooLarge || self.count > max {
            return Err("the trailers are larger than the limit");
        }
        Ok(self.headers)
    }
}

/// One way to name the host for everything behind: the field, as HTTP/1.1 has it.
fn add_host(headers: &mut Fields, host: HeaderValue) -> Result<(), &'static str> {
    let is_same = |other: Value<'_>| other.as_bytes().eq_ignore_ascii_case(host.as_bytes());
    if !headers.sole(Known::HOST).is_ok_and(|other| other.is_none_or(is_same)) {
        return Err(":authority and Host differ (RFC 9113 §8.3.1)");
    }
    headers.insert(Known::HOST, host);
    Ok(())
}

/// RFC 9113 §8.2.3: crumbs become one field before they leave HTTP/2.
fn join_cookies(headers: &mut Fields) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).map(Value::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn scheme_of(text: &[u8]) -> Option<Scheme> {
    match text {
        b"http" => Some(Scheme::HTTP),
        b"https" => Some(Scheme::HTTPS),
        _ => Scheme::try_from(text).ok(),
    }
}
