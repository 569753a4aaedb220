//! Random numbers for spreading load: one small generator per thread, no lock, no system call.
//!
//! Not for secrets. `SplitMix64` (Steele, Lea, Flood 2014) passes `BigCrush` and is one addition
//! and a few shifts a number.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    // The standard hasher's keys come from the system's entropy: each thread starts elsewhere.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u64));
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The next number of this thread, all values equally likely.
pub(crate) fn next() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(GOLDEN);
        state.set(next);
        mix(next)
    })
}

/// A number below `bound`; 0 for a bound of 0. The bias of the multiply-shift is below
/// `bound / 2^64` (Lemire 2019).
pub(crate) fn below(bound: u64) -> u64 {
    ((u128::from(next()) * u128::from(bound)) >> 64) as u64
}

/// Spreads the bits of `x` over the whole word, one to one.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Makes this thread's numbers repeatable.
#[cfg(test)]
pub(crate) fn seed(seed: u64) {
    STATE.with(|state| state.set(seed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        seed(1_234_567);
        let first = [next(), next(), next()];
        // Reference values of SplitMix64 for this seed (Rosetta Code).
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn bounds_hold_and_every_value_comes() {
        seed(7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
        assert_eq!((below(0), below(1)), (0, 0));
    }
}
