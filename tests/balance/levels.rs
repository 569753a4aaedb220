//! Levels, zones, subsets and panic.

use std::io::Read;

use super::{Front, Nodes, PROTOCOLS, counts};
use crate::clients::Refusing;
use crate::support::{Conn, Proxy, eventually};
use crate::ws::frame::handshake;

/// Row 4.11: the spare stands by until the main node is gone, and nothing is lost over it.
#[test]
fn row_4_11_a_spare_takes_over() {
    for protocol in PROTOCOLS {
        let mut nodes = Nodes::start(protocol, &["main", "spare"]);
        let front = nodes.front(&[("spare", "priority: 1"), ("main", "")], "");
        assert_eq!(front.asked(4), counts([("main", 4)]), "{protocol}");
        nodes.end("main");
        // The first exchange meets the closed door and goes on; the others know.
        assert_eq!(front.asked(1), counts([("main", 1), ("spare", 1)]), "{protocol}");
        let picked = front.asked(4);
        assert!(picked["spare"] >= 4, "{protocol}: {picked:?}");
    }
}

/// Row 4.21: near nodes first; when they are gone, the others.
#[test]
fn row_4_21_the_near_zone_comes_first() {
    for protocol in PROTOCOLS {
        let mut nodes = Nodes::start(protocol, &["near", "far"]);
        let said = [("far", "metadata: {zone: b}"), ("near", "metadata: {zone: a}")];
        let front = nodes.front(&said, "    load_balancer: {zone: a}");
        assert_eq!(front.asked(4), counts([("near", 4)]), "{protocol}");
        nodes.end("near");
        assert_eq!(front.asked(1), counts([("far", 1), ("near", 1)]), "{protocol}");
        let picked = front.asked(4);
        assert!(picked["far"] >= 4, "{protocol}: {picked:?}");
    }
}

/// Nodes of the subset and no others.
#[test]
fn a_service_keeps_to_its_subset() {
    for protocol in PROTOCOLS {
        let nodes = Nodes::start(protocol, &["old", "new", "newer"]);
        let said = [
            ("old", "metadata: {version: v1}"),
            ("new", "metadata: {version: v2}"),
            ("newer", "metadata: {version: v2}"),
        ];
        let front = nodes.front(&said, "    subset: {version: v2}");
        assert_eq!(front.asked(4), counts([("new", 2), ("newer", 2)]), "{protocol}");
    }
}

/// A canary: one service, and a route to its new nodes.
#[test]
fn a_route_chooses_a_subset() {
    let nodes = Nodes::start("http", &["old", "new"]);
    let said = [("old", "metadata: {version: v1}"), ("new", "metadata: {version: v2}")];
    let proxy = Proxy::run_file(&format!(
        "access_log: 'off'
admin: '127.0.0.1:0'
listeners: [{{bind: '127.0.0.1:0'}}]
routes:
  - {{id: beta, hosts: [beta.test], service: nodes, subset: {{version: v2}}}}
  - {{id: all, path: /all, service: nodes}}
  - {{id: rest, service: nodes, subset: {{version: v1}}}}
services:
  - id: nodes
    nodes:
{}",
        nodes.yaml(&said)
    ));
    let front = Front { protocol: "http", proxy };
    let ask = |host: &str, path: &str| {
        let get = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(Conn::open(front.proxy.addr(0)).ask(get).status(), 200);
    };
    let picked = |host, path| front.picked(|| (0..4).for_each(|_| ask(host, path)));
    assert_eq!(picked("beta.test", "/x"), counts([("new", 4)]));
    assert_eq!(picked("a.test", "/x"), counts([("old", 4)]));
    assert_eq!(picked("a.test", "/all"), counts([("new", 2), ("old", 2)]));
}

/// One of three nodes is well: below the threshold all three are tried, and the log and the
/// metrics say so. Without a threshold only that one is.
#[test]
fn below_the_panic_threshold_all_nodes_are_tried() {
    for protocol in PROTOCOLS {
        let (nodes, one, two) =
            (Nodes::start(protocol, &["well"]), Refusing::new(), Refusing::new());
        let (ill, worse) = (one.addr(), two.addr());
        let list = format!(
            "{}      - {{id: ill, address: '{protocol}://{ill}'}}
      - {{id: worse, address: '{protocol}://{worse}'}}
",
            nodes.yaml(&[("well", "")])
        );
        let ill = |front: &Front| {
            eventually("two nodes are seen to be ill", || {
                let metrics = front.metrics();
                let line =
                    |name| format!("gwproxy_node_healthy{{service=\"nodes\",node=\"{name}\"}} 0");
                (metrics.contains(&line("ill")) && metrics.contains(&line("worse")))
                    .then_some(metrics)
            })
        };
        let health = "    health_check: tcp,interval=50ms,timeout=20s,rise=1,fall=1
    retry: {max_attempts: 3}";
        let calm = Front::start(protocol, &list, health);
        assert!(ill(&calm).contains("gwproxy_service_panic{service=\"nodes\"} 0"), "{protocol}");
        assert_eq!(calm.asked(6), counts([("well", 6)]), "{protocol}");
        let health = format!("{health}\n    load_balancer: {{panic_threshold: 40%}}");
        let front = Front::start(protocol, &list, &health);
        assert!(ill(&front).contains("gwproxy_service_panic{service=\"nodes\"} 1"), "{protocol}");
        front.proxy.wait_stderr("below its panic threshold: all its nodes are tried");
        let picked = front.asked(6);
        assert!(picked["ill"] > 0 && picked["worse"] > 0, "{protocol}: {picked:?}");
        assert_eq!(picked["well"], 6, "{protocol}: each exchange ends there: {picked:?}");
    }
}

/// Row 4.21: near nodes that have enough to do pass on.
#[test]
fn row_4_21_a_full_near_zone_passes_on() {
    for protocol in ["ws", "tcp"] {
        let nodes = Nodes::start(protocol, &["near", "far"]);
        let said = [("near", "metadata: {zone: a}"), ("far", "metadata: {zone: b}")];
        let front = nodes.front(&said, "    load_balancer: {zone: {name: a, full_at: 2}}");
        let hold = || {
            let mut conn = Conn::open(front.proxy.addr(0));
            if protocol == "ws" {
                assert_eq!(conn.send(handshake("/", "")).head().status(), 101);
            } else {
                conn.send("x").stream.read_exact(&mut [0]).expect("the byte comes back");
            }
            conn
        };
        let mut held = Vec::new();
        let picked = front.picked(|| held.extend((0..5).map(|_| hold())));
        assert_eq!(picked, counts([("near", 2), ("far", 3)]), "{protocol}");
    }
}
