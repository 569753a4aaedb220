//! The two-way byte pump: raw TCP, CONNECT tunnels and upgraded connections.
//!
//! Half-close is kept: the end of one direction shuts down that direction only. A direction that
//! waits for data holds no buffer, so an idle pair costs its two sockets and one small task.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::Stream;
use crate::Code;
use crate::timer::{Deadline, Timer};

/// The size of a relay buffer: one socket buffer's worth keeps bulk transfers at few system
/// calls; it is only held while bytes are on their way.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Reads in a row before the other tasks of the worker get their turn.
const ROUNDS_MAX: u32 = 16;

thread_local! {
    /// The buffer that every direction of this thread reads into. Only a direction whose writer
    /// is slower than its reader keeps it across polls; the next one then makes a new buffer.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes carried each way until now. What is cut off has these to tell at least.
#[derive(Debug, Default)]
pub struct Carried {
    /// From the client to the node.
    pub client_to_upstream: Cell<u64>,
    /// From the node to the client.
    pub upstream_to_client: Cell<u64>,
}

/// How a relay ended, with the bytes carried each way.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the client to the node.
    pub client_to_upstream: u64,
    /// Bytes from the node to the client.
    pub upstream_to_client: u64,
    /// What ended it.
    pub end: End,
    /// Bytes that were read from the client and not all taken by the node.
    pub owes_upstream: bool,
    /// Bytes that were read from the node and not all taken by the client.
    pub owes_client: bool,
}

/// What ended a relay.
#[derive(Debug)]
pub enum End {
    /// Both directions were closed in order.
    Closed,
    /// No byte in either direction for the idle time.
    Idle,
    /// The client's side failed.
    Client(io::Error),
    /// The node's side failed.
    Upstream(io::Error),
}

/// Carries bytes both ways until both directions are closed, one side fails, or no byte moved for
/// `idle` (zero: however long that takes). `early` are bytes already read from the client, sent
/// to the node first.
///
/// What a side sent before it failed still reaches the other side.
pub async fn relay<C, U>(
    client: &mut C,
    upstream: &mut U,
    early: Bytes,
    idle: Duration,
    timer: &Timer,
) -> Relayed
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    relay_counted(client, upstream, early, BUFFER_BYTES, idle, timer, &Carried::default()).await
}

/// [`relay`] that counts into `carried` as it goes, and holds at most `ahead` bytes, up to
/// [`BUFFER_BYTES`], for a side that does not take them.
pub async fn relay_counted<C, U>(
    client: &mut C,
    upstream: &mut U,
    early: Bytes,
    ahead: usize,
    idle: Duration,
    timer: &Timer,
    carried: &Carried,
) -> Relayed
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let idle = (!idle.is_zero()).then(|| (timer.deadline(), idle));
    let mut up = Direction::new(early, ahead, &carried.client_to_upstream);
    let mut down = Direction::new(Bytes::new(), ahead, &carried.upstream_to_client);
    if let Some((deadline, idle)) = &idle {
        deadline.arm(*idle);
    }
    let end =
        poll_fn(|cx| poll_both(cx, client, upstream, &mut up, &mut down, idle.as_ref())).await;
    Relayed {
        client_to_upstream: up.carried.get(),
        upstream_to_client: down.carried.get(),
        end,
        owes_upstream: up.owes(),
        owes_client: down.owes(),
    }
}

fn poll_both<C, U>(
    cx: &mut Context<'_>,
    client: &mut C,
    upstream: &mut U,
    up: &mut Direction<'_>,
    down: &mut Direction<'_>,
    idle: Option<&(Deadline, Duration)>,
) -> Poll<End>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let before = up.carried.get() + down.carried.get();
    let sent = up.poll(cx, client, upstream, down.unwritable.is_none());
    let received = down.poll(cx, upstream, client, up.unwritable.is_none());
    match (sent, received) {
        // Nothing more can come from a side that cannot be read.
        (Poll::Ready(Outcome::Unreadable(error)), _) => return Poll::Ready(End::Client(error)),
        (_, Poll::Ready(Outcome::Unreadable(error))) => return Poll::Ready(End::Upstream(error)),
        (Poll::Ready(_), Poll::Ready(_)) => {
            return Poll::Ready(match (up.unwritable.take(), down.unwritable.take()) {
                (Some(error), _) => End::Upstream(error),
                (None, Some(error)) => End::Client(error),
                (None, None) => End::Closed,
            });
        }
        _ => {}
    }
    let Some((deadline, idle)) = idle else { return Poll::Pending };
    if up.carried.get() + down.carried.get() != before {
        deadline.arm(*idle);
    }
    deadline.poll_expired(cx).map(|()| End::Idle)
}

impl End {
    /// Why it was no orderly end. That of a connection that was left alone is one: nobody failed.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Closed | Self::Idle => None,
            Self::Client(_) => Some(Code::ClientClosed),
            Self::Upstream(_) => Some(Code::UpstreamReset),
        }
    }

    /// A stable name for logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Client(_) => "client_reset",
            Self::Upstream(_) => "upstream_reset",
        }
    }
}

/// One leg of a relay, when the relay is over.
pub trait Leg {
    /// Makes its end a reset, so that it cannot be taken for the end of what was to come.
    fn reset(&self);

    /// Ends our direction in order, as far as that needs no waiting.
    fn end_now(&mut self) -> impl Future<Output = ()>;
}

impl Leg for Stream {
    fn reset(&self) {
        self.abort_on_close();
    }

    async fn end_now(&mut self) {
        Self::end_now(self).await;
    }
}

impl Relayed {
    /// Tells each side how it ended. A side that broke must not look to the other like one that
    /// ended: a cut-off transfer would pass for a complete one. Nothing is cut off by the end of an
    /// idle connection, except for a side that took none of the bytes that wait for it. The kernel
    /// resets it as well when there are bytes of it that nobody read.
    pub async fn pass_on(&self, client: &mut impl Leg, upstream: &mut impl Leg) {
        match self.end {
            End::Closed => {}
            End::Client(_) => upstream.reset(),
            End::Upstream(_) => client.reset(),
            End::Idle => {
                end_idle(client, self.owes_client).await;
                end_idle(upstream, self.owes_upstream).await;
            }
        }
    }
}

async fn end_idle(side: &mut impl Leg, is_owed: bool) {
    if is_owed {
        side.reset();
    } else {
        side.end_now().await;
    }
}

/// How a direction ended.
enum Outcome {
    /// Everything was handed on, or the writer failed ([`Direction::unwritable`]).
    Done,
    /// The reader failed.
    Unreadable(io::Error),
}

/// One direction of a relay.
struct Direction<'a> {
    early: Bytes,
    /// Bytes of one read.
    ahead: usize,
    /// What was read and not written yet, from `written` on; without capacity while there is
    /// nothing.
    buffer: Vec<u8>,
    written: usize,
    state: State,
    /// Why the writer takes no more. The other direction still brings what that side sent before
    /// it failed.
    unwritable: Option<io::Error>,
    carried: &'a Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Carrying,
    ShuttingDown,
    Done,
}

impl<'a> Direction<'a> {
    fn new(early: Bytes, ahead: usize, carried: &'a Cell<u64>) -> Self {
        Self {
            early,
            ahead: ahead.min(BUFFER_BYTES),
            buffer: Vec::new(),
            written: 0,
            state: State::Carrying,
            unwritable: None,
            carried,
        }
    }

    /// Whether bytes wait for the writer.
    fn owes(&self) -> bool {
        !self.early.is_empty() || self.written < self.buffer.len()
    }

    /// `orderly` tells whether the end of the reader is an end to pass on, not the end of a side
    /// that failed.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        orderly: bool,
    ) -> Poll<Outcome>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.state == State::Carrying {
            match ready!(self.poll_carry(cx, from, to)) {
                Ok(()) if orderly => self.state = State::ShuttingDown,
                Ok(()) => self.state = State::Done,
                Err(Side::To(error)) => {
                    self.unwritable = Some(error);
                    self.state = State::Done;
                }
                Err(Side::From(error)) => return Poll::Ready(Outcome::Unreadable(error)),
            }
        }
        if self.state == State::ShuttingDown {
            // A peer that is already gone cannot be told that we are done; not an error.
            let _ = ready!(Pin::new(to).poll_shutdown(cx));
            self.state = State::Done;
        }
        Poll::Ready(Outcome::Done)
    }

    /// Ready when the reader ended and everything is written.
    fn poll_carry<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Side>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..ROUNDS_MAX {
            let Poll::Ready(written) = self.poll_write_pending(cx, to) else {
                self.shrink();
                return Poll::Pending;
            };
            written.map_err(Side::To)?;
            match self.poll_fill(cx, from) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Side::From(error))),
                Poll::Pending => {
                    // TLS may hold written records back until it is flushed.
                    let _ = Pin::new(to).poll_flush(cx).map_err(Side::To)?;
                    return Poll::Pending;
                }
            }
        }
        // A fast pair could keep this task busy for ever; let the others of the worker run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write_pending<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.early.is_empty() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.early))?;
            self.note_written(n)?;
            self.early.advance(n);
        }
        while let Some(pending) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, pending))?;
            self.note_written(n)?;
            self.written += n;
        }
        if self.buffer.capacity() >= BUFFER_BYTES {
            give_back(std::mem::take(&mut self.buffer));
        } else if self.buffer.capacity() > 0 {
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// The writer is slow, and this may be one of many: what waits for it is all that is kept.
    fn shrink(&mut self) {
        if self.buffer.capacity() > self.ahead {
            let rest = self.buffer.get(self.written..).unwrap_or_default().to_vec();
            give_back(std::mem::replace(&mut self.buffer, rest));
            self.written = 0;
        }
    }

    fn note_written(&mut self, n: usize) -> io::Result<()> {
        self.carried.set(self.carried.get() + n as u64);
        if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Reads once. Called with an empty buffer; keeps it only if something was read.
    fn poll_fill<R>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        let mut buffer = SPARE.take();
        // No-op for a buffer that was in use before.
        buffer.reserve_exact(BUFFER_BYTES);
        let filled = poll_read_buf(Pin::new(from), cx, &mut (&mut buffer).limit(self.ahead));
        if matches!(filled, Poll::Ready(Ok(1..))) {
            (self.buffer, self.written) = (buffer, 0);
        } else {
            give_back(buffer);
        }
        filled
    }
}

/// Which end of a direction failed.
enum Side {
    From(io::Error),
    To(io::Error),
}

fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARE.set(buffer);
}

#[cfg(test)]
mod tests;
