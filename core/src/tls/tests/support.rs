//! A throw-away authority, and both ends of a handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::net::{Socket, Stream};
use crate::tls::{
    CertificatePair, ClientAuth, ClientSettings, ClientTls, ServerSettings, ServerTls, TlsInfo,
};

pub(in crate::tls) const H1: &[u8] = b"http/1.1";
pub(in crate::tls) const H2: &[u8] = b"h2";

/// An authority with a directory of its own.
pub(in crate::tls) struct Ca {
    pub(in crate::tls) dir: TempDir,
    pub(in crate::tls) issuer: Issuer<'static, KeyPair>,
    pub(in crate::tls) pem: String,
    pub(in crate::tls) name: String,
}

/// Authorities of one name would be taken for one another.
static AUTHORITIES: AtomicU32 = AtomicU32::new(1);

impl Ca {
    pub(in crate::tls) fn new() -> Self {
        let name = format!("Test authority {}", AUTHORITIES.fetch_add(1, Ordering::Relaxed));
        Self::named(&name)
    }

    pub(in crate::tls) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let (dir, issuer) = (TempDir::new().unwrap(), Issuer::new(params, key));
        let ca = Self { dir, issuer, pem, name: name.into() };
        std::fs::write(ca.path("ca.pem"), &ca.pem).unwrap();
        ca
    }

    pub(in crate::tls) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A leaf as PEM, certificate and key.
    pub(in crate::tls) fn leaf(&self, names: &[&str]) -> (String, String) {
        self.leaf_with(names, |_| ())
    }

    pub(in crate::tls) fn leaf_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    /// Writes a leaf to `STEM.pem` and `STEM.key`.
    pub(in crate::tls) fn pair(&self, stem: &str, names: &[&str]) -> CertificatePair {
        self.write(stem, &self.leaf(names))
    }

    pub(in crate::tls) fn write(
        &self,
        stem: &str,
        (cert, key): &(String, String),
    ) -> CertificatePair {
        let pair = CertificatePair {
            cert: self.path(&format!("{stem}.pem")),
            key: self.path(&format!("{stem}.key")),
        };
        replace(&pair.cert, cert);
        replace(&pair.key, key);
        pair
    }

    /// Trusts this authority alone.
    pub(in crate::tls) fn trust(&self) -> ClientSettings {
        ClientSettings { ca: Some(self.path("ca.pem")), ..ClientSettings::default() }
    }

    pub(in crate::tls) fn client(&self, host: &str, alpn: &[&[u8]]) -> ClientTls {
        ClientTls::new(&self.trust(), host, alpn).unwrap()
    }

    /// A client that shows a certificate issued here for `names`.
    pub(in crate::tls) fn client_showing(&self, host: &str, names: &[&str]) -> ClientTls {
        let certificate = Some(self.pair("client", names));
        ClientTls::new(&ClientSettings { certificate, ..self.trust() }, host, &[]).unwrap()
    }

    /// A listener with one certificate for `names`.
    pub(in crate::tls) fn server(&self, names: &[&str], alpn: &[&[u8]]) -> ServerTls {
        ServerTls::new(serving(self.pair("server", names)), alpn).unwrap()
    }

    /// A listener that asks for client certificates of this authority.
    pub(in crate::tls) fn asking(&self, names: &[&str], auth: ClientAuth) -> ServerTls {
        let settings = ServerSettings {
            client_ca: Some(self.path("ca.pem")),
            client_auth: Some(auth),
            ..serving(self.pair("asking", names))
        };
        ServerTls::new(settings, &[]).unwrap()
    }
}

pub(in crate::tls) fn serving(pair: CertificatePair) -> ServerSettings {
    ServerSettings { certificates: vec![pair], ..ServerSettings::default() }
}

/// Replaces a file the way careful tools do.
pub(in crate::tls) fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}

pub(in crate::tls) type Accepted = io::Result<(Stream, TlsInfo)>;

/// Both ends of one handshake.
pub(in crate::tls) async fn shake(
    server: &ServerTls,
    client: &ClientTls,
) -> (Accepted, io::Result<Stream>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::join!(server.accept(Socket::Unix(ours)), client.connect(Socket::Unix(theirs)))
}

/// A handshake that succeeds, with one byte carried to the client, so that it has seen the
/// tickets, too.
pub(in crate::tls) async fn meet(server: &ServerTls, client: &ClientTls) -> (TlsInfo, Stream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (accepted, connected) = shake(server, client).await;
    let ((mut ours, info), mut theirs) = (accepted.unwrap(), connected.unwrap());
    ours.write_all(b"!").await.unwrap();
    ours.flush().await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'!');
    (info, theirs)
}

/// The certificate the client was shown.
pub(in crate::tls) fn shown(stream: &Stream) -> Vec<u8> {
    match stream {
        Stream::TlsClient(tls) => tls.get_ref().1.peer_certificates().unwrap()[0].to_vec(),
        other => panic!("not a TLS client: {other:?}"),
    }
}

pub(in crate::tls) fn der(pem: &str) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
