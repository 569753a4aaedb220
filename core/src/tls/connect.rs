//! TLS towards nodes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::files::{self, Role};
use super::settings::MinVersion;
use super::{CertificatePair, ClientSettings, TlsName, sentence};
use crate::net::{Socket, Stream};

/// How to speak TLS to a node: trust, name, offered protocols. Shared by all workers, and with it
/// the sessions to take up again.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    fixed_name: bool,
}

impl ClientTls {
    /// Reads what `settings` name. `host` is the node's host, sent as SNI (unless it is an
    /// address) and looked for in the certificate, unless the settings fix another name. `alpn`
    /// lists the protocols to offer, best first; empty offers none.
    ///
    /// Reading the system's store takes milliseconds: make the others of a service by
    /// [`ClientTls::for_host`].
    ///
    /// # Errors
    /// One sentence: which file or setting, what is wrong, how to mend it.
    pub fn new(settings: &ClientSettings, host: &str, alpn: &[&[u8]]) -> Result<Self, String> {
        settings.check()?;
        let name = match &settings.server_name {
            Some(TlsName(name)) => name.clone(),
            None => host.parse::<TlsName>()?.0,
        };
        let provider = super::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(MinVersion::versions(settings.min_version))
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier(settings, provider)?);
        let mut config = match &settings.certificate {
            Some(pair) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(load(pair)?)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let fixed_name = settings.server_name.is_some();
        Ok(Self { config: Arc::new(config), name, fixed_name })
    }

    /// The same trust, protocols and session cache for another node of the service.
    ///
    /// # Errors
    /// When `host` is neither a name nor an address.
    pub fn for_host(&self, host: &str) -> Result<Self, String> {
        let name = if self.fixed_name { self.name.clone() } else { host.parse::<TlsName>()?.0 };
        Ok(Self { config: Arc::clone(&self.config), name, fixed_name: self.fixed_name })
    }

    /// Wraps a finished configuration; `name` is sent as SNI and must be in the certificate.
    pub fn from_config(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name, fixed_name: true }
    }

    /// Performs the client's side of the handshake. No deadline of its own: the caller's connect
    /// timeout includes it.
    ///
    /// A node that refuses our certificate under TLS 1.3 says so only after this returned, at the
    /// first read (RFC 8446 §4.4.2.4).
    ///
    /// # Errors
    /// A sentence around what rustls ([`HandshakeError`](super::HandshakeError), kind
    /// `InvalidData`) or the socket (its own kind) said.
    pub async fn connect(&self, socket: Socket) -> io::Result<Stream> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        match connector.connect(self.name.clone(), socket).await {
            Ok(tls) => Ok(Stream::TlsClient(Box::new(tls))),
            Err(error) => Err(sentence::with_node(&self.name.to_str(), error)),
        }
    }
}

/// Who vouches for a node.
fn verifier(
    settings: &ClientSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if settings.danger_skip_verify {
        return Ok(Arc::new(TakeAnyone(provider)));
    }
    match &settings.ca {
        Some(path) => trusting(path, provider),
        None => rustls_platform_verifier::Verifier::new(provider)
            .map(|system| Arc::new(system) as _)
            .map_err(|error| {
                format!(
                    "the system's store of trusted certificates cannot be used ({error}); install \
                     the package `ca-certificates`, or give an authority with `--upstream-ca \
                     FILE` (`tls.ca`)"
                )
            }),
    }
}

fn trusting(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let roots = files::read_authorities(path, Role::NodeCa)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map(|verifier| verifier as _)
        .map_err(|error| format!("the upstream CA file `{}` is of no use: {error}", path.display()))
}

fn load(pair: &CertificatePair) -> Result<rustls::sign::CertifiedKey, String> {
    let cert = files::read(&pair.cert, Role::ShownCertificate)?;
    let key = files::read(&pair.key, Role::ShownKey)?;
    files::pair((&pair.cert, &cert), (&pair.key, &key), UnixTime::now())
}

/// Takes any certificate, whoever it is for and whoever signed it. The handshake's own signature
/// is still checked, so the node at least holds the key of what it shows.
#[derive(Debug)]
struct TakeAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
