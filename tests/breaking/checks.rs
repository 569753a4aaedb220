//! Active checks that ask in more than a connect.

use super::{front, metric, service};
use crate::support::{Authority, Origin, Proxy, echo, eventually};

/// Waits until the node `bad` is found ill, and some checks more; `good` is well all the time.
#[track_caller]
fn only_bad_is_ill(proxy: &Proxy, about: &str) {
    let healthy = |node: &str| {
        metric(proxy, &format!("gwproxy_node_healthy{{service=\"nodes\",node=\"{node}\"}}"))
    };
    eventually("the bad node is found ill", || (healthy("bad") == 0).then_some(()));
    assert_eq!(healthy("good"), 1, "{about}: {}", proxy.stderr());
}

const EVERY: &str = "interval: 20ms, timeout: 20s, rise: 1, fall: 1";

/// Row 4.11: the gRPC health protocol, TLS with its certificate, content and fields.
#[test]
fn row_4_11_checks_ask_in_grpc_tls_and_for_content() {
    let fine = |said: &str| {
        Origin::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}",
            said.len()
        ))
    };
    let (good, bad) = (fine("all is fine"), fine("all is lost"));
    let nodes = [("good", good.addr()), ("bad", bad.addr())];
    let said = format!(
        "    health_check: {{path: /up, method: POST, headers: {{X-Probe: '7', Host: h.test}}, \
         body: fine, {EVERY}}}"
    );
    only_bad_is_ill(&front("http", &service("nodes", "http", &nodes, &said)), "content");
    let asked = good.seen().to_ascii_lowercase();
    for line in ["post /up http/1.1\r\n", "\r\nx-probe: 7\r\n", "\r\nhost: h.test\r\n"] {
        assert!(asked.contains(line), "{asked}");
    }

    // Speaks gRPC, and speaks none.
    let (grpc, http) = (echo("grpc", &[]), fine(""));
    let nodes = [("good", grpc.addr(0)), ("bad", http.addr())];
    let said = format!("    health_check: {{type: grpc, {EVERY}}}");
    only_bad_is_ill(&front("grpc", &service("nodes", "grpc", &nodes, &said)), "grpc");
    // A service that the node does not know.
    let said = format!("    health_check: {{type: grpc, service: no.such.Service, {EVERY}}}");
    let proxy = front("grpc", &service("nodes", "grpc", &[("bad", grpc.addr(0))], &said));
    proxy.wait_stderr("it does not know the service `no.such.Service`");

    // Takes connections both, and only one has TLS.
    let authority = Authority::new();
    let pair = authority.leaf("node", &["node.test"]);
    let flags = pair.flags();
    let line = ["tcp", "--listen", "127.0.0.1:0", "--to", "echo:tcp", "--access-log", "off"];
    let line: Vec<&str> = line.into_iter().chain(flags.iter().map(String::as_str)).collect();
    let (with, without) = (Proxy::start(&line), echo("tcp", &[]));
    let services = format!(
        "  - id: nodes
    protocol: tcp
    nodes: [{{id: good, address: 'tls://{}'}}, {{id: bad, address: 'tls://{}'}}]
    tls: {{ca: '{}', server_name: node.test}}
    health_check: {{type: tls, {EVERY}}}
",
        with.addr(0),
        without.addr(0),
        authority.ca()
    );
    only_bad_is_ill(&front("tcp", &services), "tls");
}
