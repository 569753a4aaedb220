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
//! - Each probe that fails makes the open time longer, up to a bound, and chance makes it longer
//!   still by a little: several proxies do not try at the same moment.
//! - A call refused for the capacity is no failure of the service.
//!
//! The same breaker stands before a service, a node or a route; who asks holds the [`Permit`].

mod settings;
mod window;
mod word;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::balance::rng;
use crate::clock;
use crate::units::Span;
pub use settings::{BreakerError, BreakerSettings, Fallback, Forced};
use window::{Counts, Window};
use word::Word;

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

/// What a breaker stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One node of a service.
    Node,
    /// The requests of one route.
    Route,
    /// A service with all its nodes.
    Service,
}

/// A breaker, shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    scope: Scope,
    name: Arc<str>,
    title: Arc<str>,
    settings: BreakerSettings,
    /// A packed [`Word`].
    word: AtomicU64,
    /// The moment that ends the state: of [`State::Open`], or of the probes of
    /// [`State::HalfOpen`]. Written only by whoever holds [`Word::CHANGING`].
    until: AtomicU64,
    window: Window,
    /// Slow calls, counted as failures; none where no call is slow.
    slow: Option<Window>,
    consecutive: AtomicU32,
    /// Probes in a row that failed.
    failed_probes: AtomicU32,
    /// Calls under way, where the capacity is bounded.
    running: AtomicU32,
    /// 0: by what happens; else [`KEPT_CLOSED`] or [`KEPT_OPEN`].
    kept: AtomicU8,
    events: [AtomicU64; 3],
    refused: AtomicU64,
}

const KEPT_CLOSED: u8 = 1;
const KEPT_OPEN: u8 = 2;

/// The permission for one call. Report how it ended; a drop without a report says nothing about
/// the service and gives a probe's place back. The call's place in the capacity is held until the
/// drop.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once reports nothing"]
pub struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    probe: bool,
    reported: bool,
}

/// Why the breaker refuses the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has its capacity in calls under way.
    Full,
    /// It is open.
    Open {
        /// When another try makes sense; above 0.
        retry_after: Duration,
    },
}

/// What happened to a breaker since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// How often it opened, a failed probe included.
    pub opened: u64,
    /// How often it let probes through.
    pub half_opened: u64,
    /// How often it closed.
    pub closed: u64,
    /// Calls it refused.
    pub refused: u64,
}

impl Scope {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Route => "route",
            Self::Service => "service",
        }
    }
}

impl State {
    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

impl Breaker {
    /// A closed breaker; `name` is for events and metrics, `title` for sentences (``the service
    /// `orders` ``).
    pub fn new(
        scope: Scope,
        name: impl Into<Arc<str>>,
        title: impl Into<Arc<str>>,
        settings: BreakerSettings,
    ) -> Arc<Self> {
        let (length, buckets) = (settings.rolling_count_timeout, settings.rolling_count_buckets);
        let window = || Window::new(length.get(), buckets.get());
        let force = if settings.enabled { settings.force } else { Some(Forced::Closed) };
        let breaker = Self {
            scope,
            name: name.into(),
            title: title.into(),
            word: AtomicU64::new(Word::new(Word::CLOSED, 0).0),
            until: AtomicU64::new(0),
            window: window(),
            slow: settings.slow_call_duration.map(|_| window()),
            consecutive: AtomicU32::new(0),
            failed_probes: AtomicU32::new(0),
            running: AtomicU32::new(0),
            kept: AtomicU8::new(0),
            events: Default::default(),
            refused: AtomicU64::new(0),
            settings,
        };
        breaker.force(force);
        Arc::new(breaker)
    }

    /// What it obeys.
    pub fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    /// What it stands before.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The name in events and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How sentences call what it stands before.
    pub fn title(&self) -> &Arc<str> {
        &self.title
    }

    /// Where it is. A breaker whose time is over stays [`State::Open`] until a call comes.
    pub fn state(&self) -> State {
        match (self.kept.load(Ordering::Relaxed), self.word().tag()) {
            (KEPT_CLOSED, _) | (0, Word::CLOSED) => State::Closed,
            (0, Word::HALF_OPEN) => State::HalfOpen,
            // In the middle of a change calls are refused.
            _ => State::Open,
        }
    }

    /// Keeps it open or closed from now on; none: it goes on where it stood.
    pub fn force(&self, to: Option<Forced>) {
        let kept = match to {
            None => 0,
            Some(Forced::Closed) => KEPT_CLOSED,
            Some(Forced::Open) => KEPT_OPEN,
        };
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Finished calls and failures among them in the window before `now`.
    pub fn counts(&self, now: Instant) -> (u64, u64) {
        let counts = self.window.sum(clock::nanos(now));
        (counts.total, counts.failures)
    }

    /// What happened to it since the start.
    pub fn told(&self) -> Told {
        let [opened, half_opened, closed] = &self.events;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Told {
            opened: load(opened),
            half_opened: load(half_opened),
            closed: load(closed),
            refused: load(&self.refused),
        }
    }

    /// How long [`Self::try_acquire`] would refuse at `now`; none: it may let a call through. Only
    /// looks.
    pub fn is_shut(&self, now: Instant) -> Option<Duration> {
        match self.kept.load(Ordering::Relaxed) {
            KEPT_CLOSED => return None,
            KEPT_OPEN => return Some(self.settings.reset_timeout.get()),
            _ => {}
        }
        let word = self.word();
        match word.tag() {
            Word::CLOSED => None,
            Word::HALF_OPEN if word.issued() < self.settings.half_open_probes.get() => None,
            Word::CHANGING => Some(self.settings.reset_timeout.get()),
            _ => {
                let left = self.until.load(Ordering::Relaxed).saturating_sub(clock::nanos(now));
                (left > 0).then(|| self.told_to_wait(word, Duration::from_nanos(left)))
            }
        }
    }

    /// Whether [`Self::try_acquire`] would let a call through at `now`. Only looks.
    pub fn may_pass(&self, now: Instant) -> bool {
        let running = || self.running.load(Ordering::Relaxed);
        self.is_shut(now).is_none()
            && self.settings.capacity.is_none_or(|capacity| running() < capacity.get())
    }

    /// Asks for one call.
    ///
    /// # Errors
    /// [`Refusal`], when the service is to be left alone.
    pub fn try_acquire(self: &Arc<Self>, now: Instant) -> Result<Permit, Refusal> {
        let taken = self.enter().and_then(|()| self.pass(now).inspect_err(|_| self.leave()));
        if taken.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes a place in the capacity.
    fn enter(&self) -> Result<(), Refusal> {
        let Some(capacity) = self.settings.capacity else { return Ok(()) };
        let more = |running| (running < capacity.get()).then(|| running + 1);
        let taken = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| Refusal::Full)
    }

    fn leave(&self) {
        if self.settings.capacity.is_some() {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn pass(self: &Arc<Self>, now: Instant) -> Result<Permit, Refusal> {
        match self.kept.load(Ordering::Relaxed) {
            KEPT_CLOSED => return Ok(self.permit(Word::NO_GENERATION, false)),
            KEPT_OPEN => {
                return Err(Refusal::Open { retry_after: self.settings.reset_timeout.get() });
            }
            _ => {}
        }
        let at = clock::nanos(now);
        loop {
            let word = self.word();
            match word.tag() {
                Word::CLOSED => return Ok(self.permit(word.generation(), false)),
                Word::HALF_OPEN if word.issued() < self.settings.half_open_probes.get() => {
                    if self.replace(word, word.with_probe()) {
                        return Ok(self.permit(word.generation(), true));
                    }
                }
                Word::CHANGING => {
                    return Err(Refusal::Open { retry_after: self.settings.reset_timeout.get() });
                }
                _ => {
                    let until = self.until.load(Ordering::Relaxed);
                    if at < until {
                        let left = Duration::from_nanos(until - at);
                        return Err(Refusal::Open { retry_after: self.told_to_wait(word, left) });
                    }
                    // The open time is over, or the probes did not come back in theirs.
                    if let Some(next) = self.half_open(word, at) {
                        return Ok(self.permit(next.generation(), true));
                    }
                }
            }
        }
    }

    fn told_to_wait(&self, word: Word, left: Duration) -> Duration {
        // While probes run nobody knows; their deadline may be much later than their answer.
        let most = self.settings.reset_timeout.get();
        if word.tag() == Word::HALF_OPEN { left.min(most) } else { left }
    }

    fn permit(self: &Arc<Self>, generation: u64, probe: bool) -> Permit {
        Permit { breaker: Arc::clone(self), generation, probe, reported: false }
    }

    /// Counts a call that began in the closed state.
    fn count(&self, generation: u64, success: bool, slow: bool, at: u64) {
        let word = self.word();
        if word.tag() != Word::CLOSED || word.generation() != generation {
            return;
        }
        self.window.record(success, at);
        if let Some(calls) = &self.slow {
            calls.record(!slow, at);
            if slow && success {
                let counts = calls.sum(at);
                if self.settings.trips_slow(counts) {
                    self.open(word, at, Why::Slow(counts));
                }
            }
        }
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
            self.open(word, at, Why::Failures(counts, consecutive));
        } else if let Some(counts) = self.slow.as_ref().filter(|_| slow).map(|one| one.sum(at))
            && self.settings.trips_slow(counts)
        {
            self.open(word, at, Why::Slow(counts));
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
                false => self.open(word, at, Why::Probe),
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

    fn open(&self, word: Word, at: u64, why: Why) -> bool {
        let failed = match why {
            Why::Probe => self.failed_probes.load(Ordering::Relaxed).saturating_add(1),
            Why::Failures(..) | Why::Slow(_) => 0,
        };
        let time = self.settings.open_time(failed);
        let spread = clock::span(time) / 10_000 * u64::from(self.settings.jitter.basis_points());
        let time = time + Duration::from_nanos(rng::below(spread.saturating_add(1)));
        if self.change(word, Word::OPEN, at, time).is_none() {
            return false;
        }
        self.failed_probes.store(failed, Ordering::Relaxed);
        let left_alone = Span::new(Duration::from_millis(time.as_millis() as u64));
        let (name, scope, title) = (&*self.name, self.scope.as_str(), &*self.title);
        match why {
            Why::Failures(Counts { total, failures }, consecutive) => tracing::warn!(
                breaker = name,
                scope,
                state = "open",
                failures,
                calls = total,
                consecutive,
                "the breaker is open: too many calls of {title} failed, and it is left alone for \
                 {left_alone}",
            ),
            Why::Slow(Counts { total, failures }) => tracing::warn!(
                breaker = name,
                scope,
                state = "open",
                slow = failures,
                calls = total,
                "the breaker is open: too many calls of {title} were slow, and it is left alone \
                 for {left_alone}",
            ),
            Why::Probe => tracing::warn!(
                breaker = name,
                scope,
                state = "open",
                "the breaker is open again: a probe of {title} failed, and it is left alone for \
                 {left_alone}",
            ),
        }
        true
    }

    /// Lets the first probe through.
    fn half_open(&self, word: Word, at: u64) -> Option<Word> {
        let deadline = self.settings.half_open_timeout.get();
        let next = self.change(word, Word::HALF_OPEN, at, deadline)?;
        let probes = self.settings.half_open_probes.get();
        tracing::info!(
            breaker = &*self.name,
            scope = self.scope.as_str(),
            state = "half_open",
            probes,
            "the breaker lets a few calls through to see whether {} is back",
            self.title,
        );
        Some(next)
    }

    fn close(&self, word: Word, at: u64) -> bool {
        let won = self.change(word, Word::CLOSED, at, Duration::ZERO).is_some();
        if won {
            self.failed_probes.store(0, Ordering::Relaxed);
            tracing::info!(
                breaker = &*self.name,
                scope = self.scope.as_str(),
                state = "closed",
                "the breaker is closed: {} answers again",
                self.title,
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
            self.slow.iter().for_each(Window::clear);
        }
        let event = match tag {
            Word::OPEN => 0,
            Word::HALF_OPEN => 1,
            _ => 2,
        };
        if let Some(event) = self.events.get(event) {
            event.fetch_add(1, Ordering::Relaxed);
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

/// Why a breaker opens.
#[derive(Debug, Clone, Copy)]
enum Why {
    Failures(Counts, u32),
    Probe,
    Slow(Counts),
}

impl Permit {
    /// Says how the call ended and, if it is known, how long the answer took. The first report
    /// counts. A probe whose answer was slow has failed.
    pub fn report(&mut self, success: bool, took: Option<Duration>, now: Instant) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let at = clock::nanos(now);
        let slow = self.breaker.settings.is_slow(took);
        if self.probe {
            self.breaker.judge(self.generation, success && !slow, at);
        } else {
            self.breaker.count(self.generation, success, slow, at);
        }
    }

    /// Says that the call tells nothing: a probe's place is free again.
    pub fn abstain(&mut self) {
        if !std::mem::replace(&mut self.reported, true) && self.probe {
            self.breaker.release(self.generation);
        }
    }

    /// Whether the call is a probe of a half-open breaker.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether its report wants to know how long the answer took.
    pub fn wants_latency(&self) -> bool {
        self.breaker.slow.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.abstain();
        self.breaker.leave();
    }
}

#[cfg(test)]
mod tests;
