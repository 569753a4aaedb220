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

/// Where a key comes from. In text: `ip`, `global`, `user`, `api_key`, `path`, `sni`, `route`,
/// `service`, `connection`, `header:NAME`, `cookie:NAME`, `query:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum By {
    /// The `X-API-Key` field's value.
    ApiKey,
    /// The client's connection.
    Connection,
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
    /// The route that takes the request.
    Route,
    /// The service that it goes to.
    Service,
    /// Who asks, by the credentials that came with the request.
    User,
}

/// What tells clients apart: one source, or several of which each combination counts for itself.
/// One to [`Keys::MAX`]; in text `ip+header:x-api-key`, in a file also a list. Default `ip`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keys(Vec<By>);

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
                "`{text}` is not a key; write `ip`, `global`, `user`, `api_key`, `path`, `sni`, \
                 `route`, `service`, `connection`, `header:NAME`, `cookie:NAME` or `query:NAME`"
            ))
        };
        match text {
            "api_key" => return Ok(Self::ApiKey),
            "connection" => return Ok(Self::Connection),
            "global" => return Ok(Self::Global),
            "ip" => return Ok(Self::Ip),
            "route" => return Ok(Self::Route),
            "service" => return Ok(Self::Service),
            "user" => return Ok(Self::User),
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
            Self::ApiKey => f.write_str("api_key"),
            Self::Connection => f.write_str("connection"),
            Self::Route => f.write_str("route"),
            Self::Service => f.write_str("service"),
            Self::User => f.write_str("user"),
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

impl Keys {
    /// Sources at most.
    pub const MAX: usize = 4;

    /// The sources.
    pub fn iter(&self) -> impl Iterator<Item = &By> {
        self.0.iter()
    }

    fn new(sources: Vec<By>) -> Result<Self, ByError> {
        if (1..=Self::MAX).contains(&sources.len()) {
            return Ok(Self(sources));
        }
        Err(ByError(format!("a key has 1 to {} parts, not {}", Self::MAX, sources.len())))
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self(vec![By::Ip])
    }
}

impl From<By> for Keys {
    fn from(by: By) -> Self {
        Self(vec![by])
    }
}

impl FromStr for Keys {
    type Err = ByError;

    fn from_str(text: &str) -> Result<Self, ByError> {
        Self::new(text.split('+').map(|part| part.trim().parse()).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, by) in self.0.iter().enumerate() {
            let plus = if at > 0 { "+" } else { "" };
            write!(f, "{plus}{by}")?;
        }
        Ok(())
    }
}

impl Serialize for Keys {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> serde::de::Visitor<'de> for OneOrMany {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key as `ip` or `ip+header:x-api-key`, or a list")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Keys, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_seq<A>(self, mut list: A) -> Result<Keys, A::Error>
            where
                A: serde::de::SeqAccess<'de>,
            {
                let mut sources = Vec::new();
                while let Some(one) = list.next_element()? {
                    sources.push(one);
                }
                Keys::new(sources).map_err(serde::de::Error::custom)
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

/// One key out of the keys of several sources: the same parts in another order are another key.
pub fn combined(parts: impl IntoIterator<Item = u64>) -> u64 {
    // A single part stays as it is.
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |key, part| {
        let mut pair = [0; 16];
        pair[..8].copy_from_slice(&key.to_ne_bytes());
        pair[8..].copy_from_slice(&part.to_ne_bytes());
        of_value(&pair)
    })
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
        for text in
            ["ip", "global", "path", "sni", "header:x-api-key", "cookie:Sid", "query:user", "user"]
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
