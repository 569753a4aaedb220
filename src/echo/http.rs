//! The HTTP echo: what to answer is in the path.

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body::{self, Body};
use super::connection::Connection;
use super::query;
use super::report::{self, Report, sentence};
use super::tap::Fields;
use super::ws::{self, Script};

pub(super) const HELP: &str = "\
Any method and path are answered with 200 and a JSON report of the request. The path can ask for
something else:
  /status/503               answer with this status
  /bytes/1048576            that many bytes with a content-length; ?chunked=1 without
  /stream                   lines of JSON; ?count=10&interval=100ms (count=0: without end)
  /sse                      the same as server-sent events
  /trailers                 a body with trailers (HTTP/1 clients must send TE: trailers)
  /echo                     the request body, streamed back as it comes, with its trailers
  /health                   200, until PUT /health/503 says else
  /reset                    a reset in mid-response, after ?after=1024 bytes
  /truncate                 the same, but an orderly end of the connection
  /ws                       a WebSocket (as on any path with Upgrade: websocket); below it
                            /ws/report, /ws/push … as in `echo ws --help`
These go before any of the above, and chain:
  /delay/2s                 wait first
  /headers?X-A=1&X-B=2      add response header fields from the query
  /close                    end the connection after the response
So /delay/1s/headers/status/503?retry-after=5 waits, then answers 503 with that field.";

/// Bytes before a response is cut, unless `?after=` says else.
const CUT_AFTER: u64 = 1024;

/// The HTTP echo server's state.
pub(super) struct Http {
    node: String,
    node_value: HeaderValue,
    /// What `/health` answers.
    health: AtomicU16,
    /// Requests that are no WebSocket handshake are refused.
    websocket_only: bool,
}

/// What came with a request, besides itself.
struct Seen<'c> {
    connection: &'c Arc<Connection>,
    number: u64,
    raw: Option<Fields>,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    delay: Duration,
    close: bool,
    headers: HeaderMap,
    answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Bytes { count: u64, chunked: bool },
    Cut { after: u64, reset: bool },
    Echo,
    Health(Option<StatusCode>),
    Report,
    Status(StatusCode),
    Stream { count: u64, interval: Duration, events: bool },
    Trailers,
    WebSocket(Script),
}

impl Http {
    pub(super) fn new(node: String) -> Self {
        let (node_value, health) = (report::field_value(&node), AtomicU16::new(200));
        Self { node, node_value, health, websocket_only: false }
    }

    pub(super) fn websocket_only(node: String) -> Self {
        Self { websocket_only: true, ..Self::new(node) }
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let raw = (request.version() < Version::HTTP_2).then(|| connection.next_head()).flatten();
        let seen = Seen { connection, number: connection.count_request(), raw };
        let handshake = ws::is_handshake(&request);
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
        let mut response = if !handshake && self.websocket_only {
            ws::upgrade_required()
        } else if !handshake && request.method() == Method::CONNECT {
            // A 2xx would make a tunnel of the connection (RFC 9110 §9.3.6).
            not_allowed("this is no proxy", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
        } else {
            match ask(path, query, handshake) {
                Err(text) => sentence(StatusCode::BAD_REQUEST, &text),
                Ok(ask) => self.obey(ask, seen, request).await,
            }
        };
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-echo-node"), self.node_value.clone());
        response
    }

    async fn obey(&self, ask: Ask, seen: Seen<'_>, request: Request<Incoming>) -> Response<Body> {
        if !ask.delay.is_zero() {
            tokio::time::sleep(ask.delay).await;
        }
        let (version, connection) = (request.version(), seen.connection);
        let mut response = self.give(ask.answer, seen, request).await;
        for (name, value) in &ask.headers {
            response.headers_mut().append(name, value.clone());
        }
        if ask.close {
            if version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            connection.close();
        }
        response
    }

    async fn give(
        &self,
        answer: Answer,
        seen: Seen<'_>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        match answer {
            Answer::Bytes { count, chunked } => bytes(count, chunked),
            Answer::Cut { after, reset } => {
                // On HTTP/2 only the stream is reset; others share the connection.
                cut(after, reset && request.version() < Version::HTTP_2, seen.connection)
            }
            Answer::Echo => echo(request),
            Answer::Health(to) => self.health(request.method(), to),
            Answer::Report => self.report(seen, request).await,
            Answer::Status(StatusCode::UPGRADE_REQUIRED) => ws::upgrade_required(),
            Answer::Status(status) => of_status(status),
            Answer::Stream { count, interval, events } => self.stream(count, interval, events),
            Answer::Trailers => self.trailers(),
            Answer::WebSocket(script) => {
                let (parts, incoming) = request.into_parts();
                let head = Request::from_parts(parts.clone(), ());
                let report = Report::of(&self.node, seen.connection, seen.number, &head, seen.raw);
                let request = Request::from_parts(parts, incoming);
                ws::accept(script, report, seen.connection, request)
            }
        }
    }

    async fn report(&self, seen: Seen<'_>, request: Request<Incoming>) -> Response<Body> {
        let (parts, incoming) = request.into_parts();
        let received = match report::receive(incoming).await {
            Ok(received) => received,
            Err(error) => {
                return sentence(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}"));
            }
        };
        let head = Request::from_parts(parts, ());
        let report = Report::of(&self.node, seen.connection, seen.number, &head, seen.raw);
        let mut response = Response::new(body::full(report.with(received).json()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// What health checks see; `PUT` with a status changes it.
    fn health(&self, method: &Method, to: Option<StatusCode>) -> Response<Body> {
        if let Some(to) = to {
            if method != Method::PUT && method != Method::POST {
                return not_allowed("write PUT /health/503", "PUT, POST");
            }
            self.health.store(to.as_u16(), Ordering::Relaxed);
            return of_status(StatusCode::NO_CONTENT);
        }
        // Only statuses are ever stored.
        of_status(StatusCode::from_u16(self.health.load(Ordering::Relaxed)).unwrap_or_default())
    }

    fn stream(&self, count: u64, interval: Duration, events: bool) -> Response<Body> {
        let node: Arc<str> = self.node.as_str().into();
        let frames = body::unfold(0, move |index| {
            let node = Arc::clone(&node);
            async move {
                if count != 0 && index >= count {
                    return None;
                }
                if index != 0 {
                    tokio::time::sleep(interval).await;
                }
                let json = serde_json::json!({ "node": &*node, "index": index });
                let line = if events {
                    format!("id: {index}\ndata: {json}\n\n")
                } else {
                    format!("{json}\n")
                };
                Some((Ok(Frame::data(Bytes::from(line))), index + 1))
            }
        });
        let mut response = Response::new(frames);
        let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    fn trailers(&self) -> Response<Body> {
        let name = HeaderName::from_static("x-echo-trailer");
        let mut trailers = HeaderMap::new();
        trailers.insert(name.clone(), self.node_value.clone());
        let body = body::with_trailers(Bytes::from_static(b"trailers follow\n"), trailers);
        let mut response = Response::new(body);
        response.headers_mut().insert(TRAILER, name.into());
        response
    }
}

/// Some statuses have no content (RFC 9110 §15.3.5, §15.3.6, §15.4.5).
fn of_status(status: StatusCode) -> Response<Body> {
    if !matches!(status.as_u16(), 204 | 205 | 304) {
        return sentence(status, &status.to_string());
    }
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

fn not_allowed(text: &str, allow: &'static str) -> Response<Body> {
    let mut response = sentence(StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn bytes(count: u64, chunked: bool) -> Response<Body> {
    let mut response = Response::new(body::pattern(count, !chunked));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if !chunked {
        // So that HEAD has it too.
        response.headers_mut().insert(CONTENT_LENGTH, count.into());
    }
    response
}

fn cut(after: u64, reset: bool, connection: &Arc<Connection>) -> Response<Body> {
    let connection = Arc::clone(connection);
    let body = body::cut(after, move || {
        if reset {
            connection.reset_on_drop();
        }
    });
    let mut response = Response::new(body);
    // The client must be able to tell that something is missing.
    response.headers_mut().insert(CONTENT_LENGTH, after.saturating_add(1).into());
    response
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, incoming) = request.into_parts();
    let mut response = Response::new(incoming.map_err(Into::into).boxed_unsync());
    for name in [CONTENT_TYPE, TRAILER] {
        for value in parts.headers.get_all(&name) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    response
}

/// Reads the controls in a path.
fn ask(path: &str, query: &str, handshake: bool) -> Result<Ask, String> {
    let mut ask = Ask {
        delay: Duration::ZERO,
        close: false,
        headers: HeaderMap::new(),
        answer: Answer::Report,
    };
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    loop {
        match segments.peek().copied() {
            Some("delay") => {
                segments.next();
                let delay = query::duration(segments.peek().copied().unwrap_or(""))?;
                ask.delay = ask.delay.saturating_add(delay);
            }
            Some("headers") => ask.headers = response_headers(query)?,
            Some("close") if !handshake => ask.close = true,
            _ => break,
        }
        segments.next();
    }
    ask.answer = answer(segments, query, handshake)?;
    Ok(ask)
}

fn answer<'p>(
    mut segments: Peekable<impl Iterator<Item = &'p str>>,
    query: &str,
    handshake: bool,
) -> Result<Answer, String> {
    let first = segments.peek().copied().unwrap_or("");
    if handshake && first != "status" {
        segments.next_if_eq(&"ws");
        return Ok(Answer::WebSocket(Script::parse(segments, query)?));
    }
    segments.next();
    let value = segments.next().unwrap_or("");
    Ok(match first {
        "bytes" => Answer::Bytes { count: count(value)?, chunked: query::switch(query, "chunked") },
        "echo" => Answer::Echo,
        "reset" | "truncate" => Answer::Cut {
            after: query::number(query, "after", CUT_AFTER)?,
            reset: first == "reset",
        },
        "health" if value.is_empty() => Answer::Health(None),
        "health" => Answer::Health(Some(status(value)?)),
        "sse" | "stream" => Answer::Stream {
            count: query::number(query, "count", 10)?,
            interval: query::interval(query, "interval", Duration::from_millis(100))?,
            events: first == "sse",
        },
        "status" => Answer::Status(status(value)?),
        "trailers" => Answer::Trailers,
        "ws" => Answer::Status(StatusCode::UPGRADE_REQUIRED),
        _ => Answer::Report,
    })
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number of bytes; write /bytes/1048576"))
}

fn status(text: &str) -> Result<StatusCode, String> {
    StatusCode::from_bytes(text.as_bytes())
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| format!("`{text}` is no status of a final response; write /status/503"))
}

/// Fields that would break the framing of our own response are not the client's to set.
fn response_headers(query: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in query::parameters(query) {
        let wrong = || format!("`{name}: {value}` is no header field that can be asked for");
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        if matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection") {
            return Err(wrong());
        }
        headers.append(name, value.parse().map_err(|_| wrong())?);
    }
    Ok(headers)
}
