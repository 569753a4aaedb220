//! Who still lives: pings, pongs and idle time.

use std::time::Duration;

use tokio::time::Instant;

use super::direction::Movement;
use super::{End, Pair, Side};
use crate::close;

/// When a side was last known to live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    pub(super) heard: Instant,
    pub(super) pinged: Option<Instant>,
}

impl Pair<'_> {
    /// Keeps the watches. A side lives when it sent a byte, or took one that it had refused.
    pub(super) fn note_movement(&mut self) {
        let up = std::mem::take(&mut self.up.movement);
        let down = std::mem::take(&mut self.down.movement);
        let moved = |movement: Movement| movement.read || movement.wrote;
        if !moved(up) && !moved(down) {
            return;
        }
        self.moved = Instant::now();
        let alive = Watch { heard: self.moved, pinged: None };
        let mut answered = false;
        if up.read || down.unblocked {
            answered |= std::mem::replace(&mut self.client, alive).pinged.is_some();
        }
        if down.read || up.unblocked {
            answered |= std::mem::replace(&mut self.upstream, alive).pinged.is_some();
        }
        // The next look was to be at the end of the wait for this answer; a ping may be due before.
        if answered && self.end.is_none() {
            self.deadline.arm(Duration::ZERO);
        }
    }

    /// Pings the silent, closes on the dead, and arms the deadline for the next look.
    pub(super) fn check_liveness(&mut self, now: Instant) {
        let idle_timeout = self.settings.idle_timeout.get();
        let mut next: Option<Instant> = None;
        let mut look_again = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        if !idle_timeout.is_zero() {
            if now >= self.moved + idle_timeout {
                self.begin(End::Idle);
                self.close(Side::Client, close::GOING_AWAY, "idle");
                self.close(Side::Upstream, close::GOING_AWAY, "idle");
                return;
            }
            look_again(self.moved + idle_timeout);
        }
        if !self.settings.ping.is_zero() {
            for side in [Side::Client, Side::Upstream] {
                let Some(at) = self.watch(side, now) else {
                    self.give_up(side);
                    return;
                };
                look_again(at);
            }
        }
        match next {
            Some(next) => self.deadline.arm(next - now),
            None => self.deadline.disarm(),
        }
    }

    /// Pings a side that has been silent; says when to look again, `None` when it is dead.
    fn watch(&mut self, side: Side, now: Instant) -> Option<Instant> {
        let pong_timeout = self.settings.pong_timeout.get();
        let blocked = self.from(side).is_blocked();
        let watch = match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        };
        if blocked {
            // We do not read it, since its peer takes nothing: its silence is our doing.
            *watch = Watch { heard: now, pinged: None };
        }
        if let Some(pinged) = watch.pinged {
            let dead = pinged + pong_timeout;
            return (now < dead).then_some(dead);
        }
        let due = watch.heard + self.settings.ping.get();
        if now < due {
            return Some(due);
        }
        // Without a timeout pings only keep the path alive: the next one is due as if answered.
        let patient = pong_timeout.is_zero();
        let (heard, pinged) = if patient { (now, None) } else { (watch.heard, Some(now)) };
        *watch = Watch { heard, pinged };
        let nonce = *self.nonce.get_or_insert_with(close::random);
        self.from(side).swallow_pongs(nonce);
        self.to(side).ping(nonce);
        Some(now + if patient { self.settings.ping.get() } else { pong_timeout })
    }

    fn give_up(&mut self, side: Side) {
        self.begin(End::Silent(side));
        self.close(side, close::UNEXPECTED, "no answer to ping");
        let (code, reason) = match side {
            Side::Client => (close::GOING_AWAY, "client is gone"),
            Side::Upstream => (close::UNEXPECTED, "upstream does not answer"),
        };
        self.close(side.peer(), code, reason);
    }
}
