//! The first usable node: a main node with spares behind it.

use std::sync::Arc;

use crate::upstream::Endpoint;

/// The first usable node in the order of the list.
pub(super) fn pick(nodes: &[Arc<Endpoint>], usable: impl Fn(&Endpoint) -> bool) -> Option<usize> {
    nodes.iter().position(|node| usable(node))
}
