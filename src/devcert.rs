//! A certificate for development: a local authority of the user's own and one certificate signed
//! by it, made once and used by every `--tls-dev`.
//!
//! The authority may sign for nothing but local names and addresses, and for names that were asked
//! for when it was made (RFC 5280 §4.2.1.10), so that whoever steals its key cannot pose as a
//! public site to the machines that trust it.
//!
//! Everything here blocks on files; it is for the command line and the start.

mod mint;
mod store;
#[cfg(test)]
mod tests;
mod trust;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mint::{Authority, Leaf};
use store::Store;

pub use trust::{describe, trust_instructions};

const DAY: Duration = Duration::from_hours(24);

/// What every development certificate is for, besides the host's own name. No `*.localhost`:
/// OpenSSL, NSS and rustls take a wildcard only with two labels after it, and rustls refuses the
/// whole certificate otherwise.
const NAMES: [&str; 4] = ["localhost", "*.dev.localhost", "127.0.0.1", "::1"];

/// Overrides the directory that the authority is kept in.
pub const DATA_DIR_VARIABLE: &str = "GWPROXY_DATA_DIR";

/// A development certificate, ready to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevCert {
    /// The authority's certificate, to be trusted by clients; PEM.
    pub ca: PathBuf,
    /// The server's certificate, PEM.
    pub cert: PathBuf,
    /// The server's private key, PEM, readable by its owner only.
    pub key: PathBuf,
    /// Whether the authority is new, so that nobody can trust it yet.
    pub created: bool,
    /// Whether the server's certificate is new (always so with a new authority).
    pub renewed: bool,
    /// The names and addresses the server's certificate is for.
    pub names: Vec<String>,
    /// When the server's certificate ends. It is renewed on first use in its last 7 days.
    pub expires: SystemTime,
    /// SHA-256 of the authority's certificate, lower-case hex.
    pub ca_fingerprint: String,
}

/// The certificate for `localhost`, `*.dev.localhost`, the loopback addresses, this machine's name
/// and `extra_names` (names, `*.` wildcards, addresses); what is missing or about to expire is
/// made. Names asked for earlier stay.
///
/// # Errors
/// One sentence: a file that cannot be read or written, a name that is none or that the authority
/// may not sign.
pub fn ensure(extra_names: &[String]) -> Result<DevCert, String> {
    ensure_in(&directory()?, extra_names, mint::host_name().as_deref(), SystemTime::now())
}

/// The certificate as it is, without making anything; none if there is none in working order.
///
/// # Errors
/// One sentence about a directory or file that cannot be read.
pub fn existing() -> Result<Option<DevCert>, String> {
    existing_in(&directory()?, SystemTime::now())
}

fn existing_in(dir: &Path, now: SystemTime) -> Result<Option<DevCert>, String> {
    let store = Store::at(dir);
    let Some(ca) = store.authority()?.filter(|ca| ca.is_good_at(now)) else { return Ok(None) };
    let leaf = store.leaf()?.filter(|leaf| leaf.is_good_at(&ca, now));
    Ok(leaf.map(|leaf| cert(&store, &ca, &leaf, false, false)))
}

fn ensure_in(
    dir: &Path,
    extra_names: &[String],
    host: Option<&str>,
    now: SystemTime,
) -> Result<DevCert, String> {
    let mut wanted: Vec<String> = NAMES.map(str::to_owned).to_vec();
    for name in extra_names {
        add(&mut wanted, &mint::checked_name(name)?);
    }
    let store = Store::at(dir);
    let _lock = store.prepare()?;
    let known = store.authority()?.filter(|ca| ca.is_good_at(now + mint::RENEWAL));
    let created = known.is_none();
    let ca = if let Some(ca) = known {
        ca
    } else {
        let special = wanted.iter().skip(NAMES.len()).map(String::as_str);
        let ca = Authority::mint(special.chain(host), now)?;
        store.keep_authority(&ca)?;
        ca
    };
    for name in &wanted {
        if !ca.may_sign(name, now)? {
            return Err(format!(
                "the development CA in `{}` was not made for `{name}` and may not sign it; use a \
                 local name such as `api.localhost` or `api.test`, or remove that directory to \
                 have a CA made for it (which then must be trusted anew)",
                dir.display()
            ));
        }
    }
    // The machine may have been given another name since.
    if let Some(host) = host.filter(|host| ca.may_sign(host, now).unwrap_or(false)) {
        add(&mut wanted, host);
    }
    let old = store.leaf()?.filter(|leaf| leaf.is_good_at(&ca, now));
    for name in old.iter().flat_map(|leaf| &leaf.names) {
        if ca.may_sign(name, now)? {
            add(&mut wanted, name);
        }
    }
    let fits = |leaf: &Leaf| {
        leaf.is_good_at(&ca, now + mint::RENEWAL)
            && wanted.iter().all(|name| leaf.names.contains(name))
    };
    let (leaf, renewed) = if let Some(leaf) = old.filter(fits) {
        (leaf, false)
    } else {
        let leaf = ca.sign(&wanted, now)?;
        store.keep_leaf(&leaf)?;
        (leaf, true)
    };
    Ok(cert(&store, &ca, &leaf, created, renewed))
}

fn cert(store: &Store, ca: &Authority, leaf: &Leaf, created: bool, renewed: bool) -> DevCert {
    DevCert {
        ca: store.ca(),
        cert: store.cert(),
        key: store.key(),
        created,
        renewed,
        names: leaf.names.clone(),
        expires: leaf.expires,
        ca_fingerprint: ca.fingerprint(),
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Where the authority lives: `$GWPROXY_DATA_DIR/dev-ca`, else `gwproxy/dev-ca` in the user's data
/// directory.
fn directory() -> Result<PathBuf, String> {
    let base = match std::env::var_os(DATA_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => dirs::data_dir()
            .ok_or_else(|| {
                format!(
                    "there is no home directory to keep the development CA in; set \
                     {DATA_DIR_VARIABLE} to a directory of yours"
                )
            })?
            .join("gwproxy"),
    };
    Ok(base.join("dev-ca"))
}
