//! Nodes that do badly are left out.

use super::{Answer, PROTOCOLS, ask, front, metric, service};
use crate::clients::Refusing;
use crate::support::{Origin, echo};

const BROKEN: &str = "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n";

/// Failures in a row eject a node on both workers; from then on nobody meets it.
#[test]
fn failures_in_a_row_eject_a_node() {
    for protocol in ["http", "ws"] {
        let (bad, good) = (Origin::answering(BROKEN), echo(protocol, &[]));
        let nodes = [("bad", bad.addr()), ("good", good.addr(0))];
        let said = "    outlier_detection: 3,eject=1h";
        let proxy = front(protocol, &service("nodes", protocol, &nodes, said));
        let answers: Vec<_> = (0..30).map(|_| ask(protocol, proxy.addr(0))).collect();
        let failed = answers.iter().filter(|one| **one != Answer::Good).count();
        assert_eq!(failed, 3, "{protocol}: {answers:?}");
        let line = "gwproxy_node_ejected{service=\"nodes\",node=\"bad\"}";
        assert_eq!(metric(&proxy, line), 1, "{protocol}");
        let line = "gwproxy_node_ejections_total{service=\"nodes\",node=\"bad\"}";
        assert_eq!(metric(&proxy, line), 1, "{protocol}");
        proxy.wait_stderr("the node does worse than it may and is left out for 1h");
    }
}

/// When all are bad, one is left: an answer of a bad node is better than none.
#[test]
fn the_last_node_is_never_ejected() {
    let (one, two) = (Origin::answering(BROKEN), Origin::answering(BROKEN));
    let nodes = [("one", one.addr()), ("two", two.addr())];
    let said = "    outlier_detection: {consecutive_failures: 1, max_ejection_percent: 100}";
    let proxy = front("http", &service("nodes", "http", &nodes, said));
    for _ in 0..10 {
        assert!(matches!(ask("http", proxy.addr(0)), Answer::Bad(said) if said.starts_with("500")));
    }
    let out = |node: &str| {
        metric(&proxy, &format!("gwproxy_node_ejected{{service=\"nodes\",node=\"{node}\"}}"))
    };
    assert_eq!(out("one") + out("two"), 1);
}

/// A node that refuses the connection costs no request on any protocol, and is ejected for longer
/// than a connect that failed keeps it out.
#[test]
fn a_node_that_refuses_is_ejected_and_no_exchange_is_lost() {
    for protocol in PROTOCOLS {
        let (dead, good) = (Refusing::new(), echo(protocol, &[]));
        let nodes = [("dead", dead.addr()), ("good", good.addr(0))];
        let said =
            "    outlier_detection: {consecutive_failures: 0, consecutive_gateway_failures: 1}";
        let proxy = front(protocol, &service("nodes", protocol, &nodes, said));
        for _ in 0..8 {
            assert_eq!(ask(protocol, proxy.addr(0)), Answer::Good, "{protocol}");
        }
        let line = "gwproxy_node_ejected{service=\"nodes\",node=\"dead\"}";
        assert_eq!(metric(&proxy, line), 1, "{protocol}");
    }
}
