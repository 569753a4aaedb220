//! What a person is told about the development certificate.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use super::DevCert;

/// How to make browsers and tools of this machine trust the certificate, and how to undo it.
pub fn trust_instructions(cert: &DevCert) -> String {
    let ca = quoted(&cert.ca);
    let windows = cert.ca.display();
    format!(
        "\
Your development CA is {ca}
It can only vouch for local names. Nothing trusts it until you say so:

  curl            curl --cacert {ca} https://localhost:8443/
  macOS           security add-trusted-cert -r trustRoot \\
                    -k ~/Library/Keychains/login.keychain-db {ca}
  Debian, Ubuntu  sudo cp {ca} /usr/local/share/ca-certificates/gwproxy-dev-ca.crt \\
                    && sudo update-ca-certificates
  Fedora, RHEL    sudo cp {ca} /etc/pki/ca-trust/source/anchors/gwproxy-dev-ca.pem \\
                    && sudo update-ca-trust
  Arch            sudo trust anchor --store {ca}
  Windows         certutil -user -addstore Root \"{windows}\"
  Chrome on Linux certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n gwproxy-dev-ca -i {ca}
                    (certutil is in the package libnss3-tools or nss-tools)
  Firefox         has a store of its own: Settings > Privacy & Security > View Certificates >
                    Authorities > Import
  Node.js         NODE_EXTRA_CA_CERTS={ca}
  Python, Ruby    SSL_CERT_FILE={ca}

To undo it, remove it there and delete the directory that it is in.
"
    )
}

/// What `gwproxy cert show` prints.
pub fn describe(cert: &DevCert) -> String {
    let mut text = String::new();
    let left = cert.expires.duration_since(SystemTime::now()).unwrap_or_default();
    for (word, value) in [
        ("CA", cert.ca.display().to_string()),
        ("CA SHA-256", cert.ca_fingerprint.clone()),
        ("certificate", cert.cert.display().to_string()),
        ("key", cert.key.display().to_string()),
        ("names", cert.names.join(", ")),
        ("expires in", format!("{} days", left.as_secs().div_ceil(super::DAY.as_secs()))),
    ] {
        let _ = writeln!(text, "{word:<12} {value}"); // writing to a string cannot fail
    }
    text
}

/// A path as a shell takes it; macOS keeps data under `Application Support`.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
