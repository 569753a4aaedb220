//! The better of two at random: nearly as even as looking at all nodes, without the herd that
//! follows when every worker runs to the same least loaded one (Mitzenmacher 2001).

use std::sync::Arc;

use super::least_connections::lighter;
use super::random;
use super::turns::Turns;
use crate::upstream::Endpoint;

/// The lighter loaded of two different usable nodes drawn by weight.
pub(super) fn pick(
    turns: &Turns,
    nodes: &[Arc<Endpoint>],
    usable: impl Fn(&Endpoint) -> bool,
) -> Option<usize> {
    let one = random::pick(turns, nodes, &usable)?;
    let node = nodes.get(one)?;
    let other = random::pick(turns, nodes, |other| other.id != node.id && usable(other));
    let better = other.filter(|&other| nodes.get(other).is_some_and(|other| lighter(other, node)));
    Some(better.unwrap_or(one))
}
