//! Version 2: binary, with extensions (§2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{HEADER_BYTES_MAX, Header, Malformed, Origin, Parsed, Ssl, Tlvs, Version};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family, length.
const FIXED_BYTES: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;

const UNIQUE_ID_BYTES_MAX: usize = 128;

/// Bytes of addresses and extensions that are written, a checksum's seven left room for.
const BODY_BYTES_MAX: usize = HEADER_BYTES_MAX - FIXED_BYTES - 7;

const TRUNCATED: Malformed = Malformed("an extension is longer than the header");

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
        // A wrong version is told as soon as it is seen.
        return bytes
            .get(SIGNATURE.len())
            .map_or(Ok(Parsed::Partial), |command| is_local(*command).map(|_| Parsed::Partial));
    };
    let [.., command, family, high, low] = *fixed else { return Ok(Parsed::Partial) };
    let is_local = is_local(command)?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(Malformed("the header is longer than 4096 bytes"));
    }
    let Some(body) = rest.get(..length) else { return Ok(Parsed::Partial) };
    let (origin, tlvs) = if is_local {
        // All that follows is to be discarded (§2.2).
        (Origin::Local, Tlvs::default())
    } else {
        let (origin, extensions) = addresses(family, body)?;
        (origin, read_tlvs(extensions, &Checked { fixed, body })?)
    };
    let header = Box::new(Header { version: Version::V2, origin, tlvs });
    Ok(Parsed::Header { header, bytes: FIXED_BYTES + length })
}

fn is_local(command: u8) -> Result<bool, Malformed> {
    match command {
        LOCAL => Ok(true),
        PROXY => Ok(false),
        0x22..=0x2f => Err(Malformed("the command is neither LOCAL nor PROXY")),
        _ => Err(Malformed("the version is not 2")),
    }
}

/// The addresses, and what follows them.
fn addresses(family: u8, body: &[u8]) -> Result<(Origin, &[u8]), Malformed> {
    let short = Malformed("the addresses are longer than the header");
    let split = |bytes| body.split_at_checked(bytes).ok_or(short);
    match family {
        0x00 => Ok((Origin::Unknown, body)),
        // Over TCP or UDP: the client is where it says.
        0x11 | 0x12 => {
            let (addresses, rest) = split(12)?;
            let ip = |at: [u8; 4]| IpAddr::V4(Ipv4Addr::from(at));
            Ok((proxied::<4>(addresses, ip).ok_or(short)?, rest))
        }
        0x21 | 0x22 => {
            let (addresses, rest) = split(36)?;
            let ip = |at: [u8; 16]| IpAddr::V6(Ipv6Addr::from(at));
            Ok((proxied::<16>(addresses, ip).ok_or(short)?, rest))
        }
        0x31 | 0x32 => Ok((Origin::Unknown, split(216)?.1)),
        _ => Err(Malformed("the address family or transport is none of the protocol's")),
    }
}

fn proxied<const N: usize>(bytes: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Option<Origin> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    Some(Origin::Proxied {
        source: SocketAddr::new(ip(*source), u16::from_be_bytes(*from)),
        destination: SocketAddr::new(ip(*destination), u16::from_be_bytes(*to)),
    })
}

/// What a checksum is taken over.
struct Checked<'a> {
    fixed: &'a [u8],
    body: &'a [u8],
}

fn read_tlvs(mut rest: &[u8], checked: &Checked<'_>) -> Result<Tlvs, Malformed> {
    let mut tlvs = Tlvs::default();
    while let Some((kind, value, after)) = next(rest)? {
        match kind {
            ALPN => tlvs.alpn = Some(value.into()),
            AUTHORITY => tlvs.authority = Some(text(value)?),
            CRC32C => {
                let given = value.try_into().map(u32::from_be_bytes).ok();
                let after = after.len();
                if tlvs.checksum || given != Some(checked.sum(after)) {
                    return Err(Malformed("the checksum is wrong"));
                }
                tlvs.checksum = true;
            }
            SSL => tlvs.ssl = Some(read_ssl(value)?),
            UNIQUE_ID if value.len() > UNIQUE_ID_BYTES_MAX => {
                return Err(Malformed("the unique id is longer than 128 bytes"));
            }
            UNIQUE_ID => tlvs.unique_id = Some(value.into()),
            _ => {}
        }
        rest = after;
    }
    Ok(tlvs)
}

/// A TLV's kind and value, and what follows it.
type Tlv<'a> = (u8, &'a [u8], &'a [u8]);

fn next(bytes: &[u8]) -> Result<Option<Tlv<'_>>, Malformed> {
    match bytes {
        [] => Ok(None),
        [kind, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (value, after) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
            Ok(Some((*kind, value, after)))
        }
        _ => Err(TRUNCATED),
    }
}

fn read_ssl(value: &[u8]) -> Result<Ssl, Malformed> {
    let (&client, rest) = value.split_first().ok_or(TRUNCATED)?;
    let (verify, mut rest) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    let mut ssl = Ssl { client, verify: u32::from_be_bytes(*verify), ..Ssl::default() };
    while let Some((kind, value, after)) = next(rest)? {
        match kind {
            SSL_VERSION => ssl.version = Some(text(value)?),
            SSL_CN => ssl.common_name = Some(text(value)?),
            _ => {}
        }
        rest = after;
    }
    Ok(ssl)
}

fn text(value: &[u8]) -> Result<Box<str>, Malformed> {
    str::from_utf8(value).map(Into::into).map_err(|_| Malformed("a name is not UTF-8"))
}

impl Checked<'_> {
    /// The checksum of a header in which `after` bytes follow the four that hold it: those count
    /// as zeros.
    fn sum(&self, after: usize) -> u32 {
        let end = self.body.len() - after;
        let bytes = self.fixed.iter().chain(self.body).copied().enumerate();
        let hole = self.fixed.len() + end.saturating_sub(4)..self.fixed.len() + end;
        crc32c(bytes.map(|(at, byte)| if hole.contains(&at) { 0 } else { byte }))
    }
}

/// The checksum of iSCSI (RFC 3720 appendix B.4). Bit by bit: a header is short and comes once.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

pub(super) fn encode(origin: &Origin, tlvs: &Tlvs) -> Vec<u8> {
    let (command, family) = match origin {
        Origin::Local => (LOCAL, 0x00),
        Origin::Unknown => (PROXY, 0x00),
        Origin::Proxied { source: SocketAddr::V4(_), .. } => (PROXY, 0x11),
        Origin::Proxied { source: SocketAddr::V6(_), .. } => (PROXY, 0x21),
    };
    let mut body = Vec::new();
    if let Origin::Proxied { source, destination } = origin {
        for addr in [source, destination] {
            match addr.ip() {
                IpAddr::V4(v4) => body.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => body.extend_from_slice(&v6.octets()),
            }
        }
        body.extend_from_slice(&source.port().to_be_bytes());
        body.extend_from_slice(&destination.port().to_be_bytes());
    }
    write_tlvs(&mut body, tlvs);
    if tlvs.checksum {
        body.extend_from_slice(&[CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    // `put` keeps it far below.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.append(&mut body);
    if tlvs.checksum {
        let sum = crc32c(bytes.iter().copied()).to_be_bytes();
        if let Some(place) = bytes.last_chunk_mut() {
            *place = sum;
        }
    }
    bytes
}

fn write_tlvs(out: &mut Vec<u8>, tlvs: &Tlvs) {
    let Tlvs { alpn, authority, unique_id, ssl, checksum: _ } = tlvs;
    if let Some(alpn) = alpn {
        put(out, ALPN, alpn);
    }
    if let Some(authority) = authority {
        put(out, AUTHORITY, authority.as_bytes());
    }
    if let Some(id) = unique_id {
        put(out, UNIQUE_ID, id);
    }
    if let Some(ssl) = ssl {
        let mut value = vec![ssl.client];
        value.extend_from_slice(&ssl.verify.to_be_bytes());
        if let Some(version) = &ssl.version {
            put(&mut value, SSL_VERSION, version.as_bytes());
        }
        if let Some(name) = &ssl.common_name {
            put(&mut value, SSL_CN, name.as_bytes());
        }
        put(out, SSL, &value);
    }
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if out.len() + 3 + value.len() > BODY_BYTES_MAX {
        return;
    }
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}
