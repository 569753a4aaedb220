//! Message heads: finding the end, parsing, and the framing verdict (RFC 9112 §2–§6).

use bytes::{Buf, Bytes, BytesMut};
use gwproxy_core::{Code, Error};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use httparse::Status;

use super::spelling::Spelling;
use crate::Request;
use crate::body::Body;
use crate::private::authenticates_connection;
use crate::wire::hop::{self, Seen};

/// The most fields a head may have, whatever the configured limit: the parser's array is on the
/// stack.
pub const MAX_FIELDS: usize = 128;

/// Fields that the proxy adds to a request; room for them saves a rehash.
const FIELDS_ADDED: usize = 5;

/// Bytes of a method; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;

/// Empty lines tolerated before a request line (RFC 9112 §2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 4;

/// Bounds of a message head. A head at the bound passes, one byte more does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head. Default 16 KiB; above: 431.
    pub head_bytes: usize,
    /// Fields. Default 100, at most [`MAX_FIELDS`]; above: 431.
    pub fields: usize,
    /// Bytes of one field line's name and value. Default 8 KiB; above: 431.
    pub field_bytes: usize,
    /// Bytes of the request target. Default 8 KiB; above: 414.
    pub target_bytes: usize,
    /// Remember how field names were written, and their order, so that they leave as they came
    /// where both sides speak HTTP/1. Default false: names are written in small letters.
    pub preserve_case: bool,
}

/// How the end of a body is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// A request head that passed every check.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, fields; the body is still to be put in. `Transfer-Encoding` and
    /// `Content-Length` are among the fields. Boxed from birth: it is handed on and on.
    pub request: Box<Request>,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client wants the connection kept after the response.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// A response head that passed every check.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status and fields.
    pub parts: http::response::Parts,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
    /// Whether it asks for credentials that are the connection's from then on (NTLM, Negotiate).
    pub authenticates_connection: bool,
}

/// Why a head was refused. For a response the status is what the proxy answers in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The status for the client.
    pub status: StatusCode,
    /// What is wrong, as the rest of a sentence.
    pub reason: &'static str,
}

/// Progress of the search for the end of a head, kept between reads so that a head that arrives
/// byte by byte costs its length and not its square.
#[derive(Debug, Default, Clone, Copy)]
pub struct Scan {
    scanned: usize,
    line_start: usize,
    lines: usize,
    empty_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            fields: 100,
            field_bytes: 8 * 1024,
            target_bytes: 8 * 1024,
            preserve_case: false,
        }
    }
}

impl Reject {
    const METHOD_TOO_LONG: Self = Self::new(StatusCode::NOT_IMPLEMENTED, "the method is too long");

    const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// What the access log and metrics call it.
    pub fn error(&self) -> Error {
        let code = match self.status {
            StatusCode::REQUEST_TIMEOUT => Code::ClientTimeout,
            _ => Code::ClientMalformed,
        };
        Error::new(code, self.reason)
    }

    const fn bad(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }
}

impl Scan {
    /// The length of the head with its empty line, once it is all there.
    fn find_end(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Option<usize>, Reject> {
        while let Some(at) = buf.get(self.scanned..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let newline = self.scanned + at;
            if newline == self.line_start || buf.get(newline - 1) != Some(&b'\r') {
                return Err(Reject::bad("a line ends in a bare LF (RFC 9112 §2.2)"));
            }
            let is_empty = newline == self.line_start + 1;
            if is_empty && self.lines == 0 {
                self.empty_lines += 1;
                if self.empty_lines > MAX_EMPTY_LINES {
                    return Err(Reject::bad("too many empty lines before the request"));
                }
                buf.advance(newline + 1);
                self.scanned = 0;
                self.line_start = 0;
                continue;
            }
            if is_empty {
                self.check_size(newline + 1, limits)?;
                return Ok(Some(newline + 1));
            }
            if self.lines == 0 {
                // As it would be if its end had come later: one verdict however the head is cut.
                self.check_size(newline, limits)?;
            }
            self.lines += 1;
            self.scanned = newline + 1;
            self.line_start = newline + 1;
        }
        self.scanned = buf.len();
        self.check_size(buf.len(), limits)?;
        Ok(None)
    }

    fn check_size(&self, size: usize, limits: &Limits) -> Result<(), Reject> {
        if self.lines == 0 && size > limits.target_bytes + 64 {
            return Err(Reject::new(StatusCode::URI_TOO_LONG, "the request line is too long"));
        }
        if size > limits.head_bytes {
            return Err(too_large("the head is larger than the limit"));
        }
        Ok(())
    }
}

/// Takes one request head off the front of `buf`; `None` when it is not all there yet.
///
/// # Errors
/// The verdict on a head that must not go on.
pub fn parse_request(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<RequestHead>, Reject> {
    let Some(length) = scan.find_end(buf, limits)? else {
        return check_method(buf).map(|()| None);
    };
    *scan = Scan::default();
    let head = buf.split_to(length).freeze();
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&head, &mut fields) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(Reject::bad("the head is not complete")),
        Err(error) => return Err(explain(error, &head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reject::bad("the request line is not complete"));
    };
    if target.len() > limits.target_bytes {
        return Err(Reject::new(StatusCode::URI_TOO_LONG, "the request target is too long"));
    }
    let (mut headers, seen) = header_map(&head, parsed.headers, limits, FIELDS_ADDED)?;
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = parse_method(method)?;
    let uri = parse_target(&head, &method, target)?;
    check_host(&headers, version)?;
    let framing = request_framing(&headers, seen, version)?;
    let has_content = !matches!(framing, Framing::None | Framing::Length(0));
    let expects_continue =
        seen.has(Seen::EXPECT) && check_expect(&headers, version)? && has_content;
    if seen.has(Seen::EXPECT) && !expects_continue {
        // RFC 9110 §10.1.1: one of HTTP/1.0 is ignored, by those behind us as well, and without
        // content there is nothing to wait for.
        headers.remove(EXPECT);
    }
    if seen.has(Seen::CONNECTION) {
        hop::check_connection(&headers).map_err(Reject::bad)?;
    }
    if seen.has(Seen::UPGRADE) && has_content {
        return Err(Reject::bad("a request with Upgrade must not have a body"));
    }
    let keep_alive = keeps_alive(&headers, seen, version);
    let mut request = Box::new(Request::new(Body::empty()));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    if limits.preserve_case {
        request.extensions_mut().insert(Spelling::of_head(&head));
    }
    Ok(Some(RequestHead { request, framing, keep_alive, expects_continue }))
}

/// Takes one response head off the front of `buf`; `None` when it is not all there yet. `asked` is
/// the method of the request it answers.
///
/// # Errors
/// The verdict on a head that must not go on.
pub fn parse_response(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
    asked: &Method,
) -> Result<Option<ResponseHead>, Reject> {
    let Some(length) = scan.find_end(buf, limits)? else { return Ok(None) };
    if scan.empty_lines > 0 {
        return Err(Reject::bad("bytes before the status line"));
    }
    *scan = Scan::default();
    let head = buf.split_to(length).freeze();
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, &head, &mut fields) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(Reject::bad("the head is not complete")),
        Err(error) => return Err(explain(error, &head)),
    }
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Reject::bad("the status line is not complete"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Reject::bad("the status is no number"))?;
    let (headers, seen) = header_map(&head, parsed.headers, limits, 0)?;
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let framing = response_framing(&headers, seen, version, status, asked)?;
    let keep_alive = keeps_alive(&headers, seen, version) && framing != Framing::UntilClose;
    let authenticates_connection = seen.has(Seen::CHALLENGE)
        && (authenticates_connection(&headers, &WWW_AUTHENTICATE)
            || authenticates_connection(&headers, &PROXY_AUTHENTICATE));
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.version = version;
    parts.headers = headers;
    if limits.preserve_case {
        parts.extensions.insert(Spelling::of_head(&head));
    }
    Ok(Some(ResponseHead { parts, framing, keep_alive, authenticates_connection }))
}

/// Parses the fields of a trailer section, which must be complete in `section`.
pub(super) fn parse_trailers(section: &Bytes, fields_max: usize) -> Result<HeaderMap, Reject> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(section, &mut fields) {
        Ok(Status::Complete((_, parsed))) => {
            let limits = Limits { fields: fields_max, ..Limits::default() };
            header_map(section, parsed, &limits, 0).map(|(trailers, _)| trailers)
        }
        Ok(Status::Partial) => Err(Reject::bad("the trailer section is not complete")),
        Err(error) => Err(explain(error, section)),
    }
}

fn header_map(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
    limits: &Limits,
    more: usize,
) -> Result<(HeaderMap, Seen), Reject> {
    if fields.len() > limits.fields {
        return Err(too_large("the head has too many fields"));
    }
    let mut headers = HeaderMap::with_capacity(fields.len() + more);
    let mut seen = Seen::default();
    for field in fields {
        if field.name.len() + field.value.len() > limits.field_bytes {
            return Err(too_large("a field is larger than the limit"));
        }
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Reject::bad("a field name has a forbidden character"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Reject::bad("a field value has a forbidden character"))?;
        seen.note(&name);
        headers.append(name, value);
    }
    Ok((headers, seen))
}

/// Whether an unfinished head can still become a request. Who speaks another protocol may never
/// send the end of a line, and should not wait for an answer until the head's time is over.
fn check_method(head: &[u8]) -> Result<(), Reject> {
    /// The first byte of a TLS handshake record (RFC 8446 §5.1).
    const HANDSHAKE: u8 = 22;
    let begin = head.get(..METHOD_BYTES_MAX + 1).unwrap_or(head);
    match begin.iter().find(|byte| !is_tchar(**byte)) {
        Some(b' ') => Ok(()),
        // Half of an empty line before the request.
        Some(b'\r') if head == b"\r" => Ok(()),
        Some(&HANDSHAKE) => {
            Err(Reject::bad("TLS came to a listener without TLS (https:// for http://?)"))
        }
        Some(_) => Err(Reject::bad("the first bytes are not HTTP")),
        None if begin.len() > METHOD_BYTES_MAX => Err(Reject::METHOD_TOO_LONG),
        None => Ok(()),
    }
}

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parse_method(method: &str) -> Result<Method, Reject> {
    if method.len() > METHOD_BYTES_MAX {
        return Err(Reject::METHOD_TOO_LONG);
    }
    Method::from_bytes(method.as_bytes()).map_err(|_| Reject::bad("the method is not a token"))
}

/// The four forms of a request target (RFC 9112 §3.2).
fn parse_target(head: &Bytes, method: &Method, target: &str) -> Result<Uri, Reject> {
    let bad = Reject::bad("the request target is not valid (RFC 9112 §3.2)");
    if target.contains('#') {
        // `Uri` would leave it out, and the next reader might not.
        return Err(Reject::bad("the request target has a fragment (RFC 9112 §3.2)"));
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| bad)?;
    let is_authority_form = uri.scheme().is_none() && uri.authority().is_some();
    let fits = match *method {
        Method::CONNECT => is_authority_form && uri.port_u16().is_some_and(|port| port != 0),
        Method::OPTIONS if target == "*" => true,
        _ => target.starts_with('/') || (uri.scheme().is_some() && uri.authority().is_some()),
    };
    let is_host = uri.authority().is_none_or(|host| is_authority(host.as_str().as_bytes()));
    if !fits || !is_host {
        return Err(bad);
    }
    let bytes_of =
        |scheme: &str, host: &Authority| scheme.len() + "://".len() + host.as_str().len();
    let bare = uri.scheme_str().zip(uri.authority()).map(|(scheme, host)| bytes_of(scheme, host));
    if *method == Method::OPTIONS && bare == Some(target.len()) {
        // RFC 9112 §3.2.4: an empty path means the server, which `Uri` would read as `/`.
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("*"));
        return Uri::from_parts(parts).map_err(|_| bad);
    }
    Ok(uri)
}

fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Reject> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            if is_authority(host.as_bytes()) {
                Ok(())
            } else {
                Err(Reject::bad("the Host field is not a host (RFC 9110 §7.2)"))
            }
        }
        (Some(_), Some(_)) => Err(Reject::bad("more than one Host field (RFC 9112 §3.2)")),
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Reject::bad("the Host field is missing (RFC 9112 §3.2)")),
    }
}

/// Whether `host` is `host[:port]` without userinfo; the empty value is legal for a target without
/// an authority.
pub(crate) fn is_authority(host: &[u8]) -> bool {
    if host.is_empty() || is_plain(host) {
        return true;
    }
    if host.contains(&b'@') {
        return false;
    }
    Authority::try_from(host).is_ok_and(|authority| {
        // `Authority` takes any text after the colon; a port is a number.
        let text = authority.as_str();
        let after = text.rsplit_once(']').map_or(text, |(_, rest)| rest);
        match after.rsplit_once(':') {
            // `u16` takes a leading plus sign; a port has none.
            Some((_, port)) => {
                port.is_empty()
                    || (port.bytes().all(|b| b.is_ascii_digit()) && authority.port_u16().is_some())
            }
            None => true,
        }
    })
}

/// A name or an IPv4 address, perhaps with a port of up to four digits: nearly every host there is,
/// and no question for a parser.
fn is_plain(host: &[u8]) -> bool {
    let colon = host.iter().rposition(|&byte| byte == b':');
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty()
        && name.iter().all(is_name)
        && port.len() <= 5
        && port.iter().skip(1).all(u8::is_ascii_digit)
}

fn request_framing(headers: &HeaderMap, seen: Seen, version: Version) -> Result<Framing, Reject> {
    match transfer_encoding(headers, seen)? {
        Coding::Chunked if version == Version::HTTP_10 => {
            Err(Reject::bad("Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1)"))
        }
        Coding::Chunked if seen.has(Seen::CONTENT_LENGTH) => {
            Err(Reject::bad("both Content-Length and Transfer-Encoding (RFC 9112 §6.1)"))
        }
        Coding::Chunked => Ok(Framing::Chunked),
        Coding::None => Ok(content_length(headers, seen)?.map_or(Framing::None, Framing::Length)),
    }
}

fn response_framing(
    headers: &HeaderMap,
    seen: Seen,
    version: Version,
    status: StatusCode,
    asked: &Method,
) -> Result<Framing, Reject> {
    let coding = transfer_encoding(headers, seen)?;
    let length = content_length(headers, seen)?;
    if matches!(coding, Coding::Chunked) {
        if length.is_some() {
            return Err(Reject::bad("both Content-Length and Transfer-Encoding (RFC 9112 §6.1)"));
        }
        if version == Version::HTTP_10 {
            return Err(Reject::bad("Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1)"));
        }
    }
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || asked == Method::HEAD
        || (asked == Method::CONNECT && status.is_success());
    Ok(match (coding, length) {
        _ if bodiless => Framing::None,
        (Coding::Chunked, _) => Framing::Chunked,
        (Coding::None, Some(length)) => Framing::Length(length),
        (Coding::None, None) => Framing::UntilClose,
    })
}

enum Coding {
    None,
    Chunked,
}

/// Only one coding is spoken: a single `chunked`. Everything else is where smuggling lives.
fn transfer_encoding(headers: &HeaderMap, seen: Seen) -> Result<Coding, Reject> {
    if !seen.has(Seen::TRANSFER_ENCODING) {
        return Ok(Coding::None);
    }
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(line) = lines.next() else { return Ok(Coding::None) };
    if lines.next().is_some() {
        return Err(Reject::bad("more than one Transfer-Encoding field"));
    }
    if line.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding::Chunked);
    }
    Err(Reject::new(
        StatusCode::NOT_IMPLEMENTED,
        "a transfer coding other than a single `chunked` (RFC 9112 §6.1)",
    ))
}

/// One field line of digits, nothing else (RFC 9110 §8.6). A list of equal values is legal to
/// accept; refusing it costs no honest client anything.
fn content_length(headers: &HeaderMap, seen: Seen) -> Result<Option<u64>, Reject> {
    if !seen.has(Seen::CONTENT_LENGTH) {
        return Ok(None);
    }
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let digits = line.as_bytes();
    let bad = Reject::bad("Content-Length is not one number (RFC 9110 §8.6)");
    if lines.next().is_some()
        || digits.is_empty()
        || digits.len() > 19
        || !digits.iter().all(u8::is_ascii_digit)
    {
        return Err(bad);
    }
    line.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(bad)
}

fn check_expect(headers: &HeaderMap, version: Version) -> Result<bool, Reject> {
    let mut lines = headers.get_all(EXPECT).iter();
    let Some(line) = lines.next() else { return Ok(false) };
    if lines.next().is_none() && line.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        // RFC 9110 §10.1.1: a 1.0 client cannot know what a 100 is.
        return Ok(version != Version::HTTP_10);
    }
    Err(Reject::new(StatusCode::EXPECTATION_FAILED, "an expectation other than 100-continue"))
}

/// A proxy keeps no connection with an HTTP/1.0 peer, asked or not (RFC 9112 §9.3).
fn keeps_alive(headers: &HeaderMap, seen: Seen, version: Version) -> bool {
    version == Version::HTTP_11
        && !(seen.has(Seen::CONNECTION) && hop::has_token(headers, &CONNECTION, "close"))
}

const fn too_large(reason: &'static str) -> Reject {
    Reject::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
}

/// Why `section` is refused, which is a head or the trailers.
#[cold]
fn explain(error: httparse::Error, section: &[u8]) -> Reject {
    let is_folded = |line: &[u8]| matches!(line.first(), Some(b' ' | b'\t'));
    match error {
        httparse::Error::HeaderName if section.split(|&b| b == b'\n').any(is_folded) => {
            Reject::bad("a line begins with white space (obs-fold, RFC 9112 §5.2)")
        }
        httparse::Error::HeaderName => Reject::bad("a field name has a forbidden character"),
        httparse::Error::HeaderValue => Reject::bad("a field value has a forbidden character"),
        httparse::Error::NewLine => Reject::bad("a line does not end in CRLF"),
        httparse::Error::Status => Reject::bad("the status is not three digits"),
        httparse::Error::Token => Reject::bad("the request line is not valid"),
        httparse::Error::TooManyHeaders => too_large("the head has too many fields"),
        httparse::Error::Version => Reject::bad("the HTTP version is not 1.0 or 1.1"),
    }
}

#[cfg(test)]
mod tests;
