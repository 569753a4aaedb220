//! Who gets which certificate, who is let in, and what both sides learn.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::support::{Ca, H1, H2, der, meet, serving, shake, shown};
use crate::net::Socket;
use crate::tls::{
    ClientAuth, ClientSettings, ClientTls, HandshakeError, MinVersion, ServerSettings, ServerTls,
};

#[tokio::test]
async fn sni_chooses_exact_before_wildcard_before_the_first() {
    let ca = Ca::new();
    let leaves =
        [&["first.test"][..], &["*.Example.test"], &["a.example.test", "10.0.0.1"], &["*.b.test"]]
            .map(|names| ca.leaf(names));
    let certificates = leaves.iter().enumerate().map(|(i, leaf)| ca.write(&i.to_string(), leaf));
    let settings =
        ServerSettings { certificates: certificates.collect(), ..ServerSettings::default() };
    let server = ServerTls::new(settings, &[]).unwrap();
    let anyone = ClientSettings { danger_skip_verify: true, ..ClientSettings::default() };
    for (host, leaf) in [
        ("first.test", 0),
        ("x.example.test", 1),
        ("X.EXAMPLE.TEST", 1),
        ("a.example.test", 2),
        ("A.Example.Test", 2),
        ("example.test", 0),     // the wildcard stands for one label, not none
        ("y.x.example.test", 0), // nor two
        ("unknown.test", 0),
        ("10.0.0.1", 0), // an address is no SNI
    ] {
        let client = ClientTls::new(&anyone, host, &[]).unwrap();
        let (info, stream) = meet(&server, &client).await;
        assert_eq!(shown(&stream), der(&leaves[leaf].0), "{host}");
        let name = host.to_ascii_lowercase();
        assert_eq!(info.sni, (host != "10.0.0.1").then_some(name));
    }
}

#[tokio::test]
async fn of_two_certificates_for_a_name_the_client_gets_the_one_it_can_check() {
    let ca = Ca::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let ed25519 = (params.signed_by(&key, &ca.issuer).unwrap().pem(), key.serialize_pem());
    let ecdsa = ca.leaf(&["a.test"]);
    let certificates = vec![ca.write("ed25519", &ed25519), ca.write("ecdsa", &ecdsa)];
    let settings = ServerSettings { certificates, ..ServerSettings::default() };
    let server = ServerTls::new(settings, &[]).unwrap();

    let client = ca.client("a.test", &[]);
    assert_eq!(shown(&meet(&server, &client).await.1), der(&ed25519.0));

    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let known = |scheme: &rustls::SignatureScheme| *scheme != rustls::SignatureScheme::ED25519;
    let mapping = provider.signature_verification_algorithms.mapping;
    let mapping: Vec<_> = mapping.iter().filter(|(scheme, _)| known(scheme)).copied().collect();
    provider.signature_verification_algorithms.mapping = mapping.leak();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ca.pem).into()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let older = ClientTls::from_config(config.into(), "a.test".try_into().unwrap());
    assert_eq!(shown(&meet(&server, &older).await.1), der(&ecdsa.0));
}

#[tokio::test]
async fn alpn_is_agreed_or_refused() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[H2, H1]);
    for (offer, agreed) in
        [(&[H2, H1][..], Some(H2)), (&[H1, H2], Some(H2)), (&[H1], Some(H1)), (&[], None)]
    {
        let (info, stream) = meet(&server, &ca.client("a.test", offer)).await;
        assert_eq!(info.alpn.as_deref(), agreed);
        assert_eq!(stream.alpn(), agreed);
    }
    let (accepted, connected) = shake(&server, &ca.client("a.test", &[b"acme-tls/1"])).await;
    for sentence in [accepted.unwrap_err().to_string(), connected.unwrap_err().to_string()] {
        assert!(sentence.contains("none of the protocols"), "{sentence}");
    }
    let silent = ca.server(&["a.test"], &[]);
    assert_eq!(meet(&silent, &ca.client("a.test", &[H2])).await.0.alpn, None);
}

#[tokio::test]
async fn what_a_handshake_says() {
    let ca = Ca::new();
    let server = ca.asking(&["a.test"], ClientAuth::Optional);
    let names = ["user.test", "192.0.2.7", "2001:db8::7"];
    let (info, _) = meet(&server, &ca.client_showing("a.test", &names)).await;
    assert_eq!(info.version, "TLSv1.3");
    assert_eq!(info.cipher, "TLS_AES_256_GCM_SHA384");
    assert!(!info.resumed);
    let client = info.client.unwrap();
    assert_eq!(client.names, ["DNS:user.test", "IP:192.0.2.7", "IP:2001:db8::7"]);
    assert!(client.subject.contains("CN="), "{}", client.subject);
    let pem = std::fs::read_to_string(ca.path("client.pem")).unwrap();
    assert_eq!(client.der, der(&pem));
    assert_eq!(client.fingerprint.len(), 64);
    assert_eq!(client.fingerprint, crate::tls::fingerprint(&der(&pem)));
}

#[tokio::test]
async fn client_certificates_required_and_optional() {
    let (ca, other) = (Ca::new(), Ca::new());
    let nobody = ca.client("a.test", &[]);
    let known = ca.client_showing("a.test", &["user.test"]);
    let stranger =
        ClientSettings { certificate: Some(other.pair("client", &["user.test"])), ..ca.trust() };
    let stranger = ClientTls::new(&stranger, "a.test", &[]).unwrap();

    let optional = ca.asking(&["a.test"], ClientAuth::Optional);
    assert!(meet(&optional, &nobody).await.0.client.is_none());
    assert!(meet(&optional, &known).await.0.client.is_some());
    let refused = shake(&optional, &stranger).await.0.unwrap_err().to_string();
    assert!(refused.contains("not signed by an authority trusted here"), "{refused}");

    let required = ca.asking(&["a.test"], ClientAuth::Required);
    assert!(meet(&required, &known).await.0.client.is_some());
    assert!(shake(&required, &stranger).await.0.is_err());
    let (accepted, connected) = shake(&required, &nobody).await;
    let refused = accepted.unwrap_err();
    assert!(refused.to_string().contains("gave no certificate"), "{refused}");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
    let inner = refused.get_ref().and_then(|e| e.downcast_ref::<HandshakeError>()).unwrap();
    assert_eq!(inner.tls(), Some(&rustls::Error::NoCertificatesPresented));
    // TLS 1.3 tells the client at its first read.
    assert!(connected.unwrap().read_u8().await.is_err());
}

#[tokio::test]
async fn a_server_certificate_is_no_client_certificate() {
    let ca = Ca::new();
    let server_only = ca.leaf_with(&["user.test"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let certificate = Some(ca.write("client", &server_only));
    let client =
        ClientTls::new(&ClientSettings { certificate, ..ca.trust() }, "a.test", &[]).unwrap();
    let required = ca.asking(&["a.test"], ClientAuth::Required);
    assert!(shake(&required, &client).await.0.is_err());
}

#[tokio::test]
async fn a_node_is_believed_only_with_the_right_name_signed_by_the_right_authority() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = ca.server(&["a.test", "*.b.test", "127.0.0.1", "::1"], &[]);
    for host in ["a.test", "x.b.test", "127.0.0.1", "::1", "[::1]"] {
        meet(&server, &ca.client(host, &[])).await;
    }
    let why = async |client: ClientTls| shake(&server, &client).await.1.unwrap_err().to_string();
    let name = why(ca.client("c.test", &[])).await;
    assert!(name.starts_with("TLS with `c.test` failed: its certificate is refused"), "{name}");
    assert!(name.contains("a.test") && name.contains("not for `c.test`"), "{name}");
    assert!(why(ca.client("127.0.0.2", &[])).await.contains("127.0.0.1"));
    let authority = why(other.client("a.test", &[])).await;
    assert!(authority.contains("--upstream-ca"), "{authority}");
    let namesake = why(Ca::named(&ca.name).client("a.test", &[])).await;
    assert!(namesake.contains("was its authority made anew?"), "{namesake}");
    // The system's store does not know our authority, or there is none and nothing starts.
    match ClientTls::new(&ClientSettings::default(), "a.test", &[]) {
        Ok(client) => assert!(why(client).await.contains("not signed by a trusted authority")),
        Err(sentence) => assert!(sentence.contains("ca-certificates"), "{sentence}"),
    }
}

#[tokio::test]
async fn another_name_and_no_verification_only_on_demand() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = ca.server(&["a.test"], &[]);
    let renamed = ClientSettings { server_name: Some("a.test".parse().unwrap()), ..ca.trust() };
    let client = ClientTls::new(&renamed, "10.0.0.1", &[]).unwrap();
    assert_eq!(meet(&server, &client).await.0.sni.as_deref(), Some("a.test"));
    let second = client.for_host("10.0.0.2").unwrap();
    assert_eq!(meet(&server, &second).await.0.sni.as_deref(), Some("a.test"));

    let anyone = ClientSettings { danger_skip_verify: true, ..ClientSettings::default() };
    for server in [&server, &other.server(&["elsewhere.test"], &[])] {
        meet(server, &ClientTls::new(&anyone, "c.test", &[]).unwrap()).await;
    }
}

#[tokio::test]
async fn without_verification_the_key_is_still_proven() {
    // A server that shows a certificate without its key: what an attacker without it could do.
    let ca = Ca::new();
    let (cert, _) = ca.leaf(&["a.test"]);
    let key = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der());
    let provider = crate::tls::provider();
    let signer = provider.key_provider.load_private_key(key.unwrap()).unwrap();
    let pair = rustls::sign::CertifiedKey::new(vec![der(&cert).into()], signer);
    let anyone = ClientSettings { danger_skip_verify: true, ..ClientSettings::default() };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let resolver = rustls::sign::SingleCertAndKey::from(pair.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        let server = ServerTls::from_config(config.into());
        let client = ClientTls::new(&anyone, "a.test", &[]).unwrap();
        let refused = shake(&server, &client).await.1.unwrap_err().to_string();
        assert!(refused.contains("its certificate is refused"), "{refused}");
    }
}

/// P52.
#[tokio::test]
async fn old_versions_are_not_spoken() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    // A ClientHello of TLS 1.1 (RFC 4346 §7.4.1.2); with signature algorithms, as a client would
    // send that also speaks 1.2, and without.
    let hello = |extensions: &[u8]| {
        let length = u8::try_from(41 + extensions.len()).unwrap();
        let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length, 3, 2];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
        hello.extend(extensions);
        hello
    };
    let algorithms = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    for (extensions, alert) in [(&algorithms[..], 70), (&[], 40)] {
        let (sentence, answer) = say(&server, &hello(extensions)).await;
        assert!(sentence.contains("version"), "{sentence}");
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert], "a fatal alert");
    }

    let modern = ServerSettings {
        min_version: Some(MinVersion::Tls13),
        ..serving(ca.pair("modern", &["a.test"]))
    };
    let modern = ServerTls::new(modern, &[]).unwrap();
    assert_eq!(meet(&modern, &ca.client("a.test", &[])).await.0.version, "TLSv1.3");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ca.pem).into()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let old = ClientTls::from_config(config.into(), "a.test".try_into().unwrap());
    let (info, _) = meet(&server, &old).await;
    assert_eq!(info.version, "TLSv1.2");
    assert!(info.cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{}", info.cipher);
    let (accepted, connected) = shake(&modern, &old).await;
    assert!(accepted.unwrap_err().to_string().contains("version allowed here"));
    assert!(connected.unwrap_err().to_string().contains("`ProtocolVersion`"));
}

/// Sends raw bytes and the end of the stream; returns the server's sentence and what it answered.
async fn say(server: &ServerTls, bytes: &[u8]) -> (String, Vec<u8>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let client = async {
        // The server may have gone already: that is its right.
        let _ = theirs.write_all(bytes).await;
        let _ = theirs.shutdown().await;
        let mut answer = Vec::new();
        let _ = theirs.read_to_end(&mut answer).await;
        answer
    };
    let (accepted, answer) = tokio::join!(server.accept(Socket::Unix(ours)), client);
    (accepted.unwrap_err().to_string(), answer)
}

#[tokio::test]
async fn what_is_not_tls_is_refused_in_words() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    for (bytes, part) in [
        (&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], "is not TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "is not TLS"),
        (b"", "closed the connection"),
        (b"\x16", "closed the connection"),
        (b"\x16\x03\x01\x00\x05\x01\x00", "closed the connection"),
        (&[0; 64], "TLS with the client failed"),
        (&[0xff; 64], "TLS with the client failed"),
        (b"\x16\x03\x01\xff\xff", "TLS with the client failed"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "TLS with the client failed"),
        (b"\x15\x03\x03\x00\x02\x02\x2a", "does not trust our certificate"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "it gave up and says `HandshakeFailure`"),
    ] {
        let (sentence, _) = say(&server, bytes).await;
        assert!(sentence.contains(part), "{bytes:?}: {sentence}");
    }
}

#[tokio::test]
async fn a_node_that_is_not_tls_is_refused_in_words() {
    let ca = Ca::new();
    let client = ca.client("a.test", &[]);
    for (bytes, part) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "is not TLS"), (b"", "closed the connection")]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let node = async move {
            let mut hello = [0; 5];
            theirs.read_exact(&mut hello).await.unwrap();
            theirs.write_all(bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            let _ = theirs.read_to_end(&mut Vec::new()).await;
        };
        let (connected, ()) = tokio::join!(client.connect(Socket::Unix(ours)), node);
        let sentence = connected.unwrap_err().to_string();
        assert!(sentence.starts_with("TLS with `a.test` failed: "), "{sentence}");
        assert!(sentence.contains(part), "{sentence}");
    }
}

/// Nothing, the start of a record, the start of a `ClientHello`.
const HEADS: &[&[u8]] = &[b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x20\x01"];

proptest::proptest! {
    #[test]
    fn t25_no_bytes_of_a_client_make_the_server_panic(
        head in proptest::sample::select(HEADS),
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
    ) {
        thread_local! {
            static SERVER: ServerTls = Ca::new().server(&["a.test"], &[H1]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        SERVER.with(|server| runtime.block_on(say(server, &[head, &tail].concat())));
    }
}

/// T42: certificates made to hurt the parser (CVE-2025-66220, CVE-2022-21656, RUSTSEC-2026-0104).
#[tokio::test]
async fn t42_hostile_client_certificates_are_refused() {
    let ca = Ca::new();
    let server = ca.asking(&["a.test"], ClientAuth::Required);
    let san = |names: &[u8]| {
        let mut der = vec![0x30, u8::try_from(names.len()).unwrap()];
        der.extend(names);
        CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
    };
    let critical = |mut extension: CustomExtension| {
        extension.set_criticality(true);
        extension
    };
    let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
    let hostile = [
        ("an unknown critical extension", vec![critical(unknown)], false),
        ("a SAN that is cut off", vec![san(b"\x82\x7fa.test")], true),
        ("a SAN with a NUL", vec![san(b"\x82\x0duser.test\0.evil")], true),
        ("two SANs", vec![san(b"\x82\x01a"), san(b"\x82\x01b")], false),
    ];
    for (what, extensions, may_pass) in hostile {
        let leaf = ca.leaf_with(&[], |params| params.custom_extensions = extensions);
        // Our own loader would refuse some of them; a hostile client has none.
        let key = PrivateKeyDer::from_pem_slice(leaf.1.as_bytes()).unwrap();
        let signer = crate::tls::provider().key_provider.load_private_key(key).unwrap();
        let pair = rustls::sign::CertifiedKey::new(vec![der(&leaf.0).into()], signer);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&ca.pem).into()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        let client = ClientTls::from_config(config.into(), "a.test".try_into().unwrap());
        match shake(&server, &client).await.0 {
            Err(error) => assert!(error.to_string().contains("certificate"), "{what}: {error}"),
            // The chain is good and a client's name is not checked here: what counts is that the
            // broken name is not taken for a good one.
            Ok((_, info)) => {
                assert!(may_pass, "{what} passed");
                let names = info.client.unwrap().names;
                assert!(!names.iter().any(|name| name == "DNS:user.test"), "{what}: {names:?}");
            }
        }
    }
}

#[tokio::test]
async fn t42_a_chain_of_a_hundred_certificates_is_refused() {
    let ca = Ca::new();
    let server = ca.asking(&["a.test"], ClientAuth::Required);
    let (cert, key) = ca.leaf(&["user.test"]);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut issuer = Ca::new().issuer;
    let mut chain = String::new();
    for _ in 0..100 {
        let key = KeyPair::generate().unwrap();
        chain.push_str(&params.signed_by(&key, &issuer).unwrap().pem());
        issuer = rcgen::Issuer::new(params.clone(), key);
    }
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["user.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap().pem();
    let certificate = Some(ca.write("long", &(leaf + &chain, leaf_key.serialize_pem())));
    let client =
        ClientTls::new(&ClientSettings { certificate, ..ca.trust() }, "a.test", &[]).unwrap();
    let refused = shake(&server, &client).await.0.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");

    // Ballast behind a good leaf does no harm.
    let certificate = Some(ca.write("ballast", &(cert + &chain, key)));
    let client =
        ClientTls::new(&ClientSettings { certificate, ..ca.trust() }, "a.test", &[]).unwrap();
    let accepted = shake(&server, &client).await.0;
    assert!(accepted.map_or(true, |(_, info)| info.client.is_some()));
}

#[tokio::test]
async fn an_expired_certificate_is_served_and_refused_by_clients() {
    let ca = Ca::new();
    let old = ca.leaf_with(&["a.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let server = ServerTls::new(serving(ca.write("old", &old)), &[]).unwrap();
    let (_, connected) = shake(&server, &ca.client("a.test", &[])).await;
    let refused = connected.unwrap_err().to_string();
    assert!(refused.contains("it expired at 2002-01-01 00:00 UTC"), "{refused}");
}
