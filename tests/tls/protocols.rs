//! The same TLS in front of the other protocols.

use super::{Session, front, s_client, showing};
use crate::support::{Authority, echo};

#[test]
fn tls_in_front_of_tcp() {
    let (echo, mint) = (echo("tcp", &[]), Authority::new());
    let (pair, client) = (mint.leaf("server", &["gw.test"]), mint.leaf("ann", &["ann.test"]));
    let to = echo.addr(0).to_string();
    let proxy = front("tcp", &to, &[&pair], &["--client-ca", &mint.ca()]);
    for version in ["-tls1_2", "-tls1_3"] {
        let options = [&[version], &showing(&client)[..]].concat();
        let mut session = Session::open(proxy.addr(0), &mint, &options);
        session.say("there ");
        session.wait("there ");
        session.say("and back");
        session.wait("there and back");
        let said = session.finish().ok().text();
        assert!(said.contains("subject=CN = server"), "{said}");
        let refused = s_client(proxy.addr(0), &mint, &[version], "");
        assert!(refused.stderr.contains("alert certificate required"), "{}", refused.stderr);
    }
}

#[test]
fn tls_in_front_of_websocket() {
    const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: gw.test\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let (echo, mint) = (echo("ws", &[]), Authority::new());
    let (pair, client) = (mint.leaf("server", &["gw.test"]), mint.leaf("ann", &["ann.test"]));
    let proxy = front("ws", &echo.url("ws", ""), &[&pair], &["--client-ca", &mint.ca()]);
    for version in ["-tls1_2", "-tls1_3"] {
        let options = [&[version, "-alpn", "http/1.1"], &showing(&client)[..]].concat();
        let mut session = Session::open(proxy.addr(0), &mint, &options);
        session.wait("ALPN protocol: http/1.1");
        session.say(HANDSHAKE);
        // The accept value of RFC 6455 §1.3, for its own example of a key.
        session.wait("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        // A text frame under a mask of zeros.
        session.say(b"\x81\x8e\0\0\0\0there and back");
        session.wait("\u{e}there and back");
        session.finish().ok();
        let refused = s_client(proxy.addr(0), &mint, &[version], HANDSHAKE);
        assert!(refused.stderr.contains("alert certificate required"), "{}", refused.stderr);
    }
}
