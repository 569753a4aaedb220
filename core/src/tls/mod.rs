//! TLS on both legs: rustls with the aws-lc-rs provider, versions 1.2 and 1.3.
//!
//! **Invariant:** nothing here fails open. A certificate, key or authority that cannot be read
//! refuses the start, and at a reload the old files stay in use.

mod accept;
mod certs;
mod connect;
mod files;
mod info;
mod reload;
mod sentence;
mod settings;
#[cfg(test)]
mod tests;

pub use accept::ServerTls;
pub use connect::ClientTls;
pub use files::PairFile;
pub use info::{ClientIdentity, TlsInfo, fingerprint};
pub use reload::Reload;
pub use sentence::HandshakeError;
pub use settings::{
    CertificatePair, ClientAuth, ClientSettings, MinVersion, ServerSettings, TlsName,
};

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// The one provider of the process, named explicitly wherever rustls would otherwise guess: a
/// second provider compiled in by a dependency would make the guess panic.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}
