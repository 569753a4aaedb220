//! Round robin, plain and by weight: a fixed order of turns and one counter.
//!
//! Smooth weighted round robin as nginx has it keeps a number per node and updates all of them
//! for each choice, which cannot be shared by workers without a lock. Its sequence repeats after
//! the sum of the weights, so it is worked out once, and a choice is one step of a counter.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::field::Field;
use super::{random, rng};
use crate::upstream::Endpoint;

/// The most turns in an order: 256 KiB of memory.
const TURNS_MAX: u64 = 1 << 16;

/// The most steps to work out an order (nodes times turns): some 20 ms.
const STEPS_MAX: u64 = 1 << 24;

/// An order of turns, by index of the node, and the next one.
#[derive(Debug)]
pub(super) struct Turns {
    order: Box<[u32]>,
    next: Next,
}

/// On a cache line of its own: all workers write to it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Next(AtomicUsize);

impl Turns {
    /// A turn for each node of a weight above 0.
    pub(super) fn equal(weights: &[u32]) -> Self {
        let order = (0_u32..).zip(weights).filter(|(_, weight)| **weight != 0);
        Self::new(order.map(|(index, _)| index).collect())
    }

    /// As many turns as its weight for each node, spread evenly: the sequence of nginx's
    /// `ngx_http_upstream_get_peer`. Weights are reduced by their greatest common divisor; where
    /// that leaves too many turns they are scaled down, each to 1 at least.
    pub(super) fn smooth(weights: &[u32]) -> Self {
        let weights = reduced(weights);
        let total: i64 = weights.iter().sum();
        let mut current = vec![0_i64; weights.len()];
        let mut order = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        for _ in 0..total {
            for (current, weight) in current.iter_mut().zip(&weights) {
                *current += weight;
            }
            // `max_by_key` would give the last of equals; nginx takes the first.
            let best = (0_u32..)
                .zip(current.iter_mut())
                .reduce(|best, other| if *other.1 > *best.1 { other } else { best });
            if let Some((index, current)) = best {
                *current -= total;
                order.push(index);
            }
        }
        Self::new(order)
    }

    fn new(order: Vec<u32>) -> Self {
        Self { order: order.into(), next: Next::default() }
    }

    /// The node whose turn it is. A node that cannot be used forfeits its turn; were its turn
    /// given to the one after it in the order, that one would carry double.
    pub(super) fn pick(&self, field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
        for _ in 0..self.order.len().min(4 * field.nodes.len()) {
            let index = self.advance()?;
            if field.get(index).is_some_and(|node| field.admits(node, rng::next)) {
                return Some(index);
            }
        }
        // Only unusable nodes had their turns, or other workers took the usable ones' turns.
        random::scan(field)
    }

    /// Where to begin looking at all nodes: at the one whose turn it is, usable or not.
    pub(super) fn start(&self, field: &Field<'_, impl Fn(&Endpoint) -> bool>) -> Option<usize> {
        let index = self.advance()?;
        let node = field.nodes.get(index)?;
        if field.admits(node, rng::next) { Some(index) } else { self.advance() }
    }

    /// Goes on where `other` is: a new list of nodes does not begin with the first one again.
    pub(super) fn continue_from(&self, other: &Self) {
        self.next.0.store(other.next.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The next turn's node.
    pub(super) fn advance(&self) -> Option<usize> {
        self.at(self.next.0.fetch_add(1, Ordering::Relaxed) as u64)
    }

    /// A turn at random, so a node at random by weight.
    pub(super) fn draw(&self) -> Option<usize> {
        self.at(rng::next())
    }

    fn at(&self, turn: u64) -> Option<usize> {
        let turn = turn.checked_rem(self.order.len() as u64)?;
        // Below the length, which is a `usize`.
        self.order.get(turn as usize).map(|&index| index as usize)
    }
}

/// Weights in the same proportions, small enough for an order of turns.
fn reduced(weights: &[u32]) -> Vec<i64> {
    let gcd = weights.iter().fold(0, |gcd, &weight| greatest_common_divisor(gcd, weight)).max(1);
    let total: u64 = weights.iter().map(|&weight| u64::from(weight / gcd)).sum();
    let nodes = (weights.len() as u64).max(1);
    let most = TURNS_MAX.min(STEPS_MAX / nodes).max(nodes);
    weights
        .iter()
        .map(|&weight| match (u64::from(weight / gcd), total > most) {
            (0, _) => 0,
            // Bounded by `most`.
            (weight, true) => (weight * most / total).max(1).cast_signed(),
            // Bounded by the total, which is not above `most`.
            (weight, false) => weight.cast_signed(),
        })
        .collect()
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
