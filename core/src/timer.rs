//! Coarse deadlines, one wheel per worker.
//!
//! A proxy arms and disarms several deadlines per request and almost none of them fires. A timer
//! entry in the runtime costs an allocation and a wheel insertion each time; here arming is one
//! store. The price is precision: a deadline fires up to two [`TICK`]s late, never early.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::health::jittered;

const TICK_MILLIS: u64 = 50;
/// The precision of a deadline.
pub const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const JUST_BELOW_A_TICK: Duration = Duration::from_nanos(TICK_MILLIS * 1_000_000 - 1);

const UNARMED: u64 = u64::MAX;

/// The deadlines of one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Timer {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    tick: Cell<u64>,
    slots: RefCell<Slab<Slot>>,
    occupied: Notify,
}

#[derive(Debug)]
struct Slot {
    tick: u64,
    waker: Option<Waker>,
}

/// One deadline. It can be armed and disarmed any number of times; dropping it frees its place.
#[derive(Debug)]
pub struct Deadline {
    shared: Rc<Shared>,
    key: usize,
}

/// A time to come that is asked for instead of waited for.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    tick: u64,
}

impl Timer {
    /// A timer whose first tick is now. Nothing fires until [`Timer::drive`] is polled.
    pub fn new() -> Self {
        Self {
            shared: Rc::new(Shared {
                started: Instant::now(),
                tick: Cell::new(0),
                slots: RefCell::new(Slab::new()),
                occupied: Notify::new(),
            }),
        }
    }

    /// The moment after about so long: a tenth more or less, so that what began together does not
    /// end together.
    pub fn about(&self, after: Duration) -> Moment {
        let passed = Instant::now().saturating_duration_since(self.shared.started);
        Moment { tick: ticks_in(passed.saturating_add(jittered(after))) }
    }

    /// An unarmed deadline.
    pub fn deadline(&self) -> Deadline {
        let mut slots = self.shared.slots.borrow_mut();
        if slots.is_empty() {
            self.shared.occupied.notify_one();
        }
        let key = slots.insert(Slot { tick: UNARMED, waker: None });
        Deadline { shared: Rc::clone(&self.shared), key }
    }

    /// Advances the ticks and wakes what expired; runs for as long as the worker.
    pub async fn drive(&self) {
        let shared = &self.shared;
        loop {
            if shared.slots.borrow().is_empty() {
                shared.occupied.notified().await;
            }
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !shared.slots.borrow().is_empty() {
                ticks.tick().await;
                shared.advance();
            }
        }
    }

    /// Wakes every task that waits on a deadline, so that it can look at the worker's state again
    /// (drain).
    pub fn wake_all(&self) {
        let wakers: Vec<Waker> = {
            let mut slots = self.shared.slots.borrow_mut();
            slots.iter_mut().filter_map(|(_, slot)| slot.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

/// Whole ticks, in 64 bits: a division of 128 costs more than all the rest of arming.
fn ticks_in(time: Duration) -> u64 {
    const PER_SECOND: u64 = 1000 / TICK_MILLIS;
    let of_seconds = time.as_secs().saturating_mul(PER_SECOND);
    of_seconds.saturating_add(u64::from(time.subsec_millis()) / TICK_MILLIS)
}

impl Shared {
    fn tick_of(&self, at: Instant) -> u64 {
        ticks_in(at.saturating_duration_since(self.started))
    }

    fn advance(&self) {
        let now = self.tick_of(Instant::now());
        self.tick.set(now);
        let expired: Vec<Waker> = self
            .slots
            .borrow_mut()
            .iter_mut()
            .filter(|(_, slot)| slot.tick <= now)
            .filter_map(|(_, slot)| slot.waker.take())
            .collect();
        expired.into_iter().for_each(Waker::wake);
    }
}

impl Deadline {
    /// Whether `moment` is over, by the last tick: no clock is read.
    pub fn is_past(&self, moment: Moment) -> bool {
        self.shared.tick.get() >= moment.tick
    }

    /// Expires after `after`, rounded up to the next tick; what is too long to count never does.
    pub fn arm(&self, after: Duration) {
        // The stored tick can be old when the driver was parked, so read the clock: a deadline
        // must never fire early. `Instant::now` is a vDSO call, some 20 ns.
        self.arm_from(Instant::now().into_std(), after);
    }

    /// [`Self::arm`] for who knows what time it is.
    pub fn arm_from(&self, now: std::time::Instant, after: Duration) {
        let passed = Instant::from_std(now).saturating_duration_since(self.shared.started);
        let at = ticks_in(passed.saturating_add(after).saturating_add(JUST_BELOW_A_TICK));
        self.set(at);
    }

    /// Never expires until armed again.
    pub fn disarm(&self) {
        self.set(UNARMED);
    }

    /// Whether it has expired.
    pub fn is_expired(&self) -> bool {
        self.shared.slots.borrow().get(self.key).is_some_and(|s| s.tick <= self.shared.tick.get())
    }

    /// Ready when expired; else the task is woken when that happens, or by [`Timer::wake_all`].
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.shared.slots.borrow_mut();
        let Some(slot) = slots.get_mut(self.key) else { return Poll::Ready(()) };
        if slot.tick <= self.shared.tick.get() {
            return Poll::Ready(());
        }
        match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Resolves when expired.
    pub async fn expired(&self) {
        poll_fn(|cx| self.poll_expired(cx)).await;
    }

    /// Runs `future` for at most `limit`; `None` when time ran out.
    pub async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        self.arm(limit);
        let result = poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_expired(cx).map(|()| None)
        })
        .await;
        self.disarm();
        result
    }

    fn set(&self, tick: u64) {
        if let Some(slot) = self.shared.slots.borrow_mut().get_mut(self.key) {
            slot.tick = tick;
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.shared.slots.borrow_mut().try_remove(self.key);
    }
}

/// Waits, to the millisecond: for what is rare and must not be a tick late.
pub async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, advance};

    async fn with_timer<F: AsyncFnOnce(Timer)>(body: F) {
        let timer = Timer::new();
        tokio::select! {
            () = timer.drive() => unreachable!("the driver never ends"),
            () = body(timer.clone()) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn never_early_and_at_most_two_ticks_late() {
        with_timer(async |timer| {
            for millis in [0, 1, 49, 50, 51, 999, 1_000, 1_575] {
                advance(Duration::from_millis(37)).await;
                let deadline = timer.deadline();
                let (start, after) = (Instant::now(), Duration::from_millis(millis));
                deadline.arm(after);
                deadline.expired().await;
                let took = start.elapsed();
                assert!(took >= after, "{took:?} < {after:?}");
                assert!(took <= after + 2 * TICK, "{took:?} > {after:?} + 2 ticks");
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn disarmed_never_fires_and_rearming_postpones() {
        with_timer(async |timer| {
            let deadline = timer.deadline();
            deadline.arm(Duration::from_millis(200));
            advance(Duration::from_millis(150)).await;
            deadline.arm(Duration::from_secs(10));
            advance(Duration::from_secs(5)).await;
            tokio::task::yield_now().await;
            assert!(!deadline.is_expired());
            deadline.disarm();
            advance(Duration::from_mins(1)).await;
            tokio::task::yield_now().await;
            assert!(!deadline.is_expired());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_long_to_count_never_fires() {
        with_timer(async |timer| {
            let deadline = timer.deadline();
            deadline.arm(Duration::MAX);
            advance(Duration::from_hours(24)).await;
            tokio::task::yield_now().await;
            assert!(!deadline.is_expired());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn within_cuts_a_slow_future_and_lets_a_fast_one_pass() {
        with_timer(async |timer| {
            let deadline = timer.deadline();
            let slow = tokio::time::sleep(Duration::from_secs(5));
            assert_eq!(deadline.within(Duration::from_secs(1), slow).await, None);
            assert_eq!(deadline.within(Duration::from_secs(1), async { 7 }).await, Some(7));
        })
        .await;
    }

    #[test]
    fn dropping_frees_the_slot() {
        let timer = Timer::new();
        for _ in 0..1_000 {
            drop(timer.deadline());
        }
        assert!(timer.shared.slots.borrow().capacity() < 16);
    }
}
