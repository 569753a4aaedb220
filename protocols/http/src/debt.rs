//! The least that a peer must do (D03): a peer that moves a body too slowly for long keeps a
//! connection, and what hangs on it, for as long as it likes.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use gwproxy_core::timer::Deadline;

/// Bytes a second that a peer must move in the long run while it is its turn.
const RATE_BYTES: u64 = 500;
/// Looks for each time of silence.
const LOOKS: u32 = 3;

/// Bytes moved until now; and by those whose turn it is before, while it waits for its own.
pub(crate) type Progress = (u64, Option<u64>);

/// What a peer that is too slow owes: it must move [`RATE_BYTES`] a second, and may fall behind by as
/// much as it could have moved in the time that it may be silent. So a peer that moves nothing is
/// given up after just that time, and one that moves a byte now and then a little later.
#[derive(Debug, Default)]
pub(crate) struct Debt {
    /// The time of silence that it is counted by; none: it has none.
    silence: Option<Duration>,
    bytes: u64,
    /// The progress at the last look.
    seen: Progress,
}

impl Debt {
    /// Ready when the peer, whose turn it is, is to be given up. `now` is what it has moved. The
    /// `deadline` is the debt's own meanwhile.
    pub(crate) fn poll_too_much(
        &mut self,
        cx: &mut Context<'_>,
        deadline: &Deadline,
        silence: Duration,
        now: Progress,
    ) -> Poll<()> {
        self.poll_too_slow(cx, deadline, silence, now, || 0)
    }

    /// The same of a peer of whose bytes a kernel may hold some back: `held` tells how many of those
    /// that moved, and is asked at each look only.
    pub(crate) fn poll_too_slow(
        &mut self,
        cx: &mut Context<'_>,
        deadline: &Deadline,
        silence: Duration,
        now: Progress,
        held: impl Fn() -> u64,
    ) -> Poll<()> {
        if self.silence != Some(silence) {
            *self = Self { silence: Some(silence), bytes: 0, seen: now };
            deadline.arm(silence / LOOKS);
        }
        loop {
            ready!(deadline.poll_expired(cx));
            let now = (now.0.saturating_sub(held()), now.1);
            if self.is_too_much(silence, now) {
                return Poll::Ready(());
            }
            deadline.arm(silence / LOOKS);
        }
    }

    /// It is not the peer's turn any more, or the peer was ahead. Whether there was anything.
    pub(crate) fn forgive(&mut self) -> bool {
        self.silence.take().is_some()
    }

    /// Another part of the time is over.
    fn is_too_much(&mut self, silence: Duration, now: Progress) -> bool {
        // While others have their turn, it is their progress that counts.
        let others = now.1.zip(self.seen.1).map_or(0, |(now, seen)| now.saturating_sub(seen));
        let moved = others.max(now.0.saturating_sub(self.seen.0));
        self.seen = now;
        let due = u64::try_from((silence / LOOKS).as_millis()).unwrap_or(u64::MAX);
        let due = due.saturating_mul(RATE_BYTES) / 1000;
        self.bytes = self.bytes.saturating_add(due).saturating_sub(moved);
        self.bytes >= due.saturating_mul(u64::from(LOOKS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D03, T24: 500 bytes a second in the long run, in whatever lumps a kernel shows them.
    #[test]
    fn d03_the_least_is_500_bytes_a_second() {
        let silence = Duration::from_secs(30);
        // Bytes of each look, every ten seconds, again and again; the look that is one too many.
        for (lumps, too_much) in [
            (&[0][..], Some(3)),
            (&[2], Some(4)),
            (&[4_900], Some(150)),
            (&[5_000], None),
            (&[0, 0, 60_000], None),
            (&[20_480], None),
        ] {
            let mut debt = Debt { silence: Some(silence), ..Debt::default() };
            let mut moved = 0;
            let mut looks = lumps.iter().cycle().take(1_000).map(|lump| {
                moved += lump;
                debt.is_too_much(silence, (moved, None))
            });
            assert_eq!(looks.position(|is| is).map(|at| at + 1), too_much, "{lumps:?}");
        }
    }
}
