//! Minting and judging certificates; no files.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gwproxy_core::tls::{TlsName, fingerprint};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::DAY;

/// Ten years: trusting an authority anew is work for people.
const CA_LIFE: Duration = Duration::from_hours(3650 * 24);

/// The longest life that clients take of a server certificate (CA/Browser Forum baseline
/// requirements §6.3.2; Apple's limit for private authorities is longer).
const LEAF_LIFE: Duration = Duration::from_hours(397 * 24);

/// The last part of a life, in which a successor is made.
pub(super) const RENEWAL: Duration = Duration::from_hours(7 * 24);

/// Names that cannot be those of a public site: RFC 6761, RFC 6762, RFC 8375 and ICANN's
/// `.internal`.
const LOCAL_NAMES: [&str; 6] = ["localhost", "test", "example", "local", "internal", "home.arpa"];

/// Loopback, private and link-local addresses (RFC 1122, 1918, 3927, 4193, 4291).
const LOCAL_NETS: [(&str, u8); 8] = [
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("169.254.0.0", 16),
    ("::1", 128),
    ("fc00::", 7),
    ("fe80::", 10),
];

/// A certificate with its key, both also as PEM.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) cert_pem: String,
    pub(super) key_pem: String,
    der: CertificateDer<'static>,
    expires: SystemTime,
}

/// The server's certificate with its key.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) cert_pem: String,
    pub(super) key_pem: String,
    pub(super) names: Vec<String>,
    pub(super) expires: SystemTime,
    der: CertificateDer<'static>,
}

impl Authority {
    /// A new authority that may sign local names and `names`.
    pub(super) fn mint<'a>(
        names: impl Iterator<Item = &'a str>,
        now: SystemTime,
    ) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.not_before = (now - DAY).into(); // clocks of other machines may be behind
        params.not_after = (now + CA_LIFE).into();
        // Authorities of one name with different keys confuse NSS and OpenSSL: each has its own.
        let mark = fingerprint(key.public_key_raw());
        params.distinguished_name = subject(&format!("gwproxy development CA {mark:.8}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(constraints(names));
        let cert_pem = params.self_signed(&key).map_err(failed)?.pem();
        Self::read(cert_pem, key.serialize_pem())
    }

    /// An authority from PEM.
    pub(super) fn read(cert_pem: String, key_pem: String) -> Result<Self, String> {
        let (der, _, expires) = parse(&cert_pem, &key_pem)?;
        Ok(Self { cert_pem, key_pem, der, expires })
    }

    /// Whether it still lives at `then`.
    pub(super) fn is_good_at(&self, then: SystemTime) -> bool {
        then < self.expires
    }

    /// Whether clients would take its signature for `name`. Asked of the verifier that clients
    /// use, by a certificate that is thrown away.
    pub(super) fn may_sign(&self, name: &str, now: SystemTime) -> Result<bool, String> {
        let leaf = self.sign(&[name.to_owned()], now)?;
        Ok(self.verifies(&leaf.der, name, now))
    }

    /// A new server certificate.
    pub(super) fn sign(&self, names: &[String], now: SystemTime) -> Result<Leaf, String> {
        let issuer_key = KeyPair::from_pem(&self.key_pem).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_der(&self.der, issuer_key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.not_before = (now - DAY).into();
        params.not_after = (now - DAY + LEAF_LIFE).min(self.expires).into();
        params.distinguished_name = subject("gwproxy development certificate");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let cert_pem = params.signed_by(&key, &issuer).map_err(failed)?.pem();
        Leaf::read(cert_pem, key.serialize_pem())
    }

    /// SHA-256 of the certificate in hex.
    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    fn verifies(&self, leaf: &CertificateDer<'_>, name: &str, at: SystemTime) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        // Any label stands for the wildcard.
        let reference = name.replacen('*', "x", 1);
        let (Ok(()), Ok(name), Ok(at)) = (
            roots.add(self.der.clone()),
            ServerName::try_from(reference),
            at.duration_since(SystemTime::UNIX_EPOCH),
        ) else {
            return false;
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider());
        let at = UnixTime::since_unix_epoch(at);
        verifier.build().is_ok_and(|v| v.verify_server_cert(leaf, &[], &name, &[], at).is_ok())
    }
}

impl Leaf {
    /// A server certificate from PEM.
    pub(super) fn read(cert_pem: String, key_pem: String) -> Result<Self, String> {
        let (der, names, expires) = parse(&cert_pem, &key_pem)?;
        Ok(Self { cert_pem, key_pem, names, expires, der })
    }

    /// Whether clients that trust `ca` take it at `then`, for each of its names.
    pub(super) fn is_good_at(&self, ca: &Authority, then: SystemTime) -> bool {
        !self.names.is_empty() && self.names.iter().all(|name| ca.verifies(&self.der, name, then))
    }
}

/// A name as it is written in a certificate: lower-case, no brackets.
pub(super) fn checked_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let parsed = name.parse::<TlsName>().map_err(|_| {
        format!("`{text}` is neither a host name nor an address that a certificate can be for")
    })?;
    let name = parsed.to_string().trim_end_matches('.').to_owned();
    match text.starts_with("*.") {
        false => Ok(name),
        true if name.contains('.') && name.parse::<IpAddr>().is_err() => Ok(format!("*.{name}")),
        true => Err(format!(
            "`{text}` is a wildcard that clients do not take: two labels must follow it, as in \
             `*.app.localhost`"
        )),
    }
}

/// This machine's name, if it is one that certificates can be for.
pub(super) fn host_name() -> Option<String> {
    let uname = rustix::system::uname();
    let name = checked_name(uname.nodename().to_str().ok()?).ok()?;
    (!name.contains('*')).then_some(name)
}

fn constraints<'a>(names: impl Iterator<Item = &'a str>) -> NameConstraints {
    let nets = LOCAL_NETS.iter().filter_map(|(net, prefix)| Some((net.parse().ok()?, *prefix)));
    let mut permitted: Vec<_> = nets
        .map(|(net, prefix)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(net, prefix)))
        .collect();
    permitted.extend(LOCAL_NAMES.map(|name| GeneralSubtree::DnsName(name.to_owned())));
    for name in names {
        let name = name.strip_prefix("*.").unwrap_or(name);
        let subtree = match name.parse::<IpAddr>() {
            Ok(ip) => {
                let prefix = if ip.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, prefix))
            }
            Err(_) => GeneralSubtree::DnsName(name.to_owned()),
        };
        if !permitted.contains(&subtree) {
            permitted.push(subtree);
        }
    }
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() }
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "gwproxy");
    subject.push(DnType::CommonName, common_name);
    subject
}

type Parsed = (CertificateDer<'static>, Vec<String>, SystemTime);

/// The certificate, its names and its end; the key must belong to it.
fn parse(cert_pem: &str, key_pem: &str) -> Result<Parsed, String> {
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(failed)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(failed)?;
    let pair = CertifiedKey::from_der(vec![der.clone()], key, &provider()).map_err(failed)?;
    pair.keys_match().map_err(failed)?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(failed)?;
    let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let extension = parsed.subject_alternative_name().map_err(failed)?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok()
            .map(|ip| ip.to_string()),
        _ => None,
    });
    let names = names.collect();
    Ok((der, names, SystemTime::UNIX_EPOCH + Duration::from_secs(until)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("cannot make or read a development certificate: {error}")
}
