//! At random by weight.

use super::field::Field;
use super::rng;
use super::turns::Turns;
use crate::upstream::Endpoint;

/// Draws before looking at every node: with half the nodes unusable, 1 choice in 256 needs that.
const DRAWS: usize = 8;

/// A usable node, each as likely as its weight says.
pub(super) fn pick(turns: &Turns, field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
    for _ in 0..DRAWS {
        let index = turns.draw()?;
        if field.get(index).is_some_and(|node| field.admits(node, rng::next)) {
            return Some(index);
        }
    }
    scan(field)
}

/// The same by one walk over all nodes: the n-th usable one replaces the choice with the
/// probability of its share among those seen (weighted reservoir sampling of one).
pub(super) fn scan(field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
    let mut seen = 0_u64;
    let mut choice = None;
    for (index, node) in field.iter() {
        let share = field.share(node);
        seen = seen.saturating_add(share);
        if rng::below(seen) < share || choice.is_none() {
            choice = Some(index);
        }
    }
    choice
}
