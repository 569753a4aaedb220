//! `gwproxy echo`: a test upstream that reports what it received, for users and for our tests.
//!
//! Built on hyper, tungstenite and tonic and **independent of the proxy's own HTTP code on
//! purpose**: it is the counterpart that shows what the proxy really sent. It runs on the control
//! runtime as ordinary tokio tasks; several can live in one process.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

mod body;
mod connection;
mod grpc;
mod http;
mod query;
mod report;
mod server;
mod tap;
mod tcp;
#[cfg(test)]
mod tests;
mod ws;

pub use grpc::proto;

/// What an echo server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// gRPC over HTTP/2: the service `gwproxy.echo.v1.Echo`, health and reflection.
    Grpc,
    /// HTTP/1.1 and HTTP/2: a JSON report of each request; WebSocket upgrades are echoed.
    Http,
    /// Bytes come back as they are.
    Tcp,
    /// WebSocket: messages come back as they are.
    Ws,
}

impl Kind {
    /// Every kind, in alphabetical order.
    pub const ALL: [Self; 4] = [Self::Grpc, Self::Http, Self::Tcp, Self::Ws];

    /// The name, as on the command line and in `echo:NAME` node addresses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Ws => "ws",
        }
    }

    /// The protocols to offer by ALPN when this server terminates TLS, the preferred first.
    pub const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Grpc => &[b"h2"],
            Self::Http => &[b"h2", b"http/1.1"],
            Self::Tcp => &[],
            Self::Ws => &[b"http/1.1", b"h2"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind of echo server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no kind of echo server; there are http, ws, tcp and grpc", self.0)
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// Serves `kind` on a bound listener until `shutdown` holds `true` or its sender is gone; then
/// stops accepting, asks open connections to end (GOAWAY, `Connection: close`, Close 1001), and
/// returns when the last one has. A stream without end holds it up, so bound the wait; dropping
/// the future closes every connection at once.
///
/// `name` is what the answers call this node. At most 10,000 connections at a time; more wait in
/// the kernel's queue. Must run within a tokio runtime with I/O and time.
///
/// # Errors
/// When the listener cannot be registered with the runtime. Later failures of single connections
/// or of `accept` do not end it.
pub async fn serve(
    kind: Kind,
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    name: String,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let app = server::App::new(kind, name).await?;
    server::run(listener, tls, app, shutdown).await;
    Ok(())
}

/// One line that says what listens at `addr` and how to try it.
pub fn describe(kind: Kind, addr: SocketAddr, tls: bool) -> String {
    let (host, port) = (host_to_dial(addr), addr.port());
    match (kind, tls) {
        (Kind::Http, false) => {
            format!("echo http on http://{host}:{port}   try: curl http://{host}:{port}/hello")
        }
        (Kind::Http, true) => {
            format!("echo http on https://{host}:{port}   try: curl -k https://{host}:{port}/hello")
        }
        (Kind::Ws, false) => format!(
            "echo ws on ws://{host}:{port}   try: python3 -m websockets ws://{host}:{port}/"
        ),
        (Kind::Ws, true) => {
            format!("echo ws on wss://{host}:{port}   try: websocat -k wss://{host}:{port}/")
        }
        (Kind::Tcp, false) => {
            let host = host.trim_matches(['[', ']']);
            format!("echo tcp on {addr}   try: echo hello | nc -q1 {host} {port}")
        }
        (Kind::Tcp, true) => {
            format!(
                "echo tcp (TLS) on {addr}   try: openssl s_client -quiet -connect {host}:{port}"
            )
        }
        (Kind::Grpc, tls) => {
            let flag = if tls { "-insecure" } else { "-plaintext" };
            let mode = if tls { " (TLS)" } else { "" };
            format!(
                "echo grpc{mode} on {addr}   try: grpcurl {flag} -d '{{\"message\":\"hello\"}}' \
                 {host}:{port} gwproxy.echo.v1.Echo/Unary"
            )
        }
    }
}

/// What `--help` says below the options: every control of the answers.
pub const fn help(kind: Kind) -> &'static str {
    match kind {
        Kind::Grpc => grpc::HELP,
        Kind::Http => http::HELP,
        Kind::Tcp => tcp::HELP,
        Kind::Ws => ws::HELP,
    }
}

/// An unspecified address cannot be dialled everywhere: name the loopback instead.
fn host_to_dial(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}
