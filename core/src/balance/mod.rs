//! Which node serves next.
//!
//! A [`Balancer`] is built for one version of the list of nodes and shared by all workers; what
//! moves in it is one atomic counter. A new algorithm is one file here, one variant of
//! [`Algorithm`] and one of `Kind`.

mod first;
mod least_connections;
mod power_of_two;
mod random;
mod rendezvous;
mod ring;
pub(crate) mod rng;
mod turns;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::suggest::closest;
use crate::upstream::Endpoint;
use ring::Ring;
use turns::Turns;

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

/// The choice among one version of the list of nodes.
#[derive(Debug)]
pub struct Balancer {
    endpoints: Arc<[Arc<Endpoint>]>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    First,
    LeastConnections(Turns),
    PowerOfTwo(Turns),
    Random(Turns),
    Rendezvous(Box<[u64]>),
    Ring(Ring),
    Turns(Turns),
}

impl Algorithm {
    /// Every algorithm with its name.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("round_robin", Self::RoundRobin),
        ("weighted_round_robin", Self::WeightedRoundRobin),
        ("random", Self::Random),
        ("power_of_two", Self::PowerOfTwo),
        ("least_connections", Self::LeastConnections),
        ("ip_hash", Self::IpHash),
        ("consistent_hash", Self::ConsistentHash),
        ("first", Self::First),
    ];

    /// The canonical name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsistentHash => "consistent_hash",
            Self::First => "first",
            Self::IpHash => "ip_hash",
            Self::LeastConnections => "least_connections",
            Self::PowerOfTwo => "power_of_two",
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
        }
    }
}

impl Balancer {
    /// Prepares the choice among `endpoints` by the weights they have now; a changed weight wants
    /// a new balancer (a weight of 0 is obeyed at once).
    pub fn new(algorithm: Algorithm, endpoints: Arc<[Arc<Endpoint>]>) -> Self {
        let weights: Vec<u32> = endpoints.iter().map(|node| node.weight()).collect();
        let by_weight = || Turns::smooth(&weights);
        let kind = match algorithm {
            Algorithm::ConsistentHash => Kind::Ring(Ring::new(&identities(&endpoints), &weights)),
            Algorithm::First => Kind::First,
            Algorithm::IpHash => Kind::Rendezvous(identities(&endpoints).into()),
            Algorithm::LeastConnections => Kind::LeastConnections(by_weight()),
            Algorithm::PowerOfTwo => Kind::PowerOfTwo(by_weight()),
            Algorithm::Random => Kind::Random(by_weight()),
            Algorithm::RoundRobin => Kind::Turns(Turns::equal(&weights)),
            Algorithm::WeightedRoundRobin => Kind::Turns(by_weight()),
        };
        Self { endpoints, kind }
    }

    /// The nodes it chooses from.
    pub fn endpoints(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.endpoints
    }

    /// A node that is `usable` and has a weight; none if there is no such node. `key` is what the
    /// hash algorithms go by; without one they choose at random.
    pub fn pick(
        &self,
        key: Option<u64>,
        usable: impl Fn(&Endpoint) -> bool,
    ) -> Option<&Arc<Endpoint>> {
        let nodes = &self.endpoints;
        let usable = |node: &Endpoint| node.weight() != 0 && usable(node);
        let key = || rng::mix(key.unwrap_or_else(rng::next));
        let index = match &self.kind {
            Kind::First => first::pick(nodes, usable),
            Kind::LeastConnections(turns) => least_connections::pick(turns, nodes, usable),
            Kind::PowerOfTwo(turns) => power_of_two::pick(turns, nodes, usable),
            Kind::Random(turns) => random::pick(turns, nodes, usable),
            Kind::Rendezvous(seeds) => rendezvous::pick(seeds, nodes, key(), usable),
            Kind::Ring(ring) => ring.pick(nodes, key(), usable),
            Kind::Turns(turns) => turns.pick(nodes, usable),
        }?;
        nodes.get(index)
    }
}

/// What makes a node itself for hashing: its name and place, so that it is the same in every
/// proxy and after a restart. A node listed twice counts as two.
fn identities(nodes: &[Arc<Endpoint>]) -> Vec<u64> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    nodes
        .iter()
        .map(|node| {
            let base = xxh3_64(format!("{}\n{}", node.name, node.addr).as_bytes());
            let copies = seen.entry(base).or_default();
            let identity = xxh3_64_with_seed(&copies.to_le_bytes(), base);
            *copies += 1;
            identity
        })
        .collect()
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

#[cfg(test)]
mod tests;
