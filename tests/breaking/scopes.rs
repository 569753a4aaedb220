//! Breakers of a service, of its nodes and of routes beside each other.

use super::{Answer, PROTOCOLS, ask, front, get, metric, service};
use crate::clients::Refusing;
use crate::support::{Origin, Proxy, echo, eventually};

/// Row 4.8: the breaker of one route knows nothing of the other's, nor of the service's.
#[test]
fn row_4_8_breakers_of_routes_and_services_are_independent() {
    let node = echo("http", &[]);
    let proxy = Proxy::run_file(&format!(
        "access_log: 'off'
admin: '127.0.0.1:0'
listeners: [{{bind: '127.0.0.1:0'}}]
routes:
  - {{id: fragile, path: /status, service: nodes, breaker: '50%,min=2,open=1h'}}
  - {{id: other, path: /, service: nodes, breaker: '50%,min=2,open=1h'}}
services:
  - {{id: nodes, nodes: ['http://{}'], breaker: '50%,min=3,open=1h'}}
",
        node.addr(0)
    ));
    let addr = proxy.addr(0);
    for _ in 0..2 {
        assert_eq!(get(addr, "/status/500").status(), 500);
    }
    let refused = get(addr, "/status/200");
    assert_eq!(refused.status(), 503);
    assert!(refused.text().contains("the route `fragile`"), "{}", refused.text());
    assert_eq!(get(addr, "/").status(), 200, "another route of the same service");
    let state = |scope: &str, name: &str| {
        let line =
            format!("gwproxy_breaker_state{{scope=\"{scope}\",name=\"{name}\",state=\"open\"}}");
        metric(&proxy, &line)
    };
    assert_eq!((state("route", "fragile"), state("route", "other")), (1, 0));
    assert_eq!(state("service", "nodes"), 0, "2 of 3 are not enough: it wants three");
    // The next failure is the service's third or fourth call: its breaker opens for both routes.
    assert_eq!(get(addr, "/nothing/status/500").status(), 200);
}

/// The breaker of a node sends its work to the others; that of the service does not open.
#[test]
fn row_4_8_a_nodes_breaker_leaves_that_node_alone() {
    for protocol in PROTOCOLS {
        let (dead, good) = (Refusing::new(), echo(protocol, &[]));
        let said = "    node_breaker: {consecutive_failures: 1, reset_timeout: 1h}
    retry: {max_attempts: 2}";
        let nodes = [("dead", dead.addr()), ("good", good.addr(0))];
        let proxy = front(protocol, &service("nodes", protocol, &nodes, said));
        for _ in 0..6 {
            assert_eq!(ask(protocol, proxy.addr(0)), Answer::Good, "{protocol}");
        }
        let line = "gwproxy_breaker_state{scope=\"node\",name=\"nodes/dead\",state=\"open\"}";
        assert_eq!(metric(&proxy, line), 1, "{protocol}");
        let picks = "gwproxy_node_picks_total{service=\"nodes\",node=\"dead\"}";
        assert_eq!(metric(&proxy, picks), 1, "{protocol}");
        proxy.wait_stderr("the node `dead` of the service `nodes` failed");
    }
}

/// A node that answers 500 is left alone while the other serves; when all are, the client hears
/// when to come back.
#[test]
fn when_the_breakers_of_all_nodes_are_open_the_service_is() {
    let (bad, worse) = (
        Origin::answering("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"),
        Origin::answering("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"),
    );
    let said = "    node_breaker: {consecutive_failures: 2, reset_timeout: 1h, jitter: 0}";
    let nodes = [("bad", bad.addr()), ("worse", worse.addr())];
    let proxy = front("http", &service("nodes", "http", &nodes, said));
    let refused = eventually("both are left alone", || {
        let answer = get(proxy.addr(0), "/");
        (answer.status() == 503).then_some(answer)
    });
    assert_eq!(refused.json()["code"], "breaker_open");
    let wait: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait), "{wait}");
    let asked = |origin: &Origin| origin.seen().matches("GET /").count();
    assert_eq!((asked(&bad), asked(&worse)), (2, 2));
}
