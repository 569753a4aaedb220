//! The node with the fewest exchanges under way for its weight.

use std::sync::Arc;

use super::turns::Turns;
use crate::upstream::Endpoint;

/// The least loaded usable node. Among equals it is the one whose turn by weight it is, so that
/// an idle service does not send everything to its first node.
pub(super) fn pick(
    turns: &Turns,
    nodes: &[Arc<Endpoint>],
    usable: impl Fn(&Endpoint) -> bool,
) -> Option<usize> {
    let start = turns.advance()?;
    let around = nodes.iter().enumerate().skip(start).chain(nodes.iter().enumerate().take(start));
    around
        .filter(|(_, node)| usable(node))
        .reduce(|best, other| if lighter(other.1, best.1) { other } else { best })
        .map(|(index, _)| index)
}

/// Whether `a` has fewer exchanges under way for its weight than `b`.
pub(super) fn lighter(a: &Endpoint, b: &Endpoint) -> bool {
    // Cross-multiplied, so that small weights are not rounded away.
    u64::from(a.in_flight()) * u64::from(b.weight())
        < u64::from(b.in_flight()) * u64::from(a.weight())
}
