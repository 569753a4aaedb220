//! The development CA as its users and its thieves meet it.

use std::os::unix::fs::PermissionsExt as _;

use gwproxy_core::net::Socket;
use gwproxy_core::tls::{CertificatePair, ClientSettings, ClientTls, ServerSettings, ServerTls};
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::*;

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn get(dir: &TempDir, names: &[&str], now: SystemTime) -> DevCert {
    ensure_in(&dir.path().join("dev-ca"), &strings(names), Some("laptop"), now).unwrap()
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Serves with the certificate and asks for `host`, trusting the CA alone.
async fn meet(cert: &DevCert, host: &str) -> std::io::Result<()> {
    let pair = CertificatePair { cert: cert.cert.clone(), key: cert.key.clone() };
    let settings = ServerSettings { certificates: vec![pair], ..ServerSettings::default() };
    let server = ServerTls::new(settings, &[]).unwrap();
    let trust = ClientSettings { ca: Some(cert.ca.clone()), ..ClientSettings::default() };
    let client = ClientTls::new(&trust, host, &[]).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (_, connected) =
        tokio::join!(server.accept(Socket::Unix(ours)), client.connect(Socket::Unix(theirs)));
    connected.map(|_| ())
}

#[tokio::test]
async fn made_once_used_again_and_good_for_its_names() {
    let dir = TempDir::new().unwrap();
    let now = SystemTime::now();
    let first = get(&dir, &["api.test", "10.1.2.3"], now);
    assert!(first.created && first.renewed);
    for host in
        ["localhost", "x.dev.localhost", "127.0.0.1", "::1", "laptop", "api.test", "10.1.2.3"]
    {
        meet(&first, host).await.unwrap();
    }
    assert!(meet(&first, "other.test").await.is_err());
    let (ca, leaf) = (bytes(&first.ca), bytes(&first.cert));
    let again = get(&dir, &[], now);
    assert_eq!(again, DevCert { created: false, renewed: false, ..first.clone() });
    assert_eq!((bytes(&again.ca), bytes(&again.cert)), (ca, leaf));
    let seen = existing_in(&dir.path().join("dev-ca"), now).unwrap().unwrap();
    assert_eq!(seen, again);
}

#[test]
fn keys_are_for_their_owner_only() {
    let dir = TempDir::new().unwrap();
    let cert = get(&dir, &[], SystemTime::now());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let home = cert.ca.parent().unwrap();
    assert_eq!(mode(home), 0o700);
    assert_eq!(mode(&cert.key), 0o600);
    assert_eq!(mode(&home.join("ca-key.pem")), 0o600);
    assert_eq!(mode(&cert.ca), 0o644);
    let left: Vec<_> = std::fs::read_dir(home).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "two pairs and the lock: {left:?}");
}

#[test]
fn another_name_changes_the_certificate_and_not_the_authority() {
    let dir = TempDir::new().unwrap();
    let now = SystemTime::now();
    let first = get(&dir, &["one.test"], now);
    let ca = bytes(&first.ca);
    let second = get(&dir, &["Two.Test", "*.app.localhost"], now);
    assert!(second.renewed && !second.created);
    assert_eq!(bytes(&second.ca), ca);
    for name in ["one.test", "two.test", "*.app.localhost", "laptop", "localhost"] {
        assert!(second.names.iter().any(|known| known == name), "{name}");
    }
    assert!(!get(&dir, &["one.test"], now).renewed);
}

#[test]
fn renewed_in_the_last_week_and_the_authority_after_ten_years() {
    let dir = TempDir::new().unwrap();
    let made = SystemTime::now();
    let first = get(&dir, &["one.test"], made);
    let life = first.expires.duration_since(made).unwrap();
    assert!(life > 395 * DAY && life <= 397 * DAY);
    assert!(!get(&dir, &[], first.expires - 8 * DAY).renewed);
    let renewed = get(&dir, &[], first.expires - 6 * DAY);
    assert!(renewed.renewed && !renewed.created);
    assert!(renewed.names.contains(&"one.test".to_owned()), "names stay");
    assert!(renewed.expires > first.expires + 300 * DAY);

    let old = made + 3640 * DAY;
    let last = get(&dir, &[], old);
    assert!(!last.created);
    assert!(last.expires <= made + 3650 * DAY, "no longer than its authority");
    assert!(existing_in(last.ca.parent().unwrap(), made + 3651 * DAY).unwrap().is_none());
    let reborn = get(&dir, &[], made + 3645 * DAY);
    assert!(reborn.created);
    assert_ne!(reborn.ca_fingerprint, first.ca_fingerprint);
}

/// Whoever steals the CA's key must not be able to pose as a public site.
#[test]
fn the_authority_vouches_for_local_names_only() {
    let now = SystemTime::now();
    let ca = Authority::mint(["laptop", "dev.corp.example.com"].into_iter(), now).unwrap();
    let may = |name: &str| ca.may_sign(name, now).unwrap();
    for name in [
        "localhost",
        "a.localhost",
        "*.a.test",
        "laptop",
        "dev.corp.example.com",
        "127.0.0.1",
        "192.168.1.7",
        "172.31.0.1",
        "::1",
        "fd00::1",
    ] {
        assert!(may(name), "{name}");
    }
    for name in [
        "www.example.com",
        "corp.example.com",
        "localhost.com",
        "notlocalhost",
        "laptop2",
        "8.8.8.8",
        "172.32.0.1",
        "2001:db8::1",
    ] {
        assert!(!may(name), "{name}");
    }
}

/// Why `*.localhost` is not among the names.
#[test]
fn a_wildcard_below_one_label_spoils_the_whole_certificate() {
    let now = SystemTime::now();
    let ca = Authority::mint(std::iter::empty(), now).unwrap();
    let good = |names: &[&str]| ca.sign(&strings(names), now).unwrap().is_good_at(&ca, now);
    assert!(good(&["localhost", "*.dev.localhost"]));
    assert!(!good(&["localhost", "*.localhost"]));
}

#[test]
fn a_name_the_authority_may_not_sign_is_said() {
    let dir = TempDir::new().unwrap();
    let now = SystemTime::now();
    let home = dir.path().join("dev-ca");
    let first = get(&dir, &["dev.example.com"], now);
    assert!(first.names.contains(&"dev.example.com".to_owned()));
    let why = |names: &[&str]| ensure_in(&home, &strings(names), None, now).unwrap_err();
    let sentence = why(&["www.example.com"]);
    assert!(sentence.contains("was not made for `www.example.com`"), "{sentence}");
    assert!(sentence.contains("remove that directory"), "{sentence}");
    assert!(why(&["a b"]).contains("`a b` is neither"));
    assert!(why(&["*.localhost"]).contains("two labels must follow"));
    assert!(why(&["*.10.0.0.1"]).contains("`*.10.0.0.1` is a wildcard"));
    // A machine that was renamed: its new name is left out.
    let renamed = ensure_in(&home, &[], Some("desktop"), now).unwrap();
    assert!(!renamed.created && !renamed.names.contains(&"desktop".to_owned()));
}

#[test]
fn damaged_files_are_made_anew_and_unreadable_ones_are_said() {
    let now = SystemTime::now();
    let dir = TempDir::new().unwrap();
    let first = get(&dir, &[], now);
    for damage in [&b""[..], b"garbage", &[0xff, 0xfe]] {
        std::fs::write(&first.key, damage).unwrap();
        let mended = get(&dir, &[], now);
        assert!(mended.renewed && !mended.created);
    }
    // A certificate of another authority under this name.
    let other = get(&TempDir::new().unwrap(), &[], now);
    assert_ne!(other.ca_fingerprint, first.ca_fingerprint);
    let stranger = Authority::mint(std::iter::empty(), now).unwrap();
    let leaf = stranger.sign(&strings(&NAMES), now).unwrap();
    Store::at(first.ca.parent().unwrap()).keep_leaf(&leaf).unwrap();
    assert!(get(&dir, &[], now).renewed);

    std::fs::write(first.ca.with_file_name("ca-key.pem"), "garbage").unwrap();
    assert!(get(&dir, &[], now).created);

    std::fs::remove_file(&first.ca).unwrap();
    std::fs::create_dir(&first.ca).unwrap();
    let home = first.ca.parent().unwrap();
    let sentence = ensure_in(home, &[], None, now).unwrap_err();
    assert!(sentence.starts_with("cannot read `") && sentence.contains("ca.pem"), "{sentence}");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let sentence = ensure_in(&dir.path().join("file/dev-ca"), &[], None, now).unwrap_err();
    assert!(sentence.starts_with("cannot make the directory"), "{sentence}");
}

#[test]
fn started_together_they_share_one_authority() {
    let dir = TempDir::new().unwrap();
    let now = SystemTime::now();
    let certs = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| get(&dir, &[], now)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(certs.iter().filter(|cert| cert.created).count(), 1);
    assert!(certs.iter().all(|cert| cert.ca_fingerprint == certs[0].ca_fingerprint));
}

#[test]
fn what_people_are_told() {
    let dir = TempDir::with_suffix(" it's").unwrap();
    let cert = get(&dir, &[], SystemTime::now());
    let text = trust_instructions(&cert);
    let path = cert.ca.display().to_string();
    let shell = format!("curl --cacert '{}' https", path.replace('\'', r"'\''"));
    assert!(text.contains(&shell), "{text}");
    for tool in ["add-trusted-cert", "update-ca-certificates", "update-ca-trust", "Firefox"] {
        assert!(text.contains(tool), "{tool}");
    }
    assert!(text.contains(&format!("certutil -user -addstore Root \"{path}\"")), "{text}");
    let shown = describe(&cert);
    assert!(shown.contains(&cert.ca_fingerprint) && shown.contains("localhost, "), "{shown}");
    assert!(shown.contains("expires in   39"), "{shown}");
}

#[test]
fn the_name_of_this_machine_can_be_signed() {
    let now = SystemTime::now();
    let host = mint::host_name();
    let ca = Authority::mint(host.as_deref().into_iter(), now).unwrap();
    assert!(host.is_none_or(|host| ca.may_sign(&host, now).unwrap()));
}

/// `certs/generate.sh` makes a set that serves and verifies clients.
#[tokio::test]
async fn the_openssl_script_makes_a_working_set() {
    let dir = TempDir::new().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/generate.sh");
    let run = std::process::Command::new("sh")
        .args([script, "--dir"])
        .arg(dir.path())
        .args(["api.test", "10.1.2.3"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let file = |name: &str| dir.path().join(name);
    let pair = |stem: &str| CertificatePair {
        cert: file(&format!("{stem}.pem")),
        key: file(&format!("{stem}.key")),
    };
    let settings = ServerSettings {
        certificates: vec![pair("server")],
        client_ca: Some(file("ca.pem")),
        ..ServerSettings::default()
    };
    let server = ServerTls::new(settings, &[]).unwrap();
    let known = ClientSettings {
        ca: Some(file("ca.pem")),
        certificate: Some(pair("client")),
        ..ClientSettings::default()
    };
    for host in ["localhost", "127.0.0.1", "::1", "api.test", "10.1.2.3"] {
        let client = ClientTls::new(&known, host, &[]).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (accepted, connected) =
            tokio::join!(server.accept(Socket::Unix(ours)), client.connect(Socket::Unix(theirs)));
        connected.unwrap();
        assert_eq!(accepted.unwrap().1.client.unwrap().names, ["DNS:client"], "{host}");
    }
    let mode = |name: &str| std::fs::metadata(file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("server.key"), mode("ca.key"), mode("ca.pem")), (0o600, 0o600, 0o644));
}
