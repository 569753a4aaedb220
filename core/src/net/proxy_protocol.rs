//! The PROXY protocol, versions 1 and 2: in the first bytes of a connection, the proxy in front
//! says who its client is (HAProxy's `proxy-protocol.txt`, whose sections are cited here).
//!
//! Pure: bytes in, verdict out. Who may say it, and how long that may take, is
//! [`accept`](super::accept)'s; who is told, [`connect`](crate::upstream::connect)'s.

mod v1;
mod v2;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PeerAddr;

/// Bytes of a header of version 2, all TLVs included. The format has room for 64 KiB, which
/// nothing needs; a certificate of the client (`PP2_SUBTYPE_SSL_CLIENT_CERT`) may be too much.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// A line of text (§2.1).
    V1,
    /// Binary (§2.2).
    V2,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its version.
    pub version: Version,
    /// Whose connection it is.
    pub origin: Origin,
    /// What else version 2 says.
    pub tlvs: Tlvs,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The sender's own, as for a health check (`LOCAL`, only in version 2).
    Local,
    /// A client's.
    Proxied {
        /// The client's address.
        source: SocketAddr,
        /// The address the client connected to. Of the same family.
        destination: SocketAddr,
    },
    /// A client's that has no address of IP (`UNKNOWN`, `AF_UNSPEC`, `AF_UNIX`).
    Unknown,
}

/// The extensions of version 2 (§2.2) that are kept; others are skipped, as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tlvs {
    /// What the client and the sender agreed on (`PP2_TYPE_ALPN`, RFC 7301).
    pub alpn: Option<Box<[u8]>>,
    /// The name the client asked for, as by SNI (`PP2_TYPE_AUTHORITY`).
    pub authority: Option<Box<str>>,
    /// The sender's id of the connection, at most 128 bytes (`PP2_TYPE_UNIQUE_ID`).
    pub unique_id: Option<Box<[u8]>>,
    /// The client's TLS (`PP2_TYPE_SSL`).
    pub ssl: Option<Ssl>,
    /// Whether there was a checksum (`PP2_TYPE_CRC32C`). One that is wrong is [`Malformed`].
    pub checksum: bool,
}

/// The TLS between the client and the sender (`PP2_TYPE_SSL`, §2.2.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ssl {
    /// `PP2_CLIENT_SSL` 1, `PP2_CLIENT_CERT_CONN` 2, `PP2_CLIENT_CERT_SESS` 4.
    pub client: u8,
    /// Zero if the client gave a certificate and it was verified.
    pub verify: u32,
    /// As `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// The common name of the client's certificate.
    pub common_name: Option<Box<str>>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// No header: they differ from the beginning of either version.
    Absent,
    /// A header.
    Header {
        /// What it says.
        header: Box<Header>,
        /// Its length; what follows is the connection's.
        bytes: usize,
    },
    /// What could become a header, or nothing at all yet.
    Partial,
}

/// Why what begins like a header is none; `Display` is half a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

/// Looks for a header at the beginning of `bytes`, which may hold more than that, or not yet all
/// of it. Asked for with more and more of a connection, it is never [`Parsed::Partial`] beyond
/// [`HEADER_BYTES_MAX`].
///
/// # Errors
/// When they begin like a header and cannot become one: the connection must be closed (§2).
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if agrees(bytes, v1::PREFIX) {
        v1::parse(bytes)
    } else if agrees(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Ok(Parsed::Absent)
    }
}

/// Whether `bytes` begin with `magic`, as far as there are any.
fn agrees(bytes: &[u8], magic: &[u8]) -> bool {
    bytes.iter().zip(magic).all(|(byte, magic)| byte == magic)
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The name in flags and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

impl Header {
    /// A header without extensions.
    pub fn new(version: Version, origin: Origin) -> Self {
        Self { version, origin, tlvs: Tlvs::default() }
    }

    /// The bytes to send. Version 1 has no extensions, and `UNKNOWN` for what is local. An
    /// extension that would make it longer than [`HEADER_BYTES_MAX`] is left out.
    pub fn encode(&self) -> Vec<u8> {
        match self.version {
            Version::V1 => v1::encode(&self.origin),
            Version::V2 => v2::encode(&self.origin, &self.tlvs),
        }
    }
}

impl Origin {
    /// The connection of a client at `client` that connected to `reached`.
    pub fn between(client: PeerAddr, reached: PeerAddr) -> Self {
        let (PeerAddr::Ip(source), PeerAddr::Ip(destination)) = (client, reached) else {
            return Self::Unknown;
        };
        if source.is_ipv4() == destination.is_ipv4() {
            return Self::Proxied { source, destination };
        }
        // The format has one family for both.
        Self::Proxied { source: mapped(source), destination: mapped(destination) }
    }
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    let ip: Ipv6Addr = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    (ip, addr.port()).into()
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| {
            format!("`{text}` is no version of the PROXY protocol; there are `v1` and `v2`")
        })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests;
