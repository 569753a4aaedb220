//! Headers that go out.

use std::io::Read as _;

use serde_json::json;

use super::{curl_from, haproxy, nginx};
use crate::clients::{grpc, websocket};
use crate::support::{Authority, Conn, Origin, Proxy, Server, curl, echo, text};

/// Every version of the header.
const VERSIONS: [&str; 2] = ["v1", "v2"];

/// nginx that wants a header and tells what it said.
fn nginx_that_wants(tls: &str) -> Server {
    nginx(&format!(
        "server {{
           listen ADDR {} proxy_protocol; {tls}
           location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_server_port\"; }}
         }}",
        if tls.is_empty() { "" } else { "ssl" }
    ))
}

/// An upstream that answers requests after a header of either version.
fn origin() -> Origin {
    Origin::start(|peer| {
        let mut header = vec![0; 15];
        if peer.read_exact(&mut header).is_err() {
            return;
        }
        let is_line = header.starts_with(b"PROXY ");
        // The last byte of the length of version 2 is the sixteenth.
        let is_over = |header: &[u8]| {
            let length = header.get(15).map(|&more| 16 + usize::from(more));
            if is_line { header.ends_with(b"\r\n") } else { length == Some(header.len()) }
        };
        while !is_over(&header) {
            let mut byte = [0];
            peer.read_exact(&mut byte).expect("the rest of the header");
            header.extend(byte);
        }
        while peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

/// The proxy's port, as nginx should hear of it.
fn port(proxy: &Proxy) -> u16 {
    proxy.addr(0).port()
}

/// Several clients through one worker: none is taken for another.
#[test]
fn t39_nginx_is_told_each_clients_own_address() {
    let mint = Authority::new();
    let [_, cert, _, key] = mint.leaf("node", &["127.0.0.1"]).flags();
    let (plain, secure) = (
        nginx_that_wants(""),
        nginx_that_wants(&format!("ssl_certificate {cert}; ssl_certificate_key {key};")),
    );
    for version in VERSIONS {
        for (node, scheme) in [(&plain, "http"), (&secure, "https")] {
            let ca = mint.ca();
            let mut options = vec!["--send-proxy", version, "--workers", "1"];
            if scheme == "https" {
                options.extend(["--upstream-ca", &ca]);
            }
            let proxy = Proxy::http(&node.url(scheme), &options);
            let url = proxy.url("http", "/");
            for _ in 0..2 {
                for ip in ["127.0.0.2", "127.0.0.3"] {
                    for http in ["--http1.1", "--http2-prior-knowledge"] {
                        let told = curl_from(ip, &[http, &url]).ok().text();
                        assert_eq!(
                            told,
                            format!("{ip} {}", port(&proxy)),
                            "{version} {scheme} {http}"
                        );
                    }
                }
            }
        }
    }
}

/// HTTP/2 to the node, and raw TCP: HAProxy as the receiver.
#[test]
fn row_1_4_haproxy_takes_what_is_sent() {
    let answer = "http-request return status 200 content-type text/plain lf-string \
                  \"%[src] %[dst_port] %[req.ver]\"";
    let h1 = haproxy("http", &format!("frontend f\n  bind ADDR accept-proxy\n  {answer}"));
    let h2 = haproxy("http", &format!("frontend f\n  bind ADDR accept-proxy proto h2\n  {answer}"));
    for version in VERSIONS {
        let send = ["--send-proxy", version];
        let to_h2 = Proxy::http(&h2.url("h2c"), &send);
        let to_h1 = h1.addr().to_string();
        let tcp = ["tcp", "--listen", "127.0.0.1:0", "--to", &to_h1];
        let raw = Proxy::start(&[&tcp[..], &send].concat());
        for (proxy, http) in [(&to_h2, "2.0"), (&raw, "1.1")] {
            for ip in ["127.0.0.2", "127.0.0.3"] {
                let told = curl_from(ip, &[&proxy.url("http", "/")]).ok().text();
                assert_eq!(told, format!("{ip} {} {http}", port(proxy)), "{version}");
            }
        }
    }
}

/// One proxy behind another: the client's address and the one it connected to go all the way.
#[test]
fn row_1_4_a_chain_of_proxies_keeps_the_client() {
    let node = nginx_that_wants("");
    let options = ["--proxy-protocol", "required", "--send-proxy", "v2"];
    let last = Proxy::http(&node.url("http"), &options);
    let to = last.addr(0).to_string();
    let tcp = ["tcp", "--listen", "127.0.0.1:0", "--to", &to, "--send-proxy", "v1"];
    let first = Proxy::start(&tcp);
    let told = curl_from("127.0.0.2", &[&first.url("http", "/")]).ok().text();
    assert_eq!(told, format!("127.0.0.2 {}", port(&first)));
}

#[test]
fn row_1_4_websockets_and_calls_bring_a_header_too() {
    let (messages, calls, requests) = (echo("ws", &[]), echo("grpc", &[]), echo("http", &[]));
    for version in VERSIONS {
        let send = ["--send-proxy", version];
        let to = messages.url("ws", "");
        let ws =
            Proxy::start(&[&["ws", "--listen", "127.0.0.1:0", "--to", &to][..], &send].concat());
        let told = websocket(&json!({
            "url": ws.url("ws", "/ws/report"), "steps": [["recv"], ["close", 1000, ""]],
        }));
        let report = told["results"][0].as_str().expect("a report");
        assert!(report.contains(&format!("\"version\":\"{version}\"")), "{told}");
        let to = calls.addr(0).to_string();
        let rpc =
            Proxy::start(&[&["grpc", "--listen", "127.0.0.1:0", "--to", &to][..], &send].concat());
        let call = json!({ "method": "Unary", "steps": [["send", { "message": "hi" }], ["recv"]] });
        let told = grpc(&json!({ "target": rpc.addr(0).to_string(), "calls": [call, call] }));
        assert_eq!(told[1]["replies"][0]["message"], "hi", "{told}");
        let web = Proxy::http(&requests.url("http", ""), &send);
        let report = curl(&[&web.url("http", "/")]).json();
        let said = &report["proxy_protocol"];
        assert_eq!(said["version"], version, "{report}");
        assert_eq!(said["destination"], web.addr(0).to_string(), "{report}");
    }
}

/// P65: connections with a header are one request's, and closed when that is over.
#[test]
fn t39_no_connection_with_a_header_is_used_again() {
    let origin = origin();
    let proxy = Proxy::http(&origin.url(), &["--send-proxy", "v1", "--workers", "1"]);
    let mut client = Conn::open(proxy.addr(0));
    for _ in 0..3 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
    origin.wait_ended(3);
    let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own(&client), port(&proxy));
    for received in origin.received() {
        assert!(text(&received).starts_with(&header), "{}", text(&received));
    }
    assert_eq!(origin.connections(), 3);
}

fn own(conn: &Conn) -> u16 {
    conn.stream.local_addr().expect("an address").port()
}

/// A node that wants headers gets them from health checks as well, and they speak for nobody.
#[test]
fn row_4_11_health_checks_introduce_themselves() {
    let origin = origin();
    for (version, header) in [("v1", "PROXY UNKNOWN\r\n"), ("v2", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
    {
        let path = format!("/{version}");
        let _proxy = Proxy::http(&origin.url(), &["--send-proxy", version, "--health", &path]);
        origin.wait_for(&format!("{header}GET {path} "));
    }
    let nginx = nginx_that_wants("");
    for version in VERSIONS {
        let every = ["--send-proxy", version, "--health", "/,interval=100ms,fall=1"];
        let proxy = Proxy::http(&nginx.url("http"), &every);
        for _ in 0..20 {
            let told = curl_from("127.0.0.2", &[&proxy.url("http", "/")]).ok().text();
            assert!(told.starts_with("127.0.0.2 "), "{told}");
        }
        assert!(!proxy.stderr().contains("unhealthy"), "{}", proxy.stderr());
    }
}
