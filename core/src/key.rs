//! What tells one client from another: the source of a key, and keys as numbers.
//!
//! A limit counts per key and a hash balancer keeps a key on its node. The source is named here;
//! core does not know what a header is, so the protocol finds the bytes and makes the number.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Where a key comes from. In text: `ip`, `global`, `path`, `sni`,
/// `header:NAME`, `cookie:NAME`, `query:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum By {
    /// A cookie's value.
    Cookie(String),
    /// One key for all.
    Global,
    /// A header field's value; the name is kept in lower case.
    Header(String),
    /// The client's address; IPv6 by its /64, because one client has a whole /64 to itself.
    Ip,
    /// The path, without the query.
    Path,
    /// A query parameter's value.
    Query(String),
    /// The server name that the client asked for in TLS (RFC 6066 §3).
    Sni,
}

/// Why a key source was refused; `Display` is a sentence with the accepted forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByError(String);

/// The key of a client's address: an IPv4 address, or the /64 of an IPv6 address.
pub fn of_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

/// The key of a value for a **limit**: a hash seeded at random per process, so that no client can
/// craft a value that lands on another's key.
pub fn of_value(value: &[u8]) -> u64 {
    use std::hash::BuildHasher;
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    SEED.hash_one(value)
}

/// The key of a value for a **hash balancer**: the same in every process and after a restart, so
/// that several proxies send a key to the same node (xxh3, 64 bits).
pub fn stable(value: &[u8]) -> u64 {
    xxh3_64(value)
}

impl FromStr for By {
    type Err = ByError;

    fn from_str(text: &str) -> Result<Self, ByError> {
        let bad = || {
            ByError(format!(
                "`{text}` is not a key; write `ip`, `global`, `path`, `sni`, `header:NAME`, \
                 `cookie:NAME` or `query:NAME`"
            ))
        };
        match text {
            "ip" => return Ok(Self::Ip),
            "global" => return Ok(Self::Global),
            "path" => return Ok(Self::Path),
            "sni" => return Ok(Self::Sni),
            _ => {}
        }
        let (source, name) = text.split_once(':').ok_or_else(bad)?;
        if name.is_empty() || name.bytes().any(|b| !(0x21..0x7f).contains(&b) || b == b',') {
            return Err(bad());
        }
        match source {
            "cookie" => Ok(Self::Cookie(name.into())),
            "header" => Ok(Self::Header(name.to_ascii_lowercase())),
            "query" => Ok(Self::Query(name.into())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Global => f.write_str("global"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Ip => f.write_str("ip"),
            Self::Path => f.write_str("path"),
            Self::Sni => f.write_str("sni"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

impl TryFrom<String> for By {
    type Error = ByError;

    fn try_from(text: String) -> Result<Self, ByError> {
        text.parse()
    }
}

impl From<By> for String {
    fn from(by: By) -> Self {
        by.to_string()
    }
}

impl fmt::Display for ByError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ByError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_parse_and_print() {
        for text in ["ip", "global", "path", "sni", "header:x-api-key", "cookie:Sid", "query:user"]
        {
            assert_eq!(text.parse::<By>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-Api-Key".parse(), Ok(By::Header("x-api-key".into())));
        for text in ["", "IP", "header", "header:", "header:a b", "header:a,b", "user:x", "ip:"] {
            let sentence = text.parse::<By>().unwrap_err().to_string();
            assert!(sentence.contains(&format!("`{text}`")), "{sentence}");
            assert!(sentence.contains("`header:NAME`"), "{sentence}");
        }
    }

    /// T63.
    #[test]
    fn addresses_of_one_client_share_a_key() {
        let key = |text: &str| of_ip(text.parse().unwrap());
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn stable_keys_do_not_change_between_releases() {
        // A changed value here moves every client of every consistent-hash service.
        assert_eq!(stable(b""), 0x2d06_8005_38d3_94c2);
    }
}
