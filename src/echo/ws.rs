//! The WebSocket echo: RFC 6455 on HTTP/1.1, RFC 8441 on HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{ALLOW, CONNECTION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::body::{self, Body};
use super::connection::Connection;
use super::query;
use super::report::{Report, sentence};

pub(super) const HELP: &str = "\
Every text and binary message comes back as it is; pings are answered; the first subprotocol
offered is chosen; no extension is. The path can ask for more:
  /report                   first, a text message with a JSON report of the handshake
  /push                     messages from the server; ?count=3&interval=100ms (count=0: without end)
  /bytes/1048576            first, a binary message of that size (at most 16 MiB)
  /close/4001               Close with this code, after ?after=0 messages; &reason=text
  /reset                    a TCP reset after ?after=0 messages
  /status/503               refuse the handshake with this status
  /delay/2s                 wait before the handshake is answered; goes before any of the above
Works over HTTP/2 too (RFC 8441).";

/// The largest message taken or made.
const MAX_MESSAGE: usize = 16 << 20;

/// What is read from a connection at a time. tungstenite's own default would hold 128 KiB for each
/// idle connection.
const READ_BUFFER: usize = 4 * 1024;

/// How long to wait for the client's Close after ours (RFC 6455 §7.1.1).
const CLOSE_WAIT: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What the server does of its own, besides echoing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Script {
    Bytes(usize),
    Close { code: CloseCode, reason: String, after: u64 },
    Echo,
    Push { count: u64, interval: Duration },
    Report,
    Reset { after: u64 },
}

impl Script {
    /// Reads it from the rest of the path and the query.
    pub(super) fn parse<'p>(
        mut segments: impl Iterator<Item = &'p str>,
        query: &str,
    ) -> Result<Self, String> {
        let name = segments.next().unwrap_or("");
        let value = segments.next().unwrap_or("");
        Ok(match name {
            "bytes" => Self::Bytes(message_size(value)?),
            "close" => Self::Close {
                code: close_code(value)?,
                reason: close_reason(query::parameter(query, "reason").unwrap_or_default())?,
                after: query::number(query, "after", 0)?,
            },
            "push" => Self::Push {
                count: query::number(query, "count", 3)?,
                interval: query::interval(query, "interval", Duration::from_millis(100))?,
            },
            "report" => Self::Report,
            "reset" => Self::Reset { after: query::number(query, "after", 0)? },
            _ => Self::Echo,
        })
    }
}

fn message_size(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&size| size <= MAX_MESSAGE)
        .ok_or_else(|| format!("`{text}` is no size of a message; at most {MAX_MESSAGE} bytes"))
}

/// Only codes that may be sent (RFC 6455 §7.4).
fn close_code(text: &str) -> Result<CloseCode, String> {
    text.parse::<u16>()
        .ok()
        .map(CloseCode::from)
        .filter(|code| code.is_allowed())
        .ok_or_else(|| format!("`{text}` is no close code that may be sent; write /close/4001"))
}

/// A control frame holds 125 bytes, two of them for the code (RFC 6455 §5.5).
fn close_reason(text: String) -> Result<String, String> {
    if text.len() > 123 {
        return Err("a close reason has at most 123 bytes".to_owned());
    }
    Ok(text)
}

/// Whether this request wants to become a WebSocket.
pub(super) fn is_handshake<B>(request: &Request<B>) -> bool {
    if request.version() >= Version::HTTP_2 {
        return request.method() == Method::CONNECT
            && request.extensions().get::<Protocol>().is_some_and(|p| p.as_str() == "websocket");
    }
    request.headers().get_all(UPGRADE).iter().any(|value| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    })
}

/// The answer to a plain request where only a WebSocket makes sense (RFC 9110 §15.5.22).
pub(super) fn upgrade_required() -> Response<Body> {
    let mut response = sentence(StatusCode::UPGRADE_REQUIRED, "open a WebSocket here");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// Checks the handshake and, if it is good, lets `script` run after the answer.
pub(super) fn accept(
    script: Script,
    report: Report<'_>,
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let mut response = match check(&request) {
        Ok(response) => response,
        Err(refusal) => return *refusal,
    };
    let subprotocol = subprotocol(&request);
    if let Some(chosen) = &subprotocol
        && let Ok(value) = HeaderValue::from_str(chosen)
    {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    let report = Report { subprotocol, ..report }.json();
    let first = match script {
        Script::Report => Some(Message::text(report)),
        Script::Bytes(size) => Some(Message::binary(body::filler_bytes(size))),
        _ => None,
    };
    if request.version() < Version::HTTP_2 {
        connection.stop_tap();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let run = run(upgrade, script, first, request.version(), Arc::clone(connection));
    if !connection.spawn(Box::pin(run)) {
        return sentence(StatusCode::SERVICE_UNAVAILABLE, "too many WebSockets here");
    }
    response
}

fn check(request: &Request<Incoming>) -> Result<Response<Body>, Box<Response<Body>>> {
    if request.version() >= Version::HTTP_2 {
        // RFC 8441 §5: no key, no accept; the version still counts.
        let version = request.headers().get(SEC_WEBSOCKET_VERSION);
        return if version.is_some_and(|version| version == "13") {
            Ok(Response::new(body::empty()))
        } else {
            Err(Box::new(refuse(&ProtocolError::MissingSecWebSocketVersionHeader)))
        };
    }
    create_response_with_body(request, body::empty).map_err(|error| {
        Box::new(match error {
            Error::Protocol(error) => refuse(&error),
            error => sentence(StatusCode::BAD_REQUEST, &error.to_string()),
        })
    })
}

/// RFC 6455 §4.2.2, §4.4: say which version would do.
fn refuse(error: &ProtocolError) -> Response<Body> {
    let status = match error {
        ProtocolError::MissingSecWebSocketVersionHeader => StatusCode::UPGRADE_REQUIRED,
        ProtocolError::WrongHttpMethod => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = sentence(status, &format!("no WebSocket handshake: {error}"));
    let headers = response.headers_mut();
    match status {
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    response
}

/// The first subprotocol offered, over all field lines (RFC 6455 §11.3.4).
fn subprotocol(request: &Request<Incoming>) -> Option<String> {
    let mut values = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values
        .find_map(|value| {
            value.to_str().ok()?.split(',').map(str::trim).find(|token| !token.is_empty())
        })
        .map(str::to_owned)
}

async fn run(
    upgrade: hyper::upgrade::OnUpgrade,
    script: Script,
    first: Option<Message>,
    version: Version,
    connection: Arc<Connection>,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            tracing::debug!(client = %connection.peer, %error, "a WebSocket did not come about");
            return;
        }
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(READ_BUFFER)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
    match converse(&mut socket, &script, first, &connection).await {
        Ok(End::Done) => {}
        // On HTTP/2 dropping the stream is all that may be cut; others share the connection.
        Ok(End::Reset) if version >= Version::HTTP_2 => {}
        Ok(End::Reset) => connection.reset_on_drop(),
        Ok(End::Close(code, reason)) => close(&mut socket, code, reason).await,
        Err(error) => {
            tracing::debug!(client = %connection.peer, %error, "a WebSocket broke");
            if let Some(code) = code_of(&error) {
                close(&mut socket, code, String::new()).await;
            }
        }
    }
}

/// How a conversation ended, if it did not break.
enum End {
    Close(CloseCode, String),
    Done,
    Reset,
}

async fn converse(
    socket: &mut Socket,
    script: &Script,
    first: Option<Message>,
    connection: &Connection,
) -> Result<End, Error> {
    if let Some(message) = first {
        socket.send(message).await?;
    }
    let (count, interval) = match *script {
        Script::Push { count: 0, interval } => (u64::MAX, interval),
        Script::Push { count, interval } => (count, interval),
        _ => (0, CLOSE_WAIT),
    };
    // A period of zero is not allowed.
    let mut ticks = tokio::time::interval(interval.max(Duration::from_micros(1)));
    let (mut echoed, mut pushed) = (0, 0);
    loop {
        match script {
            Script::Close { code, reason, after } if echoed >= *after => {
                return Ok(End::Close(*code, reason.clone()));
            }
            Script::Reset { after } if echoed >= *after => return Ok(End::Reset),
            _ => {}
        }
        tokio::select! {
            message = socket.next() => match message.transpose()? {
                None => return Ok(End::Done),
                Some(message) if message.is_text() || message.is_binary() => {
                    socket.send(message).await?;
                    echoed += 1;
                }
                // tungstenite answers pings and closes itself.
                Some(_) => {}
            },
            _ = ticks.tick(), if pushed < count => {
                socket.send(Message::text(format!("push {pushed}"))).await?;
                pushed += 1;
            }
            () = connection.draining() => return Ok(End::Close(CloseCode::Away, String::new())),
        }
    }
}

/// The code that tells the client what it did wrong (RFC 6455 §7.4.1), if it can still be told.
fn code_of(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// Sends Close and waits for the client's.
async fn close(socket: &mut Socket, code: CloseCode, reason: String) {
    let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
    let closed = async {
        socket.close(Some(frame)).await?;
        while socket.next().await.transpose()?.is_some() {}
        Ok::<_, Error>(())
    };
    match tokio::time::timeout(CLOSE_WAIT, closed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a WebSocket did not close in order"),
        Err(_) => tracing::debug!("the client did not answer a Close"),
    }
}
