//! A TLS client on a socket, blocking.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Message, PATIENCE};

/// A connection over TLS that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Tls {
    /// Connects and shakes hands; the server must prove to be `name`, by the authority in the
    /// file `ca`.
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr, ca: &str, name: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(ca).expect("the authority's file");
        for root in CertificateDer::pem_slice_iter(&pem) {
            roots.add(root.expect("PEM")).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut tcp = TcpStream::connect(addr).expect("connect");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).expect("a handshake");
        }
        Self { stream: StreamOwned::new(tls, tcp) }
    }

    /// The server's certificate (DER).
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let chain = self.stream.conn.peer_certificates().expect("a handshake is over");
        chain.first().expect("a certificate").to_vec()
    }

    /// Sends a request and takes its response.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str) -> Message {
        self.stream.write_all(request.as_bytes()).expect("sent");
        let mut response = Message::head(&mut self.stream).expect("a response");
        response.read_body(&mut self.stream, true).expect("a whole body");
        response
    }
}
