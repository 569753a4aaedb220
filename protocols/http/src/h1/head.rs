//! Message heads: finding the end, parsing, and the framing verdict (RFC 9112 §2–§6).

mod framing;

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use gwproxy_core::{Code, Error};
use http::header::{EXPECT, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Uri, Version};
use httparse::Status;

use crate::body::Body;
use crate::fields::{Known, Lines, Seen, Several};
use crate::private::authenticates_connection;
use crate::wire::hop;
use crate::{Fields, Request, RequestParts, ResponseParts};
use framing::{check_expect, keeps_alive, request_framing, response_framing};

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
    pub parts: ResponseParts,
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
        Self { head_bytes: 16 * 1024, fields: 100, field_bytes: 8 * 1024, target_bytes: 8 * 1024 }
    }
}

impl Reject {
    const INCOMPLETE: Self = Self::bad("the head is not complete");

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
    /// Whether it has seen nothing yet.
    fn is_fresh(self) -> bool {
        self.scanned == 0 && self.empty_lines == 0
    }

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

/// A head that was read: its bytes, what its first line says, its fields.
struct Read<L> {
    length: usize,
    line: L,
    lines: Lines,
}

/// What a request line says; the target as a place in the head.
struct RequestLine {
    method: Method,
    target: Range<usize>,
    version: Version,
}

/// What a status line says.
struct StatusLine {
    status: StatusCode,
    version: Version,
}

impl<L> Read<L> {
    /// Whether [`Scan::find_end`] would find this end and nothing wrong before it: as the parser
    /// would, but no line ends in a bare LF.
    fn is_strict(&self, bytes: &[u8], limits: &Limits) -> bool {
        let ends_before = |at: usize| {
            at.checked_sub(2).and_then(|from| bytes.get(from..at)).is_some_and(|end| end == b"\r\n")
        };
        let end = self.length.saturating_sub(2);
        let first = self.lines.starts().next().unwrap_or(end);
        !matches!(bytes.first(), Some(b'\r' | b'\n'))
            && ends_before(self.length)
            && ends_before(end)
            && self.lines.starts().all(ends_before)
            && self.length <= limits.head_bytes
            && first <= limits.target_bytes
    }
}

/// Takes a head off the front of `buf` once it is all there.
fn take_head<L>(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
    read: impl Fn(&[u8]) -> Result<Read<L>, Reject>,
) -> Result<Option<(Bytes, L, Lines)>, Reject> {
    // Nearly all heads come in one piece, and whoever is content with one need not look for its
    // end first. What is wrong with one is found the other way, however it was cut.
    if scan.is_fresh()
        && let Ok(head) = read(buf)
        && head.is_strict(buf, limits)
    {
        return Ok(Some((buf.split_to(head.length).freeze(), head.line, head.lines)));
    }
    let Some(length) = scan.find_end(buf, limits)? else { return Ok(None) };
    let bytes = buf.split_to(length).freeze();
    let head = read(&bytes)?;
    Ok(Some((bytes, head.line, head.lines)))
}

fn read_request(bytes: &[u8], limits: &Limits) -> Result<Read<RequestLine>, Reject> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Err(Reject::INCOMPLETE),
        Err(error) => return Err(explain(error, bytes)),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reject::bad("the request line is not complete"));
    };
    if target.len() > limits.target_bytes {
        return Err(Reject::new(StatusCode::URI_TOO_LONG, "the request target is too long"));
    }
    let lines = lines_of(bytes, parsed.headers, limits, FIELDS_ADDED)?;
    let start = (target.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    let target = start..start + target.len();
    let line = RequestLine { method: parse_method(method)?, target, version: version_of(minor) };
    Ok(Read { length, line, lines })
}

fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
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
    let Some(taken) = take_head(buf, scan, limits, |bytes| read_request(bytes, limits))? else {
        return check_method(buf).map(|()| None);
    };
    *scan = Scan::default();
    let (head, RequestLine { method, target, version }, lines) = taken;
    let uri = parse_target(head.slice(target), &method)?;
    let mut headers = lines.of(head, true);
    let seen = headers.seen();
    check_host(&headers, version)?;
    let framing = request_framing(&headers, version)?;
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
    let keep_alive = keeps_alive(&headers, version);
    let parts = RequestParts { method, uri, version, headers };
    let request = Box::new(Request::from_parts(parts, Body::empty()));
    Ok(Some(RequestHead { request, framing, keep_alive, expects_continue }))
}

fn read_response(bytes: &[u8], limits: &Limits) -> Result<Read<StatusLine>, Reject> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parse = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    let length = match parse {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Err(Reject::INCOMPLETE),
        Err(error) => return Err(explain(error, bytes)),
    };
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Reject::bad("the status line is not complete"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Reject::bad("the status is no number"))?;
    let lines = lines_of(bytes, parsed.headers, limits, 0)?;
    Ok(Read { length, line: StatusLine { status, version: version_of(minor) }, lines })
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
    let taken = take_head(buf, scan, limits, |bytes| read_response(bytes, limits))?;
    if scan.empty_lines > 0 && taken.is_some() {
        return Err(Reject::bad("bytes before the status line"));
    }
    let Some((head, StatusLine { status, version }, lines)) = taken else { return Ok(None) };
    *scan = Scan::default();
    let headers = lines.of(head, false);
    let framing = response_framing(&headers, version, status, asked)?;
    // A 204 that announces content may send it all the same, as the next answer (T13).
    let is_whole = status != StatusCode::NO_CONTENT
        || !(headers.seen().has(Seen::TRANSFER_ENCODING)
            || headers.get(Known::CONTENT_LENGTH).is_some_and(|length| length != "0"));
    let keep_alive = keeps_alive(&headers, version) && framing != Framing::UntilClose && is_whole;
    let authenticates_connection = headers.seen().has(Seen::CHALLENGE)
        && (authenticates_connection(&headers, &WWW_AUTHENTICATE)
            || authenticates_connection(&headers, &PROXY_AUTHENTICATE));
    let parts = ResponseParts { status, version, headers };
    Ok(Some(ResponseHead { parts, framing, keep_alive, authenticates_connection }))
}

/// Parses the fields of a trailer section, which must be complete in `section`.
pub(super) fn parse_trailers(section: &Bytes, fields_max: usize) -> Result<Fields, Reject> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(section, &mut fields) {
        Ok(Status::Complete((_, parsed))) => {
            let limits = Limits { fields: fields_max, ..Limits::default() };
            Ok(lines_of(section, parsed, &limits, 0)?.of(section.clone(), false))
        }
        Ok(Status::Partial) => Err(Reject::bad("the trailer section is not complete")),
        Err(error) => Err(explain(error, section)),
    }
}

/// What the parser found valid, and so is: a token, and no control characters (RFC 9110 §5.5,
/// §5.6.2).
fn lines_of(
    head: &[u8],
    fields: &[httparse::Header<'_>],
    limits: &Limits,
    more: usize,
) -> Result<Lines, Reject> {
    if fields.len() > limits.fields {
        return Err(too_large("the head has too many fields"));
    }
    let mut lines = Lines::with_capacity(fields.len() + more);
    for field in fields {
        if field.name.len() + field.value.len() > limits.field_bytes {
            return Err(too_large("a field is larger than the limit"));
        }
        lines.push(head, field.name.as_bytes(), field.value);
    }
    Ok(lines)
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
fn parse_target(target: Bytes, method: &Method) -> Result<Uri, Reject> {
    let bad = Reject::bad("the request target is not valid (RFC 9112 §3.2)");
    let (length, is_rooted, is_star) =
        (target.len(), target.first() == Some(&b'/'), *target == b"*"[..]);
    if memchr::memchr(b'#', &target).is_some() {
        // `Uri` would leave it out, and the next reader might not.
        return Err(Reject::bad("the request target has a fragment (RFC 9112 §3.2)"));
    }
    let uri = Uri::from_maybe_shared(target).map_err(|_| bad)?;
    let is_authority_form = uri.scheme().is_none() && uri.authority().is_some();
    let fits = match *method {
        Method::CONNECT => is_authority_form && uri.port_u16().is_some_and(|port| port != 0),
        Method::OPTIONS if is_star => true,
        _ => is_rooted || (uri.scheme().is_some() && uri.authority().is_some()),
    };
    let is_host = uri.authority().is_none_or(|host| is_authority(host.as_str().as_bytes()));
    if !fits || !is_host {
        return Err(bad);
    }
    let bytes_of =
        |scheme: &str, host: &Authority| scheme.len() + "://".len() + host.as_str().len();
    let bare = uri.scheme_str().zip(uri.authority()).map(|(scheme, host)| bytes_of(scheme, host));
    if *method == Method::OPTIONS && bare == Some(length) {
        // RFC 9112 §3.2.4: an empty path means the server, which `Uri` would read as `/`.
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("*"));
        return Uri::from_parts(parts).map_err(|_| bad);
    }
    Ok(uri)
}

fn check_host(headers: &Fields, version: Version) -> Result<(), Reject> {
    match headers.sole(Known::HOST) {
        Ok(Some(host)) if is_authority(host.as_bytes()) => Ok(()),
        Ok(Some(_)) => Err(Reject::bad("the Host field is not a host (RFC 9110 §7.2)")),
        Err(Several) => Err(Reject::bad("more than one Host field (RFC 9112 §3.2)")),
        Ok(None) if version == Version::HTTP_10 => Ok(()),
        Ok(None) => Err(Reject::bad("the Host field is missing (RFC 9112 §3.2)")),
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
    /// What names and addresses are made of, by its byte: one look each.
    static OF_NAMES: [bool; 256] = {
        let mut all = [false; 256];
        let mut byte = 0u8;
        while byte < 128 {
            #[expect(clippy::indexing_slicing, reason = "the compiler does it; a byte fits")]
            {
                all[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            }
            byte += 1;
        }
        all
    };
    let is_name = |byte: &&u8| OF_NAMES.get(usize::from(**byte)).is_some_and(|is| *is);
    let (name, port) = host.split_at(host.iter().take_while(is_name).count());
    !name.is_empty()
        && port.len() <= 5
        && port
            .split_first()
            .is_none_or(|(colon, digits)| *colon == b':' && digits.iter().all(u8::is_ascii_digit))
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
