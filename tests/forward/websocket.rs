//! A WebSocket client that asks for a tunnel first, as browsers do.

use serde_json::{Value, json};

use super::forward;
use crate::clients::websocket;
use crate::support::{Authority, Proxy, echo};

/// Says "hi" to `url` through this proxy.
#[track_caller]
fn hi(proxy: &Proxy, node: &Proxy, scheme: &str, ca: &str) -> Value {
    let (proxy, to) = (proxy.addr(0).to_string(), node.addr(0).to_string());
    websocket(&json!({
        "url": node.url(scheme, "/"), "ca": ca, "tunnel": { "proxy": proxy, "to": to },
        "steps": [["send", "hi"], ["recv"], ["close", 4001, "bye"]],
    }))
}

#[test]
fn row_1_3_websockets_pass_forward_proxies_of_both_kinds() {
    let mint = Authority::new();
    let flags = mint.leaf("site", &["127.0.0.1"]).flags();
    let (plain, tls) = (echo("ws", &[]), echo("ws", &flags.each_ref().map(String::as_str)));
    let nodes = [plain.addr(0), tls.addr(0)].map(|addr| addr.to_string());
    let allow = ["--allow", &nodes[0], "--allow", &nodes[1]];
    let of_websockets = ["ws", "--listen", "127.0.0.1:0", "--forward"];
    for proxy in [forward(&allow), Proxy::start(&[&of_websockets[..], &allow].concat())] {
        for (node, scheme) in [(&plain, "ws"), (&tls, "wss")] {
            let told = hi(&proxy, node, scheme, &mint.ca());
            let end = json!({ "code": 4001, "reason": "bye" });
            assert_eq!(told["results"], json!(["hi", end]), "{scheme}: {told}");
        }
    }
    // Without a word about it, this machine is out of bounds, whatever the port.
    let port = ["--allow-port", &plain.addr(0).port().to_string()];
    for proxy in [forward(&port), Proxy::start(&[&of_websockets[..], &port].concat())] {
        let told = hi(&proxy, &plain, "ws", &mint.ca());
        assert_eq!(told, json!({ "tunnel_refused": 403 }));
    }
}
