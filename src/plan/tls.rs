//! TLS termination of a listener.

use gwproxy_core::tls::{CertificatePair, ServerSettings};

/// How a listener terminates TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFront {
    /// Whether the certificate is the one of this user's development authority
    /// (`gwproxy cert dev`).
    pub dev: bool,
    /// Everything else. Its `certificates` are empty if and only if [`Self::dev`].
    pub settings: ServerSettings,
}

impl TlsFront {
    /// The development certificate, and nothing asked of clients.
    pub fn dev() -> Self {
        Self { dev: true, settings: ServerSettings::default() }
    }

    /// The settings with the development certificate where that is asked for.
    pub fn with_dev_certificate(&self, dev: CertificatePair) -> ServerSettings {
        let mut settings = self.settings.clone();
        if self.dev {
            settings.certificates.push(dev);
        }
        settings
    }
}
