//! gRPC through the built binary.
//!
//! Goal: a call passes as if there was no proxy, of whatever kind and however it ends, and what the
//! proxy says itself is gRPC too. Method: Python's `grpcio` as client, the echo server and `grpcio`
//! as nodes, with and without TLS on either side.

mod calls;
mod ends;

use serde_json::{Value, json};

use crate::clients::grpc;
use crate::support::Proxy;

/// `gwproxy grpc --listen 127.0.0.1:0 --to TO OPTIONS`.
#[track_caller]
pub(crate) fn front(to: &str, options: &[&str]) -> Proxy {
    let mut all = vec!["grpc", "--listen", "127.0.0.1:0", "--to", to, "--access-log", "off"];
    all.extend(options);
    Proxy::start(&all)
}

/// Plays these calls over one channel without TLS; what happened to each.
#[track_caller]
fn calls(proxy: &Proxy, calls: &Value) -> Vec<Value> {
    let told = grpc(&json!({ "target": proxy.addr(0).to_string(), "calls": calls }));
    told.as_array().expect("one for each call").clone()
}

/// The values in metadata `[[KEY, VALUE]…]` under this key.
fn values<'m>(metadata: &'m Value, key: &str) -> Vec<&'m str> {
    let all = metadata.as_array().into_iter().flatten();
    all.filter(|pair| pair[0] == key).filter_map(|pair| pair[1].as_str()).collect()
}
