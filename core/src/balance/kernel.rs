//! One algorithm over one list of nodes.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::field::Field;
use super::maglev::Maglev;
use super::ring::Ring;
use super::turns::Turns;
use super::{
    Algorithm, first, least_connections, peak_ewma, power_of_two, random, rendezvous, rng,
};
use crate::upstream::Endpoint;

/// An algorithm with what it prepared for its nodes by the weights they had then; a changed weight
/// wants a new kernel (a weight of 0 is obeyed at once).
#[derive(Debug)]
pub(super) enum Kernel {
    First,
    LeastConnections(Turns),
    Maglev(Maglev),
    PeakEwma(Turns),
    PowerOfTwo(Turns),
    Random(Turns),
    Rendezvous(Box<[u64]>),
    Ring(Ring),
    Turns(Turns),
}

impl Kernel {
    pub(super) fn new(algorithm: Algorithm, nodes: &[Arc<Endpoint>]) -> Self {
        let weights: Vec<u32> = nodes.iter().map(|node| node.weight()).collect();
        let by_weight = || Turns::smooth(&weights);
        match algorithm {
            Algorithm::ConsistentHash => Self::Ring(Ring::new(&identities(nodes), &weights)),
            Algorithm::First => Self::First,
            Algorithm::IpHash => Self::Rendezvous(identities(nodes).into()),
            Algorithm::LeastConnections => Self::LeastConnections(by_weight()),
            Algorithm::Maglev => Self::Maglev(Maglev::new(&identities(nodes), &weights)),
            Algorithm::PeakEwma => Self::PeakEwma(by_weight()),
            Algorithm::PowerOfTwo => Self::PowerOfTwo(by_weight()),
            Algorithm::Random => Self::Random(by_weight()),
            Algorithm::RoundRobin => Self::Turns(Turns::equal(&weights)),
            Algorithm::WeightedRoundRobin => Self::Turns(by_weight()),
        }
    }

    /// Takes its turns from where `old` is.
    pub(super) fn continue_from(&self, old: &Self) {
        if let (Some(turns), Some(old)) = (self.turns(), old.turns()) {
            turns.continue_from(old);
        }
    }

    fn turns(&self) -> Option<&Turns> {
        match self {
            Self::LeastConnections(turns)
            | Self::PeakEwma(turns)
            | Self::PowerOfTwo(turns)
            | Self::Random(turns)
            | Self::Turns(turns) => Some(turns),
            Self::First | Self::Maglev(_) | Self::Rendezvous(_) | Self::Ring(_) => None,
        }
    }

    /// The number of a node that may be chosen; none if there is none. `key` is what the hash
    /// algorithms go by; without one they choose at random.
    pub(super) fn pick(
        &self,
        field: &Field<'_, impl Fn(&Endpoint) -> bool>,
        key: Option<u64>,
    ) -> Option<usize> {
        let key = || rng::mix(key.unwrap_or_else(rng::next));
        match self {
            Self::First => first::pick(field),
            Self::LeastConnections(turns) => least_connections::pick(turns, field),
            Self::Maglev(table) => table.pick(field, key()),
            Self::PeakEwma(turns) => peak_ewma::pick(turns, field),
            Self::PowerOfTwo(turns) => power_of_two::pick(turns, field),
            Self::Random(turns) => random::pick(turns, field),
            Self::Rendezvous(seeds) => rendezvous::pick(seeds, field, key()),
            Self::Ring(ring) => ring.pick(field, key()),
            Self::Turns(turns) => turns.pick(field),
        }
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
