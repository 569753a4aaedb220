//! A bucket per key in bounded memory.
//!
//! The table is set-associative, like a processor's cache: a key belongs to one set of
//! [`WAYS`] slots. A slot is a key and the moment its bucket is full
//! (see [`token_bucket`](super::token_bucket)); charging a known key is one compare-exchange.
//! A bucket that is full again says nothing, so its slot can be given to another key without
//! loss: there is no expiry task and no eviction of a key that still owes. A new key that finds
//! its whole set owing shares one spare bucket with the others in that position: never free of
//! the limit, as forgetting somebody would be, and never shut out, as refusing would be.
//!
//! Sets are found by a hash seeded at random, so nobody can aim at one. Pages of sets come to
//! life when first used: an idle limiter is small.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use foldhash::quality::RandomState;

use super::Decision;
use super::token_bucket::{Quota, charge};
use crate::clock;

/// Slots of a set.
const WAYS: usize = 16;

/// Sets of a page.
const PAGE: usize = 8;

/// In the place of a moment: the slot is being given to another key. Only the holder of the
/// set's `inserting` writes it.
const CHANGING: u64 = u64::MAX;

/// Buckets by key. Shared by all workers.
#[derive(Debug)]
pub struct Table {
    /// The `quality` variant: with `fast`, 1 process in 28 drew a seed that put most of 200
    /// consecutive keys (addresses of one network) into a few sets.
    seed: RandomState,
    pages: Box<[OnceLock<Box<Page>>]>,
}

type Page = [Set; PAGE];

#[derive(Debug, Default)]
struct Set {
    /// Held while a new key gets a slot: some ten loads and three stores. Known keys never wait
    /// for it, and two new keys meet in one set of thousands rarely, so a spinning lock that is
    /// held for some 20 ns is cheaper than all that could replace it.
    inserting: AtomicBool,
    /// The bucket of the keys that found no slot.
    spare: AtomicU64,
    slots: [Slot; WAYS],
}

/// `full_at` only ever grows (apart from [`CHANGING`]), and a slot changes its key only while it
/// is [`CHANGING`]. So a compare-exchange on `full_at` that succeeds proves that the key read
/// after it was loaded is still the slot's.
#[derive(Debug, Default)]
struct Slot {
    /// 0: never used.
    full_at: AtomicU64,
    key: AtomicU64,
}

impl Table {
    /// Room for `keys` keys that owe at the same time. There are at least twice as many slots, so
    /// that at that number fewer than one key in a hundred finds its set full.
    pub fn new(keys: NonZeroU32) -> Self {
        let slots = 2 * keys.get() as usize;
        let pages = slots.div_ceil(WAYS * PAGE).next_power_of_two();
        let pages = std::iter::repeat_with(OnceLock::new).take(pages).collect();
        Self { seed: RandomState::default(), pages }
    }

    /// Charges one request to `key`.
    pub fn check(&self, key: u64, quota: &Quota, now: Instant) -> Decision {
        let now = clock::nanos(now);
        let set = self.set(key);
        loop {
            let slot = set.slots.iter().find(|slot| slot.is_of(key));
            let decision = match slot {
                Some(slot) => slot.charge(key, quota, now),
                None => set.admit(key, quota, now),
            };
            // None: the slot went to another key, or the key got one, while we looked.
            if let Some(decision) = decision {
                return decision;
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "both are taken modulo what there is")]
    fn set(&self, key: u64) -> &Set {
        let hash = self.seed.hash_one(key);
        let page = (hash >> 32) as usize & (self.pages.len() - 1);
        let page = &self.pages[page];
        &page.get_or_init(Box::default)[hash as usize % PAGE]
    }
}

impl Set {
    /// Gives `key` a slot and charges it; none if it has one by now.
    fn admit(&self, key: u64, quota: &Quota, now: u64) -> Option<Decision> {
        self.lock();
        let decision = self.admit_locked(key, quota, now);
        self.inserting.store(false, Ordering::Release);
        decision
    }

    fn admit_locked(&self, key: u64, quota: &Quota, now: u64) -> Option<Decision> {
        loop {
            if self.slots.iter().any(|slot| slot.is_of(key)) {
                return None;
            }
            let moments =
                self.slots.iter().map(|slot| (slot.full_at.load(Ordering::Acquire), slot));
            let oldest = moments.min_by_key(|(full_at, _)| *full_at);
            let Some((full_at, slot)) = oldest.filter(|(full_at, _)| *full_at <= now) else {
                return Some(charge(&self.spare, quota, now)); // every key of the set owes
            };
            if slot.begin_change(full_at) {
                let (decision, next) = quota.decide(0, now);
                slot.key.store(key, Ordering::Relaxed);
                slot.full_at.store(next.unwrap_or(now), Ordering::Release);
                return Some(decision);
            }
        }
    }

    fn lock(&self) {
        let mut spins = 0_u32;
        while self.inserting.swap(true, Ordering::Acquire) {
            spins += 1;
            if spins.is_multiple_of(64) {
                // The holder lost its core; let it have ours.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

impl Slot {
    fn is_of(&self, key: u64) -> bool {
        let full_at = self.full_at.load(Ordering::Acquire);
        full_at != 0 && full_at != CHANGING && self.key.load(Ordering::Relaxed) == key
    }

    /// Charges one request; none if the slot is not `key`'s any more.
    fn charge(&self, key: u64, quota: &Quota, now: u64) -> Option<Decision> {
        loop {
            let full_at = self.full_at.load(Ordering::Acquire);
            if full_at == CHANGING || self.key.load(Ordering::Relaxed) != key {
                return None;
            }
            let (decision, next) = quota.decide(full_at, now);
            let Some(next) = next else { return Some(decision) };
            let swap =
                self.full_at.compare_exchange(full_at, next, Ordering::AcqRel, Ordering::Relaxed);
            if swap.is_ok() {
                return Some(decision);
            }
        }
    }

    /// Closes the slot to charges, if nobody charged it since it was seen.
    fn begin_change(&self, full_at: u64) -> bool {
        self.full_at
            .compare_exchange(full_at, CHANGING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}
