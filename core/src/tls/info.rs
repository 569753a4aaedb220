//! What a TLS handshake told us about the client.

use std::fmt::Write as _;

use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a finished handshake says. Read-only for the life of the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The server name the client asked for (RFC 6066 §3), lower-case.
    pub sni: Option<String>,
    /// The protocol both agreed on (RFC 7301), as bytes.
    pub alpn: Option<Vec<u8>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// Whether an earlier session was taken up again instead of a full handshake.
    pub resumed: bool,
    /// The verified client certificate, if one was asked for and given.
    pub client: Option<ClientIdentity>,
}

/// A verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// The subject as `C=…, O=…, CN=…` in the order of the certificate; empty if it has none.
    pub subject: String,
    /// The subject's alternative names (RFC 5280 §4.2.1.6) as `DNS:…`, `IP:…`, `URI:…` and
    /// `email:…`, in the order of the certificate.
    pub names: Vec<String>,
    /// The certificate in DER, for whoever needs more.
    pub der: Vec<u8>,
}

impl TlsInfo {
    /// Reads what a finished handshake says.
    pub(super) fn of(session: &ServerConnection) -> Self {
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        Self {
            sni: session.server_name().map(str::to_ascii_lowercase),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            version: session.protocol_version().map_or("", version_name),
            cipher: session.negotiated_cipher_suite().map_or("", |s| cipher_name(s.suite())),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            client: certificate.map(|der| ClientIdentity::of(der)),
        }
    }
}

impl ClientIdentity {
    fn of(der: &[u8]) -> Self {
        // It has been verified, so it parses; a parser that disagrees only costs us the words.
        let parsed = X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
        Self {
            fingerprint: fingerprint(der),
            subject: parsed.as_ref().map(|c| c.subject().to_string()).unwrap_or_default(),
            names: parsed.as_ref().map(alternative_names).unwrap_or_default(),
            der: der.to_vec(),
        }
    }
}

/// SHA-256 in lower-case hex: of a certificate in DER, the fingerprint that tools show.
pub fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a string cannot fail
        hex
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
            GeneralName::URI(uri) => Some(format!("URI:{uri}")),
            GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
            GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| format!("IP:{ip}")),
            _ => None,
        })
        .collect()
}

fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(Into::into)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(Into::into))
        .ok()
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "",
    }
}

/// The IANA name; rustls prefixes those of TLS 1.3 with the version.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}
