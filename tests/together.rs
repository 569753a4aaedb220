//! Every protocol in one process, each asked by a real client of its own, all at the same time.

use std::thread;

use serde_json::{Value, json};

use crate::clients::{grpc, websocket};
use crate::support::{Proxy, Server, curl, run, tool};
use crate::tcp::redis;

const CLIENTS: usize = 4;

fn gateway(redis: &Server) -> Proxy {
    Proxy::run_file(&format!(
        "listeners:
  - {{name: web, protocol: http, bind: '127.0.0.1:0'}}
  - {{name: raw, protocol: tcp, bind: '127.0.0.1:0', service: bytes}}
  - {{name: rpc, protocol: grpc, bind: '127.0.0.1:0', service: calls}}
  - {{name: chat, protocol: ws, bind: '127.0.0.1:0', service: messages}}
routes: [{{id: all, path: /, service: hello}}]
services:
  - {{id: hello, nodes: ['echo:http']}}
  - {{id: bytes, protocol: tcp, nodes: ['{}']}}
  - {{id: calls, protocol: grpc, nodes: ['echo:grpc']}}
  - {{id: messages, protocol: ws, nodes: ['echo:ws']}}
",
        redis.addr()
    ))
}

/// `curl`, `redis-cli`, `grpcio` and `websockets`, once each.
fn visit(proxy: &Proxy) {
    let url = format!("http://{}/hello", proxy.addr(0));
    assert_eq!(curl(&[&url]).json()["path"], "/hello");
    let raw = proxy.addr(1);
    let mut command = tool("redis-cli");
    command.args(["-h", &raw.ip().to_string(), "-p", &raw.port().to_string(), "ECHO", "any bytes"]);
    assert_eq!(run(&mut command, b"").ok().text(), "any bytes\n");
    let calls = json!([{ "method": "Unary", "steps": [["send", { "message": "hi" }], ["recv"]] }]);
    let told = grpc(&json!({ "target": proxy.addr(2).to_string(), "calls": calls }));
    assert_eq!(told[0]["replies"][0]["message"], "hi", "{told}");
    let told = websocket(&json!({
        "url": format!("ws://{}/", proxy.addr(3)),
        "steps": [["send", "hi"], ["recv"], ["close", 1000, ""]],
    }));
    assert_eq!(told["results"][0], "hi", "{told}");
}

#[test]
fn row_4_20_every_protocol_in_one_process() {
    let redis = redis();
    let proxy = gateway(&redis);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| visit(&proxy));
        }
    });
    // One line of each, by name of the listener; a call for the types comes with the gRPC one.
    let lines: Vec<Value> = (proxy.wait_lines(CLIENTS * 5).iter())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for (listener, service, count) in
        [("web", "hello", 1), ("raw", "bytes", 1), ("rpc", "calls", 2), ("chat", "messages", 1)]
    {
        let of = |line: &&Value| line["listener"] == listener && line["service"] == service;
        let lines: Vec<&Value> = lines.iter().filter(of).collect();
        assert_eq!(lines.len(), CLIENTS * count, "{listener}: {lines:?}");
    }
}
