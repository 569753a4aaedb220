//! The PROXY protocol: one header however it is cut, and what is written is what was read.

use std::net::SocketAddr;

use gwproxy_core::net::PeerAddr;
use gwproxy_core::net::proxy_protocol::{
    HEADER_BYTES_MAX, Header, Malformed, Origin, Parsed, Version, parse,
};

/// The verdict when `bytes` come in one by one, and how many it took.
fn one_by_one(bytes: &[u8]) -> (Result<Parsed, Malformed>, usize) {
    for end in 0..=bytes.len() {
        let verdict = parse(&bytes[..end]);
        if verdict != Ok(Parsed::Partial) {
            return (verdict, end);
        }
    }
    (Ok(Parsed::Partial), bytes.len())
}

/// HAProxy's `proxy-protocol.txt` §2.1 read on its own: what a line of version 1 says.
fn line_of(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let end = bytes.windows(2).take(106).position(|pair| pair == b"\r\n")?;
    let words: Vec<&str> = std::str::from_utf8(&bytes[..end]).ok()?.split(' ').collect();
    let ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] = words[..] else {
        return None;
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    let source = SocketAddr::new(source.parse().ok()?, port(from)?);
    let destination = SocketAddr::new(destination.parse().ok()?, port(to)?);
    let is_v4 = family == "TCP4";
    (source.is_ipv4() == is_v4 && destination.is_ipv4() == is_v4).then_some((source, destination))
}

/// The same verdict byte by byte, no later than needed and never above the bound; a line says what
/// a strict reader sees in it; a header that is sent on says what came.
pub(super) fn headers(data: &[u8]) {
    let data = &data[..data.len().min(HEADER_BYTES_MAX + 64)];
    let whole = parse(data);
    let (cut, needed) = one_by_one(data);
    match (&whole, &cut) {
        (Ok(one), Ok(other)) => assert_eq!(one, other, "cut differently, read differently"),
        (Err(_), Err(_)) => {}
        _ => panic!("cut differently, judged differently: {whole:?} {cut:?}"),
    }
    if whole == Ok(Parsed::Partial) {
        assert!(data.len() <= HEADER_BYTES_MAX, "{} bytes and still no verdict", data.len());
    }
    if let Some((source, destination)) = line_of(data) {
        let Ok(Parsed::Header { header, .. }) = &whole else { panic!("a line refused: {whole:?}") };
        assert_eq!(header.origin, Origin::Proxied { source, destination });
    }
    let Ok(Parsed::Header { header, bytes }) = whole else { return };
    assert!(bytes <= data.len() && bytes <= HEADER_BYTES_MAX);
    assert_eq!(bytes, needed, "more was waited for than the header has");
    if header.version == Version::V1 {
        assert!(bytes <= 107 && data[..bytes].ends_with(b"\r\n") && header.origin != Origin::Local);
    }
    if let Origin::Proxied { source, destination } = header.origin {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
        let between = Origin::between(PeerAddr::Ip(source), PeerAddr::Ip(destination));
        assert_eq!(between, header.origin);
    }
    for version in Version::ALL {
        let header = Header { version, ..(*header).clone() };
        let sent = header.encode();
        assert!(sent.len() <= HEADER_BYTES_MAX);
        let Ok(Parsed::Header { header: back, bytes }) = parse(&sent) else {
            panic!("our own header is refused: {}", sent.escape_ascii());
        };
        assert_eq!(bytes, sent.len());
        match (version, header.origin) {
            (Version::V1, Origin::Local) => assert_eq!(back.origin, Origin::Unknown),
            _ => assert_eq!(back.origin, header.origin),
        }
        if version == Version::V2 {
            assert_eq!(back.tlvs.authority, header.tlvs.authority);
            assert_eq!(back.tlvs.alpn, header.tlvs.alpn);
        }
    }
}
