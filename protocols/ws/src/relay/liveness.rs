//! Who still lives: pings, pongs and idle time.

use gwproxy_http::wire::websocket::random;
use tokio::time::Instant;

use super::direction::Movement;
use super::{End, Pair, Side};
use crate::close;
use crate::settings::Settings;

/// What is known of one side's life. Each side has its own: who answers vouches for nobody else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// When it last gave a sign of life.
    heard: Instant,
    /// The first and the last ping since then.
    pinged: Option<(Instant, Instant)>,
}

impl Watch {
    /// A side that gave a sign of life just now.
    pub(super) fn alive(now: Instant) -> Self {
        Self { heard: now, pinged: None }
    }
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
        if up.read || down.unblocked {
            self.client = Watch::alive(self.moved);
        }
        if down.read || up.unblocked {
            self.upstream = Watch::alive(self.moved);
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

    /// Pings a side that is silent, again and again; says when to look again, `None` when it is
    /// dead.
    fn watch(&mut self, side: Side, now: Instant) -> Option<Instant> {
        let blocked = self.from(side).is_blocked();
        let mut watch = *self.watch_of(side);
        if blocked {
            // We do not read it, since its peer takes nothing: its silence is our doing.
            watch = Watch::alive(now);
        }
        if self.dies_at(watch).is_some_and(|dead| now >= dead) {
            return None;
        }
        let ping = self.settings.ping.get();
        let mut due = watch.pinged.map_or(watch.heard, |(_, last)| last) + ping;
        if now >= due {
            let first = watch.pinged.map_or(now, |(first, _)| first);
            watch.pinged = Some((first, now));
            due = now + ping;
            let nonce = *self.nonce.get_or_insert_with(random);
            self.from(side).swallow_pongs(nonce);
            self.to(side).ping(nonce);
        }
        *self.watch_of(side) = watch;
        Some(self.dies_at(watch).map_or(due, |dead| dead.min(due)))
    }

    /// When a side is dead that answers nothing until then: at the end of the wait for its first
    /// pong, or once it was silent for the idle time and one ping interval went by in vain. The
    /// idle time of the pair cannot tell, since the other side may live.
    fn dies_at(&self, watch: Watch) -> Option<Instant> {
        let (first, _) = watch.pinged?;
        let Settings { ping, pong_timeout, idle_timeout, .. } = self.settings;
        if pong_timeout.is_zero() {
            return None; // pings only keep the path alive
        }
        let unanswered = first + pong_timeout.get();
        if idle_timeout.is_zero() {
            return Some(unanswered);
        }
        let idle = (watch.heard + idle_timeout.get()).max(first + ping.get());
        Some(unanswered.min(idle))
    }

    fn watch_of(&mut self, side: Side) -> &mut Watch {
        match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
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
