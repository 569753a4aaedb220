//! What a TLS handshake told us about the client.

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
    /// The verified client certificate, if one was asked for and given.
    pub client: Option<ClientIdentity>,
}

/// A verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// The certificate in DER, for whoever needs more.
    pub der: Vec<u8>,
}
