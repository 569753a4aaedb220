//! TLS termination of a listener.

use std::path::PathBuf;

/// How a listener terminates TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFront {
    /// What the listener shows.
    pub certificates: Certificates,
    /// PEM file with the authorities that sign client certificates. None: clients are not asked.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate. Only with [`Self::client_ca`].
    pub client_auth: ClientAuth,
}

/// Where a listener's certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// The development authority of this user's data directory (`gwproxy cert dev`).
    Dev,
    /// Files; chosen by SNI, the first is the default. Never empty.
    Files(Vec<Certificate>),
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM file: the certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It may; one that does not verify is refused all the same.
    Optional,
    /// It must.
    #[default]
    Required,
}
