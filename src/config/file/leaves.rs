//! Values that parse themselves and stand in several places of the file.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The name of a listener, route, service or node: 1 to 128 characters, none of them a control
/// character, none at an end a space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(in crate::config) struct Name(String);

/// Worker threads: 1 to 1024, far above the cores of any machine and far below what exhausts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "usize")]
pub(crate) struct Workers(usize);

/// A network (`10.0.0.0/8`), or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Network(pub(crate) IpNet);

impl Name {
    pub(in crate::config) fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that the plan already has.
    pub(in crate::config) fn known(name: &str) -> Self {
        Self(name.into())
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
            return Err(format!(
                "`{}` is not a name: it needs characters, none invisible, no space at its ends",
                text.escape_debug()
            ));
        }
        if text.chars().count() > 128 {
            return Err("a name has at most 128 characters".into());
        }
        Ok(Self(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Workers {
    /// The count of a plan.
    pub(in crate::config) const fn known(count: usize) -> Self {
        Self(count)
    }

    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|count| (1..=1024).contains(count));
        count.map(Self).ok_or_else(|| {
            format!("`{text}` is not a number of workers; write a whole number from 1 to 1024")
        })
    }
}

impl TryFrom<String> for Workers {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Workers> for usize {
    fn from(workers: Workers) -> Self {
        workers.0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<std::net::IpAddr>() {
            return Ok(Self(ip.to_canonical().into()));
        }
        text.parse::<IpNet>().map(|net| Self(net.trunc())).map_err(|_| {
            format!("`{text}` is not a network; write for example `10.0.0.0/8` or `192.0.2.7`")
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(net: Network) -> Self {
        net.to_string()
    }
}
