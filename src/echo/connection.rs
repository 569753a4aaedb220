//! What the echo server knows and can do about one connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use gwproxy_core::net;
use gwproxy_core::net::accept::read_header;
use gwproxy_core::net::proxy_protocol::{Header, Origin};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::report::hex;
use super::tap::{Fields, Tap};

/// Connections of this process are numbered from 1, over all echo servers in it.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Work that outlives the request that began it: a WebSocket.
pub(super) type Upgraded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One connection, as its requests see it.
pub(super) struct Connection {
    /// Unique in the process, from 1.
    pub(super) id: u64,
    /// The other end.
    pub(super) peer: SocketAddr,
    /// This end.
    pub(super) local: SocketAddr,
    /// What a PROXY header said.
    pub(super) proxied: Option<ProxyReport>,
    /// What the TLS handshake said.
    pub(super) tls: Option<TlsReport>,
    requests: AtomicU64,
    reset: AtomicBool,
    close: Notify,
    tap: Option<Mutex<Tap>>,
    upgrades: mpsc::Sender<Upgraded>,
    shutdown: watch::Receiver<bool>,
}

/// What a TLS handshake said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TlsReport {
    sni: Option<String>,
    alpn: Option<String>,
    version: Option<String>,
    cipher: Option<String>,
    client_certificate_sha256: Option<String>,
}

/// What a PROXY header said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ProxyReport {
    /// `v1` or `v2`.
    version: &'static str,
    /// None if the sender spoke for itself, or for nobody with an address.
    source: Option<String>,
    destination: Option<String>,
}

/// The socket, with or without TLS.
enum Socket {
    Plain(net::Socket),
    Tls(Box<TlsStream<net::Socket>>),
}

/// The bytes of a connection.
pub(super) struct Io {
    socket: Socket,
    connection: Arc<Connection>,
}

/// A socket with its addresses, and TLS if it has any, before anything was read.
pub(super) struct Accepted {
    socket: Socket,
    peer: SocketAddr,
    local: SocketAddr,
    proxied: Option<ProxyReport>,
}

impl Accepted {
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        let (peer, local) = (tcp.peer_addr()?, tcp.local_addr()?);
        let socket = Socket::Plain(net::Socket::Tcp(tcp));
        Ok(Self { socket, peer, local, proxied: None })
    }

    /// Without the PROXY header it begins with, if it does. Anyone's is believed: this server
    /// reports what came.
    pub(super) async fn introduced(self) -> io::Result<Self> {
        let Socket::Plain(socket) = self.socket else { return Ok(self) };
        let (socket, header) = read_header(socket).await?;
        let proxied = header.map(|header| ProxyReport::of(&header));
        Ok(Self { socket: Socket::Plain(socket), proxied, ..self })
    }

    pub(super) async fn secured(self, tls: &TlsAcceptor) -> io::Result<Self> {
        let Socket::Plain(socket) = self.socket else { return Ok(self) };
        Ok(Self { socket: Socket::Tls(Box::new(tls.accept(socket).await?)), ..self })
    }

    /// The connection and its bytes. `upgrades` takes what outlives its request; `tap` keeps
    /// request heads as they come.
    pub(super) fn open(
        self,
        upgrades: mpsc::Sender<Upgraded>,
        shutdown: watch::Receiver<bool>,
        tap: bool,
    ) -> (Io, Arc<Connection>) {
        let tls = match &self.socket {
            Socket::Plain(_) => None,
            Socket::Tls(tls) => Some(TlsReport::of(tls.get_ref().1)),
        };
        let connection = Arc::new(Connection {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer: self.peer,
            local: self.local,
            proxied: self.proxied,
            tls,
            requests: AtomicU64::new(0),
            reset: AtomicBool::new(false),
            close: Notify::new(),
            tap: tap.then(Mutex::default),
            upgrades,
            shutdown,
        });
        (Io { socket: self.socket, connection: Arc::clone(&connection) }, connection)
    }
}

impl Connection {
    /// Counts a request; its number on this connection, from 1.
    pub(super) fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Requests counted so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The head of the next HTTP/1 request as it was on the wire. Ask once for each request.
    pub(super) fn next_head(&self) -> Option<Fields> {
        // A panic elsewhere leaves the tap as it was: it is only read along.
        self.tap.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).next_head()
    }

    /// What follows on this connection is no HTTP.
    pub(super) fn stop_tap(&self) {
        if let Some(tap) = &self.tap {
            tap.lock().unwrap_or_else(PoisonError::into_inner).stop();
        }
    }

    /// When the socket is dropped, the client gets a reset instead of an orderly end.
    pub(super) fn reset_on_drop(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Takes no further request on this connection.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Ready when [`Connection::close`] was called.
    pub(super) async fn closing(&self) {
        self.close.notified().await;
    }

    /// Ready when the server drains.
    pub(super) async fn draining(&self) {
        // An error means that the sender is gone, which is a shutdown too.
        let _ = self.shutdown.clone().wait_for(|&shutdown| shutdown).await;
    }

    /// Runs work that outlives its request, for as long as the connection may; false if there is
    /// already too much of it.
    pub(super) fn spawn(&self, work: Upgraded) -> bool {
        self.upgrades.try_send(work).is_ok()
    }
}

impl ProxyReport {
    fn of(header: &Header) -> Self {
        let version = header.version.as_str();
        let (source, destination) = match header.origin {
            Origin::Proxied { source, destination } => (Some(source), Some(destination)),
            Origin::Local | Origin::Unknown => (None, None),
        };
        let [source, destination] = [source, destination].map(|addr| addr.map(|a| a.to_string()));
        Self { version, source, destination }
    }
}

impl TlsReport {
    fn of(tls: &rustls::ServerConnection) -> Self {
        let version = tls.protocol_version().map(|version| match version {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
            other => format!("{other:?}"),
        });
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        Self {
            sni: tls.server_name().map(str::to_owned),
            alpn: tls.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
            version,
            cipher: tls
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str().map(str::to_owned)),
            client_certificate_sha256: certificate.map(|der| {
                hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref())
            }),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Relaxed) {
            let socket = match &self.socket {
                Socket::Plain(socket) => socket,
                Socket::Tls(tls) => tls.get_ref().0,
            };
            socket.abort_on_close();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        if let (Some(tap), Some(new)) = (&self.connection.tap, buf.filled().get(before..)) {
            tap.lock().unwrap_or_else(PoisonError::into_inner).feed(new);
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Socket::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Socket::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(tcp) => tcp.is_write_vectored(),
            Socket::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
