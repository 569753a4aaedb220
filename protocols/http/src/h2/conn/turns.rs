//! Streams that share a connection's room take turns: one frame each, first come, first served.

use std::task::{Context, Poll};

use super::{State, signed};
use crate::h2::OUT_BYTES_MAX;
use crate::h2::stream::{Broken, Stream, remember};

impl State {
    /// Ready with how many bytes of data the stream may send now, more than 0.
    pub(in crate::h2) fn poll_capacity(
        &mut self,
        cx: &Context<'_>,
        key: usize,
    ) -> Poll<Result<usize, Broken>> {
        let (has_room, window) = (self.has_room(), self.send_window);
        let Some(stream) = self.streams.get_mut(key) else {
            return Poll::Ready(Err(Broken::Lost("the stream is gone")));
        };
        if let Some(broken) = stream.broken {
            return Poll::Ready(Err(broken));
        }
        let capacity = stream.send_window.min(signed(self.frame_bytes));
        let place = (key, stream.id);
        if capacity > 0 {
            let is_its_turn = self.turns.front().is_none_or(|first| *first == place);
            if has_room && is_its_turn {
                if std::mem::take(&mut stream.is_queued) {
                    self.turns.pop_front();
                }
                return Poll::Ready(Ok(capacity.min(window) as usize));
            }
            if !std::mem::replace(&mut stream.is_queued, true) {
                self.turns.push_back(place);
            }
        }
        remember(&mut stream.send_waker, cx);
        if capacity <= 0 && std::mem::take(&mut stream.is_queued) {
            // The peer took its window back (RFC 9113 §6.9.2) while it waited for its turn.
            self.turns.retain(|other| *other != place);
            self.next_turn();
        }
        Poll::Pending
    }

    /// Whether the connection can take a frame more, whoever's.
    fn has_room(&self) -> bool {
        self.send_window > 0 && self.out.len() < OUT_BYTES_MAX
    }

    /// What moves while a stream waits for its turn: the connection's bytes, off to the kernel and
    /// from there to a peer that is slow. A stream that waits
    /// for its own window sees nothing move.
    pub(in crate::h2) fn progress_of_others(&self, key: usize) -> Option<u64> {
        let is_queued = self.streams.get(key).is_some_and(|stream| stream.is_queued);
        is_queued.then_some(self.out.written + self.out.arrived)
    }

    /// Wakes the stream whose turn it is, if there is room for it.
    pub(in crate::h2) fn next_turn(&mut self) {
        while self.has_room()
            && let Some(&(key, id)) = self.turns.front()
        {
            let waits = |stream: &&mut Stream| {
                stream.id == id && stream.is_queued && stream.broken.is_none()
            };
            if let Some(stream) = self.streams.get_mut(key).filter(waits) {
                return stream.wake_send();
            }
            self.turns.pop_front();
        }
    }
}
