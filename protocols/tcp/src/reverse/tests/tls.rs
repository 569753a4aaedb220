//! TLS in front, TLS behind, and what an end without `close_notify` is.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use gwproxy_core::net::Socket;
use gwproxy_core::tls::{CertificatePair, ClientSettings, ClientTls, ServerSettings, ServerTls};
use gwproxy_core::upstream::Endpoint;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A certificate for 127.0.0.1 by an authority of its own.
struct Pki {
    _dir: TempDir,
    ca: PathBuf,
    pair: CertificatePair,
}

impl Pki {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name| dir.path().join(name);
        let mut authority = CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        for (name, pem) in
            [("ca", issuer.pem()), ("cert", leaf.pem()), ("key", key.serialize_pem())]
        {
            std::fs::write(path(name), pem).unwrap();
        }
        let pair = CertificatePair { cert: path("cert"), key: path("key") };
        Self { ca: path("ca"), pair, _dir: dir }
    }

    fn server(&self) -> Arc<ServerTls> {
        let settings =
            ServerSettings { certificates: vec![self.pair.clone()], ..ServerSettings::default() };
        Arc::new(ServerTls::new(settings, &[]).unwrap())
    }

    fn client(&self) -> Arc<ClientTls> {
        let settings = ClientSettings { ca: Some(self.ca.clone()), ..ClientSettings::default() };
        Arc::new(ClientTls::new(&settings, "127.0.0.1", &[]).unwrap())
    }

    fn node(&self, addr: SocketAddr) -> Endpoint {
        Endpoint::new("tls", "tls", addr.to_string().parse().unwrap(), Some(self.client()), 1)
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn dial(addr: SocketAddr) -> Socket {
    Socket::Tcp(tokio::net::TcpStream::connect(addr).await.unwrap())
}

async fn accept(listener: TcpListener) -> Socket {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    Socket::Tcp(listener.accept().await.unwrap().0)
}

#[test]
fn tls_ends_here_and_begins_anew_towards_the_node() {
    let (front, behind) = (Pki::new(), Pki::new());
    let (listener, addr) = listener();
    let cluster = Cluster::new(ClusterSettings::new("tls"), vec![behind.node(addr)]);
    let proxy = Proxy::over(Some(front.server()), cluster, Settings::default(), |r| r);
    run(async {
        let (server, client) = (behind.server(), front.client());
        let node = async {
            let (mut node, info) = server.accept(accept(listener).await).await.unwrap();
            assert_eq!(info.alpn, None);
            let mut asked = Vec::new();
            node.read_to_end(&mut asked).await.unwrap();
            node.write_all(b"answer to ").await.unwrap();
            node.write_all(&asked).await.unwrap();
            node.shutdown().await.unwrap();
            node.read_to_end(&mut Vec::new()).await.unwrap();
        };
        let client = async {
            let mut client = client.connect(dial(proxy.addr).await).await.unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"answer to question");
        };
        tokio::join!(node, client);
    });
    assert_eq!(proxy.ended().ending, "closed");
}

// RFC 8446 §6.1: without close_notify anybody on the way may have cut the data off.
#[test]
fn a_client_that_leaves_without_close_notify_is_no_orderly_end() {
    let front = Pki::new();
    let (listener, addr) = listener();
    let proxy = Proxy::over(Some(front.server()), cluster(&[addr]), Settings::default(), |r| r);
    let mut node = run(async {
        let mut client = front.client().connect(dial(proxy.addr).await).await.unwrap();
        client.write_all(b"half a").await.unwrap();
        client.flush().await.unwrap();
        let mut node = listener.accept().unwrap().0;
        node.read_exact(&mut [0; 6]).unwrap();
        drop(client);
        node
    });
    assert_eq!(read_all(&mut node).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.ended().ending, "client_reset");
}

#[test]
fn a_node_with_a_certificate_of_somebody_else_is_refused() {
    let (trusted, other) = (Pki::new(), Pki::new());
    let (listener, addr) = listener();
    let cluster = Cluster::new(ClusterSettings::new("tls"), vec![trusted.node(addr)]);
    let proxy = Proxy::start(cluster, Settings::default());
    let mut client = proxy.connect();
    run(async {
        other.server().accept(accept(listener).await).await.unwrap_err();
    });
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.ended().code, Some(Code::UpstreamTls));
}
