//! TLS in front and behind, each with its own certificate.

use std::path::PathBuf;
use std::sync::Arc;

use gwproxy_core::net::Socket;
use gwproxy_core::tls::{CertificatePair, ClientSettings, ClientTls, ServerSettings, ServerTls};
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::support::*;
use crate::deadline::Settings;

const H2: &[u8] = b"h2";

/// A certificate for 127.0.0.1 that vouches for itself.
struct Certificate {
    dir: TempDir,
}

impl Certificate {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key"), made.signing_key.serialize_pem()).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self) -> Arc<ServerTls> {
        let pair = CertificatePair { cert: self.path("cert"), key: self.path("key") };
        let settings = ServerSettings { certificates: vec![pair], ..ServerSettings::default() };
        Arc::new(ServerTls::new(settings, &[H2]).unwrap())
    }

    fn client(&self) -> Arc<ClientTls> {
        let settings = ClientSettings { ca: Some(self.path("cert")), ..ClientSettings::default() };
        Arc::new(ClientTls::new(&settings, "127.0.0.1", &[H2]).unwrap())
    }
}

#[tokio::test]
async fn a_call_over_tls_on_both_sides() {
    let (front, behind) = (Certificate::new(), Certificate::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = behind.server();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let (stream, info) = server.accept(Socket::Tcp(tcp)).await.unwrap();
        assert_eq!(info.alpn.as_deref(), Some(H2));
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().scheme_str(), Some("https"));
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            stream.send_data(message(b"sealed").into(), false).unwrap();
            stream.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
        }
    });
    let node = Endpoint::new("n0", "grpcs", addr, Some(behind.client()), 1);
    let cluster = Cluster::new(ClusterSettings::new("service"), vec![node]);
    let proxy = Proxy::over(Some(front.server()), cluster, Settings::default());
    let tcp = TcpStream::connect(proxy.addr).await.unwrap();
    let stream = front.client().connect(Socket::Tcp(tcp)).await.unwrap();
    let mut client = handshake(stream).await;
    let (response, _) = client.send_request(call("/s/M"), true).unwrap();
    let answer = Answer::read(response.await.unwrap()).await;
    assert_eq!(answer.status(), ("0", ""));
    assert_eq!(answer.body, message(b"sealed"));
}

#[tokio::test]
async fn a_node_that_nobody_vouches_for_is_unavailable() {
    let (trusted, other) = (Certificate::new(), Certificate::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string().parse().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        other.server().accept(Socket::Tcp(tcp)).await.unwrap_err();
    });
    let node = Endpoint::new("n0", "grpcs", addr, Some(trusted.client()), 1);
    let cluster = Cluster::new(ClusterSettings::new("service"), vec![node]);
    let proxy = Proxy::start(cluster, Settings::default());
    let answer = proxy.unary(call("/s/M"), &message(b"?")).await;
    answer.is_trailers_only("14");
    assert!(answer.status().1.starts_with("upstream_tls"), "{answer:?}");
}
