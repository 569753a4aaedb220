//! The task of a connection: it reads, writes and keeps the time.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gwproxy_core::memory;
use gwproxy_core::net::Stream;
use gwproxy_core::telemetry::Refused;
use gwproxy_core::timer::{Deadline, Timer};
use tokio::io::AsyncWrite;

use super::conn::{Accepted, Conn, Fault, Role};
use super::frame::{Head, Kind};
use super::{CLIENT_WINDOW_BYTES, PING_INTERVAL, PING_TIMEOUT, Reason};
use crate::h1::read::Reader;

/// Reads in a row, and bytes of them, before the tasks that they woke and the other connections get
/// their turn.
const READS_MAX: usize = 4;
const TURN_BYTES: u64 = 64 * 1024;
/// Bytes waiting to be written above which nothing is read: their answers would pile up.
const UNWRITTEN_MAX: usize = 256 * 1024;
/// How long a client has to acknowledge that we are leaving, before it is taken for told.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// How long the peer has to close after we have, so that what it sent last does not make its
/// system throw our last words away (RFC 9112 §9.6 tells why).
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of the peer's that are read away meanwhile: what an honest one may have on its way, by the
/// connection's window. One that floods could spend our time for as long as that lasts.
const LINGER_BYTES: u64 = 2 * CLIENT_WINDOW_BYTES as u64;

/// Looks at a peer for which nothing can be written, in the time that it may be silent.
const WRITE_LOOKS: u32 = 3;

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The preface, and a frame or a field block from its first byte, but for DATA.
    pub(super) head: Duration,
    /// A write, or a DATA frame, without progress.
    pub(super) write: Duration,
    /// Without a stream; none: someone else watches.
    pub(super) idle: Option<Duration>,
}

/// A connection's socket and clock.
#[derive(Debug)]
pub(super) struct Driver {
    conn: Rc<Conn>,
    stream: Stream,
    reader: Reader,
    deadline: Deadline,
    patience: Patience,
    waits: Option<Wait>,
    /// What the kernel held of the connection's bytes at the last look of a wait to write, and how
    /// many looks before it saw nothing of them arrive.
    held: (u32, Option<u64>),
    read: u64,
    /// What may still be read away.
    lingers: u64,
    /// The last read filled its buffer: more is to be expected.
    is_flooded: bool,
    is_pinged: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Last words are written.
    Closing,
    /// The peer's end is awaited.
    Lingering,
}

/// What a connection waits for, with the progress that makes the wait begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Write(u64),
    Head(u64),
    Data(u64),
    Sign(u64),
    Pong(u64),
    Idle(u64),
    Farewell,
    Linger,
}

impl Drop for Driver {
    /// After a panic in it nobody else tells those whose streams it carried.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.conn.with(|state| state.lose("of a bug"));
        }
    }
}

impl Driver {
    /// Drives `conn` over `stream`, of which `early` was read already.
    pub(super) fn new(
        conn: Rc<Conn>,
        stream: Stream,
        early: BytesMut,
        timer: &Timer,
        patience: Patience,
    ) -> Self {
        Self {
            conn,
            stream,
            reader: Reader::with(early),
            deadline: timer.deadline(),
            patience,
            waits: None,
            held: (0, None),
            read: 0,
            lingers: LINGER_BYTES,
            is_flooded: false,
            is_pinged: false,
            phase: Phase::Open,
        }
    }

    /// Runs until the connection is over. `accept` gets what a client asks for.
    pub(super) async fn run(mut self, mut accept: impl FnMut(Accepted)) {
        if !self.reader.buf.is_empty() {
            self.receive(&mut accept);
        }
        poll_fn(|cx| self.poll(cx, &mut accept)).await;
        self.conn.with(|state| state.lose("it was closed"));
    }

    /// One turn, for a driver that has more to look at.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        accept: &mut impl FnMut(Accepted),
    ) -> Poll<()> {
        self.conn.with(super::conn::State::forget_driver);
        loop {
            let flushed = self.poll_flush(cx);
            if let Poll::Ready(Err(())) = flushed {
                return Poll::Ready(());
            }
            if self.phase == Phase::Open && self.conn.with(|state| state.is_done()) {
                self.phase = Phase::Closing;
            }
            let mut is_write_blocked = flushed.is_pending();
            if self.phase == Phase::Closing && flushed.is_ready() {
                // TLS has a last word of its own, for which there may be no room.
                is_write_blocked = Pin::new(&mut self.stream).poll_shutdown(cx).is_pending();
                if !is_write_blocked {
                    self.phase = Phase::Lingering;
                }
            }
            match self.poll_read(cx, accept) {
                Poll::Ready(true) => continue,
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            // Reading may have put answers out.
            if flushed.is_ready() && self.conn.with(|state| !state.out.is_empty()) {
                continue;
            }
            self.conn.with(|state| {
                state.set_driver(cx);
                state.out.release();
            });
            ready!(self.poll_time(cx, is_write_blocked));
            if self.phase == Phase::Lingering {
                return Poll::Ready(());
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let stream = &mut self.stream;
        let flushed = self.conn.with(|state| {
            let before = state.out.written;
            let flushed = state.out.poll_flush(cx, stream);
            if state.out.written > before {
                state.next_turn();
            }
            flushed
        });
        if let Ok(()) = ready!(flushed) {
            Poll::Ready(Ok(()))
        } else {
            self.conn.with(|state| state.lose("it broke"));
            Poll::Ready(Err(()))
        }
    }

    /// Ready with whether to go on.
    fn poll_read(&mut self, cx: &mut Context<'_>, accept: &mut impl FnMut(Accepted)) -> Poll<bool> {
        let turn = self.read + TURN_BYTES;
        for _ in 0..READS_MAX {
            if self.read >= turn {
                break;
            }
            if self.conn.with(|state| state.out.len()) > UNWRITTEN_MAX {
                return Poll::Pending;
            }
            let expected = self.is_flooded.then_some(u64::MAX);
            let size = match ready!(self.reader.poll_fill(cx, &mut self.stream, expected)) {
                Ok(size) if size > 0 => size,
                Ok(_) => {
                    self.conn.with(|state| state.lose("the peer closed it"));
                    return Poll::Ready(false);
                }
                Err(_) => {
                    self.conn.with(|state| state.lose("it broke"));
                    return Poll::Ready(false);
                }
            };
            self.is_flooded = size >= 8 * 1024;
            self.read += size as u64;
            self.is_pinged = false;
            if self.phase != Phase::Open {
                self.reader.buf.clear();
                self.lingers = self.lingers.saturating_sub(size as u64);
                if self.lingers == 0 {
                    return Poll::Ready(false);
                }
                continue;
            }
            self.receive(accept);
            if self.phase != Phase::Open {
                return Poll::Ready(true);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn receive(&mut self, accept: &mut impl FnMut(Accepted)) {
        let buf = &mut self.reader.buf;
        let received = self.conn.with(|state| {
            state.is_out_of_memory = memory::is_out();
            state.receive(buf, Instant::now())
        });
        if let Err(fault) = received {
            self.fail(fault);
            return;
        }
        while let Some(accepted) = self.conn.with(|state| state.accepted.pop_front()) {
            accept(accepted);
        }
    }

    fn fail(&mut self, fault: Fault) {
        Refused::Http2.count();
        tracing::debug!(reason = %fault.reason, "an HTTP/2 connection is ended: {}", fault.text);
        self.conn.with(|state| state.fail(fault));
        self.phase = Phase::Closing;
    }

    /// Ready when something has to be done because nothing happened.
    fn poll_time(&mut self, cx: &mut Context<'_>, is_write_blocked: bool) -> Poll<()> {
        let wait = self.wait(is_write_blocked);
        if self.waits != wait {
            (self.waits, self.held) = (wait, (0, None));
            match wait.and_then(|wait| self.limit(wait)) {
                Some(limit) => self.deadline.arm(limit),
                None => self.deadline.disarm(),
            }
        }
        ready!(self.deadline.poll_expired(cx));
        match wait {
            None => return Poll::Pending,
            Some(Wait::Linger) => {}
            Some(Wait::Farewell | Wait::Idle(_)) => {
                self.conn.with(super::conn::State::say_farewell);
            }
            Some(Wait::Sign(_)) => {
                self.is_pinged = true;
                self.conn.with(super::conn::State::ping);
            }
            Some(Wait::Head(_) | Wait::Data(_)) => {
                self.fail(Fault { reason: Reason::PROTOCOL_ERROR, text: "a frame took too long" });
            }
            Some(wait @ Wait::Write(_)) if self.is_slow_only() => {
                if let Some(limit) = self.limit(wait) {
                    self.deadline.arm(limit);
                }
                return Poll::Ready(());
            }
            Some(Wait::Write(_) | Wait::Pong(_)) => {
                self.conn.with(|state| state.lose("the peer fell silent"));
                self.phase = Phase::Lingering;
            }
        }
        self.waits = None;
        Poll::Ready(())
    }

    /// Whether a peer for which nothing can be written is slow and not silent: it takes what the
    /// kernel holds for it, or that is still to be seen.
    fn is_slow_only(&mut self) -> bool {
        let held = self.stream.unsent();
        let arrived = self.held.1.replace(held).map_or(0, |before| before.saturating_sub(held));
        self.conn.with(|state| state.out.arrived += arrived);
        self.held.0 = if arrived > 0 { 0 } else { self.held.0 + 1 };
        self.held.0 < WRITE_LOOKS
    }

    fn wait(&self, is_write_blocked: bool) -> Option<Wait> {
        if self.phase == Phase::Lingering {
            return Some(Wait::Linger);
        }
        let unread = self.reader.buf.len();
        let is_within_data =
            Head::parse(&self.reader.buf).is_some_and(|head| head.kind == Kind::Data);
        self.conn.with(|state| {
            if is_write_blocked {
                Some(Wait::Write(state.out.written))
            } else if is_within_data {
                // On a slow line one takes its time, as the body it belongs to may.
                Some(Wait::Data(self.read))
            } else if state.is_within_frame(unread) {
                Some(Wait::Head(state.frames))
            } else if state.is_farewell_announced() {
                Some(Wait::Farewell)
            } else if state.streams.open() > 0 {
                let wait = if self.is_pinged { Wait::Pong } else { Wait::Sign };
                Some(wait(self.read))
            } else if self.patience.idle.is_some() || state.role() == Role::Server {
                Some(Wait::Idle(state.opened))
            } else {
                None
            }
        })
    }

    fn limit(&self, wait: Wait) -> Option<Duration> {
        match wait {
            Wait::Write(_) => Some(self.patience.write / WRITE_LOOKS),
            Wait::Data(_) => Some(self.patience.write),
            Wait::Head(_) => Some(self.patience.head),
            Wait::Sign(_) => Some(PING_INTERVAL),
            Wait::Pong(_) => Some(PING_TIMEOUT),
            Wait::Idle(_) => self.patience.idle,
            Wait::Farewell => Some(FAREWELL_WAIT),
            Wait::Linger => Some(LINGER),
        }
    }
}
