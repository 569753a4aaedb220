//! What rustls says, in a sentence for a person.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::files::day;

/// Why a handshake failed: one sentence. The cause is kept below it as the error's source; the
/// kind of the [`io::Error`] around it is `InvalidData` if TLS failed, else the socket's own.
#[derive(Debug)]
pub struct HandshakeError {
    sentence: String,
    cause: io::Error,
}

impl HandshakeError {
    /// What TLS said, if it was TLS and not the socket.
    pub fn tls(&self) -> Option<&rustls::Error> {
        self.cause.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl StdError for HandshakeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}

/// A failed handshake with a client.
pub(super) fn with_client(cause: io::Error) -> io::Error {
    let why = match tls(&cause) {
        Some(error) => client_fault(error),
        None => socket_fault(&cause),
    };
    wrap(format!("TLS with the client failed: {why}"), cause)
}

/// A failed handshake with a node whose certificate should be for `name`.
pub(super) fn with_node(name: &str, cause: io::Error) -> io::Error {
    let why = match tls(&cause) {
        Some(error) => node_fault(error),
        None => socket_fault(&cause),
    };
    wrap(format!("TLS with `{name}` failed: {why}"), cause)
}

fn tls(cause: &io::Error) -> Option<&rustls::Error> {
    cause.get_ref().and_then(|inner| inner.downcast_ref())
}

fn wrap(sentence: String, cause: io::Error) -> io::Error {
    io::Error::new(cause.kind(), HandshakeError { sentence, cause })
}

fn socket_fault(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it closed the connection during the handshake".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "it reset the connection during the handshake".into()
        }
        _ => error.to_string(),
    }
}

fn client_fault(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what it sent is not TLS; does it speak plain text to a TLS port?".into()
        }
        E::NoCertificatesPresented => {
            "it gave no certificate, and this listener requires one".into()
        }
        E::InvalidCertificate(error) => {
            format!("its certificate is refused: {}", certificate_fault(error))
        }
        E::NoApplicationProtocol => "it speaks none of the protocols offered here by ALPN".into(),
        E::PeerIncompatible(why) => incompatible(why),
        E::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired => {
                format!("it does not trust our certificate (it says {})", alert_name(*alert))
            }
            alert => format!("it gave up and says {}", alert_name(*alert)),
        },
        error => error.to_string(),
    }
}

fn node_fault(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what it sent is not TLS; does it speak plain text on this port?".into()
        }
        E::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is refused: it is not signed by a trusted authority; give its \
             authority with `--upstream-ca FILE` (`tls.ca`)"
                .into()
        }
        E::InvalidCertificate(error) => {
            format!("its certificate is refused: {}", certificate_fault(error))
        }
        E::NoApplicationProtocol => "it speaks none of the protocols offered by ALPN".into(),
        E::PeerIncompatible(why) => incompatible(why),
        E::AlertReceived(AlertDescription::CertificateRequired) => {
            "it requires a client certificate; give one with `tls.certificate`".into()
        }
        E::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it speaks none of the protocols offered by ALPN".into()
        }
        E::AlertReceived(AlertDescription::UnrecognisedName) => {
            "it does not know this name; give the right one with `tls.server_name`".into()
        }
        E::AlertReceived(alert) => format!("it gave up and says {}", alert_name(*alert)),
        error => error.to_string(),
    }
}

fn certificate_fault(error: &CertificateError) -> String {
    use CertificateError as C;
    let at =
        |time: &rustls_pki_types::UnixTime| day(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        C::UnknownIssuer => "it is not signed by an authority trusted here".into(),
        // Also what an authority made anew under its old name leads to.
        C::BadSignature => "it, or the handshake, is signed by another key than it claims; was \
                            its authority made anew?"
            .into(),
        C::ExpiredContext { not_after, .. } => format!("it expired at {}", at(not_after)),
        C::NotValidYetContext { not_before, .. } => {
            format!("it is not valid before {}", at(not_before))
        }
        C::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            // webpki shows names as `DnsName("a")` and `IpAddress(1.2.3.4)`.
            match presented.as_slice() {
                [] => format!("it is for no host name at all, not for `{expected}`"),
                names => format!("it is for {} and not for `{expected}`", names.join(", ")),
            }
        }
        error => rustls::Error::InvalidCertificate(error.clone()).to_string(),
    }
}

fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "it does not speak a TLS version allowed here (1.2 and 1.3 at most)".into()
        }
        PeerIncompatible::SignatureAlgorithmsExtensionRequired => {
            "it offers no signature algorithms, as clients older than TLS version 1.2 do".into()
        }
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common".into(),
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange group in common".into(),
        PeerIncompatible::NoSignatureSchemesInCommon => {
            "no signature algorithm in common with the certificate's key".into()
        }
        why => format!("no common ground: {why:?}"),
    }
}

fn alert_name(alert: AlertDescription) -> String {
    alert.as_str().map_or_else(|| format!("{alert:?}"), |name| format!("`{name}`"))
}
