//! The better of two at random: nearly as even as looking at all nodes, without the herd that
//! follows when every worker runs to the same least loaded one (Mitzenmacher 2001).

use super::field::Field;
use super::random;
use super::turns::Turns;
use crate::upstream::Endpoint;

/// The lighter loaded of two different usable nodes drawn by weight.
pub(super) fn pick(turns: &Turns, field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
    better_of_two(turns, field, |a, b| field.is_lighter(a, b))
}

/// The better of two different usable nodes drawn by weight; the first drawn if neither is.
pub(super) fn better_of_two(
    turns: &Turns,
    field: &Field<'_, impl Fn(&Endpoint) -> bool>,
    is_better: impl Fn(&Endpoint, &Endpoint) -> bool,
) -> Option<usize> {
    let one = random::pick(turns, field)?;
    let node = field.nodes.get(one)?;
    let other = random::pick(turns, &field.without(node.id));
    let better =
        other.filter(|&other| field.nodes.get(other).is_some_and(|other| is_better(other, node)));
    Some(better.unwrap_or(one))
}
