//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016, §3.4): nodes take turns in filling a table by their own permutations of its slots,
//! and a choice is one look into it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::field::Field;
use super::rng;
use crate::upstream::Endpoint;

/// Slots for up to [`FEW`] nodes, and for more; primes, both of the paper. 100 slots for a node
/// keep shares within 1 %.
const SLOTS: usize = 65_537;
const MANY_SLOTS: usize = 655_373;
const FEW: usize = SLOTS / 100;

/// Slots looked at one by one before all nodes are: with half the nodes unusable, 1 choice in 2^32
/// needs that.
const STEPS_MAX: usize = 32;

/// Nodes by slot.
#[derive(Debug)]
pub(super) struct Maglev {
    slots: Box<[u32]>,
}

/// A node that fills slots.
struct Filler {
    index: u32,
    weight: u64,
    next: u64,
    skip: u64,
    /// Turns wanted so far, in units of the largest weight.
    target: u64,
}

impl Maglev {
    /// A table with slots in proportion to the weights, one at least for each above 0.
    pub(super) fn new(identities: &[u64], weights: &[u32]) -> Self {
        let nodes = (0_u32..).zip(identities.iter().zip(weights));
        let mut nodes: Vec<_> = nodes.filter(|(_, (_, weight))| **weight != 0).collect();
        // The order of the list must not matter, or proxies would differ.
        nodes.sort_unstable_by_key(|(_, (identity, _))| **identity);
        let size = if nodes.len() <= FEW { SLOTS } else { MANY_SLOTS };
        let modulus = size as u64;
        let filler = |(index, (identity, weight)): (u32, (&u64, &u32))| Filler {
            index,
            weight: u64::from(*weight),
            next: xxh3_64_with_seed(b"offset", *identity) % modulus,
            skip: xxh3_64_with_seed(b"skip", *identity) % (modulus - 1) + 1,
            target: 0,
        };
        let mut fillers: Vec<Filler> = nodes.into_iter().map(filler).collect();
        let most = fillers.iter().map(|filler| filler.weight).max().unwrap_or_default();
        let mut slots = vec![None; if fillers.is_empty() { 0 } else { size }];
        let (mut left, mut round) = (slots.len(), 0_u64);
        // Ends: in each round the heaviest node takes a slot, and its permutation reaches all.
        while left > 0 {
            round += 1;
            for filler in &mut fillers {
                if left == 0 || round * filler.weight < filler.target {
                    continue;
                }
                filler.target += most;
                filler.take(&mut slots);
                left -= 1;
            }
        }
        Self { slots: slots.into_iter().flatten().collect() }
    }

    /// The node of the key's slot, or of the next slot whose node is usable: the keys of a lost
    /// node go to all others.
    pub(super) fn pick(
        &self,
        field: &Field<'_, impl Fn(&Endpoint) -> bool>,
        key: u64,
    ) -> Option<usize> {
        let slots = self.slots.len();
        // Multiply-shift: below the number of slots.
        let slot = ((u128::from(key) * slots as u128) >> 64) as usize;
        for step in 0..STEPS_MAX.min(slots) {
            let index = *self.slots.get((slot + step) % slots)? as usize;
            let coin = |node: &Endpoint| rng::mix(key ^ node.id);
            if field.get(index).is_some_and(|node| field.admits(node, || coin(node))) {
                return Some(index);
            }
        }
        // By the key as well, so that it stays where it goes.
        let usable = field.iter().count().max(1) as u64;
        field.iter().nth((key % usable) as usize).map(|(index, _)| index)
    }
}

impl Filler {
    /// Takes the next free slot of its permutation; there must be one.
    fn take(&mut self, slots: &mut [Option<u32>]) {
        for _ in 0..slots.len() {
            let at = self.next as usize;
            self.next = (self.next + self.skip) % slots.len() as u64;
            if let Some(slot @ None) = slots.get_mut(at) {
                *slot = Some(self.index);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's bound for tables of a hundred slots a node (§5.3): 1 %, and a slot of rounding.
    #[test]
    fn slots_are_shared_as_the_weights_say() {
        for n in [1, 3, 100, 655, 1_000] {
            let identities: Vec<u64> = (0..n).map(rng::mix).collect();
            let weights: Vec<u32> = (0..n).map(|i| 1 + (i % 3) as u32).collect();
            let table = Maglev::new(&identities, &weights);
            let mut counts = vec![0_u32; weights.len()];
            table.slots.iter().for_each(|index| counts[*index as usize] += 1);
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let share = table.slots.len() as f64 * f64::from(*weight) / f64::from(total);
                let off = (f64::from(*count) - share).abs();
                assert!(off <= (share * 0.01).max(3.0), "{n} nodes: {count} for {share}");
            }
        }
    }

    #[test]
    fn drained_nodes_have_no_slot_and_small_ones_have_one() {
        let table = Maglev::new(&[1, 2, 3], &[1, 0, u32::MAX]);
        let count = |index| table.slots.iter().filter(|&&each| each == index).count();
        assert_eq!((count(0), count(1), count(2)), (1, 0, SLOTS - 1));
        assert!(Maglev::new(&[1], &[0]).slots.is_empty());
    }
}
