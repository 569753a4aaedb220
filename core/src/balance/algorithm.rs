//! The names of the algorithms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::suggest::closest;

/// How a node is chosen. In text by the names of [`Algorithm::NAMES`]; hyphens are accepted for
/// underscores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    /// A hash ring with bounded load: a key stays on its node, a lost node moves only its own
    /// keys, and no node carries more than 1.25 times its share of the exchanges under way.
    ConsistentHash,
    /// The first usable node in the order of the list: the others are spares.
    First,
    /// The client's address chooses the node (weighted rendezvous hashing).
    IpHash,
    /// The node with the fewest exchanges under way for its weight.
    LeastConnections,
    /// A hash table of fixed size: a choice is one look, shares are within 1 %, and a lost node
    /// moves hardly more than its own keys.
    Maglev,
    /// Of two nodes at random by weight, the one with the smaller product of latency and exchanges
    /// under way; one choice in 64 goes round, so that no node is forgotten.
    PeakEwma,
    /// Two nodes at random by weight, the one with fewer exchanges under way for its weight.
    PowerOfTwo,
    /// At random by weight.
    Random,
    /// One after the other; weights count only as zero or not.
    #[default]
    RoundRobin,
    /// One after the other by weight, a node's turns spread evenly (nginx's smooth weighted
    /// round robin).
    WeightedRoundRobin,
}

/// Why an algorithm's name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlgorithmError(String);

impl Algorithm {
    /// Every algorithm with its name.
    pub const NAMES: [(&'static str, Self); 10] = [
        ("round_robin", Self::RoundRobin),
        ("weighted_round_robin", Self::WeightedRoundRobin),
        ("random", Self::Random),
        ("power_of_two", Self::PowerOfTwo),
        ("least_connections", Self::LeastConnections),
        ("peak_ewma", Self::PeakEwma),
        ("ip_hash", Self::IpHash),
        ("consistent_hash", Self::ConsistentHash),
        ("maglev", Self::Maglev),
        ("first", Self::First),
    ];

    /// The canonical name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsistentHash => "consistent_hash",
            Self::First => "first",
            Self::IpHash => "ip_hash",
            Self::LeastConnections => "least_connections",
            Self::Maglev => "maglev",
            Self::PeakEwma => "peak_ewma",
            Self::PowerOfTwo => "power_of_two",
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
        }
    }

    /// Whether it can go by any key (`hash_by`); [`Self::IpHash`] has only one.
    pub const fn has_free_key(self) -> bool {
        matches!(self, Self::ConsistentHash | Self::Maglev)
    }

    /// Whether it wants to know how long nodes take.
    pub(crate) const fn wants_latency(self) -> bool {
        matches!(self, Self::PeakEwma)
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        let name = text.trim().to_ascii_lowercase().replace('-', "_");
        if let Some((_, algorithm)) = Self::NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*algorithm);
        }
        let names = Self::NAMES.map(|(name, _)| name);
        let hint = match closest(&name, names) {
            Some(near) => format!("did you mean `{near}`? "),
            None => String::new(),
        };
        Err(AlgorithmError(format!(
            "`{text}` is not a balancing algorithm; {hint}known: {}",
            names.join(", ")
        )))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Algorithm {
    type Error = AlgorithmError;

    fn try_from(text: String) -> Result<Self, AlgorithmError> {
        text.parse()
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.as_str().into()
    }
}

impl fmt::Display for AlgorithmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AlgorithmError {}
