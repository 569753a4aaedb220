//! Accepts connections and drives each to its end, whatever is spoken on it.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Kind;
use super::body::{Body, Cause};
use super::connection::{Accepted, Connection, Io, Upgraded};
use super::grpc::Grpc;
use super::http::Http;
use super::{tap, tcp};

/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;

/// A pause after `accept` failed for want of descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may wait for a request head: the first or, on HTTP/1, the next. nginx's
/// `keepalive_timeout` has the same default.
const IDLE: Duration = Duration::from_secs(75);

/// HTTP/2 streams at a time on a connection. Explicit, because libraries leave it unlimited.
const MAX_STREAMS: u32 = 200;

/// Bytes of a request head, and of what hyper buffers for a connection. More than the proxy's own
/// bound, so that the proxy and not this server decides.
const MAX_HEAD: u32 = 64 * 1024;

/// Receive windows of an HTTP/2 stream and connection; what a slow reader can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What an echo server does with connections.
#[derive(Clone)]
pub(super) enum App {
    /// Bytes come back.
    Bytes,
    /// Requests are answered.
    Requests(Arc<Answers>),
}

/// What answers requests.
pub(super) enum Answers {
    Grpc(Grpc),
    Http(Http),
}

impl App {
    pub(super) async fn new(kind: Kind, node: String) -> io::Result<Self> {
        Ok(match kind {
            Kind::Grpc => Self::Requests(Arc::new(Answers::Grpc(Grpc::new(node).await?))),
            Kind::Http => Self::Requests(Arc::new(Answers::Http(Http::new(node)))),
            Kind::Tcp => Self::Bytes,
            Kind::Ws => Self::Requests(Arc::new(Answers::Http(Http::websocket_only(node)))),
        })
    }

    async fn drain(&self) {
        if let Self::Requests(answers) = self
            && let Answers::Grpc(grpc) = &**answers
        {
            grpc.drain().await;
        }
    }
}

impl Answers {
    async fn answer(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        match self {
            Self::Grpc(grpc) => grpc.answer(connection, request).await,
            Self::Http(http) => http.answer(connection, request).await,
        }
    }
}

/// Serves until `shutdown`, then until the last connection has ended.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: App,
    mut shutdown: watch::Receiver<bool>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let state = shutdown.clone();
    let mut ordered = pin!(async move {
        // An error means that the sender is gone, which is a shutdown too.
        let _ = shutdown.wait_for(|&shutdown| shutdown).await;
    });
    loop {
        tokio::select! {
            () = &mut ordered => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = accept(&listener, &slots) => match accepted {
                Ok((tcp, slot)) => {
                    let (app, tls, state) = (app.clone(), tls.clone(), state.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        if let Err(error) = connection(tcp, tls, app, state).await {
                            tracing::debug!(%error, "an echo connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "echo: accept failed; trying again in 50 ms");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    app.drain().await;
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// A panic in one connection is a bug to hear of, but nobody else's problem.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(task = %error.id(), "an echo connection was torn down");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return Ok((tcp, slot)),
            // The client went away before it was accepted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn connection(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    app: App,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Cause> {
    tcp.set_nodelay(true)?;
    let mut accepted = Accepted::new(tcp)?;
    // Where every byte comes back, a PROXY header does too.
    if tls.is_some() || matches!(app, App::Requests(_)) {
        let mut ended = shutdown.clone();
        accepted = tokio::select! {
            introduced = tokio::time::timeout(IDLE, accepted.introduced()) => introduced??,
            _ = ended.wait_for(|&shutdown| shutdown) => return Ok(()),
        };
    }
    if let Some(tls) = tls {
        accepted = tokio::time::timeout(HANDSHAKE, accepted.secured(&tls)).await??;
    }
    let (upgrades, queue) = mpsc::channel(MAX_STREAMS as usize);
    // HTTP/2 is all that gRPC is answered on, and there the tap is of no use.
    let tap = matches!(&app, App::Requests(answers) if matches!(**answers, Answers::Http(_)));
    let (io, connection) = accepted.open(upgrades, shutdown, tap);
    match app {
        App::Bytes => Ok(tcp::echo(io, connection).await?),
        App::Requests(answers) => requests(io, connection, queue, answers).await,
    }
}

/// Serves requests, and what they were upgraded to, until both are over.
async fn requests(
    io: Io,
    connection: Arc<Connection>,
    mut queue: mpsc::Receiver<Upgraded>,
    answers: Arc<Answers>,
) -> Result<(), Cause> {
    let service = service_fn(|request| {
        let (answers, connection) = (Arc::clone(&answers), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(answers.answer(&connection, request).await) }
    });
    let builder = builder();
    let mut http = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut upgraded = JoinSet::new();
    let mut first = pin!(tokio::time::sleep(IDLE));
    let (mut ending, mut begun) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = http.as_mut() => break ended,
            Some(work) = queue.recv() => {
                upgraded.spawn(work);
            }
            Some(ended) = upgraded.join_next() => report(ended),
            () = connection.draining(), if !ending => {
                ending = true;
                http.as_mut().graceful_shutdown();
            }
            () = connection.closing(), if !ending => {
                ending = true;
                http.as_mut().graceful_shutdown();
            }
            // hyper's own timer starts only when it knows the version.
            () = first.as_mut(), if !begun => {
                begun = true;
                if connection.requests() == 0 {
                    break Err("no request came".into());
                }
            }
        }
    };
    queue.close();
    while let Some(work) = queue.recv().await {
        upgraded.spawn(work);
    }
    while let Some(ended) = upgraded.join_next().await {
        report(ended);
    }
    ended
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(tap::MAX_FIELDS)
        .max_buf_size(MAX_HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .enable_connect_protocol();
    builder
}
