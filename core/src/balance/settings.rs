//! What the choice of a node obeys.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Algorithm;
use crate::key::By;
use crate::options;
use crate::units::{Percent, Span};

/// Nodes by their metadata: those that have each of these words with this value. Empty: all.
pub type Subset = BTreeMap<String, String>;

/// What the choice of a node obeys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BalanceSettings {
    /// How a node is chosen among equals. Default round robin.
    pub algorithm: Algorithm,
    /// What `consistent_hash` and `maglev` go by. Default the client's address.
    pub hash_by: Option<By>,
    /// How long the share of a node that is new or came back grows to its weight, from a tenth of
    /// it. Default zero: it has all of it at once.
    pub slow_start: Span,
    /// The share of the nodes, by weight, below which health is no longer asked: all are tried
    /// then, so that the last healthy ones are not run over. Default 0 %: never.
    pub panic_threshold: Percent,
    /// Where the proxy is: nodes of the same zone come first. Default none: zones do not matter.
    pub zone: Option<ZoneSettings>,
}

/// A preference for near nodes. In text: `a`, or `a,full_at=100`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ZoneSettings {
    /// The zone; a node's is the word `zone` of its metadata.
    pub name: String,
    /// Exchanges under way on a near node, for each 1 of its weight, from which on it is full and
    /// what comes next goes to other zones. Default none: it is never full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at: Option<NonZeroU32>,
}

/// Why a zone was refused; `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneError(String);

impl From<Algorithm> for BalanceSettings {
    /// The algorithm, and the defaults.
    fn from(algorithm: Algorithm) -> Self {
        Self { algorithm, ..Self::default() }
    }
}

impl ZoneSettings {
    /// The word of a node's metadata that says its zone.
    pub const WORD: &str = "zone";

    fn read(text: &str) -> Result<Self, String> {
        let (name, pairs) = options::split(text, &["full_at"])?;
        let mut zone = Self { name: name.into(), full_at: None };
        for (key, value) in pairs {
            zone.full_at = Some(options::positive(key, value)?);
        }
        zone.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if self.name.is_empty() {
            return Err("a zone has a name; write for example `eu-west-1a`".into());
        }
        Ok(self)
    }
}

options::serde_text_or_map!(
    ZoneSettings,
    "a zone as `a` or `a,full_at=100`",
    ZoneSettings::checked
);

impl FromStr for ZoneSettings {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        Self::read(text).map_err(ZoneError)
    }
}

impl fmt::Display for ZoneSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.full_at {
            Some(full_at) => write!(f, ",full_at={full_at}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ZoneError {}
