//! The server's side of an HTTP/2 connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use gwproxy_core::Code;
use gwproxy_core::net::Stream;
use gwproxy_core::worker::Worker;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    CONNECTION_WINDOW_BYTES, Clock, FIELD_SECTION_BYTES, Local, PING_INTERVAL, PING_TIMEOUT,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::body::Body;
use crate::h1::head::{Reject, is_authority};
use crate::serve::{Client, Handle, Settings};
use crate::tunnel::{Upgraded, UpgradedIo};
use crate::{Request, Response, date};

/// Requests at a time on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
const STREAMS_MAX: u32 = 100;
/// Streams the peer reset that were not looked at yet (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams we reset for the peer's errors (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 200;

/// Serves one connection to its end. `early` are bytes already read from it.
pub(crate) async fn serve<H: Handle>(
    stream: Stream,
    early: Bytes,
    client: Rc<Client>,
    handler: Rc<H>,
    worker: Rc<Worker>,
    settings: Rc<Settings>,
) {
    let who = client.peer.remote;
    let tunnel_worker = Rc::clone(&worker);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (handler, client) = (Rc::clone(&handler), Rc::clone(&client));
        let (worker, settings) = (Rc::clone(&tunnel_worker), Rc::clone(&settings));
        // Boxed, because hyper moves a stream's future several times.
        Box::pin(async move {
            Ok::<_, Infallible>(answer(request, handler, client, &worker, &settings).await)
        })
    });
    let mut builder = hyper::server::conn::http2::Builder::new(Local);
    builder
        .timer(Clock)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(FIELD_SECTION_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        // Dates are ours to add where the node sent none.
        .auto_date_header(false);
    let io = TokioIo::new(Rewound { early, stream });
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut draining = std::pin::pin!(worker.draining());
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        if !is_draining && draining.as_mut().poll(cx).is_ready() {
            is_draining = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(client = %who, %error, "HTTP/2 connection ended");
    }
}

async fn answer<H: Handle>(
    mut request: http::Request<hyper::body::Incoming>,
    handler: Rc<H>,
    client: Rc<Client>,
    worker: &Worker,
    settings: &Settings,
) -> Response {
    if let Err(reject) = check(&request, settings) {
        return dated(handler.reject(&reject, &client));
    }
    let upgrade = (*request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let is_head = *request.method() == Method::HEAD;
    let (mut parts, body) = request.into_parts();
    // One way to name the host for everything behind: the field, as HTTP/1.1 has it.
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    join_cookies(&mut parts.headers);
    let body = Body::h2(body, Code::ClientClosed);
    let held = client.held();
    // Boxed, because hyper moves a stream's future several times before it runs.
    let handling = Box::pin(handler.handle(Request::from_parts(parts, body), client));
    let mut response = handling.await;
    if let Some((tunnel, guard)) = response.body_mut().take_tunnel() {
        match upgrade {
            Some(upgrade) => worker.spawn(async move {
                let _ends_with_it = held;
                match upgrade.await {
                    Ok(io) => {
                        let io = UpgradedIo::H2(TokioIo::new(io));
                        let carried = tunnel.run(Upgraded { io, early: Bytes::new() }).await;
                        guard.ends_after(carried);
                    }
                    Err(error) => tracing::debug!(%error, "a CONNECT stream did not open"),
                }
            }),
            // A tunnel in answer to something else than CONNECT has no meaning in HTTP/2.
            None => *response.status_mut() = StatusCode::BAD_GATEWAY,
        }
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if is_head {
        std::mem::take(response.body_mut()).leave_out();
    }
    if let Some(length) = response.body().length()
        && !is_head
        && !response.status().is_informational()
        && response.status() != StatusCode::NO_CONTENT
        && response.status() != StatusCode::NOT_MODIFIED
        && length > 0
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    dated(response)
}

/// RFC 9113 §8.2.3: crumbs become one field before they leave HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// What h2 leaves to its user (RFC 9113 §8.3, §8.5).
fn check<B>(request: &http::Request<B>, settings: &Settings) -> Result<(), Reject> {
    let bad = |reason| Reject { status: StatusCode::BAD_REQUEST, reason };
    let headers = request.headers();
    if headers.len() > settings.limits.fields {
        return Err(Reject {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            reason: "the head has too many fields",
        });
    }
    let uri = request.uri();
    if uri.path() == "*" && *request.method() != Method::OPTIONS {
        return Err(bad("the request target is not valid (RFC 9112 §3.2)"));
    }
    if uri.path_and_query().is_some_and(|path| path.as_str().len() > settings.limits.target_bytes) {
        return Err(Reject {
            status: StatusCode::URI_TOO_LONG,
            reason: "the request target is too long",
        });
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("more than one Host field"));
    }
    match (uri.authority(), host) {
        (None, None) => return Err(bad("neither :authority nor Host names a host")),
        (Some(authority), Some(host))
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            return Err(bad(":authority and Host differ (RFC 9113 §8.3.1)"));
        }
        (Some(authority), _) if !is_authority(authority.as_str().as_bytes()) => {
            return Err(bad("the :authority is not a host"));
        }
        (None, Some(host)) if !is_authority(host.as_bytes()) => {
            return Err(bad("the Host field is not a host"));
        }
        _ => {}
    }
    if headers
        .get(http::header::EXPECT)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Reject {
            status: StatusCode::EXPECTATION_FAILED,
            reason: "an expectation other than 100-continue",
        });
    }
    Ok(())
}

fn dated(mut response: Response) -> Response {
    if !response.headers().contains_key(http::header::DATE) {
        let date = date::with_now(HeaderValue::from_bytes);
        if let Ok(date) = date {
            response.headers_mut().insert(http::header::DATE, date);
        }
    }
    response
}

/// A stream whose first bytes were read already.
struct Rewound {
    early: Bytes,
    stream: Stream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let size = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.get(..size).unwrap_or_default());
        self.early.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
