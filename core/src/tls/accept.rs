//! TLS termination.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use super::TlsInfo;
use crate::net::{Socket, Stream};

/// One listener's TLS, shared by all workers so that a session begun on one resumes on another.
#[derive(Debug)]
pub struct ServerTls {
    config: ArcSwap<rustls::ServerConfig>,
}

impl ServerTls {
    /// Wraps a finished configuration.
    pub fn from_config(config: Arc<rustls::ServerConfig>) -> Self {
        Self { config: ArcSwap::new(config) }
    }

    /// Performs the server's side of the handshake.
    ///
    /// # Errors
    /// What rustls or the socket said.
    pub async fn accept(&self, socket: Socket) -> io::Result<(Stream, TlsInfo)> {
        let tls = TlsAcceptor::from(self.config.load_full()).accept(socket).await?;
        let session = tls.get_ref().1;
        let info = TlsInfo {
            sni: session.server_name().map(str::to_ascii_lowercase),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            ..TlsInfo::default()
        };
        Ok((Stream::TlsServer(Box::new(tls)), info))
    }
}
