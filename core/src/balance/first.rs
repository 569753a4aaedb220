//! The first usable node: a main node with spares behind it.

use super::field::Field;
use crate::upstream::Endpoint;

/// The first usable node in the order of the list.
pub(super) fn pick(field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
    field.iter().next().map(|(index, _)| index)
}
