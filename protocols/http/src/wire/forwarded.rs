//! Who asked, told to the node: `Forwarded` (RFC 7239) and the `X-Forwarded-*` it replaced.
//!
//! A client can write anything into these fields, so they are set afresh; only what a trusted
//! proxy says is kept and extended.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use gwproxy_core::net::PeerAddr;
use http::header::{FORWARDED, HOST, HeaderName};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// The client's address, and the proxies' it came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// nginx's name for the client's address.
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Further fields that claim to know the client; dropped unless a trusted proxy sent them.
const CLAIMS: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-client-ip"),
];

/// Sets the forwarding fields of a request from `remote` over `scheme`.
pub fn set(headers: &mut HeaderMap, remote: PeerAddr, scheme: &Scheme, trusted: &[IpNet]) {
    let is_trusted = is_trusted(remote, trusted);
    if !is_trusted && headers.keys().any(|name| CLAIMS.contains(name)) {
        for name in &CLAIMS {
            headers.remove(name);
        }
    }
    let host = headers.get(HOST).cloned();
    let before = if is_trusted { joined(headers, &X_FORWARDED_FOR) } else { None };
    let forwarded_before = if is_trusted { joined(headers, &FORWARDED) } else { None };
    let mut addr = [0u8; 48];
    let addr = ip_text(remote, &mut addr);

    if let Some(value) = appended(before.as_deref(), addr) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    let keeps = |name: &HeaderName| is_trusted && headers.contains_key(name);
    let (keeps_proto, keeps_host) = (keeps(&X_FORWARDED_PROTO), keeps(&X_FORWARDED_HOST));
    if !is_trusted || !headers.contains_key(X_REAL_IP) {
        headers.remove(X_REAL_IP);
    }
    if !keeps_proto {
        let proto = if *scheme == Scheme::HTTPS { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !keeps_host {
        match &host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
    let element = element(remote, scheme, host.as_ref());
    if let Some(value) = appended(forwarded_before.as_deref(), &element) {
        headers.insert(FORWARDED, value);
    }
}

/// The address that limits and lists should count for: the peer, or, behind trusted proxies, the
/// last address in `X-Forwarded-For` that is not one of them.
pub fn client_ip(headers: &HeaderMap, remote: PeerAddr, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = remote.ip();
    if !is_trusted(remote, trusted) {
        return peer;
    }
    let mut client = peer;
    for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for hop in line.to_str().unwrap_or_default().rsplit(',') {
            // What cannot be read ends the chain: nothing before it can be believed.
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { return client };
            client = Some(ip.to_canonical());
            if !trusted.iter().any(|net| net.contains(&ip)) {
                return client;
            }
        }
    }
    client
}

/// Whether a peer's word on who the client is counts. A Unix socket's peer is on this machine, but
/// that alone does not make it a proxy.
pub fn is_trusted(remote: PeerAddr, trusted: &[IpNet]) -> bool {
    remote.ip().is_some_and(|ip| trusted.iter().any(|net| net.contains(&ip)))
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<BytesMut> {
    let mut lines = headers.get_all(name).iter();
    let mut all = BytesMut::from(lines.next()?.as_bytes());
    for line in lines {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    Some(all)
}

fn appended(before: Option<&[u8]>, value: &str) -> Option<HeaderValue> {
    let mut all = BytesMut::with_capacity(before.map_or(0, <[u8]>::len) + value.len() + 2);
    if let Some(before) = before {
        all.extend_from_slice(before);
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(value.as_bytes());
    HeaderValue::from_maybe_shared::<Bytes>(all.freeze()).ok()
}

fn ip_text(remote: PeerAddr, into: &mut [u8; 48]) -> &str {
    let Some(ip) = remote.ip() else { return "unix" };
    let mut cursor = std::io::Cursor::new(&mut into[..]);
    let written = match std::io::Write::write_fmt(&mut cursor, format_args!("{ip}")) {
        Ok(()) => cursor.position() as usize,
        Err(_) => 0,
    };
    into.get(..written).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("unknown")
}

/// `for=192.0.2.1;proto=https;host=example.com`; an IPv6 address is quoted and in brackets
/// (RFC 7239 §6).
fn element(remote: PeerAddr, scheme: &Scheme, host: Option<&HeaderValue>) -> String {
    let mut text = String::with_capacity(64);
    let _ = match remote.ip() {
        Some(IpAddr::V4(ip)) => write!(text, "for={ip}"),
        Some(IpAddr::V6(ip)) => write!(text, "for=\"[{ip}]\""),
        None => write!(text, "for=_unix"),
    };
    text.push_str(if *scheme == Scheme::HTTPS { ";proto=https" } else { ";proto=http" });
    if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty()) {
        let is_token = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let _ =
            if is_token { write!(text, ";host={host}") } else { write!(text, ";host=\"{host}\"") };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addr: &str) -> PeerAddr {
        PeerAddr::from_socket(addr.parse().unwrap())
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// T35: nothing a stranger says about the client gets through.
    #[test]
    fn a_strangers_claims_are_replaced() {
        let mut h = headers(&[
            ("host", "example.com:8080"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ]);
        set(&mut h, peer("10.0.0.9:5"), &Scheme::HTTP, &[]);
        assert_eq!(h["x-forwarded-for"], "10.0.0.9");
        assert_eq!(h["x-forwarded-proto"], "http");
        assert_eq!(h["x-forwarded-host"], "example.com:8080");
        assert_eq!(h["forwarded"], "for=10.0.0.9;proto=http;host=\"example.com:8080\"");
        assert!(!h.contains_key("x-real-ip") && !h.contains_key("x-forwarded-port"));
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_extended() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut h = headers(&[
            ("host", "a"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=198.51.100.7"),
        ]);
        set(&mut h, peer("10.0.0.9:5"), &Scheme::HTTP, &trusted);
        assert_eq!(h["x-forwarded-for"], "198.51.100.7, 10.1.1.1, 10.0.0.9");
        assert_eq!(h["x-forwarded-proto"], "https");
        assert_eq!(h["forwarded"], "for=198.51.100.7, for=10.0.0.9;proto=http;host=a");
    }

    /// P60: IPv6 is quoted and bracketed.
    #[test]
    fn ipv6_is_quoted_and_bracketed() {
        let mut h = headers(&[("host", "a")]);
        set(&mut h, peer("[2001:db8::1]:5"), &Scheme::HTTPS, &[]);
        assert_eq!(h["x-forwarded-for"], "2001:db8::1");
        assert_eq!(h["forwarded"], "for=\"[2001:db8::1]\";proto=https;host=a");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy_of_ours() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let h = headers(&[("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.1.1.1")]);
        let ip = |addr| client_ip(&h, peer(addr), &trusted).unwrap().to_string();
        assert_eq!(ip("10.0.0.9:5"), "198.51.100.7");
        assert_eq!(ip("203.0.113.5:5"), "203.0.113.5");
        let garbled = headers(&[("x-forwarded-for", "6.6.6.6, nonsense, 10.1.1.1")]);
        let seen = client_ip(&garbled, peer("10.0.0.9:5"), &trusted).unwrap();
        assert_eq!(seen.to_string(), "10.1.1.1");
    }
}
