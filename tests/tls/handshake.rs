//! What is agreed on: version, ALPN, resumption.

use super::{GET, front, http, s_client};
use crate::support::{Authority, Conn, echo};

/// P52.
#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let proxy = http(&mint, &echo.url("http", ""), &[]);
    for (option, version) in [("-tls1_2", "New, TLSv1.2"), ("-tls1_3", "New, TLSv1.3")] {
        let done = s_client(proxy.addr(0), &mint, &["-servername", "gw.test", option], GET).ok();
        let said = done.text();
        assert!(said.contains(version) && said.contains("HTTP/1.1 200"), "{version}: {said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    for option in ["-tls1", "-tls1_1"] {
        // OpenSSL itself has to be talked into offering it.
        let done = s_client(proxy.addr(0), &mint, &[option, "-cipher", "ALL:@SECLEVEL=0"], GET);
        assert_ne!(done.code, Some(0), "{option}");
        // Which one depends on what the server looks at first.
        let alerts = ["alert protocol version", "alert handshake failure"];
        let is_told = alerts.iter().any(|alert| done.stderr.contains(alert));
        assert!(is_told, "{option}: {}", done.stderr);
        assert!(!done.text().contains("HTTP/1.1"), "{option}: {}", done.text());
    }
}

/// The operator reads why clients do not come in; only the first of many, as with PROXY headers.
#[test]
fn refused_handshakes_are_told() {
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let start = |options: &[&str]| http(&mint, &echo.url("http", ""), options);
    let told = |proxy: &crate::support::Proxy, needle: &str| {
        proxy.wait_stderr(needle);
        let stderr = proxy.stderr();
        let line = stderr.lines().find(|line| line.contains(needle)).unwrap_or_default();
        assert!(line.contains(" WARN ") && line.contains("client=127.0.0.1:"), "{line}");
    };

    let proxy = start(&[]);
    for _ in 0..3 {
        Conn::open(proxy.addr(0)).send(GET).rest();
    }
    told(&proxy, "does it speak plain text to a TLS port?");

    let proxy = start(&["--client-ca", &mint.ca()]);
    s_client(proxy.addr(0), &mint, &[], GET);
    told(&proxy, "it gave no certificate, and this listener requires one");

    let proxy = start(&[]);
    s_client(proxy.addr(0), &mint, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], GET);
    told(&proxy, "TLS with the client failed");

    // Who leaves is no fault.
    let proxy = start(&[]);
    Conn::open(proxy.addr(0)).finish().assert_ends();
    Conn::open(proxy.addr(0)).send(GET).rest();
    told(&proxy, "does it speak plain text to a TLS port?");
    assert!(!proxy.stderr().contains("closed the connection"), "{}", proxy.stderr());
}

#[test]
fn alpn_picks_what_both_speak_and_refuses_the_rest() {
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let proxy = http(&mint, &echo.url("http", ""), &[]);
    let visit = |options: &[&str], input| s_client(proxy.addr(0), &mint, options, input);
    for (offered, agreed) in [
        ("http/1.1", "ALPN protocol: http/1.1"),
        // The better one, whatever the client's order.
        ("http/1.1,h2", "ALPN protocol: h2"),
        ("h2", "ALPN protocol: h2"),
        ("spdy/3,http/1.1", "ALPN protocol: http/1.1"),
    ] {
        // No request for HTTP/2: the wrong preface ends such a connection.
        let said = visit(&["-alpn", offered], GET).text();
        assert!(said.contains(agreed), "{offered}: {said}");
        assert_eq!(said.contains("HTTP/1.1 200"), agreed.ends_with("1.1"), "{offered}: {said}");
    }
    let said = visit(&[], GET).ok().text();
    assert!(said.contains("No ALPN negotiated") && said.contains("HTTP/1.1 200"), "{said}");
    let refused = visit(&["-alpn", "spdy/3"], GET);
    assert_ne!(refused.code, Some(0));
    // RFC 7301 §3.2.
    assert!(refused.stderr.contains("alert no application protocol"), "{}", refused.stderr);
}

/// A session begun on one worker is resumed on any: of so many connections the kernel gives each
/// worker some (one in 2^23 times it would not).
#[test]
fn sessions_are_resumed_by_every_worker() {
    const RETURNS: usize = 24;
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let to = echo.url("http", "");
    let proxy = front("http", &to, &[&mint.leaf("server", &["gw.test"])], &["--workers", "2"]);
    let dir = tempfile::tempdir().expect("a directory");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = dir.path().join(version);
        let file = file.to_str().expect("UTF-8");
        let visit = |options: &[&str]| {
            let all = [&[version, "-servername", "gw.test", "-sess_out", file], options].concat();
            let said = s_client(proxy.addr(0), &mint, &all, GET).ok().text();
            assert!(said.contains("HTTP/1.1 200"), "{said}");
            said
        };
        assert!(visit(&[]).contains("New, TLSv1"), "the first is a new one");
        for number in 1..=RETURNS {
            let said = visit(&["-sess_in", file]);
            assert!(said.contains("Reused, TLSv1"), "{version}, return {number}: {said}");
        }
    }
}
