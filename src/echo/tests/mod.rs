//! Real clients on real loopback sockets, port 0.

mod grpc;
mod http;
mod tcp;
mod ws;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// A running echo server.
struct Server {
    addr: SocketAddr,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    fn start(kind: Kind) -> Self {
        Self::with(kind, None)
    }

    fn start_tls(kind: Kind) -> Self {
        let (certificate, key) = certificate();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = kind.alpn().iter().map(|alpn| alpn.to_vec()).collect();
        Self::with(kind, Some(Arc::new(config)))
    }

    fn with(kind: Kind, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (shutdown, receiver) = watch::channel(false);
        let task = tokio::spawn(serve(kind, listener, tls, "node-1".to_owned(), receiver));
        Self { addr, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn connect_tls(&self, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate().0).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
        let name = ServerName::try_from("echo.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.connect().await).await.unwrap()
    }

    /// One HTTP/1.1 exchange on its own connection.
    async fn http1(&self, request: Request<Full<Bytes>>) -> (Response<()>, Bytes) {
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        whole(sender.send_request(request).await.unwrap()).await
    }

    async fn http2(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Drains the server; fails if it does not end by itself.
    async fn stop(self) {
        self.shutdown.send_replace(true);
        self.task.await.unwrap().unwrap();
    }
}

/// One self-signed certificate for all tests of a run.
fn certificate() -> (rustls_pki_types::CertificateDer<'static>, PrivateKeyDer<'static>) {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (certificate, key) = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["echo.test".to_owned()]).unwrap();
        (made.cert.der().to_vec(), made.signing_key.serialize_der())
    });
    (certificate.clone().into(), PrivateKeyDer::Pkcs8(key.clone().into()))
}

async fn whole(response: Response<Incoming>) -> (Response<()>, Bytes) {
    let (parts, body) = response.into_parts();
    (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes())
}

fn request(method: &str, uri: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "echo.test")
        .body(Full::new(body.into()))
        .unwrap()
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    request("GET", uri, "")
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn kinds_are_read_as_written() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert!(!help(kind).is_empty());
        assert!(help(kind).lines().all(|line| line.len() <= 100));
    }
    let error = "udp".parse::<Kind>().unwrap_err().to_string();
    assert!(error.contains("`udp`"), "{error}");
}

#[test]
fn descriptions_name_an_address_that_can_be_dialled() {
    let any: SocketAddr = "0.0.0.0:9000".parse().unwrap();
    let any6: SocketAddr = "[::]:9000".parse().unwrap();
    let given: SocketAddr = "192.0.2.7:9000".parse().unwrap();
    for kind in Kind::ALL {
        for tls in [false, true] {
            let line = describe(kind, any, tls);
            assert!(line.contains("127.0.0.1:9000") || line.contains("127.0.0.1 9000"), "{line}");
            assert!(describe(kind, any6, tls).contains("::1"));
            assert!(describe(kind, given, tls).contains("192.0.2.7"));
            assert!(line.contains("   try: ") && !line.contains('\n'), "{line}");
        }
    }
}
