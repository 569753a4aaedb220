//! One byte-stream type for every leg: plain or TLS, TCP or Unix.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use super::PeerAddr;
use super::descriptors::is_half_used;
use super::pace::{Pace, Paced};
use super::unsent::unsent;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// One of the others, of which more was read than was asked for.
    Early(Box<Early>),
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain socket.
    Unix(UnixStream),
}

/// A socket, and bytes that were read from it and come before what it still holds.
#[derive(Debug)]
pub struct Early {
    bytes: Bytes,
    socket: Socket,
}

/// A connection with or without TLS, either role.
#[derive(Debug)]
pub enum Stream {
    /// No TLS.
    Plain(Socket),
    /// One of the others, whose bytes are limited.
    Paced(Box<Paced>),
    /// We are the TLS server: a client connected to us.
    TlsServer(Box<server::TlsStream<Socket>>),
    /// We are the TLS client: we connected to a node.
    TlsClient(Box<client::TlsStream<Socket>>),
}

impl Socket {
    /// Whether it is one of many: see [`is_half_used`].
    pub(crate) fn is_half_used(&self) -> bool {
        match self {
            Self::Early(_) => false,
            Self::Tcp(tcp) => is_half_used(tcp),
            Self::Unix(unix) => is_half_used(unix),
        }
    }

    /// The same socket, on which `bytes` are read first.
    #[must_use]
    pub fn with_early(self, bytes: Bytes) -> Self {
        if bytes.is_empty() { self } else { Self::Early(Box::new(Early { bytes, socket: self })) }
    }

    /// The other end.
    pub fn remote(&self) -> PeerAddr {
        match self {
            Self::Early(early) => early.socket.remote(),
            Self::Tcp(tcp) => tcp.peer_addr().map_or(PeerAddr::Unix, PeerAddr::from_socket),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }

    /// Our end.
    pub fn local(&self) -> PeerAddr {
        match self {
            Self::Early(early) => early.socket.local(),
            Self::Tcp(tcp) => tcp.local_addr().map_or(PeerAddr::Unix, PeerAddr::from_socket),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }

    /// Makes a close send RST instead of FIN. Best effort: a Unix socket has no reset.
    pub fn abort_on_close(&self) {
        if let Some(tcp) = self.tcp() {
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Early(early) => early.socket.tcp(),
            Self::Tcp(tcp) => Some(tcp),
            Self::Unix(_) => None,
        }
    }
}

impl Stream {
    /// The same stream, whose bytes are limited.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self::Paced(Box::new(Paced::new(self, pace)))
    }

    /// The socket below TLS.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Paced(paced) => paced.stream.socket(),
            Self::TlsServer(tls) => tls.get_ref().0,
            Self::TlsClient(tls) => tls.get_ref().0,
        }
    }

    /// The protocol both sides agreed on by ALPN (RFC 7301); none without TLS or agreement.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Paced(paced) => paced.stream.alpn(),
            Self::TlsServer(tls) => tls.get_ref().1.alpn_protocol(),
            Self::TlsClient(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// The TCP socket, if nothing lies between it and who reads and writes this: no TLS, no bytes
    /// read before.
    pub fn bare_tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(Socket::Tcp(tcp)) => Some(tcp),
            _ => None,
        }
    }

    /// Bytes that the kernel took and the peer has not acknowledged ([`unsent`]); 0 where nobody
    /// knows.
    pub fn unsent(&self) -> u64 {
        self.socket().tcp().and_then(unsent).unwrap_or(0)
    }

    /// Ready when a read may bring something. Only for whom a buffer to read into costs something:
    /// a read that finds nothing after all is still pending.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(Socket::Tcp(tcp)) => tcp.poll_read_ready(cx),
            Self::Plain(Socket::Unix(unix)) => unix.poll_read_ready(cx),
            // What was read and not yet asked for is in no socket.
            // A stream at a pace is not to be read because there is something.
            Self::Plain(Socket::Early(_))
            | Self::Paced(_)
            | Self::TlsServer(_)
            | Self::TlsClient(_) => Poll::Ready(Ok(())),
        }
    }

    /// Asks a peer that was silent for `after` whether it is still there (`SO_KEEPALIVE`), and
    /// fails the connection when it does not answer. Best effort; a Unix peer cannot vanish.
    pub fn keep_alive(&self, after: std::time::Duration) {
        if let Some(tcp) = self.socket().tcp() {
            let keep_alive = socket2::TcpKeepalive::new().with_time(after);
            let _ = socket2::SockRef::from(tcp).set_tcp_keepalive(&keep_alive);
        }
    }

    /// Ends our direction in order, with TLS's goodbye, as far as that needs no waiting.
    pub async fn end_now(&mut self) {
        poll_fn(|cx| {
            let _ = Pin::new(&mut *self).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Makes a close send RST instead of FIN, so that the peer cannot take a cut-off transfer for
    /// a complete one. Best effort: a Unix socket has no reset.
    pub fn abort_on_close(&self) {
        self.socket().abort_on_close();
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(tcp))
    }
}

macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($inner) => $call,
            Self::Paced(paced) => {
                let $inner = paced.stream_mut();
                $call
            }
            Self::TlsServer($inner) => {
                let $inner = &mut **$inner;
                $call
            }
            Self::TlsClient($inner) => {
                let $inner = &mut **$inner;
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Paced(paced) => paced.poll_read(cx, buf),
            Self::TlsServer(tls) => {
                let owed = tls.get_ref().1.wants_write();
                let read = Pin::new(&mut **tls).poll_read(cx, buf);
                // What TLS answers on its own (alerts) would wait for our next byte. Where something
                // waited before, somebody waits for the socket, and is the one to be woken.
                if !owed && tls.get_ref().1.wants_write() {
                    let _ = Pin::new(&mut **tls).poll_flush(cx);
                }
                read
            }
            Self::TlsClient(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Self::Paced(paced) = self.as_mut().get_mut() {
            return paced.poll_write(cx, buf);
        }
        each!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Self::Paced(paced) = self.as_mut().get_mut() {
            // The first that is not empty: one write is short anyway.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return paced.poll_write(cx, first.map_or(&[][..], |buf| buf));
        }
        each!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Early(early) if early.bytes.has_remaining() => {
                let count = early.bytes.len().min(buf.remaining());
                buf.put_slice(&early.bytes.split_to(count));
                Poll::Ready(Ok(()))
            }
            Self::Early(early) => Pin::new(&mut early.socket).poll_read(cx, buf),
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Early(early) => Pin::new(&mut early.socket).poll_write(cx, buf),
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Early(early) => Pin::new(&mut early.socket).poll_write_vectored(cx, bufs),
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a socket buffers nothing in user space
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Early(early) => Pin::new(&mut early.socket).poll_shutdown(cx),
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
