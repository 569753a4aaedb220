//! Reading certificates and keys, with sentences that say which file, what is wrong with it and
//! how to mend it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::CertificatePair;

/// More than any chain, bundle of authorities or key needs; a path to the wrong thing must not
/// fill the memory.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What a file is for, in the words of the sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Certificate,
    Key,
    ClientCa,
    NodeCa,
    /// What nodes are shown.
    ShownCertificate,
    ShownKey,
}

impl Role {
    const fn words(self) -> &'static str {
        match self {
            Self::Certificate | Self::ShownCertificate => "certificate",
            Self::Key | Self::ShownKey => "key",
            Self::ClientCa => "client CA",
            Self::NodeCa => "upstream CA",
        }
    }
}

/// Which file of a pair is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairFile {
    /// The certificate chain.
    Cert,
    /// The private key.
    Key,
}

/// Everything that is wrong with a pair, told of the file that is at fault.
pub(super) fn faults(pair: &CertificatePair, [cert, key]: [Role; 2]) -> Vec<(PairFile, String)> {
    let chain = read(&pair.cert, cert).and_then(|bytes| {
        certificates(&pair.cert, cert, &bytes)?;
        Ok(bytes)
    });
    let key = read(&pair.key, key).and_then(|bytes| {
        private_key(&pair.key, &bytes)?;
        Ok(bytes)
    });
    match (chain, key) {
        (Ok(chain), Ok(key)) => {
            let both = self::pair((&pair.cert, &chain), (&pair.key, &key), UnixTime::now());
            both.err().map(|sentence| (PairFile::Key, sentence)).into_iter().collect()
        }
        (chain, key) => {
            let of = |file| move |sentence| (file, sentence);
            let chain = chain.err().map(of(PairFile::Cert));
            chain.into_iter().chain(key.err().map(of(PairFile::Key))).collect()
        }
    }
}

/// The bytes of a file.
pub(super) fn read(path: &Path, role: Role) -> Result<Vec<u8>, String> {
    let fail = |why: &str| {
        Err(format!("cannot read the {} file `{}`: {why}", role.words(), path.display()))
    };
    let opened = std::fs::metadata(path).and_then(|meta| {
        // Opening a pipe would wait for its writer.
        if meta.is_file() { File::open(path).map(Some) } else { Ok(None) }
    });
    let file = match opened {
        Ok(Some(file)) => file,
        Ok(None) => return fail("it is not a regular file; give the path of a PEM file"),
        Err(error) => return fail(&reason(&error, path, role)),
    };
    let mut bytes = Vec::new();
    match file.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > MAX_BYTES => {
            fail("it is larger than 4 MiB, which no PEM file of this kind is; check the path")
        }
        Ok(_) => Ok(bytes),
        Err(error) => fail(&reason(&error, path, role)),
    }
}

fn reason(error: &io::Error, path: &Path, role: Role) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            // As in `certs`, where the examples have theirs.
            let script = path.with_file_name("generate.sh");
            let make = if script.is_file() {
                format!(", or make throw-away files with `{}`", script.display())
            } else {
                String::new()
            };
            let dev = if matches!(role, Role::Certificate | Role::Key) {
                ", or use the development certificate: `--tls-dev` (`dev: true` in a file)"
            } else {
                ""
            };
            format!("it does not exist; check the path{make}{dev}")
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; let the user that runs gwproxy read it".into()
        }
        _ => error.to_string(),
    }
}

/// Every certificate of a PEM file, at least one.
pub(super) fn certificates(
    path: &Path,
    role: Role,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, String> {
    let file = format!("the {} file `{}`", role.words(), path.display());
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = parsed.map_err(|error| format!("{file} is {}", damage(&error)))?;
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    Err(if bytes.is_empty() {
        format!("{file} is empty")
    } else if holds(bytes, "PRIVATE KEY-----") {
        format!("{file} holds a private key and no certificate; are the two paths swapped?")
    } else if X509Certificate::from_der(bytes).is_ok() {
        format!(
            "{file} is in DER form; make it PEM: openssl x509 -inform der -in {0} -out {0}.pem",
            path.display()
        )
    } else {
        format!("{file} holds no PEM certificate (no `-----BEGIN CERTIFICATE-----`)")
    })
}

/// The one private key of a PEM file.
fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let file = format!("the key file `{}`", path.display());
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if bytes.is_empty() => format!("{file} is empty"),
        pem::Error::NoItemsFound if holds(bytes, "BEGIN ENCRYPTED PRIVATE KEY") => format!(
            "{file} is locked by a passphrase; unlock it: openssl pkey -in {0} -out {0}.open",
            path.display()
        ),
        pem::Error::NoItemsFound if holds(bytes, "BEGIN CERTIFICATE") => {
            format!("{file} holds a certificate and no private key; are the two paths swapped?")
        }
        pem::Error::NoItemsFound => {
            format!("{file} holds no PEM private key (no `-----BEGIN PRIVATE KEY-----`)")
        }
        error => format!("{file} is {}", damage(&error)),
    })
}

/// A chain with the key that belongs to it. What is only unwise is logged as a warning.
pub(super) fn pair(
    (cert_path, cert): (&Path, &[u8]),
    (key_path, key): (&Path, &[u8]),
    now: UnixTime,
) -> Result<CertifiedKey, String> {
    let chain = certificates(cert_path, Role::Certificate, cert)?;
    let key = private_key(key_path, key)?;
    let signer = super::provider().key_provider.load_private_key(key).map_err(|error| {
        format!("the key file `{}` holds a key that cannot be used: {error}", key_path.display())
    })?;
    let pair = CertifiedKey::new(chain, signer);
    let (cert, key) = (cert_path.display(), key_path.display());
    if let Err(error) = pair.keys_match() {
        let later = pair.cert.iter().skip(1).any(|other| {
            CertifiedKey::new(vec![other.clone()], pair.key.clone()).keys_match().is_ok()
        });
        return Err(match error {
            rustls::Error::InconsistentKeys(_) if later => format!(
                "the first certificate in `{cert}` is not the one the key `{key}` belongs to; put \
                 the server's own certificate first, then the intermediates"
            ),
            rustls::Error::InconsistentKeys(_) => format!(
                "the key `{key}` does not belong to the certificate `{cert}`; give the key the \
                 certificate was issued for"
            ),
            error => format!("the certificate `{cert}` is damaged: {error}"),
        });
    }
    warn_of_dates(cert_path, &pair, now);
    Ok(pair)
}

/// [`authorities`] of a file that is still to be read.
pub(super) fn read_authorities(path: &Path, role: Role) -> Result<RootCertStore, String> {
    authorities(path, role, &read(path, role)?)
}

/// A store of the authorities in a PEM file; every certificate in it must be usable.
pub(super) fn authorities(path: &Path, role: Role, bytes: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(path, role, bytes)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            format!(
                "certificate {} in the {} file `{}` cannot be used: {error}",
                index + 1,
                role.words(),
                path.display()
            )
        })?;
    }
    Ok(roots)
}

/// The host names a certificate is for, lower-case, wildcards as they stand in it.
pub(super) fn dns_names(pair: &CertifiedKey) -> Vec<String> {
    let Some((_, parsed)) = pair.cert.first().and_then(|der| X509Certificate::from_der(der).ok())
    else {
        return Vec::new();
    };
    let extension = parsed.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => {
                Some(name.trim_end_matches('.').to_ascii_lowercase())
            }
            _ => None,
        })
        .collect()
}

/// A certificate out of its dates is served all the same: an operator who renews late is better
/// off with clients that complain than with a proxy that does not start.
fn warn_of_dates(path: &Path, pair: &CertifiedKey, now: UnixTime) {
    let Some((_, parsed)) = pair.cert.first().and_then(|der| X509Certificate::from_der(der).ok())
    else {
        return;
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
    if until.timestamp() < now {
        tracing::warn!(file = %path.display(), expired = %day(until.timestamp()),
            "the certificate has expired: clients will refuse it; renew it");
    } else if from.timestamp() > now {
        tracing::warn!(file = %path.display(), valid_from = %day(from.timestamp()),
            "the certificate is not valid yet: clients will refuse it; check the clock");
    }
}

/// A date as people read it.
pub(super) fn day(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => format!("{seconds} s after 1970"),
    }
}

/// Whether a text file contains `needle`.
fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

fn damage(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => format!(
            "cut off: the line `{}` is missing; copy the whole file",
            String::from_utf8_lossy(end_marker).trim_end()
        ),
        pem::Error::Base64Decode(_) => "damaged: its base64 does not decode".into(),
        error => format!("not valid PEM: {error}"),
    }
}
