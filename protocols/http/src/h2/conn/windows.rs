//! What a peer may send, and what we may (RFC 9113 §5.2).

use super::{Fault, Role, State};
use crate::h2::frame::{self, WINDOW_MAX};
use crate::h2::{RETURN_BYTES, Reason};

impl State {
    /// `size` bytes were read: the peer may send as many more.
    pub(super) fn give_back(&mut self, key: usize, size: usize) {
        if size == 0 {
            return;
        }
        self.give_back_on_stream(key, size as u32);
        self.give_back_on_connection(size);
    }

    fn give_back_on_stream(&mut self, key: usize, size: u32) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.is_recv_ended
            && stream.broken.is_none()
        {
            stream.unreturned += size;
            if stream.unreturned >= stream.window / 2 {
                let more = std::mem::take(&mut stream.unreturned);
                stream.recv_window += i64::from(more);
                let id = stream.id;
                frame::put_window_update(self.out.frames(), id, more);
                self.wake_driver();
            }
        }
    }

    /// Allows a stream so many bytes more, for good.
    pub(in crate::h2) fn widen(&mut self, key: usize, more: u32) {
        if let Some(stream) = self.streams.get_mut(key).filter(|_| self.role == Role::Client) {
            stream.window += more;
            self.give_back_on_stream(key, more);
        }
    }

    pub(super) fn give_back_on_connection(&mut self, size: usize) {
        self.unreturned += size as u32;
        if self.unreturned >= RETURN_BYTES {
            let more = std::mem::take(&mut self.unreturned);
            self.recv_window += i64::from(more);
            frame::put_window_update(self.out.frames(), 0, more);
            self.wake_driver();
        }
    }

    /// Lets all streams look at their windows again.
    pub(super) fn wake_senders(&mut self) {
        for stream in self.streams.iter_mut() {
            stream.wake_send();
        }
    }

    /// RFC 9113 §6.9.2. Once for a whole SETTINGS frame, which can say it thousands of times.
    pub(super) fn shift_windows(&mut self, change: i64) -> Result<(), Fault> {
        if change == 0 {
            return Ok(());
        }
        for stream in self.streams.iter_mut() {
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                let (reason, text) = (Reason::FLOW_CONTROL_ERROR, "a window above 2^31-1");
                return Err(Fault { reason, text });
            }
        }
        Ok(())
    }
}
