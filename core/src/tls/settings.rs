//! What a user may say about TLS on either leg.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls::SupportedProtocolVersion;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::files::{self, PairFile, Role};

/// TLS of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// At least one; the first answers clients that name no host or one that no other certificate
    /// is for.
    pub certificates: Vec<CertificatePair>,
    /// PEM file of the authorities whose client certificates are taken. Without it no client
    /// certificate is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without a certificate; needs `client_ca`. Default: `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// The oldest version spoken. Default: 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<MinVersion>,
}

/// A certificate chain and its private key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// The server's (or client's) certificate first, then the intermediates.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1, without a passphrase.
    pub key: PathBuf,
}

/// Whether a client may come without a certificate. One that comes with a certificate that cannot
/// be verified is refused in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// No certificate, no connection.
    Required,
    /// A certificate is asked for, and verified if there is one.
    Optional,
}

/// TLS towards nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// PEM file of the authorities trusted **instead of** the system's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Takes any certificate of anybody: whoever is on the way can read and change everything.
    /// The signature of the handshake is still checked. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_skip_verify: bool,
    /// The name to send and to look for in the certificate, instead of the node's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<TlsName>,
    /// What the proxy shows to nodes that ask for a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificatePair>,
    /// The oldest version spoken. Default: 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<MinVersion>,
}

/// The oldest TLS version spoken. 1.0 and 1.1 are not to be had (RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

/// A host name or an IP address as a certificate may be issued for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TlsName(pub(super) ServerName<'static>);

impl CertificatePair {
    /// Reads both files as a start does, and tells everything that is wrong with them: one
    /// sentence each, with the file that is at fault (the key, if the two do not fit). Empty: they
    /// can be served.
    pub fn faults(&self) -> Vec<(PairFile, String)> {
        files::faults(self, [Role::Certificate, Role::Key])
    }

    /// The same of a pair that nodes are shown.
    pub fn shown_faults(&self) -> Vec<(PairFile, String)> {
        files::faults(self, [Role::ShownCertificate, Role::ShownKey])
    }
}

impl ServerSettings {
    /// Reads the file of the authorities that sign client certificates as a start does.
    ///
    /// # Errors
    /// One sentence: what is wrong with the file, how to mend it.
    pub fn check_client_ca(path: &Path) -> Result<(), String> {
        files::read_authorities(path, Role::ClientCa).map(drop)
    }

    /// Refuses combinations that would serve less security than their words promise.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.certificates.is_empty() {
            return Err("TLS needs at least one certificate with its key".into());
        }
        if self.client_auth.is_some() && self.client_ca.is_none() {
            return Err("`client_auth` needs `client_ca`: without an authority no client \
                        certificate can be verified"
                .into());
        }
        Ok(())
    }

    /// What is asked of clients, if anything.
    pub fn client_auth(&self) -> Option<ClientAuth> {
        self.client_ca.as_ref().map(|_| self.client_auth.unwrap_or(ClientAuth::Required))
    }
}

impl ClientSettings {
    /// Reads the file of the authorities that sign the certificates of nodes as a start does.
    ///
    /// # Errors
    /// One sentence: what is wrong with the file, how to mend it.
    pub fn check_ca(path: &Path) -> Result<(), String> {
        files::read_authorities(path, Role::NodeCa).map(drop)
    }

    /// Refuses combinations that contradict themselves.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.danger_skip_verify && self.ca.is_some() {
            return Err("a CA for the nodes is given and verification is switched off: keep one \
                        of the two"
                .into());
        }
        Ok(())
    }
}

impl MinVersion {
    const BOTH: &'static [&'static SupportedProtocolVersion] =
        &[&rustls::version::TLS13, &rustls::version::TLS12];
    const NEW: &'static [&'static SupportedProtocolVersion] = &[&rustls::version::TLS13];

    /// The versions spoken from `min` on.
    pub(super) fn versions(min: Option<Self>) -> &'static [&'static SupportedProtocolVersion] {
        match min {
            None | Some(Self::Tls12) => Self::BOTH,
            Some(Self::Tls13) => Self::NEW,
        }
    }
}

impl FromStr for MinVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(format!("`{text}` is no TLS version to be had; write 1.2 or 1.3")),
        }
    }
}

impl fmt::Display for MinVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

// By hand, because an unquoted 1.3 in YAML is a number.
impl<'de> Deserialize<'de> for MinVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Version;
        impl de::Visitor<'_> for Version {
            type Value = MinVersion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("1.2 or 1.3")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MinVersion, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<MinVersion, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Version)
    }
}

impl FromStr for TlsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let name = ServerName::try_from(bare.to_ascii_lowercase());
        name.map(Self).map_err(|_| {
            format!(
                "`{text}` is neither a host name nor an IP address for TLS; write for example \
                     `api.example.com`"
            )
        })
    }
}

impl fmt::Display for TlsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

impl TryFrom<String> for TlsName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TlsName> for String {
    fn from(name: TlsName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_and_print_back() {
        let json = r#"{"certificates":[{"cert":"a.pem","key":"a.key"}],"client_ca":"ca.pem",
            "client_auth":"optional","min_version":1.3}"#;
        let settings: ServerSettings = serde_json::from_str(json).unwrap();
        assert_eq!(settings.client_auth(), Some(ClientAuth::Optional));
        assert_eq!(settings.min_version, Some(MinVersion::Tls13));
        let printed = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<ServerSettings>(&printed).unwrap(), settings);

        let json = r#"{"ca":"ca.pem","server_name":"[::1]","min_version":"1.2"}"#;
        let settings: ClientSettings = serde_json::from_str(json).unwrap();
        assert_eq!(settings.server_name.as_ref().unwrap().to_string(), "::1");
        let printed = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<ClientSettings>(&printed).unwrap(), settings);
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for (json, part) in [
            (r#"{"min_version":1.1}"#, "`1.1` is no TLS version"),
            (r#"{"min_version":"tls13"}"#, "write 1.2 or 1.3"),
            (r#"{"server_name":"a b"}"#, "`a b` is neither"),
            (r#"{"insecure":true}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<ClientSettings>(json).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let pair = CertificatePair { cert: "a.pem".into(), key: "a.key".into() };
        let none = ServerSettings::default();
        assert!(none.check().unwrap_err().contains("at least one certificate"));
        let open = ServerSettings {
            certificates: vec![pair],
            client_auth: Some(ClientAuth::Required),
            ..ServerSettings::default()
        };
        assert!(open.check().unwrap_err().contains("needs `client_ca`"));
        let both = ClientSettings {
            ca: Some("ca.pem".into()),
            danger_skip_verify: true,
            ..ClientSettings::default()
        };
        assert!(both.check().unwrap_err().contains("switched off"));
    }
}
