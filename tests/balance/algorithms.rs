//! Every algorithm, on every protocol.

use std::collections::BTreeMap;

use gwproxy_core::balance::Algorithm;

use super::{Front, Nodes, PROTOCOLS};
use crate::support::{Conn, Proxy, echo};

/// Rows 0.2 and 4.11: each algorithm serves each protocol, and none but those that keep a client
/// on a node leaves one out.
#[test]
fn row_0_2_every_algorithm_serves_every_protocol() {
    for protocol in PROTOCOLS {
        let nodes = Nodes::start(protocol, &["a", "b"]);
        for (name, algorithm) in Algorithm::NAMES {
            let front = nodes.front(&[("a", ""), ("b", "")], &format!("    load_balancer: {name}"));
            let picked = front.asked(12);
            assert_eq!(picked.values().sum::<u64>(), 12, "{protocol}, {name}: {picked:?}");
            match algorithm {
                Algorithm::First => assert_eq!(picked.len(), 1, "{protocol}, {name}: {picked:?}"),
                Algorithm::IpHash | Algorithm::Maglev | Algorithm::ConsistentHash => {
                    assert_eq!(picked.len(), 1, "{protocol}, {name}, one client: {picked:?}");
                }
                Algorithm::RoundRobin
                | Algorithm::WeightedRoundRobin
                | Algorithm::LeastConnections => {
                    assert!(picked.values().all(|&n| n == 6), "{protocol}, {name}: {picked:?}");
                }
                // By chance: one in two thousand would be on one node alone.
                Algorithm::Random | Algorithm::PowerOfTwo | Algorithm::PeakEwma => {}
            }
        }
    }
}

/// B.7: of two nodes the one that takes a third of a second gets what it cannot be spared, and the
/// other one the rest.
#[test]
fn b_7_a_slow_node_gets_little() {
    let node = echo("http", &["--name", "fast"]);
    let to = node.url("http", "");
    let slow = Proxy::run_file(&format!(
        "access_log: 'off'
listeners: [{{bind: '127.0.0.1:0'}}]
routes: [{{path: /, rewrite_prefix: /delay/300ms, service: node}}]
services: [{{id: node, nodes: ['{to}']}}]
"
    ));
    let list = format!(
        "      - {{id: slow, address: '{}'}}\n      - {{id: fast, address: '{to}'}}\n",
        slow.url("http", "")
    );
    let front = Front::start("http", &list, "    load_balancer: peak_ewma");
    let picked: BTreeMap<String, u64> = front.picked(|| {
        let mut conn = Conn::open(front.proxy.addr(0));
        for _ in 0..100 {
            assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
        }
    });
    assert!(picked["fast"] >= 80, "{picked:?}");
    assert!(picked["slow"] >= 1, "nobody is left unasked: {picked:?}");
}
