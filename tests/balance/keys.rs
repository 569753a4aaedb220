//! Hashes: a key stays on its node, whatever it is made of and whichever proxy it comes through.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{Nodes, PROTOCOLS};
use crate::support::{Authority, Conn, Proxy, tls};

/// The same client on the same node, through one proxy and through another that was started
/// afterwards; several clients on several nodes.
#[test]
fn row_4_11_a_key_stays_on_its_node() {
    for protocol in PROTOCOLS {
        let nodes = Nodes::start(protocol, &["a", "b", "c"]);
        let said = [("a", ""), ("b", ""), ("c", "")];
        for algorithm in ["maglev", "consistent_hash"] {
            let by = if protocol == "tcp" { "ip" } else { "header:X-User" };
            let settings =
                format!("    load_balancer: {{algorithm: {algorithm}, hash_by: '{by}'}}");
            let fronts = [(); 2].map(|()| nodes.front(&said, &settings));
            let mut seen = BTreeSet::new();
            for user in 1..=9_u8 {
                let from = Ipv4Addr::new(127, 0, 0, user);
                let name = format!("user-{user}");
                let places: BTreeSet<String> = fronts
                    .iter()
                    .map(|front| {
                        let ask = || drop(front.ask_from(from, &[("X-User", &name)]));
                        front.node_of(|| (0..2).for_each(|_| ask()))
                    })
                    .collect();
                assert_eq!(places.len(), 1, "{protocol}, {algorithm}, {user}: {places:?}");
                seen.extend(places);
            }
            assert!(seen.len() > 1, "{protocol}, {algorithm}: all on one node");
        }
    }
}

/// Every part of a request that a key may be made of.
#[test]
fn keys_are_made_of_every_part_of_a_request() {
    let nodes = Nodes::start("http", &["a", "b", "c"]);
    let said = [("a", ""), ("b", ""), ("c", "")];
    for (by, line, field) in [
        ("path", "GET /KEY?x=1 HTTP/1.1\r\n", ""),
        ("query:k", "GET /?a=b&k=KEY HTTP/1.1\r\n", ""),
        ("cookie:k", "GET / HTTP/1.1\r\n", "Cookie: a=b; k=KEY\r\n"),
        ("header:k", "GET / HTTP/1.1\r\n", "K: KEY\r\n"),
    ] {
        let settings = format!("    load_balancer: {{algorithm: maglev, hash_by: '{by}'}}");
        let front = nodes.front(&said, &settings);
        let ask = |key: &str| {
            let request = format!("{line}Host: a\r\n{field}\r\n").replace("KEY", key);
            assert_eq!(Conn::open(front.proxy.addr(0)).ask(request).status(), 200);
        };
        let place = |key: String| front.node_of(|| (0..2).for_each(|_| ask(&key)));
        let seen: BTreeSet<String> = (0..9).map(|n| place(format!("key-{n}"))).collect();
        assert!(seen.len() > 1, "{by}: all on one node");
        if by != "path" {
            // Those without the key are spread: they have nothing in common.
            let other =
                |_| Conn::open(front.proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let picked = front.picked(|| (0..40).map(other).for_each(drop));
            assert_eq!(picked.len(), 3, "{by}: {picked:?}");
        }
    }
}

/// Behind TLS the name that the client asked for is a key.
#[test]
fn a_server_name_is_a_key() {
    let names = ["one.test", "two.test", "three.test", "four.test", "five.test", "six.test"];
    let (mint, nodes) = (Authority::new(), Nodes::start("http", &["a", "b", "c"]));
    let pair = mint.leaf("server", &names);
    let to = ["a", "b", "c"].map(|name| nodes.running[name].url("http", ""));
    let [first, second, third] = &to;
    let flags = pair.flags();
    let mut arguments = vec!["--to", second, "--to", third, "--access-log", "off"];
    arguments.extend(["--balance", "maglev", "--hash-by", "sni"]);
    arguments.extend(flags.iter().map(String::as_str));
    let proxy = Proxy::http(first, &arguments);
    let node = |name: &str| {
        let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let answer = tls::Tls::open(proxy.addr(0), &mint.ca(), name).ask(get);
        answer.fields.get("x-echo-node").expect("a node").to_owned()
    };
    let mut seen = BTreeSet::new();
    for name in names {
        let first = node(name);
        assert_eq!(node(name), first, "{name}");
        seen.insert(first);
    }
    assert!(seen.len() > 1, "all on one node");
}
