//! Consistent hashing on a ring (Karger et al. 1997) with bounded load (Mirrokni, Thorup,
//! Zadimoghaddam 2018).

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::field::Field;
use super::rng;
use crate::upstream::Endpoint;

/// Points of a node of the smallest weight, as ketama and Envoy have them: shares within some 8 %.
const POINTS: u64 = 160;

/// The most points on a ring: 2 MiB of memory.
const POINTS_MAX: u64 = 1 << 17;

/// How far above its share of the exchanges under way a node may go before its keys spill over to
/// the next one: 1.25, HAProxy's advice for `hash-balance-factor`.
const BOUND: f64 = 1.25;

/// Points in order, each with the index of its node.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring with points in proportion to the weights.
    pub(super) fn new(identities: &[u64], weights: &[u32]) -> Self {
        let least = weights.iter().filter(|weight| **weight != 0).min();
        let least = u64::from(least.copied().unwrap_or(1));
        let wanted: u64 = weights.iter().map(|&weight| POINTS * u64::from(weight) / least).sum();
        let mut points = Vec::with_capacity(wanted.min(POINTS_MAX) as usize);
        for (index, (identity, weight)) in (0_u32..).zip(identities.iter().zip(weights)) {
            let share = POINTS * u64::from(*weight) / least;
            let share = match (*weight, wanted > POINTS_MAX) {
                (0, _) => 0,
                (_, true) => (share * POINTS_MAX / wanted).max(1),
                (_, false) => share,
            };
            let point = |n: u64| (xxh3_64_with_seed(&n.to_le_bytes(), *identity), index);
            points.extend((0..share).map(point));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The first usable node from `key` on that is not above its bound; the bound can not hold
    /// for all, so some node always passes, unless slow start keeps its keys away from it.
    pub(super) fn pick(
        &self,
        field: &Field<'_, impl Fn(&Endpoint) -> bool>,
        key: u64,
    ) -> Option<usize> {
        let (mut busy, mut shares) = (0_u64, 0_u64);
        for (_, node) in field.iter() {
            busy += u64::from(node.in_flight());
            shares += field.share(node);
        }
        if shares == 0 {
            return None;
        }
        let per_share = BOUND * (busy + 1) as f64 / shares as f64;
        let fits = |node: &Endpoint| {
            f64::from(node.in_flight()) < (per_share * field.share(node) as f64).ceil()
                && field.admits(node, || rng::mix(key ^ node.id))
        };
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at_checked(start)?;
        let mut spare = None;
        for index in after.iter().chain(before).map(|(_, index)| *index as usize) {
            let Some(node) = field.get(index) else { continue };
            if fits(node) {
                return Some(index);
            }
            spare = spare.or(Some(index));
        }
        // The numbers moved while we looked, or all nodes are new.
        spare
    }
}
