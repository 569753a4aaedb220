//! The circuit breaker: after too many failures a service is left alone for a while, then tried
//! with a few probes.
//!
//! The words are those of opossum and Resilience4j. Where opossum surprises we differ on purpose:
//!
//! - The percentage is of finished calls. Opossum counts refused and running calls as calls too,
//!   so that its rate falls when it should not.
//! - The breaker opens **at** the threshold, so that 100 % can open it.
//! - A call that began before the breaker opened has no say any more: a late success does not
//!   close it, a late failure does not open it again.
//! - Recovery clears the window, so that one more failure does not open it at once.
//! - Probes have a deadline: one that never ends does not keep the breaker half-open for ever.

mod settings;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
pub use settings::{BreakerError, BreakerSettings};
use window::{Counts, Window};

/// Where a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// A few probes pass; their outcome decides.
    HalfOpen,
    /// No call passes.
    Open,
}

/// A breaker, shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    name: Arc<str>,
    settings: BreakerSettings,
    /// A packed [`Word`].
    word: AtomicU64,
    /// The moment that ends the state: of [`State::Open`], or of the probes of
    /// [`State::HalfOpen`]. Written only by whoever holds [`Word::CHANGING`].
    until: AtomicU64,
    window: Window,
    consecutive: AtomicU32,
}

/// The permission for one call. Report how it ended; a drop without a report says nothing about
/// the service and gives a probe's place back.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once reports nothing"]
pub struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    probe: bool,
}

/// The breaker refuses the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// When another try makes sense; above 0.
    pub retry_after: Duration,
}

/// The state in one number, so that one compare-exchange decides every race: the state in 2 bits,
/// a generation that each change of state raises in 30, and for the half-open state the probes
/// let through and those that succeeded, 16 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Breaker {
    /// A closed breaker; `name` is for events.
    pub fn new(name: impl Into<Arc<str>>, settings: BreakerSettings) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            word: AtomicU64::new(Word::new(Word::CLOSED, 0).0),
            until: AtomicU64::new(0),
            window: Window::new(
                settings.rolling_count_timeout.get(),
                settings.rolling_count_buckets.get(),
            ),
            consecutive: AtomicU32::new(0),
            settings,
        })
    }

    /// What it obeys.
    pub fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    /// Where it is. A breaker whose time is over stays [`State::Open`] until a call comes.
    pub fn state(&self) -> State {
        match self.word().tag() {
            Word::CLOSED => State::Closed,
            Word::HALF_OPEN => State::HalfOpen,
            // In the middle of a change calls are refused.
            _ => State::Open,
        }
    }

    /// Finished calls and failures among them in the window before `now`.
    pub fn counts(&self, now: Instant) -> (u64, u64) {
        let counts = self.window.sum(clock::nanos(now));
        (counts.total, counts.failures)
    }

    /// Asks for one call.
    ///
    /// # Errors
    /// [`Open`], when the service is to be left alone.
    pub fn try_acquire(self: &Arc<Self>, now: Instant) -> Result<Permit, Open> {
        let at = clock::nanos(now);
        loop {
            let word = self.word();
            match word.tag() {
                Word::CLOSED => return Ok(self.permit(word, false)),
                Word::HALF_OPEN if word.issued() < self.settings.half_open_probes.get() => {
                    if self.replace(word, word.with_probe()) {
                        return Ok(self.permit(word, true));
                    }
                }
                Word::CHANGING => {
                    return Err(Open { retry_after: self.settings.reset_timeout.get() });
                }
                _ => {
                    let until = self.until.load(Ordering::Relaxed);
                    if at < until {
                        let left = Duration::from_nanos(until - at);
                        return Err(self.refusal(word, left));
                    }
                    // The open time is over, or the probes did not come back in theirs.
                    let deadline = self.settings.half_open_timeout.get();
                    if let Some(next) = self.change(word, Word::HALF_OPEN, at, deadline) {
                        let probes = self.settings.half_open_probes.get();
                        tracing::info!(
                            breaker = %self.name, state = "half_open", probes,
                            "the breaker lets a few calls through to see whether the service is back",
                        );
                        return Ok(self.permit(next, true));
                    }
                }
            }
        }
    }

    fn refusal(&self, word: Word, left: Duration) -> Open {
        // While probes run nobody knows; their deadline may be much later than their answer.
        let most = self.settings.reset_timeout.get();
        let probing = word.tag() == Word::HALF_OPEN;
        Open { retry_after: if probing { left.min(most) } else { left } }
    }

    fn permit(self: &Arc<Self>, word: Word, probe: bool) -> Permit {
        Permit { breaker: Arc::clone(self), generation: word.generation(), probe }
    }

    /// Counts a call that began in the closed state.
    fn count(&self, generation: u64, success: bool, at: u64) {
        let word = self.word();
        if word.tag() != Word::CLOSED || word.generation() != generation {
            return;
        }
        self.window.record(success, at);
        if success {
            // Read first: a store on every call would bounce the cache line between workers.
            if self.consecutive.load(Ordering::Relaxed) != 0 {
                self.consecutive.store(0, Ordering::Relaxed);
            }
            return;
        }
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let counts = self.window.sum(at);
        if self.settings.trips(counts, consecutive) {
            self.open(word, at, Some((counts, consecutive)));
        }
    }

    /// Counts the outcome of a probe of this generation.
    fn judge(&self, generation: u64, success: bool, at: u64) {
        loop {
            let word = self.word();
            if word.tag() != Word::HALF_OPEN || word.generation() != generation {
                return;
            }
            let settled = match success {
                false => self.open(word, at, None),
                true if word.succeeded() + 1 >= self.settings.half_open_probes.get() => {
                    self.close(word, at)
                }
                true => self.replace(word, word.with_success()),
            };
            if settled {
                return;
            }
        }
    }

    /// Gives a probe's place back.
    fn release(&self, generation: u64) {
        loop {
            let word = self.word();
            if word.tag() != Word::HALF_OPEN
                || word.generation() != generation
                || self.replace(word, word.without_probe())
            {
                return;
            }
        }
    }

    fn open(&self, word: Word, at: u64, why: Option<(Counts, u32)>) -> bool {
        let reset = self.settings.reset_timeout;
        let won = self.change(word, Word::OPEN, at, reset.get()).is_some();
        if let (true, Some((counts, consecutive))) = (won, why) {
            tracing::warn!(
                breaker = %self.name, state = "open", failures = counts.failures,
                calls = counts.total, consecutive, reset_timeout = %reset,
                "the breaker is open: too many calls failed, and the service is left alone for {reset}",
            );
        } else if won {
            tracing::warn!(
                breaker = %self.name, state = "open", reset_timeout = %reset,
                "the breaker is open again: a probe failed, and the service is left alone for {reset}",
            );
        }
        won
    }

    fn close(&self, word: Word, at: u64) -> bool {
        let won = self.change(word, Word::CLOSED, at, Duration::ZERO).is_some();
        if won {
            tracing::info!(
                breaker = %self.name, state = "closed",
                "the breaker is closed: the service answers again",
            );
        }
        won
    }

    /// Moves from `word`'s state to `tag`, to last for `time`; the new word, or none if another
    /// thread was first.
    ///
    /// In between, the word says [`Word::CHANGING`], so that state, deadline and window change
    /// together. Nobody waits for it: calls are refused and reports are of an old generation.
    fn change(&self, word: Word, tag: u64, at: u64, time: Duration) -> Option<Word> {
        let next = Word::new(tag, word.generation() + 1);
        if !self.replace(word, Word::new(Word::CHANGING, next.generation())) {
            return None;
        }
        self.until.store(at.saturating_add(clock::span(time)), Ordering::Relaxed);
        let next = if tag == Word::HALF_OPEN { next.with_probe() } else { next };
        if tag == Word::CLOSED {
            self.window.clear();
        }
        self.consecutive.store(0, Ordering::Relaxed);
        self.word.store(next.0, Ordering::Release);
        Some(next)
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn replace(&self, old: Word, new: Word) -> bool {
        self.word.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Permit {
    /// Says how the call ended.
    pub fn report(mut self, success: bool, now: Instant) {
        let at = clock::nanos(now);
        if std::mem::take(&mut self.probe) {
            self.breaker.judge(self.generation, success, at);
        } else {
            self.breaker.count(self.generation, success, at);
        }
    }

    /// Whether the call is a probe of a half-open breaker.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // A reported probe is no probe any more.
        if self.probe {
            self.breaker.release(self.generation);
        }
    }
}

impl Word {
    const CLOSED: u64 = 0;
    const OPEN: u64 = 1;
    const HALF_OPEN: u64 = 2;
    const CHANGING: u64 = 3;

    const GENERATIONS: u64 = (1 << 30) - 1;
    const ONE_ISSUED: u64 = 1 << 16;

    const fn new(tag: u64, generation: u64) -> Self {
        Self(tag << 62 | (generation & Self::GENERATIONS) << 32)
    }

    const fn tag(self) -> u64 {
        self.0 >> 62
    }

    const fn generation(self) -> u64 {
        self.0 >> 32 & Self::GENERATIONS
    }

    const fn issued(self) -> u16 {
        (self.0 >> 16) as u16
    }

    const fn succeeded(self) -> u16 {
        self.0 as u16
    }

    // The counts stay within the number of probes, a `u16`, so none runs into its neighbour.

    const fn with_probe(self) -> Self {
        Self(self.0 + Self::ONE_ISSUED)
    }

    const fn without_probe(self) -> Self {
        Self(self.0 - Self::ONE_ISSUED)
    }

    const fn with_success(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests;
