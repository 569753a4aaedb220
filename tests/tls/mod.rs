//! TLS in front, seen by the other implementation: `openssl s_client` against the built binary.
//!
//! Goal: versions, certificates by name, client certificates, ALPN and resumption are what a user
//! of `--tls-cert` and `--client-ca` expects, for every protocol. Method: `s_client` tells what was
//! agreed on; a refusal is read from the alert it got, which is the only thing that tells one from
//! a broken connection.

mod client;
mod handshake;
mod identity;
mod protocols;

use crate::support::{Authority, Pair, Proxy};

use client::{Session, s_client, showing};

const GET: &str = "GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";

/// `gwproxy KIND --listen 127.0.0.1:0 --to TO`, with these certificates, the first the default,
/// and these options.
#[track_caller]
fn front(kind: &str, to: &str, pairs: &[&Pair], options: &[&str]) -> Proxy {
    let flags: Vec<String> = pairs.iter().flat_map(|pair| pair.flags()).collect();
    let mut all = vec![kind, "--listen", "127.0.0.1:0", "--to", to, "--access-log", "off"];
    all.extend(flags.iter().map(String::as_str));
    all.extend(options);
    Proxy::start(&all)
}

/// A front for HTTP with one certificate, for `gw.test`.
#[track_caller]
fn http(mint: &Authority, to: &str, options: &[&str]) -> Proxy {
    front("http", to, &[&mint.leaf("server", &["gw.test"])], options)
}
