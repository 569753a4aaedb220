//! Certificates, minted anew for each test, so that none expires.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// Authorities need names of their own: clients look for an issuer by name.
static MADE: AtomicUsize = AtomicUsize::new(1);

/// A certificate authority in a directory of its own.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate chain and its key, as files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name =
            named(&format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed)));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let dir = tempfile::tempdir().expect("a directory can be made");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("a file can be written");
        Self { issuer, dir }
    }

    /// The file with its certificate.
    pub(crate) fn ca(&self) -> String {
        shown(&self.dir.path().join("ca.pem"))
    }

    /// A certificate for these names and addresses, for servers and for clients. `stem` names the
    /// files; a second call with the same one replaces them, the key first.
    pub(crate) fn leaf(&self, stem: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names of a certificate");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = named(stem);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let pair = self.pair(stem);
        std::fs::write(&pair.key, key.serialize_pem()).expect("a file can be written");
        std::fs::write(&pair.cert, cert.pem()).expect("a file can be written");
        pair
    }

    fn pair(&self, stem: &str) -> Pair {
        let file = |ending| self.dir.path().join(format!("{stem}.{ending}"));
        Pair { cert: file("pem"), key: file("key") }
    }
}

impl Pair {
    /// `--tls-cert CERT --tls-key KEY`.
    pub(crate) fn flags(&self) -> [String; 4] {
        ["--tls-cert".into(), shown(&self.cert), "--tls-key".into(), shown(&self.key)]
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn shown(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}
