//! Nodes that authenticate connections and not requests, as NTLM and Negotiate do.

use crate::support::h2::{H2, request};
use crate::support::{Conn, Origin, Peer, Proxy};

/// A node that takes whoever finished the handshake for the user of the connection. It answers with
/// that user's name and the number of the connection.
fn node() -> Origin {
    Origin::start(|peer: &mut Peer| {
        let (mut user, mut is_challenged) = (None, false);
        while let Some(request) = peer.request() {
            let credentials = request.fields.get("authorization").unwrap_or_default();
            let (status, challenge) = match credentials.split_once(' ') {
                Some(("NTLM", "hello")) => {
                    is_challenged = true;
                    (401, "WWW-Authenticate: NTLM challenge\r\n")
                }
                // The last step means nothing on a connection that saw no other one.
                Some(("NTLM", name)) if is_challenged => {
                    user = Some(name.to_owned());
                    (200, "")
                }
                // Kerberos needs one step, and its answer may say nothing of it.
                Some(("Negotiate", name)) => {
                    user = Some(name.to_owned());
                    (200, "")
                }
                _ if user.is_some() => (200, ""),
                _ => (401, "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n"),
            };
            let body = format!("{} on {}", user.as_deref().unwrap_or("nobody"), peer.number);
            let length = body.len();
            peer.send(format!(
                "HTTP/1.1 {status} X\r\n{challenge}Content-Length: {length}\r\n\r\n{body}"
            ));
        }
    })
}

fn get(credentials: &str) -> String {
    let field = match credentials {
        "" => String::new(),
        _ => format!("Authorization: {credentials}\r\n"),
    };
    format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n")
}

/// Asks with these credentials; the status, and who the node takes it for.
#[track_caller]
fn hears(conn: &mut Conn, credentials: &str, status: u16, user: &str) {
    let answer = conn.ask(get(credentials));
    let text = answer.text();
    assert_eq!((answer.status(), text.split(' ').next()), (status, Some(user)));
}

/// Two nodes in turn and one worker: the handshake of three requests stays on one connection, each
/// client is itself for as long as it is connected, and who did not log in is nobody.
#[test]
fn t39_clients_that_log_in_by_connection_are_not_mixed() {
    let nodes = [node(), node()];
    let flags = ["--to", &nodes[1].url(), "--workers", "1"];
    let proxy = Proxy::http(&nodes[0].url(), &flags);
    let mut stranger = Conn::open(proxy.addr(0));
    let mut clients = ["ann", "bob", "cat"].map(|name| (name, Conn::open(proxy.addr(0))));
    for step in ["", "NTLM hello"] {
        for (_, conn) in &mut clients {
            hears(conn, step, 401, "nobody");
        }
    }
    for (name, conn) in &mut clients {
        hears(conn, &format!("NTLM {name}"), 200, name);
    }
    for _ in 0..4 {
        for (name, conn) in &mut clients {
            hears(conn, "", 200, name);
        }
        hears(&mut stranger, "", 401, "nobody");
        hears(&mut Conn::open(proxy.addr(0)), "", 401, "nobody");
    }
    // Where their clients are gone, the connections are.
    drop(clients);
    drop(stranger);
    for node in &nodes {
        node.wait_ended(node.connections());
    }
    hears(&mut Conn::open(proxy.addr(0)), "", 401, "nobody");
}

/// One step, in the first request: nothing in the node's answer says that the connection is
/// somebody's now.
#[test]
fn t39_credentials_that_need_no_challenge_make_the_connection_the_clients() {
    let node = node();
    let proxy = Proxy::http(&node.url(), &["--workers", "1"]);
    for name in ["ann", "bob"] {
        let mut conn = Conn::open(proxy.addr(0));
        hears(&mut conn, &format!("Negotiate {name}"), 200, name);
        hears(&mut conn, "", 200, name);
        hears(&mut Conn::open(proxy.addr(0)), "", 401, "nobody");
        hears(&mut conn, "", 200, name);
    }
}

/// An HTTP/2 connection may be several users': none of them is taken for another, nor for itself.
#[test]
fn t39_over_http2_nobody_gets_the_connection_back() {
    let node = node();
    let proxy = Proxy::http(&node.url(), &["--workers", "1"]);
    let mut client = H2::open(proxy.addr(0));
    for (credentials, status) in [("Negotiate ann", 200), ("", 401), ("", 401)] {
        let fields = [("authorization", credentials)];
        let fields = if credentials.is_empty() { &[][..] } else { &fields };
        let answer = client.ask(request("GET", "/", fields), b"", None);
        assert_eq!(answer.status, status, "{credentials}");
    }
    hears(&mut Conn::open(proxy.addr(0)), "", 401, "nobody");
    node.wait_ended(3);
}

/// Credentials of a request are no reason to part with a connection.
#[test]
fn t39_other_schemes_share_connections() {
    let answer = "HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm=\"NTLM\"\r\n\
                  Content-Length: 0\r\n\r\n";
    let node = Origin::answering(answer);
    let proxy = Proxy::http(&node.url(), &["--workers", "1"]);
    for credentials in ["Basic YTpi", "Bearer NTLM", ""] {
        assert_eq!(Conn::open(proxy.addr(0)).ask(get(credentials)).status(), 401);
    }
    assert_eq!(node.connections(), 1);
}
