//! A state per key in bounded memory.
//!
//! The table is set-associative, like a processor's cache: a key belongs to one set, which is one
//! cache line of [`WAYS`] words. A word is a key's fingerprint (16 bits) and its state (48 bits);
//! charging a known key is one compare-exchange, and because key and state are one word, no charge
//! can land on a key that has left. Two keys with one fingerprint in one set share a state, which
//! at 7 words happens to one key in ten thousand: less for both, never more.
//!
//! A state that says nothing any more (a full bucket, a window that is over) can be given to
//! another key without loss: there is no expiry task, and **no key is evicted that still owes**.
//! A new key that finds its whole set owing shares one spare state with the others in that
//! position: never free of the limit, as forgetting somebody would be, and never shut out, as
//! refusing would be.
//!
//! Sets are found by a hash seeded at random, so nobody can aim at one. Pages of sets come to
//! life when first used: an idle limiter is small.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;

use super::kernel::{Kernel, STATE_BITS, STATE_MASK};
use super::{Charged, Decision, Place, Store};

/// Words of a set that are keys.
pub(super) const WAYS: usize = 7;

/// Sets of a page: 4 KiB.
const PAGE: usize = 64;

/// Sets at most: 64 MiB, 7.3 million keys that owe at the same time.
const SETS_MAX: usize = 1 << 20;

/// In [`Set::door`]: a key is getting a word.
const LOCKED: u64 = 1 << 63;

/// States by key. Shared by all workers.
#[derive(Debug)]
pub(super) struct Table {
    /// The `quality` variant: with `fast`, 1 process in 28 drew a seed that put most of 200
    /// consecutive keys (addresses of one network) into a few sets.
    seed: RandomState,
    pages: Box<[OnceLock<Box<Page>>]>,
}

#[derive(Debug)]
struct Page([Set; PAGE]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    words: [AtomicU64; WAYS],
    /// The state of the keys that found no word, and [`LOCKED`] while a new key gets one: some ten
    /// loads and two stores. Known keys never wait for it, and two new keys meet in one set of
    /// thousands rarely, so a spinning lock that is held for some 20 ns is cheaper than all that
    /// could replace it.
    door: AtomicU64,
}

impl Default for Page {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Set::default()))
    }
}

impl Table {
    /// Room for `keys` keys that owe at the same time. There are at least twice as many words, so
    /// that at that number about one key in a hundred finds its set full; but never more than
    /// 64 MiB.
    pub(super) fn new(keys: NonZeroU32) -> Self {
        let words = 2 * keys.get() as usize;
        let sets = words.div_ceil(WAYS).next_power_of_two().clamp(PAGE, SETS_MAX);
        let pages = std::iter::repeat_with(OnceLock::new).take(sets / PAGE).collect();
        Self { seed: RandomState::default(), pages }
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        let live = self.pages.iter().filter(|page| page.get().is_some()).count();
        size_of_val(&*self.pages) + live * size_of::<Page>()
    }

    /// The key's set and its fingerprint, in place.
    #[expect(clippy::indexing_slicing, reason = "both are taken modulo what there is")]
    fn find(&self, key: u64) -> (&Set, u64) {
        let hash = self.seed.hash_one(key);
        let page = (hash >> 32) as usize & (self.pages.len() - 1);
        let page = self.pages[page].get_or_init(Box::default);
        // 0 is the word of nobody.
        let print = (hash >> 8 & 0xffff).max(1);
        (&page.0[hash as usize % PAGE], print << STATE_BITS)
    }

    /// Changes the key's state by `step`, which is asked again if somebody else was faster.
    fn change<T>(
        &self,
        key: u64,
        kernel: &Kernel,
        now: u64,
        step: &impl Fn(u64) -> (T, Option<u64>),
    ) -> (T, Place) {
        let (set, print) = self.find(key);
        loop {
            for (way, word) in set.words.iter().enumerate() {
                let old = word.load(Ordering::Relaxed);
                if old & !STATE_MASK == print
                    && let Some(told) = change_word(word, old, step)
                {
                    return (told, Place(way as u8));
                }
            }
            // None: the key got a word while we looked.
            if let Some(told) = set.admit(print, kernel, now, step) {
                return told;
            }
        }
    }
}

impl Store for Table {
    fn charge(&self, key: u64, kernel: &Kernel, now: u64, cost: u32) -> Charged {
        let step = |state| {
            let step = kernel.decide(state, now, cost);
            (step.decision, step.next)
        };
        let (decision, place): (Decision, _) = self.change(key, kernel, now, &step);
        Charged { decision, place }
    }

    fn settle(&self, key: u64, kernel: &Kernel, now: u64, cost: u32) -> Duration {
        self.change(key, kernel, now, &|state| kernel.settle(state, now, cost)).0
    }

    fn refund(&self, key: u64, place: Place, kernel: &Kernel, now: u64, cost: u32) {
        let (set, print) = self.find(key);
        let Some(word) = set.words.get(usize::from(place.0)) else {
            set.lock();
            let state = set.door.load(Ordering::Relaxed) & STATE_MASK;
            set.unlock(kernel.refund(state, now, cost));
            return;
        };
        let back = |word: u64| {
            // Else it is another's by now: a charge that says nothing any more needs no refund.
            (word & !STATE_MASK == print)
                .then(|| print | kernel.refund(word & STATE_MASK, now, cost))
        };
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }
}

/// One step of a word that is a key's; none if it went to another key.
fn change_word<T>(
    word: &AtomicU64,
    mut old: u64,
    step: &impl Fn(u64) -> (T, Option<u64>),
) -> Option<T> {
    let print = old & !STATE_MASK;
    loop {
        let (told, next) = step(old & STATE_MASK);
        let Some(next) = next else { return Some(told) };
        match word.compare_exchange(old, print | next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(told),
            Err(actual) if actual & !STATE_MASK == print => old = actual,
            Err(_) => return None,
        }
    }
}

impl Set {
    /// Gives a key a word and takes a step; none if it has one by now.
    fn admit<T>(
        &self,
        print: u64,
        kernel: &Kernel,
        now: u64,
        step: &impl Fn(u64) -> (T, Option<u64>),
    ) -> Option<(T, Place)> {
        self.lock();
        let spare = self.door.load(Ordering::Relaxed) & STATE_MASK;
        let (told, spare) = self.admit_locked(print, spare, kernel, now, step);
        self.unlock(spare);
        told
    }

    fn admit_locked<T>(
        &self,
        print: u64,
        spare: u64,
        kernel: &Kernel,
        now: u64,
        step: &impl Fn(u64) -> (T, Option<u64>),
    ) -> (Option<(T, Place)>, u64) {
        loop {
            let mut free = None;
            for (way, word) in self.words.iter().enumerate() {
                let old = word.load(Ordering::Relaxed);
                if old & !STATE_MASK == print {
                    return (None, spare);
                }
                if free.is_none() && kernel.is_idle(old & STATE_MASK, now) {
                    free = Some((way, word, old));
                }
            }
            let Some((way, word, old)) = free else {
                // Every key of the set owes.
                let (told, next) = step(spare);
                return (Some((told, Place(WAYS as u8))), next.unwrap_or(spare));
            };
            let (told, next) = step(0);
            let new = print | next.unwrap_or(0);
            // Its owner may have come back.
            if word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return (Some((told, Place(way as u8))), spare);
            }
        }
    }

    fn lock(&self) {
        let mut spins = 0_u32;
        while self.door.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
            spins += 1;
            if spins.is_multiple_of(64) {
                // The holder lost its core; let it have ours.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }

    fn unlock(&self, spare: u64) {
        self.door.store(spare, Ordering::Release);
    }
}
