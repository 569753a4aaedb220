//! Version 1: one line of text (§2.1).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, Malformed, Origin, Parsed, Version};
use crate::net::addr::parse_port;

pub(super) const PREFIX: &[u8] = b"PROXY ";

/// The longest line, CRLF included (§2.1).
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let (line, rest) = match bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        // Two bytes are left for CRLF.
        Some(end) if end <= LINE_BYTES_MAX - 2 => bytes.split_at(end),
        None if bytes.len() <= LINE_BYTES_MAX - 2 => return Ok(Parsed::Partial),
        _ => return Err(Malformed("the line is longer than 107 bytes")),
    };
    match rest {
        [b'\r'] => Ok(Parsed::Partial),
        [b'\r', b'\n', ..] => {
            let origin = origin(line).ok_or(Malformed(
                "the line is not `PROXY TCP4|TCP6|UNKNOWN SOURCE DESTINATION PORT PORT`",
            ))?;
            let header = Box::new(Header::new(Version::V1, origin));
            Ok(Parsed::Header { header, bytes: line.len() + 2 })
        }
        _ => Err(Malformed("the line does not end in CRLF")),
    }
}

fn origin(line: &[u8]) -> Option<Origin> {
    let line = line.strip_prefix(PREFIX)?;
    if let Some(rest) = line.strip_prefix(b"UNKNOWN") {
        // Whatever else the line says is to be ignored.
        return (rest.is_empty() || rest.starts_with(b" ")).then_some(Origin::Unknown);
    }
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let family = words.next()?;
    let [source, destination, from, to] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    let (from, to) = (port(from)?, port(to)?);
    if words.next().is_some() {
        return None;
    }
    let (source, destination) = match family {
        "TCP4" => (addr::<Ipv4Addr>(source, from)?, addr::<Ipv4Addr>(destination, to)?),
        "TCP6" => (addr::<Ipv6Addr>(source, from)?, addr::<Ipv6Addr>(destination, to)?),
        _ => return None,
    };
    Some(Origin::Proxied { source, destination })
}

fn addr<Ip: FromStr>(text: &str, port: u16) -> Option<SocketAddr>
where
    SocketAddr: From<(Ip, u16)>,
{
    text.parse().ok().map(|ip: Ip| (ip, port).into())
}

/// Without leading zeros (§2.1): another reader may take them for octal.
fn port(text: &str) -> Option<u16> {
    if text.len() > 1 && text.starts_with('0') { None } else { parse_port(text) }
}

pub(super) fn encode(origin: &Origin) -> Vec<u8> {
    let Origin::Proxied { source, destination } = origin else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}
