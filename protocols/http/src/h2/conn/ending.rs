//! How a connection ends: in order (RFC 9113 §6.8), by a fault, or because it is gone.

use super::{Fault, Role, STREAM_ID_MAX, State};
use crate::h2::Reason;
use crate::h2::frame;
use crate::h2::stream::Broken;

/// The payload of the PING that follows the announcement of a GOAWAY.
pub(super) const FAREWELL: [u8; 8] = *b"farewell";

/// How far a connection is in going away (RFC 9113 §6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    None,
    /// Announced; what the peer opened meanwhile is still served.
    Announced,
    /// Streams above the last one are not.
    Said,
}

impl State {
    /// Begins to go away: the peer is told, and what it sent before it knew is still served.
    pub(in crate::h2) fn announce_farewell(&mut self) {
        if self.farewell == Farewell::None && self.lost.is_none() {
            self.farewell = Farewell::Announced;
            let out = self.out.frames();
            frame::put_go_away(out, STREAM_ID_MAX, Reason::NO_ERROR.0, "");
            frame::put_ping(out, 0, FAREWELL);
        }
    }

    /// From here on new streams are not served.
    pub(in crate::h2) fn say_farewell(&mut self) {
        if self.farewell != Farewell::Said && self.lost.is_none() {
            self.farewell = Farewell::Said;
            // A client of ours takes no streams at all.
            let last = if self.role == Role::Server { self.last_id } else { 0 };
            frame::put_go_away(self.out.frames(), last, Reason::NO_ERROR.0, "");
        }
    }

    pub(in crate::h2) fn is_farewell_announced(&self) -> bool {
        self.farewell == Farewell::Announced
    }

    /// Whether everything that will be served was.
    pub(in crate::h2) fn is_done(&self) -> bool {
        // A client that has said its GOAWAY closes by itself.
        let leaves =
            self.farewell == Farewell::Said || (self.is_peer_leaving && self.role == Role::Client);
        leaves && self.streams.open() == 0 && self.accepted.is_empty()
    }

    /// Tells the peer what it did, and ends everything.
    pub(in crate::h2) fn fail(&mut self, fault: Fault) {
        if self.lost.is_none() {
            let last = if self.role == Role::Server { self.last_id } else { 0 };
            frame::put_go_away(self.out.frames(), last, fault.reason.0, fault.text);
        }
        self.lose(fault.text);
    }

    /// The connection is gone; so are its streams.
    pub(in crate::h2) fn lose(&mut self, why: &'static str) {
        if self.lost.is_some() {
            return;
        }
        self.lost = Some(why);
        self.wake_settings();
        self.accepted.clear();
        for stream in self.streams.iter_mut() {
            if !stream.is_closed() {
                let is_unsent = self.role == Role::Client && self.out.written <= stream.asked_at;
                let lost = Broken::Lost(why);
                stream.broken = Some(if is_unsent { Broken::Unprocessed } else { lost });
            }
            stream.wake();
        }
    }

    /// The last stream of a connection that goes away ends it.
    pub(super) fn look_after_end(&mut self) {
        if self.is_done() {
            self.wake_driver();
        }
    }
}
