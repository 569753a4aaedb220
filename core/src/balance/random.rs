//! At random by weight.

use std::sync::Arc;

use super::rng;
use super::turns::Turns;
use crate::upstream::Endpoint;

/// Draws before looking at every node: with half the nodes unusable, 1 choice in 256 needs that.
const DRAWS: usize = 8;

/// A usable node, each as likely as its weight says.
pub(super) fn pick(
    turns: &Turns,
    nodes: &[Arc<Endpoint>],
    usable: impl Fn(&Endpoint) -> bool,
) -> Option<usize> {
    for _ in 0..DRAWS {
        let index = turns.draw()?;
        if nodes.get(index).is_some_and(|node| usable(node)) {
            return Some(index);
        }
    }
    scan(nodes, usable)
}

/// The same by one walk over all nodes: the n-th usable one replaces the choice with the
/// probability of its weight among those seen (weighted reservoir sampling of one).
pub(super) fn scan(nodes: &[Arc<Endpoint>], usable: impl Fn(&Endpoint) -> bool) -> Option<usize> {
    let mut seen = 0;
    let mut choice = None;
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| usable(node)) {
        let weight = u64::from(node.weight());
        seen += weight;
        if rng::below(seen) < weight || choice.is_none() {
            choice = Some(index);
        }
    }
    choice
}
