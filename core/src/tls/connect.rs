//! TLS towards nodes.

use std::io;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::net::{Socket, Stream};

/// How to speak TLS to a node: trust, name, offered protocols. Shared by all workers.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// Wraps a finished configuration; `name` is sent as SNI and must be in the certificate.
    pub fn from_config(config: Arc<rustls::ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name }
    }

    /// Performs the client's side of the handshake.
    ///
    /// # Errors
    /// What rustls or the socket said.
    pub async fn connect(&self, socket: Socket) -> io::Result<Stream> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let tls = connector.connect(self.name.clone(), socket).await?;
        Ok(Stream::TlsClient(Box::new(tls)))
    }
}
