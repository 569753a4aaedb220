//! Sessions taken up again: across workers and reloads, never across policies.

use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

use super::support::{Ca, H1, H2, der, meet, replace, serving, shake};
use crate::tls::{ClientAuth, ClientSettings, ClientTls, Reload, ServerSettings, ServerTls};

#[tokio::test]
async fn the_second_handshake_is_short() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[H2, H1]);
    let client = ca.client("a.test", &[H2, H1]);
    assert!(!meet(&server, &client).await.0.resumed);
    let (info, stream) = meet(&server, &client).await;
    assert!(info.resumed);
    assert_eq!((info.alpn.as_deref(), stream.alpn()), (Some(H2), Some(H2)));
    // Nodes of one service share sessions by name.
    let same = client.for_host("a.test").unwrap();
    assert!(meet(&server, &same).await.0.resumed);
}

#[tokio::test]
async fn tls12_resumes_by_ticket() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ca.pem).into()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientTls::from_config(config.into(), "a.test".try_into().unwrap());
    assert!(!meet(&server, &client).await.0.resumed);
    assert!(meet(&server, &client).await.0.resumed);
}

#[test]
fn a_session_begun_on_one_worker_resumes_on_another() {
    let ca = Ca::new();
    let server = Arc::new(ca.server(&["a.test"], &[]));
    let client = ca.client("a.test", &[]);
    let on_a_thread_of_its_own = |server: Arc<ServerTls>, client: ClientTls| {
        let worker = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default());
            runtime.unwrap().block_on(async { meet(&server, &client).await.0 })
        });
        worker.join().unwrap()
    };
    assert!(!on_a_thread_of_its_own(server.clone(), client.clone()).resumed);
    assert!(on_a_thread_of_its_own(server, client).resumed);
}

#[tokio::test]
async fn a_resumed_session_keeps_the_identity_of_its_client() {
    let ca = Ca::new();
    let server = ca.asking(&["a.test"], ClientAuth::Required);
    let client = ca.client_showing("a.test", &["user.test"]);
    let first = meet(&server, &client).await.0;
    let second = meet(&server, &client).await.0;
    assert!(!first.resumed && second.resumed);
    assert!(first.client.is_some());
    assert_eq!(first.client, second.client);
}

#[tokio::test]
async fn sessions_outlive_a_renewed_certificate_and_new_settings() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    let client = ca.client("a.test", &[]);
    meet(&server, &client).await;
    ca.pair("server", &["a.test"]);
    assert_eq!(server.check_files(), Reload::Settling);
    assert_eq!(server.check_files(), Reload::Swapped);
    assert!(meet(&server, &client).await.0.resumed);

    let settings = serving(ca.pair("other", &["a.test", "b.test"]));
    let successor = server.succeeded_by(settings, &[]).unwrap();
    assert!(meet(&successor, &client).await.0.resumed);
}

/// T40, CVE-2025-23419: a ticket got without a certificate opens no door that asks for one.
#[tokio::test]
async fn t40_tickets_do_not_cross_client_auth_policies() {
    let ca = Ca::new();
    let open = ca.server(&["a.test"], &[]);
    let client = ca.client("a.test", &[]);
    meet(&open, &client).await;
    assert!(meet(&open, &client).await.0.resumed, "the client does have a ticket");
    for closed in [
        ca.asking(&["a.test"], ClientAuth::Required),
        open.succeeded_by(
            ServerSettings {
                client_ca: Some(ca.path("ca.pem")),
                ..serving(ca.pair("closed", &["a.test"]))
            },
            &[],
        )
        .unwrap(),
    ] {
        let refused = shake(&closed, &client).await.0.unwrap_err().to_string();
        assert!(refused.contains("gave no certificate"), "{refused}");
        meet(&open, &client).await;
    }
}

#[tokio::test]
async fn t40_tickets_end_with_the_authority_they_were_given_under() {
    let (ca, next) = (Ca::new(), Ca::new());
    let server = ca.asking(&["a.test"], ClientAuth::Required);
    let client = ca.client_showing("a.test", &["user.test"]);
    meet(&server, &client).await;
    assert!(meet(&server, &client).await.0.resumed);
    // Replaces the authority of the clients; the client still trusts the server's.
    let trusted = ca.path("ca.pem");
    replace(&trusted, &next.pem);
    assert_eq!(server.check_files(), Reload::Settling);
    assert_eq!(server.check_files(), Reload::Swapped);
    let refused = shake(&server, &client).await.0.unwrap_err().to_string();
    assert!(refused.contains("certificate is refused"), "{refused}");
}

/// A client that shows every host the tickets it got from any.
#[derive(Debug)]
struct Indiscreet(ClientSessionMemoryCache);

impl Indiscreet {
    fn key() -> ServerName<'static> {
        "any".try_into().unwrap()
    }
}

impl ClientSessionStore for Indiscreet {
    fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(Self::key(), group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&Self::key())
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::key(), value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::key())
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::key());
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::key(), value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::key())
    }
}

#[tokio::test]
async fn t40_tickets_do_not_cross_names() {
    let ca = Ca::new();
    let server = ca.server(&["a.test", "b.test"], &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&ca.pem).into()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let sessions = Indiscreet(ClientSessionMemoryCache::new(16));
        config.resumption = Resumption::store(Arc::new(sessions));
        let config = Arc::new(config);
        let to =
            |name: &'static str| ClientTls::from_config(config.clone(), name.try_into().unwrap());
        meet(&server, &to("a.test")).await;
        assert!(meet(&server, &to("a.test")).await.0.resumed);
        assert!(!meet(&server, &to("b.test")).await.0.resumed, "{version:?}");
    }
}

#[tokio::test]
async fn the_same_trust_is_needed_to_resume_towards_a_node() {
    // A client that stops trusting a node's authority must not get in by an old session.
    let (ca, other) = (Ca::new(), Ca::new());
    let server = ca.server(&["a.test"], &[]);
    meet(&server, &ca.client("a.test", &[])).await;
    let settings = ClientSettings { ca: Some(other.path("ca.pem")), ..ClientSettings::default() };
    let strict = ClientTls::new(&settings, "a.test", &[]).unwrap();
    assert!(shake(&server, &strict).await.1.is_err());
}

/// T43: RFC 8446 §8 leaves replayed early data to the server; we take none.
#[test]
fn t43_early_data_is_off() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    assert_eq!(server.config().max_early_data_size, 0);
}
