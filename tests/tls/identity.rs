//! Who is who: the server's certificate by the name asked for, and the client's.

use super::{GET, front, s_client, showing};
use crate::support::{Authority, Finished, Proxy, echo};

/// The subject of the certificate that was shown.
#[track_caller]
fn subject(done: Finished) -> String {
    let said = done.ok().text();
    let subject = said.lines().find_map(|line| line.strip_prefix("subject=CN = "));
    subject.unwrap_or_else(|| panic!("no subject: {said}")).to_owned()
}

/// P52.
#[test]
fn sni_picks_the_certificate() {
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let pairs = [
        mint.leaf("first", &["gw.test"]),
        mint.leaf("wildcard", &["*.shop.test"]),
        mint.leaf("exact", &["one.shop.test"]),
    ];
    let proxy = front("http", &echo.url("http", ""), &pairs.each_ref(), &[]);
    for (name, expected) in [
        ("gw.test", "first"),
        ("one.shop.test", "exact"),
        ("two.shop.test", "wildcard"),
        // RFC 4343: names have no case.
        ("ONE.Shop.TEST", "exact"),
        // A wildcard stands for one label, and for one label only (RFC 6125 §6.4.3).
        ("shop.test", "first"),
        ("deep.two.shop.test", "first"),
        ("elsewhere.test", "first"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let done = s_client(proxy.addr(0), &mint, &["-servername", name, version], GET);
            assert_eq!(subject(done), expected, "{name}");
        }
    }
    let done = s_client(proxy.addr(0), &mint, &["-noservername"], GET);
    assert_eq!(subject(done), "first", "without a name");
}

/// A front that asks for certificates of `clients`.
#[track_caller]
fn asking(to: &str, mint: &Authority, clients: &Authority, options: &[&str]) -> Proxy {
    let ca = clients.ca();
    let all = [&["--client-ca", &ca], options].concat();
    front("http", to, &[&mint.leaf("server", &["gw.test"])], &all)
}

#[track_caller]
fn assert_passes(done: Finished, what: &str) {
    let said = done.ok().text();
    assert!(said.contains("HTTP/1.1 200"), "{what}: {said}");
}

/// The handshake failed by this alert, and nothing was answered.
#[track_caller]
fn assert_refused(done: &Finished, alert: &str, what: &str) {
    let said = done.text();
    assert!(!said.contains("HTTP/1.1"), "{what}: {said}");
    assert!(done.stderr.contains(alert), "{what}: {}", done.stderr);
}

#[test]
fn a_required_client_certificate_is_required() {
    let (echo, mint, clients) = (echo("http", &[]), Authority::new(), Authority::new());
    let proxy = asking(&echo.url("http", ""), &mint, &clients, &[]);
    let (known, stranger) = (clients.leaf("ann", &["ann.test"]), mint.leaf("bob", &["bob.test"]));
    for version in ["-tls1_2", "-tls1_3"] {
        let visit =
            |options: &[&str]| s_client(proxy.addr(0), &mint, &[&[version], options].concat(), GET);
        let none = visit(&[]);
        assert_refused(&none, "alert certificate required", version);
        // One of the server's own authority is no more welcome than one of anybody else's.
        assert_refused(&visit(&showing(&stranger)), "alert unknown ca", version);
        assert_passes(visit(&showing(&known)), version);
    }
}

#[test]
fn an_optional_client_certificate_must_be_a_good_one_if_it_is_shown() {
    let (echo, mint, clients) = (echo("http", &[]), Authority::new(), Authority::new());
    let proxy = asking(&echo.url("http", ""), &mint, &clients, &["--client-auth", "optional"]);
    let (known, stranger) = (clients.leaf("ann", &["ann.test"]), mint.leaf("bob", &["bob.test"]));
    for version in ["-tls1_2", "-tls1_3"] {
        let visit =
            |options: &[&str]| s_client(proxy.addr(0), &mint, &[&[version], options].concat(), GET);
        assert_passes(visit(&[]), version);
        assert_passes(visit(&showing(&known)), version);
        assert_refused(&visit(&showing(&stranger)), "alert unknown ca", version);
    }
}
