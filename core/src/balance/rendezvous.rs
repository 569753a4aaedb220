//! Weighted rendezvous hashing (Thaler, Ravishankar 1998; weights by Schindelhauer, Schomaker
//! 2005): each node scores the key, the best usable score wins. A lost node moves only its own
//! keys, evenly over the others; a changed weight moves only the difference.

use super::field::Field;
use super::rng;
use crate::upstream::Endpoint;

/// The usable node with the best score for `key`; `seeds` are the nodes' identities.
pub(super) fn pick(
    seeds: &[u64],
    field: &Field<'_, impl Fn(&Endpoint) -> bool>,
    key: u64,
) -> Option<usize> {
    field
        .iter()
        .filter_map(|(index, node)| Some((index, cost(key ^ seeds.get(index)?, field.share(node)))))
        .reduce(|best, other| if other.1 < best.1 { other } else { best })
        .map(|(index, _)| index)
}

/// An exponential variate of rate `share`: the smallest of several belongs to a node with the
/// probability of its share.
fn cost(bits: u64, share: u64) -> f64 {
    // 53 bits and a half step: inside (0, 1), never at an end.
    let uniform = ((rng::mix(bits) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / share as f64
}
