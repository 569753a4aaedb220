//! One direction of a relay: reads a side, follows its frames, writes the other side.
//!
//! Bytes go on untouched, with four exceptions: an unfinished header or control frame waits for
//! its rest, answers to our own pings are taken out, nothing follows a Close frame, and frames of
//! our own go in between frames.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use gwproxy_core::limit::Meters;
use gwproxy_core::net::relay::BUFFER_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::own::Own;
use crate::buffer::Buffer;
use crate::close::{self, Nonce};
use crate::frames::{Frames, Header, Item, Opcode, Sender, Violation};

/// Reads of one poll: a fast pair must let the worker's other tasks run.
const READS_PER_POLL: u8 = 16;

/// Room for what waits for its rest, and as much again.
const AHEAD_MIN: usize = 1024;

/// Where the reading half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Frames may come.
    Open,
    /// It sent Close; whatever follows is dropped.
    Closed,
    /// It broke the protocol; whatever follows is dropped.
    Refused,
    /// End of stream or failure.
    Ended,
}

/// Where the writing half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Frames may be written.
    Open,
    /// A Close frame, the other side's or ours, was written: the last one (RFC 6455 §5.5.1).
    Closed,
    /// The write half of the connection is shut down.
    Shut,
    /// Writing failed, is pointless, or stopped within a frame that nobody can finish.
    Gone,
}

#[derive(Debug)]
pub(super) struct Direction<'a> {
    sender: Sender,
    frames: Frames,
    early: Bytes,
    /// The size of `buffer`.
    ahead: usize,
    /// `start..ready` may be written, `ready..end` is not judged yet. Held only while bytes are
    /// on their way.
    buffer: Option<Buffer>,
    start: usize,
    ready: usize,
    end: usize,
    /// What was not judged when the buffer was given back.
    held: Vec<u8>,
    forwards_close: bool,
    own: Own,
    own_pong: Option<Nonce>,
    source: Source,
    sink: Sink,
    finish: bool,
    blocked: bool,
    unflushed: bool,
    pub(super) movement: Movement,
    /// The code of the side's Close frame.
    pub(super) received: &'a Cell<Option<u16>>,
    pub(super) violation: Option<Violation>,
    pub(super) read_error: Option<io::Error>,
    pub(super) carried: &'a Cell<u64>,
    /// What limits its messages.
    pub(super) meters: Meters,
}

/// What happened since the pair last looked.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Movement {
    /// Bytes were read.
    pub(super) read: bool,
    /// Bytes were written.
    pub(super) wrote: bool,
    /// Bytes were written after the receiver had taken none for a while: it lives.
    pub(super) unblocked: bool,
}

impl<'a> Direction<'a> {
    pub(super) fn new(
        sender: Sender,
        frames: Frames,
        early: Bytes,
        ahead: usize,
        carried: &'a Cell<u64>,
        received: &'a Cell<Option<u16>>,
    ) -> Self {
        Self {
            sender,
            frames,
            early: own_nothing(early),
            ahead: ahead.clamp(AHEAD_MIN, BUFFER_BYTES),
            buffer: None,
            start: 0,
            ready: 0,
            end: 0,
            held: Vec::new(),
            forwards_close: false,
            own: Own::default(),
            own_pong: None,
            source: Source::Open,
            sink: Sink::Open,
            finish: false,
            blocked: false,
            unflushed: false,
            movement: Movement::default(),
            received,
            violation: None,
            read_error: None,
            carried,
            meters: Meters::default(),
        }
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn sink(&self) -> Sink {
        self.sink
    }

    /// Whether bytes wait for the receiver, so that nothing is read.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whole messages carried.
    pub(super) fn messages(&self) -> u64 {
        self.frames.messages()
    }

    /// Whether it holds memory beyond its own size.
    #[cfg(test)]
    pub(super) fn holds_memory(&self) -> bool {
        self.buffer.is_some() || self.held.capacity() > 0 || self.own.frame.capacity() > 0
    }

    /// Writes a Close frame of ours at the next boundary and nothing after it. False when that
    /// was asked before or a Close frame went out already.
    pub(super) fn close(&mut self, code: Option<u16>, reason: &str) -> bool {
        let late = self.own.close.is_some() || self.own.frame_closes || self.forwards_close;
        if late || self.sink != Sink::Open {
            return false;
        }
        self.own.close = Some(close::close_frame(self.sender, code, reason));
        true
    }

    /// Writes a Ping frame of ours at the next boundary.
    pub(super) fn ping(&mut self, nonce: Nonce) {
        if self.sink == Sink::Open {
            self.own.ping = Some(close::ping_frame(self.sender, nonce));
        }
    }

    /// Takes pongs with this payload out of the stream: they answer our pings.
    pub(super) fn swallow_pongs(&mut self, nonce: Nonce) {
        self.own_pong = Some(nonce);
    }

    /// Shuts the write half down once everything is written. False when that was asked before.
    pub(super) fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.finish, true)
    }

    /// Gives the receiver up. False when it is already.
    pub(super) fn abandon(&mut self) -> bool {
        let was = std::mem::replace(&mut self.sink, Sink::Gone);
        was != Sink::Gone
    }

    /// Carries what can be carried now. What is left wakes the task by the reader or the writer.
    pub(super) fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut reads = READS_PER_POLL;
        loop {
            self.blocked = self.poll_send(cx, to).is_pending();
            if self.blocked {
                return;
            }
            if self.judge() {
                continue;
            }
            if reads == 0 {
                cx.waker().wake_by_ref();
                return;
            }
            reads -= 1;
            if !self.fill(cx, from) {
                break;
            }
        }
        self.release();
        self.flush(cx, to);
    }

    /// Ready when nothing is left to write.
    fn poll_send<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<()> {
        loop {
            match self.sink {
                Sink::Open => {}
                Sink::Closed if self.finish => {
                    // A peer that is already gone cannot be told that we are done; not an error.
                    // A pending shutdown wakes us by itself and must not stop the reading.
                    if Pin::new(&mut *to).poll_shutdown(cx).is_ready() {
                        self.sink = Sink::Shut;
                    }
                    return Poll::Ready(());
                }
                Sink::Closed => return Poll::Ready(()),
                Sink::Shut | Sink::Gone => {
                    self.start = self.ready;
                    return Poll::Ready(());
                }
            }
            let (bytes, own) = if let Some(own) = self.own.pending() {
                (own, true)
            } else if self.start < self.ready {
                let buffer = self.buffer.as_deref().unwrap_or_default();
                (buffer.get(self.start..self.ready).unwrap_or_default(), false)
            } else {
                if self.advance_sink() {
                    continue;
                }
                return Poll::Ready(());
            };
            match Pin::new(&mut *to).poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) if n > 0 => self.note_written(n, own),
                Poll::Ready(_) => self.sink = Sink::Gone,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Everything is written: what comes next? False when nothing does.
    fn advance_sink(&mut self) -> bool {
        if self.forwards_close || self.own.frame_closes {
            self.sink = Sink::Closed;
        } else if self.frames.at_boundary() {
            return self.own.load();
        } else if self.source == Source::Ended {
            self.sink = Sink::Gone; // within a frame whose rest will never come
        } else {
            return false;
        }
        true
    }

    fn note_written(&mut self, n: usize, own: bool) {
        self.movement.wrote = true;
        self.movement.unblocked |= self.blocked;
        self.unflushed = true;
        if own {
            self.own.written += n;
        } else {
            self.start += n;
            self.carried.set(self.carried.get() + n as u64);
        }
    }

    /// Judges what was read, up to where a frame of ours must go in. True when there is something
    /// to write.
    fn judge(&mut self) -> bool {
        if self.source == Source::Refused {
            self.end = self.ready; // frames cannot be told apart any more
        }
        let Some(buffer) = self.buffer.as_deref_mut() else { return false };
        loop {
            if self.start < self.ready && self.own.waits() && self.frames.at_boundary() {
                return true;
            }
            let fresh = buffer.get(self.ready..self.end).unwrap_or_default();
            let next = match admit(&self.meters, &self.frames, fresh) {
                Ok(()) => self.frames.next(fresh),
                Err(violation) => Err(violation),
            };
            let item = match next {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(violation) => {
                    self.violation = Some(violation);
                    self.source = Source::Refused;
                    self.end = self.ready;
                    break;
                }
            };
            let goes_on = match item {
                Item::Data { .. } => true,
                Item::Control(header) if header.opcode == Opcode::Close => {
                    let code = close::code_of(header.control_payload(fresh).as_slice());
                    self.received.set(Some(code.unwrap_or(close::NO_STATUS)));
                    self.source = Source::Closed;
                    self.forwards_close = self.sink == Sink::Open;
                    true
                }
                Item::Control(header) => !self.own_pong.is_some_and(|n| answers(&header, fresh, n)),
                Item::AfterClose { .. } => false,
            };
            let bytes = item.bytes();
            if goes_on && self.sink == Sink::Open {
                self.ready += bytes;
            } else if self.start == self.ready {
                self.ready += bytes;
                self.start = self.ready;
            } else {
                // Rare, a pong of ours behind other frames: close the gap.
                buffer.copy_within(self.ready + bytes..self.end, self.ready);
                self.end -= bytes;
            }
        }
        self.start < self.ready
    }

    /// Reads once. False when there is nothing to read now.
    fn fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut R) -> bool {
        if self.source == Source::Ended {
            return false;
        }
        let buffer = self.buffer.get_or_insert_with(|| Buffer::take(self.ahead));
        // Everything judged is written; what is not judged yet moves to the front.
        let mut end = self.end - self.ready;
        buffer.copy_within(self.ready..self.end, 0);
        for (to, from) in buffer.iter_mut().skip(end).zip(std::mem::take(&mut self.held)) {
            *to = from;
            end += 1;
        }
        (self.start, self.ready, self.end) = (0, 0, end);
        let mut into = ReadBuf::new(buffer.get_mut(end..).unwrap_or_default());
        if self.early.is_empty() {
            match Pin::new(from).poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.read_error = Some(error),
                Poll::Pending => return false,
            }
        } else {
            let n = self.early.len().min(into.remaining());
            into.put_slice(self.early.get(..n).unwrap_or_default());
            self.early.advance(n);
            self.early = own_nothing(std::mem::take(&mut self.early));
        }
        let n = into.filled().len();
        self.end += n;
        if n == 0 {
            self.source = Source::Ended;
            self.end = 0;
        }
        self.movement.read |= n > 0;
        true
    }

    /// Gives the buffer back. What it holds is the beginning of a header or of a control frame.
    fn release(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        self.held = buffer.get(self.ready..self.end).unwrap_or_default().to_vec();
        (self.start, self.ready, self.end) = (0, 0, 0);
    }

    /// TLS may hold written records back until it is flushed.
    fn flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) {
        if self.unflushed && matches!(self.sink, Sink::Open | Sink::Closed) {
            match Pin::new(to).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => self.sink = Sink::Gone,
                Poll::Pending => {}
            }
        }
    }
}

/// Empty bytes still hold the buffer that they are a part of, which is the whole read buffer of
/// the HTTP connection: let go of it.
fn own_nothing(bytes: Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { bytes }
}

/// Charges a message that begins here, if messages are limited.
fn admit(meters: &Meters, frames: &Frames, bytes: &[u8]) -> Result<(), Violation> {
    if meters.is_empty() || !frames.begins_message(bytes) {
        return Ok(());
    }
    meters.take(std::time::Instant::now()).map_err(|exceeded| {
        if exceeded.is_shared { Violation::TryAgainLater } else { Violation::MessagesExceeded }
    })
}

/// Whether a control frame is the pong to our ping.
fn answers(header: &Header, frame: &[u8], nonce: Nonce) -> bool {
    header.opcode == Opcode::Pong && header.control_payload(frame).as_slice() == nonce
}
