//! What an operator reads when a file is wrong.

use std::os::unix::fs::PermissionsExt;

use rcgen::KeyPair;

use super::support::{Ca, der, serving};
use crate::tls::{CertificatePair, ClientSettings, ClientTls, ServerTls};

fn start(cert: &std::path::Path, key: &std::path::Path) -> String {
    let pair = CertificatePair { cert: cert.into(), key: key.into() };
    ServerTls::new(serving(pair), &[]).unwrap_err()
}

#[test]
fn every_fault_has_a_sentence_that_names_file_and_remedy() {
    let ca = Ca::new();
    let good = ca.pair("good", &["a.test"]);
    let (cert, key) = (&good.cert, &good.key);
    let file = |name: &str, content: &[u8]| {
        std::fs::write(ca.path(name), content).unwrap();
        ca.path(name)
    };
    let missing = ca.path("missing.pem");
    let locked =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let base64 = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let not_x509 = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let not_key = b"-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
    let other = KeyPair::generate().unwrap().serialize_pem();
    let pem = std::fs::read_to_string(cert).unwrap();
    let reversed = format!("{}{pem}", ca.pem);
    let big = vec![b'x'; 4 * 1024 * 1024 + 1];
    let table = [
        (start(&missing, key), "certificate file `", "`--tls-dev`"),
        (start(cert, &missing), "key file `", "it does not exist; check the path"),
        (start(ca.dir.path(), key), "certificate file `", "not a regular file"),
        (start(&file("e.pem", b""), key), "e.pem`", "is empty"),
        (start(cert, &file("e.key", b"")), "e.key`", "is empty"),
        (start(&file("x.pem", b"hello"), key), "x.pem`", "no `-----BEGIN CERTIFICATE-----`"),
        (start(cert, &file("x.key", b"hello")), "x.key`", "no `-----BEGIN PRIVATE KEY-----`"),
        (start(key, cert), "good.key`", "are the two paths swapped?"),
        (start(cert, cert), "good.pem`", "holds a certificate and no private key"),
        (start(&file("d.der", &der(&pem)), key), "d.der`", "openssl x509 -inform der"),
        (start(cert, &file("l.key", locked)), "l.key`", "openssl pkey -in"),
        (start(&file("b.pem", base64), key), "b.pem`", "base64 does not decode"),
        (start(&file("n.pem", not_x509), key), "n.pem`", "is damaged"),
        (start(cert, &file("n.key", not_key)), "n.key`", "cannot be used"),
        (start(cert, &file("o.key", other.as_bytes())), "o.key`", "does not belong to"),
        (start(&file("r.pem", reversed.as_bytes()), key), "r.pem`", "own certificate first"),
        (start(&file("big.pem", &big), key), "big.pem`", "larger than 4 MiB"),
    ];
    for (sentence, file, remedy) in table {
        assert!(sentence.contains(file), "{sentence}");
        assert!(sentence.contains(remedy), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

/// A remedy is told only where it is one.
#[test]
fn a_missing_file_is_told_with_what_can_make_it() {
    let ca = Ca::new();
    let missing = || CertificatePair { cert: ca.path("no.pem"), key: ca.path("no.key") };
    let told =
        |faults: Vec<(_, String)>| faults.into_iter().map(|(_, why)| why).collect::<Vec<_>>();
    for sentence in told(missing().faults()) {
        assert!(sentence.contains("--tls-dev") && !sentence.contains("generate"), "{sentence}");
    }
    let settings = ClientSettings { certificate: Some(missing()), ..ca.trust() };
    let why = ClientTls::new(&settings, "a.test", &[]).unwrap_err();
    for sentence in [told(missing().shown_faults()), vec![why]].concat() {
        assert!(
            sentence.contains("does not exist") && !sentence.contains("--tls-dev"),
            "{sentence}"
        );
    }
    std::fs::write(ca.path("generate.sh"), "").unwrap();
    let script = format!("`{}`", ca.path("generate.sh").display());
    for sentence in told([missing().faults(), missing().shown_faults()].concat()) {
        assert!(sentence.contains(&script), "{sentence}");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_said() {
    let ca = Ca::new();
    let good = ca.pair("good", &["a.test"]);
    std::fs::set_permissions(&good.key, std::fs::Permissions::from_mode(0o000)).unwrap();
    match ServerTls::new(serving(good.clone()), &[]) {
        Err(sentence) => assert!(sentence.contains("permission denied; let the user")),
        // The superuser reads everything.
        Ok(_) => assert!(std::fs::read(&good.key).is_ok()),
    }
}

#[test]
fn wrong_words_towards_nodes() {
    let ca = Ca::new();
    let why =
        |settings: &ClientSettings, host: &str| ClientTls::new(settings, host, &[]).unwrap_err();
    assert!(why(&ca.trust(), "a b").contains("`a b` is neither a host name nor an IP address"));
    let missing = ClientSettings { ca: Some(ca.path("no.pem")), ..ClientSettings::default() };
    assert!(why(&missing, "a.test").contains("upstream CA file"));
    std::fs::write(ca.path("no.pem"), "").unwrap();
    assert!(why(&missing, "a.test").contains("is empty"));
    let both = ClientSettings { danger_skip_verify: true, ..ca.trust() };
    assert!(why(&both, "a.test").contains("verification is switched off"));
    let certificate = Some(CertificatePair { cert: ca.path("ca.pem"), key: ca.path("no.key") });
    let keyless = ClientSettings { certificate, ..ca.trust() };
    assert!(why(&keyless, "a.test").contains("key file"));
}
