//! The node with the fewest exchanges under way for its weight.

use super::field::Field;
use super::turns::Turns;
use crate::upstream::Endpoint;

/// The least loaded usable node. Among equals it is the one whose turn by weight it is, so that
/// an idle service does not send everything to its first node.
pub(super) fn pick(turns: &Turns, field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
    let start = turns.start(field)?;
    field
        .from(start)
        .reduce(|best, other| if field.is_lighter(other.1, best.1) { other } else { best })
        .map(|(index, _)| index)
}
