//! What is agreed on: version, ALPN, resumption.

use std::io::Read as _;

use super::{GET, Session, front, http, s_client};
use crate::support::tls::Tls;
use crate::support::{Authority, Conn, Pair, Proxy, echo, eventually};

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
    let told = |proxy: &Proxy, needle: &str| {
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

/// Who does not come to the end of a handshake in time is cut off, silent or byte by byte, and its
/// place is free again.
#[test]
fn t25_a_handshake_must_end_in_time() {
    /// A record of 16,000 bytes: a `ClientHello` that never ends.
    const HELLO: &[u8] = b"\x16\x03\x01\x3e\x80\x01\x00\x3e\x7c\x03\x03";
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let Pair { cert, key } = mint.leaf("server", &["gw.test"]);
    let proxy = Proxy::run_file(&format!(
        "listeners:\n  - name: front\n    bind: 127.0.0.1:0\n    max_connections: 2\n    \
         timeouts: {{ handshake: 300ms }}\n    service: s\n    \
         tls: {{ certificates: [{{ cert: {}, key: {} }}] }}\n\
         services:\n  - id: s\n    nodes: [{}]\n",
        cert.display(),
        key.display(),
        echo.url("http", "")
    ));
    for begin in [&b""[..], HELLO] {
        // Both places.
        let mut slow = [0, 1].map(|_| Conn::open(proxy.addr(0)));
        for conn in &mut slow {
            conn.send(begin);
        }
        eventually("the slow ones are cut off", || {
            for conn in slow.iter_mut().filter(|_| !begin.is_empty()) {
                conn.send(b"x");
            }
            slow.iter().all(Conn::is_ready).then_some(())
        });
        for conn in &mut slow {
            conn.assert_ends();
        }
    }
    let mut tls = Tls::open(proxy.addr(0), &mint.ca(), "gw.test");
    assert_eq!(tls.ask(GET).status(), 200);
}

/// A key update makes work and says nothing: 32 may come between two records of data (the
/// library's bound).
#[test]
fn t25_key_updates_without_end_end_the_connection() {
    let (echo, mint) = (echo("http", &[]), Authority::new());
    let proxy = http(&mint, &echo.url("http", ""), &[]);
    let open = || Tls::open(proxy.addr(0), &mint.ca(), "gw.test");
    let update = |tls: &mut Tls, count: usize| {
        for _ in 0..count {
            tls.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
            // It may be gone already.
            let _ = tls.stream.conn.write_tls(&mut tls.stream.sock);
        }
    };
    let head = "GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    let (mut honest, mut hostile) = (open(), open());
    for _ in 0..3 {
        update(&mut honest, 30);
        assert_eq!(honest.ask(head).status(), 200);
    }
    update(&mut hostile, 1000);
    let mut rest = Vec::new();
    let error = hostile.stream.read_to_end(&mut rest).expect_err("no orderly end");
    assert!(rest.is_empty(), "{error}");
    assert_eq!(honest.ask(head).status(), 200);
}

/// T43, P52, RFC 9113 §9.2.1: a client of TLS 1.2 that asks for another handshake on its connection
/// gets an alert, in HTTP/1 and HTTP/2; nobody else notices, and the log is not its to fill.
#[test]
fn t43_p52_renegotiation_is_refused_by_an_alert() {
    let (mint, echo) = (Authority::new(), echo("http", &[]));
    let proxy = http(&mint, &echo.url("http", ""), &["--workers", "1"]);
    let mut other = Tls::open(proxy.addr(0), &mint.ca(), "gw.test");
    for alpn in ["http/1.1", "h2"] {
        assert_eq!(other.ask("GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n").status(), 200);
        let options = ["-tls1_2", "-alpn", alpn, "-servername", "gw.test"];
        let mut session = Session::open(proxy.addr(0), &mint, &options);
        session.wait(&format!("ALPN protocol: {alpn}"));
        if alpn == "http/1.1" {
            session.say("GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n");
            session.wait("HTTP/1.1 200 OK");
        }
        session.say("R\n");
        let refused = session.wait_end();
        assert!(refused.stderr.contains("no renegotiation"), "{}", refused.stderr);
        assert_eq!(other.ask("GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n").status(), 200);
    }
    assert!(!proxy.stderr().to_lowercase().contains("renegotiation"), "{}", proxy.stderr());
}
