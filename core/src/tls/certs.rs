//! Which certificate a client gets: by SNI, exact name before wildcard before the first.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates that share a name (say ECDSA and RSA), in the order of the configuration.
type Names = HashMap<Box<str>, Vec<Arc<CertifiedKey>>, RandomState>;

/// The certificates of a listener by the names they are issued for.
#[derive(Debug)]
pub(super) struct Certificates {
    exact: Names,
    /// `*.example.com` under `example.com`.
    wildcard: Names,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    /// Sorts certificates by their names; the first is the default.
    pub(super) fn new(first: CertifiedKey, others: Vec<CertifiedKey>) -> Self {
        let default = Arc::new(first);
        let mut all =
            Self { exact: Names::default(), wildcard: Names::default(), default: default.clone() };
        for pair in std::iter::once(default).chain(others.into_iter().map(Arc::new)) {
            for name in super::files::dns_names(&pair) {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut all.wildcard, parent),
                    None => (&mut all.exact, name.as_str()),
                };
                map.entry(name.into()).or_default().push(pair.clone());
            }
        }
        all
    }

    /// The certificates for a lower-case name; a wildcard stands for exactly one label
    /// (RFC 9525 §6.3).
    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).or_else(parent).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    // rustls hands the name over in lower case (RFC 6066 §3 makes it case-insensitive).
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = match hello.server_name().and_then(|name| self.named(name)) {
            None => &self.default,
            Some([only]) => only,
            Some(several) => several
                .iter()
                .find(|pair| pair.key.choose_scheme(hello.signature_schemes()).is_some())
                .or_else(|| several.first())?,
        };
        Some(Arc::clone(chosen))
    }
}
