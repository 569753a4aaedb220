//! The client's side of HTTP/2: connections are shared, a request is one stream.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gwproxy_core::net::Stream;
use gwproxy_core::timer::Timer;
use gwproxy_core::{Code, Error};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, SEC_WEBSOCKET_KEY, TE};
use http::uri::Scheme;
use http::{HeaderValue, Method, Version};

use super::conn::{Bounds, Conn, Role};
use super::drive::{Driver, Patience};
use super::handle::{Handle, Recv, Send, StreamIo, explain_node};
use super::hpack::Encoder;
use super::pump::{Pump, Stopped, Turn};
use super::stream::Asks;
use super::{Reason, reset_code};
use crate::body::Body;
use crate::debt::Progress;
use crate::fields::Value;
use crate::h1::client::Limit;
use crate::interim::Way;
use crate::pool::StreamSlot;
use crate::tunnel::{Upgraded, UpgradedIo};
use crate::wire::websocket;
use crate::{Request, Response, ResponseParts};

/// Bounds of a node's field section; larger than a client's, as for HTTP/1.1.
const BOUNDS: Bounds = Bounds { section: 64 * 1024, fields: 128 };

/// How long a node that has answered in full may leave the rest of the request waiting.
const ANSWERED_WAIT: Duration = Duration::from_secs(5);

/// Opens HTTP/2 on a fresh connection and drives it on this worker.
pub(crate) fn open(stream: Stream, timer: &Timer) -> Rc<Conn> {
    let conn = Conn::new(Role::Client, BOUNDS);
    let patience = Patience {
        head: Duration::from_secs(10),
        write: Duration::from_secs(30),
        // The pool closes what idles.
        idle: None,
    };
    let driver = Driver::new(Rc::clone(&conn), stream, BytesMut::new(), timer, patience);
    tokio::task::spawn_local(driver.run(|_| {}));
    conn
}

/// A failed exchange.
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// The request, if nothing of its content is gone.
    pub(crate) request: Option<Box<Request>>,
    /// The connection can serve no others.
    pub(crate) is_over: bool,
}

/// Sends a request on a stream and waits for the head of the response.
///
/// # Errors
/// What went wrong. The error says so if the node provably did not process the request: never
/// sent, refused (`REFUSED_STREAM`), or above the last stream of a GOAWAY (RFC 9113 §8.7).
pub(crate) async fn exchange(
    slot: StreamSlot,
    mut request: Box<Request>,
    is_upgrade: bool,
    scheme: &Scheme,
    limit: Limit,
    interim: Option<&Way>,
    timer: &Timer,
) -> Result<Response, Refused> {
    let conn = Rc::clone(slot.conn());
    if is_upgrade && !conn.takes_protocols() {
        let sentence = "the node takes no WebSocket over HTTP/2: it did not announce \
                        SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)";
        let error = Error::new(Code::UpstreamUnsupported, sentence).unsent();
        return Err(Refused { error, request: Some(request), is_over: false });
    }
    let is_bodiless = request.body().is_empty();
    let body = std::mem::take(request.body_mut());
    let length = body.length().filter(|_| !is_bodiless);
    let head = |encoder: &mut Encoder, out: &mut BytesMut| {
        put_head(encoder, out, &request, scheme, length, is_upgrade);
    };
    let asks = match *request.method() {
        _ if is_upgrade => Asks::Tunnel,
        Method::HEAD => Asks::Head,
        _ => Asks::Content,
    };
    let ends = is_bodiless && !is_upgrade;
    let Some(key) = conn.with(|state| state.open(head, asks, ends)) else {
        let error = Error::new(Code::UpstreamReset, "the node closed the HTTP/2 connection");
        *request.body_mut() = body;
        return Err(Refused { error: error.unsent(), request: Some(request), is_over: true });
    };
    let send = Send::new(Handle::first(Rc::clone(&conn), key));
    let mut awaited = Awaited {
        upload: (!is_bodiless).then(|| Pump::new(body)),
        limit: limit.first_byte,
        interim,
        deadline: timer.deadline(),
        seen: None,
    };
    let head = poll_fn(|cx| awaited.poll(cx, &send)).await;
    let upload = awaited.upload;
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            let is_over = !conn.is_open() || error.code() == Code::UpstreamTimeout;
            if error.code() != Code::UpstreamReset {
                send.reset(Reason::CANCEL);
            }
            let body = match upload {
                None if is_bodiless => Some(Body::empty()),
                None => None,
                Some(upload) => upload.untouched(),
            };
            let request = body.map(|body| {
                *request.body_mut() = body;
                request
            });
            return Err(Refused { error, request, is_over });
        }
    };
    let recv = Recv::new(send.share(), timer.clone(), limit.body, false);
    if is_upgrade {
        let key = request.headers().get(SEC_WEBSOCKET_KEY);
        return Ok(switched(head, recv, send, key, slot));
    }
    let mut body = if recv.is_end_stream() { Body::empty() } else { Body::h2(recv) };
    body.occupy(slot);
    if let Some(upload) = upload {
        // The answer came before the end of the request: both go on, each at its own pace.
        tokio::task::spawn_local(finish(upload, send, timer.clone(), limit.body));
    }
    Ok(Response::from_parts(head, body))
}

/// What a node answers to extended CONNECT (RFC 8441 §5): 2xx is what 101 is in HTTP/1.1.
fn switched(
    mut head: ResponseParts,
    recv: Recv,
    send: Send,
    key: Option<Value<'_>>,
    slot: StreamSlot,
) -> Response {
    let mut body = if head.status.is_success() {
        websocket::to_101(&mut head, key);
        let io = UpgradedIo::H2(Box::new(StreamIo::new(recv, send, Reason::CANCEL)));
        Body::upgraded(Upgraded { io, early: Bytes::new() })
    } else {
        // There is no tunnel to send anything through.
        send.data(Bytes::new(), true);
        if recv.is_end_stream() { Body::empty() } else { Body::h2(recv) }
    };
    body.occupy(slot);
    Response::from_parts(head, body)
}

/// A response that has not begun.
struct Awaited<'a> {
    upload: Option<Pump>,
    limit: Duration,
    interim: Option<&'a Way>,
    deadline: gwproxy_core::timer::Deadline,
    /// How far the upload was at the last look, while it was the node's turn.
    seen: Option<Progress>,
}

impl Awaited<'_> {
    fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        send: &Send,
    ) -> Poll<Result<ResponseParts, Error>> {
        let mut is_clients_turn = false;
        let mut moved = (u64::MAX, None);
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx, send) {
                // Done, or stopped: the head may have come before the stream was reset.
                Poll::Ready(Ok(()) | Err(Stopped::Stream)) => self.upload = None,
                Poll::Ready(Err(Stopped::Body(error))) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    is_clients_turn = upload.waits_for() == Turn::Body;
                    moved = upload.progress(send);
                }
            }
        }
        while let Poll::Ready(head) = send.poll_head(cx) {
            match head {
                Ok(head) if head.status.is_informational() => {
                    if let Some(client) = self.interim {
                        client.send(head.status, head.headers, Version::HTTP_2);
                    }
                }
                head => return Poll::Ready(head.map_err(explain_node)),
            }
        }
        // The node's time begins when it has the request, and anew with every piece it takes;
        // while the client has none to give, it does not run.
        if is_clients_turn {
            self.seen = None;
            self.deadline.disarm();
            return Poll::Pending;
        }
        if self.seen.replace(moved) != Some(moved) {
            self.deadline.arm(self.limit);
        }
        self.deadline.poll_expired(cx).map(|()| {
            let sentence = format!("the node sent no response within {:?}", self.limit);
            Err(Error::new(Code::UpstreamTimeout, sentence))
        })
    }
}

/// Sends the rest of a request whose response has begun.
async fn finish(upload: Pump, send: Send, timer: Timer, silence: Duration) {
    // A node that has answered in full need not take the rest, and may not say so.
    let silence = || if send.is_peer_done() { silence.min(ANSWERED_WAIT) } else { silence };
    if let Err(Stopped::Body(error)) = upload.run(&send, &timer, silence).await {
        send.reset(reset_code(&error).map_or(Reason::CANCEL, Reason));
    }
}

/// A request's head, from the fields of HTTP/1.1 to those of HTTP/2 (RFC 9113 §8.3.1, RFC 8441 §5).
fn put_head(
    encoder: &mut Encoder,
    out: &mut BytesMut,
    request: &Request,
    scheme: &Scheme,
    length: Option<u64>,
    is_upgrade: bool,
) {
    if is_upgrade {
        Encoder::method(out, &Method::CONNECT);
        Encoder::protocol(out, websocket::PROTOCOL);
    } else {
        Encoder::method(out, request.method());
    }
    Encoder::scheme(out, *scheme == Scheme::HTTPS);
    match (request.headers().get(HOST), request.uri().authority()) {
        (Some(host), _) => encoder.authority(out, host.as_bytes()),
        (None, Some(authority)) => encoder.authority(out, authority.as_str().as_bytes()),
        (None, None) => {}
    }
    match request.uri().path_and_query() {
        Some(path) if path.as_str().starts_with('?') => {
            Encoder::path(out, &format!("/{}", path.as_str()));
        }
        Some(path) => Encoder::path(out, path.as_str()),
        None => Encoder::path(out, "/"),
    }
    for (name, value) in request.headers().iter() {
        if name == HOST || name == EXPECT || (name == CONTENT_LENGTH && length.is_some()) {
            continue;
        }
        if is_upgrade && websocket::is_of_handshake(name) {
            continue;
        }
        if name == TE {
            encoder.header(out, TE, HeaderValue::from_static("trailers"));
            continue;
        }
        encoder.header(out, name, value);
    }
    if let Some(length) = length {
        encoder.header(out, CONTENT_LENGTH, HeaderValue::from(length));
    }
}
