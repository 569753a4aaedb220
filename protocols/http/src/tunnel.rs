//! What follows a 101 or a CONNECT 2xx: the connection is no longer HTTP.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gwproxy_core::net::Stream;
use gwproxy_core::net::relay::{BUFFER_BYTES, Carried, End, Leg, Relayed, relay_counted};
use gwproxy_core::worker::{LocalFuture, Worker};
use gwproxy_core::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Guard;
use crate::{RequestParts, ResponseParts, h2};

/// One end of a connection that left HTTP, with the bytes that were read too far.
#[derive(Debug)]
pub struct Upgraded {
    /// The bytes to come.
    pub io: UpgradedIo,
    /// Bytes already read from it; they come before those of `io`.
    pub early: Bytes,
}

impl Upgraded {
    /// Bytes that may be held, each way, for this client. A connection of HTTP/2 may have a hundred
    /// tunnels that nobody reads from.
    pub fn ahead(&self) -> usize {
        match self.io {
            UpgradedIo::Stream(_) => BUFFER_BYTES,
            UpgradedIo::H2(_) => h2::TUNNEL_BYTES,
        }
    }
}

/// The byte stream below an upgraded connection.
#[derive(Debug)]
pub enum UpgradedIo {
    /// HTTP/1.1: the whole connection.
    Stream(Box<Stream>),
    /// HTTP/2: one stream of a connection (RFC 9113 §8.5).
    H2(Box<h2::StreamIo>),
}

/// The body of a response that ends HTTP on this connection: what to do with the client's end.
pub struct Tunnel(Carry);

/// Carries a client's end and keeps account of it.
type Carry = Box<dyn FnOnce(Upgraded, Rc<Traffic>) -> LocalFuture<()>>;

/// What went through a tunnel until now. Who carries it writes this and who records it reads it,
/// so that the record of a tunnel that was cut off tells what really flowed.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes each way, as they were handed on.
    pub carried: Carried,
    /// WebSocket: the code of the client's Close frame; 1005 when it had none (RFC 6455 §7.1.5);
    /// none without Close frame.
    pub client_close: Cell<Option<u16>>,
    /// The code of the node's Close frame, likewise.
    pub upstream_close: Cell<Option<u16>>,
    /// What ended it: a stable name, and why that was no orderly end. None while it lives.
    pub ending: Cell<Option<(&'static str, Option<Code>)>>,
}

impl Traffic {
    /// What a relay of bytes ended by.
    pub(crate) fn note_end(&self, end: &End) {
        self.ending.set(Some((end.as_str(), end.code())));
    }
}

/// How upgraded connections of a listener are checked and carried. The default is
/// [`RawTunnel`]; the WebSocket room brings one that knows frames.
pub trait Upgrade: 'static {
    /// Judges an upgrade request before a node sees it.
    ///
    /// # Errors
    /// The response for the client.
    fn check_request(&self, parts: &RequestParts) -> Result<(), Box<crate::Response>>;

    /// Judges the node's 101 before the client sees it.
    ///
    /// # Errors
    /// Why the node's answer must not go on.
    fn check_response(
        &self,
        request: &RequestParts,
        response: &ResponseParts,
    ) -> Result<Agreed, Error>;

    /// Carries both ends until they are done, and keeps `traffic` up to date meanwhile.
    fn carry(
        self: Rc<Self>,
        client: Upgraded,
        upstream: Upgraded,
        agreed: Agreed,
        worker: Rc<Worker>,
        traffic: Rc<Traffic>,
    ) -> LocalFuture<()>;
}

/// What both ends agreed on, as far as carrying them depends on it. It outlives the heads, which
/// a tunnel should not keep for hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreed {
    /// `Sec-WebSocket-Extensions` names any (RFC 6455 §9.1).
    pub extensions: bool,
}

/// Carries bytes and looks at none of them.
#[derive(Debug, Clone, Copy)]
pub struct RawTunnel {
    /// The tunnel ends after this long without a byte either way. Default 300 s.
    pub idle: Duration,
}

impl Tunnel {
    /// A tunnel that `run` carries.
    pub fn new(run: impl FnOnce(Upgraded, Rc<Traffic>) -> LocalFuture<()> + 'static) -> Self {
        Self(Box::new(run))
    }

    /// Hands the client's end over; `guard` hears when it is done with, or dropped before.
    pub(crate) async fn run(self, client: Upgraded, guard: Guard) {
        (self.0)(client, guard.traffic()).await;
        guard.done();
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl Default for RawTunnel {
    fn default() -> Self {
        Self { idle: Duration::from_mins(5) }
    }
}

impl Upgrade for RawTunnel {
    fn check_request(&self, _parts: &RequestParts) -> Result<(), Box<crate::Response>> {
        Ok(())
    }

    fn check_response(
        &self,
        _request: &RequestParts,
        _response: &ResponseParts,
    ) -> Result<Agreed, Error> {
        Ok(Agreed::default())
    }

    fn carry(
        self: Rc<Self>,
        client: Upgraded,
        upstream: Upgraded,
        _agreed: Agreed,
        worker: Rc<Worker>,
        traffic: Rc<Traffic>,
    ) -> LocalFuture<()> {
        Box::pin(async move {
            carry_raw(client, upstream, self.idle, &worker, &traffic).await;
        })
    }
}

/// Relays both ends byte by byte and keeps `traffic` up to date as it goes.
pub async fn carry_raw(
    client: Upgraded,
    upstream: Upgraded,
    idle: Duration,
    worker: &Rc<Worker>,
    traffic: &Traffic,
) -> Relayed {
    let ahead = client.ahead();
    let mut client_io = client.io;
    let mut upstream_io = Prefixed { early: upstream.early, io: upstream.io };
    let (early, timer) = (client.early, worker.timer());
    let carried = &traffic.carried;
    let relayed =
        relay_counted(&mut client_io, &mut upstream_io, early, ahead, idle, timer, carried).await;
    traffic.note_end(&relayed.end);
    relayed.pass_on(&mut client_io, &mut upstream_io.io).await;
    relayed
}

impl Leg for UpgradedIo {
    /// A stream of HTTP/2 that has not ended is reset when it is dropped (RFC 9113 §8.5).
    fn reset(&self) {
        if let Self::Stream(stream) = self {
            stream.abort_on_close();
        }
    }

    async fn end_now(&mut self) {
        match self {
            Self::Stream(stream) => stream.end_now().await,
            Self::H2(stream) => {
                // The end of a stream is queued, whatever the peer reads.
                poll_fn(|cx| {
                    let _ = Pin::new(&mut **stream).poll_shutdown(cx);
                    Poll::Ready(())
                })
                .await;
            }
        }
    }
}

/// A stream with bytes in front.
struct Prefixed {
    early: Bytes,
    io: UpgradedIo,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let size = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for UpgradedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Self::H2(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpgradedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Self::H2(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::H2(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::H2(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
