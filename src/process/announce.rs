//! What a start says: one line for each listener, with where it is and what to type to try it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gwproxy_core::net::{ListenAddr, PeerAddr};
use gwproxy_core::tls::ClientAuth;
use gwproxy_http::forward::guide;

use crate::assemble::{Announced, Running};
use crate::plan::{Action, Protocol, Want};

/// Says it all on standard error.
pub(super) fn all(running: &Running) {
    let mut out = std::io::stderr().lock();
    for listener in &running.listeners {
        let _ = writeln!(out, "{}", line(listener));
        let Action::Forward(forward) = &listener.plan.action else { continue };
        if forward.unsafe_open && forward.users.is_empty() {
            let _ = writeln!(
                out,
                "WARNING: this forward proxy is open: whoever can reach {} can use it",
                listener.addr
            );
        }
        let tls = listener.plan.tls.as_ref();
        let websocket_only = listener.plan.protocol == Protocol::Ws;
        let guide = guide(&listener.addr, tls.is_some(), user(listener), websocket_only);
        let _ = write!(out, "{guide}");
        if tls.is_some_and(|tls| tls.dev) {
            let _ = writeln!(
                out,
                "  trust    gwproxy cert show   (how to make this machine trust the certificate)"
            );
        }
    }
    if let Some(addr) = &running.admin {
        let dial = dialled(addr);
        let (at, curl) = match addr {
            ListenAddr::Unix(path) => {
                let path = path.display();
                (dial, format!("curl --unix-socket {path} http://localhost/metrics"))
            }
            _ => (format!("http://{dial}"), format!("curl http://{dial}/metrics")),
        };
        let _ = writeln!(out, "admin on {at}   try: {curl}");
        if !addr.is_loopback() {
            let _ = writeln!(
                out,
                "WARNING: the admin address asks nobody for a password: whoever can reach {addr} \
                 can read it"
            );
        }
    }
}

fn line(listener: &Announced) -> String {
    let Announced { plan, addr } = listener;
    let tls = plan.tls.is_some();
    let dial = dialled(addr);
    let (kind, scheme) = match (&plan.action, plan.protocol, tls) {
        (Action::Forward(_), _, false) => ("forward proxy", "http"),
        (Action::Forward(_), _, true) => ("forward proxy", "https"),
        (_, Protocol::Http, false) => ("http", "http"),
        (_, Protocol::Http, true) => ("http", "https"),
        (_, Protocol::Ws, false) => ("ws", "ws"),
        (_, Protocol::Ws, true) => ("ws", "wss"),
        (_, Protocol::Tcp, false) => ("tcp", "tcp"),
        (_, Protocol::Tcp, true) => ("tcp", "tls"),
        (_, Protocol::Grpc, false) => ("grpc", "grpc"),
        (_, Protocol::Grpc, true) => ("grpc", "grpcs"),
    };
    let everywhere = if is_everywhere(addr) { " (every address of this machine)" } else { "" };
    let hint = match addr {
        ListenAddr::Unix(path) => over_a_socket(listener, &path.display().to_string()),
        _ => over_tcp(listener, &dial, scheme),
    };
    let hint = hint.map(|hint| format!("   try: {hint}")).unwrap_or_default();
    let at = match addr {
        ListenAddr::Unix(_) if tls => format!("{dial} with TLS"),
        ListenAddr::Unix(_) => dial,
        _ => format!("{scheme}://{dial}{everywhere}"),
    };
    format!("{kind} on {at}{hint}")
}

/// What to type, none where no common tool can.
fn over_tcp(listener: &Announced, dial: &str, scheme: &str) -> Option<String> {
    let plan = &listener.plan;
    let tls = plan.tls.as_ref();
    if wants_header(listener) {
        return with_header(listener, dial, scheme);
    }
    Some(match (&plan.action, plan.protocol) {
        (Action::Forward(_), _) => {
            let insecure = if tls.is_some() { " --proxy-insecure" } else { "" };
            let shown = certificate(listener, "--proxy-cert", "--proxy-key");
            // curl asks for the password.
            let user = match user(listener) {
                Some(name) if name.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                    format!(" --proxy-user {name}")
                }
                Some(_) => " --proxy-user USER".to_owned(),
                None => String::new(),
            };
            if plan.protocol == Protocol::Ws {
                return Some(handshake(
                    &format!("{insecure}{shown}{user} -x {scheme}://{dial}"),
                    "http://example.com/",
                ));
            }
            format!("curl{insecure}{shown}{user} -x {scheme}://{dial} https://example.com/")
        }
        (_, Protocol::Http) => {
            let insecure = if tls.is_some() { " -k" } else { "" };
            let shown = certificate(listener, "--cert", "--key");
            format!("curl{insecure}{shown} {scheme}://{dial}/")
        }
        (_, Protocol::Ws) if wants_certificate(listener) => {
            // The client of Python's websockets shows none.
            let shown = certificate(listener, "--cert", "--key");
            handshake(&format!(" -k{shown}"), &format!("https://{dial}/"))
        }
        (_, Protocol::Ws) => {
            let dev = tls.is_some_and(|tls| tls.dev);
            let trust = if dev { "SSL_CERT_FILE=\"$(gwproxy cert show --ca)\" " } else { "" };
            format!("{trust}python3 -m websockets {scheme}://{dial}/")
        }
        (_, Protocol::Tcp) if tls.is_some() => {
            let shown = certificate(listener, "-cert", "-key");
            format!("openssl s_client{shown} -connect {dial}")
        }
        (_, Protocol::Tcp) => match dial.rsplit_once(':') {
            Some((host, port)) => format!("nc {} {port}", host.trim_matches(['[', ']'])),
            None => format!("nc {dial}"),
        },
        (_, Protocol::Grpc) => {
            let plain = if tls.is_some() { "-insecure" } else { "-plaintext" };
            let shown = certificate(listener, "-cert", "-key");
            format!("grpcurl {plain}{shown} {dial} list")
        }
    })
}

/// The same with a PROXY header in front, which curl can send to a server, and to no proxy.
fn with_header(listener: &Announced, dial: &str, scheme: &str) -> Option<String> {
    let plan = &listener.plan;
    let insecure = if plan.tls.is_some() { " -k" } else { "" };
    let flags =
        format!("{insecure}{} --haproxy-protocol", certificate(listener, "--cert", "--key"));
    match (&plan.action, plan.protocol) {
        (Action::Forward(_), _) | (_, Protocol::Grpc | Protocol::Tcp) => None,
        (_, Protocol::Http) => Some(format!("curl{flags} {scheme}://{dial}/")),
        (_, Protocol::Ws) => {
            let scheme = if plan.tls.is_some() { "https" } else { "http" };
            Some(handshake(&flags, &format!("{scheme}://{dial}/")))
        }
    }
}

/// Through a Unix socket; none where no common tool can.
fn over_a_socket(listener: &Announced, path: &str) -> Option<String> {
    let plan = &listener.plan;
    let tls = plan.tls.is_some();
    let header = wants_header(listener);
    let (insecure, url) =
        if tls { (" -k", "https://localhost/") } else { ("", "http://localhost/") };
    let curl = || {
        let shown = certificate(listener, "--cert", "--key");
        let header = if header { " --haproxy-protocol" } else { "" };
        format!("{insecure}{shown}{header} --unix-socket {path}")
    };
    match (&plan.action, plan.protocol) {
        (Action::Forward(_), _) => None,
        (_, Protocol::Http) => Some(format!("curl{} {url}", curl())),
        (_, Protocol::Ws) => Some(handshake(&curl(), url)),
        (_, Protocol::Tcp | Protocol::Grpc) if header => None,
        (_, Protocol::Tcp) if tls => {
            let shown = certificate(listener, "-cert", "-key");
            Some(format!("openssl s_client{shown} -connect {path}"))
        }
        (_, Protocol::Tcp) => Some(format!("nc -U {path}")),
        (_, Protocol::Grpc) if !tls => Some(format!("grpcurl -plaintext -unix {path} list")),
        (_, Protocol::Grpc) => None,
    }
}

/// Whether a connection from this machine has to begin with a PROXY header.
fn wants_header(listener: &Announced) -> bool {
    let loopback = |is_v6| -> IpAddr {
        if is_v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
    };
    let from = match &listener.addr {
        ListenAddr::Any(port) => PeerAddr::from_socket((loopback(false), *port).into()),
        ListenAddr::Tcp(at) if at.ip().is_unspecified() => {
            PeerAddr::from_socket((loopback(at.is_ipv6()), at.port()).into())
        }
        // What is sent to an address of this machine has that address itself.
        ListenAddr::Tcp(at) => PeerAddr::from_socket(*at),
        ListenAddr::Unix(_) => PeerAddr::Unix,
    };
    let rule = listener.plan.proxy_protocol.as_ref();
    rule.is_some_and(|rule| rule.want == Want::Required && rule.concerns(from))
}

/// Whether a client without a certificate is turned away.
fn wants_certificate(listener: &Announced) -> bool {
    let auth = listener.plan.tls.as_ref().and_then(|tls| tls.settings.client_auth());
    auth == Some(ClientAuth::Required)
}

/// The flags of a tool that show a certificate, where clients need one; only they have it.
fn certificate(listener: &Announced, cert: &str, key: &str) -> String {
    if wants_certificate(listener) {
        format!(" {cert} CLIENT.pem {key} CLIENT.key")
    } else {
        String::new()
    }
}

/// An opening handshake by curl, which every version of it can send (RFC 6455 §1.2 has the key).
fn handshake(flags: &str, url: &str) -> String {
    format!(
        "curl{flags} --http1.1 -vN -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H \
         'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' {url}"
    )
}

/// Who may use a forward proxy, for the lines to copy: its first user.
fn user(listener: &Announced) -> Option<&str> {
    match &listener.plan.action {
        Action::Forward(forward) => forward.users.first().map(|user| &*user.name),
        Action::Route | Action::Serve(_) => None,
    }
}

fn is_everywhere(addr: &ListenAddr) -> bool {
    match addr {
        ListenAddr::Any(_) => true,
        ListenAddr::Tcp(addr) => addr.ip().is_unspecified(),
        ListenAddr::Unix(_) => false,
    }
}

/// What to write to reach a listener from this machine.
fn dialled(addr: &ListenAddr) -> String {
    match addr {
        ListenAddr::Any(port) => format!("localhost:{port}"),
        ListenAddr::Tcp(addr) if addr.ip().is_unspecified() => format!("localhost:{}", addr.port()),
        ListenAddr::Tcp(addr) => addr.to_string(),
        ListenAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Invocation, parse};

    fn said(command: &str) -> String {
        let typed = std::iter::once("gwproxy").chain(command.split_whitespace());
        let Invocation::Serve(plan, _) = parse(typed, &mut std::io::empty()) else {
            panic!("{command}")
        };
        let plan = plan.listeners[0].clone();
        let addr = plan.bind.clone();
        line(&Announced { plan, addr })
    }

    /// Commands, where they are, and what is to be typed, if anything.
    fn assert_said(rows: &[(&str, &str, &str)]) {
        const HASH: &str = "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        const HANDSHAKE: &str = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H \
                                 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: \
                                 dGhlIHNhbXBsZSBub25jZQ=='";
        for (command, at, hint) in rows {
            let hint = if hint.is_empty() { String::new() } else { format!("   try: {hint}") };
            let hint = hint.replace("HANDSHAKE", HANDSHAKE);
            assert_eq!(said(&command.replace("HASH", HASH)), format!("{at}{hint}"), "{command}");
        }
    }

    #[test]
    fn every_listener_says_what_to_type() {
        assert_said(&[
            (
                "http --to a:1 -l :80",
                "http on http://localhost:80 (every address of this machine)",
                "curl http://localhost:80/",
            ),
            (
                "http --to a:1 -l [::1]:80 --tls-dev",
                "http on https://[::1]:80",
                "curl -k https://[::1]:80/",
            ),
            (
                "ws --to a:1 -l 127.0.0.1:8 --tls-dev",
                "ws on wss://127.0.0.1:8",
                "SSL_CERT_FILE=\"$(gwproxy cert show --ca)\" python3 -m websockets wss://127.0.0.1:8/",
            ),
            ("tcp --to a:1 -l [::1]:80", "tcp on tcp://[::1]:80", "nc ::1 80"),
            (
                "tcp --to a:1 -l [::1]:80 --tls-dev",
                "tcp on tls://[::1]:80",
                "openssl s_client -connect [::1]:80",
            ),
            (
                "http --forward --tls-dev -l 127.0.0.1:80 --user ann:HASH",
                "forward proxy on https://127.0.0.1:80",
                "curl --proxy-insecure --proxy-user ann -x https://127.0.0.1:80 https://example.com/",
            ),
            (
                "http --to a:1 -l [::1]:80 --tls-dev --client-ca ca.pem",
                "http on https://[::1]:80",
                "curl -k --cert CLIENT.pem --key CLIENT.key https://[::1]:80/",
            ),
            (
                "http --to a:1 -l [::1]:80 --tls-dev --client-ca ca.pem --client-auth optional",
                "http on https://[::1]:80",
                "curl -k https://[::1]:80/",
            ),
            (
                "ws --forward -l 127.0.0.1:8",
                "forward proxy on http://127.0.0.1:8",
                "curl -x http://127.0.0.1:8 --http1.1 -vN HANDSHAKE http://example.com/",
            ),
        ]);
    }

    #[test]
    fn a_unix_socket_is_told_as_one() {
        assert_said(&[
            (
                "http --to a:1 -l unix:/x",
                "http on unix:/x",
                "curl --unix-socket /x http://localhost/",
            ),
            (
                "http --to a:1 -l unix:/x --tls-dev",
                "http on unix:/x with TLS",
                "curl -k --unix-socket /x https://localhost/",
            ),
            (
                "ws --to a:1 -l unix:/x",
                "ws on unix:/x",
                "curl --unix-socket /x --http1.1 -vN HANDSHAKE http://localhost/",
            ),
            ("tcp --to a:1 -l unix:/x", "tcp on unix:/x", "nc -U /x"),
            ("grpc --to a:1 -l unix:/x", "grpc on unix:/x", "grpcurl -plaintext -unix /x list"),
            ("http --forward -l unix:/x", "forward proxy on unix:/x", ""),
            (
                "tcp --to a:1 -l unix:/x --tls-dev --client-ca ca.pem",
                "tcp on unix:/x with TLS",
                "openssl s_client -cert CLIENT.pem -key CLIENT.key -connect /x",
            ),
        ]);
    }

    #[test]
    fn where_a_proxy_header_is_required_the_hint_sends_one() {
        assert_said(&[
            (
                "http --to a:1 -l [::1]:80 --tls-dev --proxy-protocol required",
                "http on https://[::1]:80",
                "curl -k --haproxy-protocol https://[::1]:80/",
            ),
            (
                "http --to a:1 -l unix:/x --proxy-protocol required",
                "http on unix:/x",
                "curl --haproxy-protocol --unix-socket /x http://localhost/",
            ),
            (
                "http --to a:1 -l [::1]:80 --proxy-protocol optional --proxy-protocol-from ::1",
                "http on http://[::1]:80",
                "curl http://[::1]:80/",
            ),
            (
                "http --to a:1 -l 127.0.0.1:80 --proxy-protocol-from 10.0.0.0/8",
                "http on http://127.0.0.1:80",
                "curl http://127.0.0.1:80/",
            ),
            (
                "ws --to a:1 -l 127.0.0.1:8 --proxy-protocol-from 127.0.0.0/8",
                "ws on ws://127.0.0.1:8",
                "curl --haproxy-protocol --http1.1 -vN HANDSHAKE http://127.0.0.1:8/",
            ),
            (
                "tcp --to a:1 -l 127.0.0.1:8 --proxy-protocol required",
                "tcp on tcp://127.0.0.1:8",
                "",
            ),
            ("tcp --to a:1 -l unix:/x --proxy-protocol required", "tcp on unix:/x", ""),
        ]);
    }
}
