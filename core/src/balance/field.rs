//! The nodes one choice is made among, as the request sees them.

use std::sync::Arc;
use std::time::Instant;

use super::ramp::Ramp;
use crate::upstream::Endpoint;

/// The nodes one choice is made among: a kernel sees no others, and knows of health, levels and
/// zones only what `usable` says.
#[derive(Debug)]
pub(super) struct Field<'a, F> {
    pub(super) nodes: &'a [Arc<Endpoint>],
    pub(super) usable: F,
    pub(super) ramp: Option<Ramp>,
    pub(super) now: Instant,
}

/// One share of weight 1, so that a tenth of it is still a whole number.
const SHARE: u64 = 1 << 10;

impl<'a, F: Fn(&Endpoint) -> bool> Field<'a, F> {
    /// The node of this number, if it may be chosen.
    pub(super) fn get(&self, index: usize) -> Option<&'a Endpoint> {
        self.nodes.get(index).map(AsRef::as_ref).filter(|node| self.may(node))
    }

    /// Every node that may be chosen, with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &'a Endpoint)> {
        let numbered = self.nodes.iter().map(AsRef::as_ref).enumerate();
        numbered.filter(|(_, node)| self.may(node))
    }

    /// The same from the node of this number on, round to the one before it.
    pub(super) fn from(&self, start: usize) -> impl Iterator<Item = (usize, &'a Endpoint)> {
        let numbered = || self.nodes.iter().map(AsRef::as_ref).enumerate();
        let around = numbered().skip(start).chain(numbered().take(start));
        around.filter(|(_, node)| self.may(node))
    }

    fn may(&self, node: &Endpoint) -> bool {
        node.weight() != 0 && (self.usable)(node)
    }

    /// The node's share in relation to the others': its weight, or what slow start leaves of it.
    /// Above 0 for a node that may be chosen.
    pub(super) fn share(&self, node: &Endpoint) -> u64 {
        let full = u64::from(node.weight()) * SHARE;
        match &self.ramp {
            None => full,
            Some(ramp) => ramp.of(full, node, self.now).max(1),
        }
    }

    /// Whether a choice that fell on the node by its weight stays there: always, but during slow
    /// start only for as large a part of the `coin`s as has grown yet. All coins are equally
    /// likely; the same coin stays once it does.
    pub(super) fn admits(&self, node: &Endpoint, coin: impl FnOnce() -> u64) -> bool {
        match &self.ramp {
            None => true,
            Some(ramp) => ramp.admits(node, self.now, coin),
        }
    }

    /// Whether `a` has fewer exchanges under way for its share than `b`.
    pub(super) fn is_lighter(&self, a: &Endpoint, b: &Endpoint) -> bool {
        // Cross-multiplied, so that small shares are not rounded away.
        u64::from(a.in_flight()).saturating_mul(self.share(b))
            < u64::from(b.in_flight()).saturating_mul(self.share(a))
    }

    /// The same without one node.
    pub(super) fn without(&self, id: u64) -> Field<'a, impl Fn(&Endpoint) -> bool> {
        Field {
            nodes: self.nodes,
            usable: move |node: &Endpoint| node.id != id && (self.usable)(node),
            ramp: self.ramp,
            now: self.now,
        }
    }
}
