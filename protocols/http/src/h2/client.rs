//! The client's side of HTTP/2: connections are shared, a request is one stream.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use gwproxy_core::net::Stream;
use gwproxy_core::timer::Timer;
use gwproxy_core::{Code, Error};
use http::header::{EXPECT, HOST, TE};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri, Version};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::{
    CONNECTION_WINDOW_BYTES, Clock, Local, PING_INTERVAL, PING_TIMEOUT, SEND_BUFFER_BYTES,
    STREAM_WINDOW_BYTES,
};
use crate::body::Body;
use crate::pool::{Home, StreamSlot};
use crate::wire::hop;
use crate::{Request, Response};

/// Bytes of a node's field section; larger than a client's, as for HTTP/1.1.
const FIELD_SECTION_BYTES: u32 = 64 * 1024;

/// Opens HTTP/2 on a fresh connection and drives it on this worker.
///
/// # Errors
/// When the node does not speak HTTP/2.
pub(crate) async fn open(stream: Stream) -> Result<SendRequest<Body>, Error> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(Clock)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(FIELD_SECTION_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| {
        Error::new(Code::UpstreamMalformed, "the node does not speak HTTP/2")
            .because(error)
            .unsent()
    })?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection to a node ended");
        }
    });
    Ok(sender)
}

/// Sends a request on a stream and waits for the head of the response.
///
/// # Errors
/// What went wrong, with the request if the node provably did not process it: never sent, refused
/// (`REFUSED_STREAM`), or above the last stream of a GOAWAY (RFC 9113 §8.7).
pub(crate) async fn exchange(
    slot: StreamSlot,
    home: &Home,
    mut request: Request,
    scheme: Scheme,
    first_byte: Duration,
    timer: &Timer,
) -> Result<Response, (Error, Option<Request>)> {
    if let Err(error) = prepare(&mut request, scheme) {
        return Err((error, None));
    }
    let upload = request.body_mut().watched();
    let mut sender = slot.conn.sender.clone();
    let sending = async {
        if let Err(error) = sender.ready().await {
            return Err((Error::new(Code::UpstreamReset, CLOSED).because(error).unsent(), None));
        }
        sender.try_send_request(request).await.map_err(|mut refused| {
            let request = refused.take_message();
            let error = explain(refused.into_error());
            (if request.is_some() { error.unsent() } else { error }, request)
        })
    };
    let deadline = timer.deadline();
    let mut sending = std::pin::pin!(sending);
    let mut seen = (0, false);
    deadline.arm(first_byte);
    let sent = poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(Some(sent));
        }
        // The node's time begins when it has the request, and anew with every piece it takes;
        // while the client has none to give, it does not run.
        let now = (upload.frames.get(), upload.ended.get());
        if upload.waits_for_sender.get() && !upload.ended.get() {
            deadline.disarm();
        } else if std::mem::replace(&mut seen, now) != now {
            deadline.arm(first_byte);
        }
        upload.watch(cx);
        deadline.poll_expired(cx).map(|()| None)
    })
    .await;
    let Some(sent) = sent else {
        // A node that opens no more streams on this connection may on another one.
        home.forget_h2(&slot.conn);
        let sentence = format!("the node sent no response within {first_byte:?}");
        return Err((Error::new(Code::UpstreamTimeout, sentence), None));
    };
    match sent {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let mut body = Body::h2(body, Code::UpstreamReset);
            body.occupy(slot);
            Ok(Response::from_parts(parts, body))
        }
        Err((error, request)) => {
            if slot.conn.sender.is_closed() || request.is_some() {
                home.forget_h2(&slot.conn);
            }
            Err((error, request))
        }
    }
}

const CLOSED: &str = "the node closed the HTTP/2 connection";

/// From the fields of HTTP/1.1 to those of HTTP/2 (RFC 9113 §8.3.1).
fn prepare(request: &mut Request, scheme: Scheme) -> Result<(), Error> {
    let bad = || Error::new(Code::Internal, "the request cannot be put into HTTP/2");
    let authority = match request.headers_mut().remove(HOST) {
        Some(host) => Some(Authority::try_from(host.as_bytes())),
        None => request.uri().authority().cloned().map(Ok),
    };
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(scheme);
    if let Some(authority) = authority {
        uri.authority = Some(authority.map_err(|_| bad())?);
    }
    if uri.path_and_query.is_none() {
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| bad())?;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(EXPECT);
    if headers.contains_key(TE) && !hop::has_token(headers, &TE, "trailers") {
        headers.remove(TE);
    } else if headers.contains_key(TE) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(())
}

fn explain(error: hyper::Error) -> Error {
    let reason = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .and_then(h2::Error::reason);
    let refused = reason == Some(h2::Reason::REFUSED_STREAM);
    let went_away = reason == Some(h2::Reason::NO_ERROR);
    let sentence = match reason {
        Some(reason) => format!("the node reset the HTTP/2 stream: {reason}"),
        None => CLOSED.to_owned(),
    };
    let explained = Error::new(Code::UpstreamReset, sentence).because(error);
    if refused || went_away { explained.unsent() } else { explained }
}
