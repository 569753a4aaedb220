//! The two-way byte pump: raw TCP, CONNECT tunnels and upgraded connections.
//!
//! Half-close is kept: the end of one direction shuts down that direction only. A direction that
//! waits for data holds no buffer, so an idle pair costs its two sockets and one small task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::timer::{Deadline, Timer};

/// The size of a relay buffer: one socket buffer's worth keeps bulk transfers at few system
/// calls; it is only held while bytes are on their way.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// How a relay ended, with the bytes carried each way.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the client to the node.
    pub client_to_upstream: u64,
    /// Bytes from the node to the client.
    pub upstream_to_client: u64,
    /// What ended it.
    pub end: End,
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
/// `idle`. `early` are bytes already read from the client, sent to the node first.
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
    let deadline = timer.deadline();
    deadline.arm(idle);
    let mut up = Direction::new(early);
    let mut down = Direction::new(Bytes::new());
    let end =
        poll_fn(|cx| poll_both(cx, client, upstream, &mut up, &mut down, &deadline, idle)).await;
    Relayed { client_to_upstream: up.carried, upstream_to_client: down.carried, end }
}

fn poll_both<C, U>(
    cx: &mut Context<'_>,
    client: &mut C,
    upstream: &mut U,
    up: &mut Direction,
    down: &mut Direction,
    deadline: &Deadline,
    idle: Duration,
) -> Poll<End>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let before = up.carried + down.carried;
    let sent = match up.poll(cx, client, upstream) {
        Poll::Ready(Err(Side::From(error))) => return Poll::Ready(End::Client(error)),
        Poll::Ready(Err(Side::To(error))) => return Poll::Ready(End::Upstream(error)),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    let received = match down.poll(cx, upstream, client) {
        Poll::Ready(Err(Side::From(error))) => return Poll::Ready(End::Upstream(error)),
        Poll::Ready(Err(Side::To(error))) => return Poll::Ready(End::Client(error)),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    if sent && received {
        return Poll::Ready(End::Closed);
    }
    if up.carried + down.carried != before {
        deadline.arm(idle);
    }
    deadline.poll_expired(cx).map(|()| End::Idle)
}

/// Which end of a direction failed.
enum Side {
    From(io::Error),
    To(io::Error),
}

/// One direction of a relay.
struct Direction {
    early: Bytes,
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    state: State,
    carried: u64,
}

enum State {
    Carrying,
    ShuttingDown,
    Done,
}

impl Direction {
    fn new(early: Bytes) -> Self {
        Self { early, buffer: None, start: 0, end: 0, state: State::Carrying, carried: 0 }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Side>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // A fast pair could keep this task busy for ever; the budget lets others of the worker run.
        let mut rounds = 16;
        loop {
            match self.state {
                State::Carrying => {}
                State::ShuttingDown => {
                    // A peer that is already gone cannot be told that we are done; not an error.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
            if matches!(self.state, State::Done) {
                continue;
            }
            ready!(self.poll_write_pending(cx, to)).map_err(Side::To)?;
            if rounds == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            rounds -= 1;
            match self.poll_fill(cx, from) {
                Poll::Ready(Ok(0)) => {
                    self.buffer = None;
                    self.state = State::ShuttingDown;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Side::From(error))),
                Poll::Pending => {
                    self.buffer = None;
                    // TLS may hold written records back until it is flushed.
                    let _ = Pin::new(&mut *to).poll_flush(cx).map_err(Side::To)?;
                    return Poll::Pending;
                }
            }
        }
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
        while self.start < self.end {
            let pending = self.buffer.as_deref().and_then(|b| b.get(self.start..self.end));
            let n = ready!(Pin::new(&mut *to).poll_write(cx, pending.unwrap_or_default()))?;
            self.note_written(n)?;
            self.start += n;
        }
        Poll::Ready(Ok(()))
    }

    fn note_written(&mut self, n: usize) -> io::Result<()> {
        self.carried += n as u64;
        if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    fn poll_fill<R>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        let buffer = self.buffer.get_or_insert_with(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        let mut into = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut into))?;
        self.start = 0;
        self.end = into.filled().len();
        Poll::Ready(Ok(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn half_close_keeps_the_return_direction() {
        let timer = Timer::new();
        let (mut client, mut client_end) = duplex(1024);
        let (mut node, mut node_end) = duplex(1024);
        let peer = async {
            client.write_all(b"ask").await.unwrap();
            client.shutdown().await.unwrap();
            let mut asked = Vec::new();
            node.read_to_end(&mut asked).await.unwrap();
            assert_eq!(asked, b"early ask");
            node.write_all(b"answer after half-close").await.unwrap();
            node.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"answer after half-close");
        };
        let early = Bytes::from_static(b"early ");
        let run = relay(&mut client_end, &mut node_end, early, Duration::from_secs(9), &timer);
        let (relayed, ()) = tokio::join!(run, peer);
        assert!(matches!(relayed.end, End::Closed));
        assert_eq!((relayed.client_to_upstream, relayed.upstream_to_client), (9, 23));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_pair_is_ended_and_traffic_postpones_it() {
        let timer = Timer::new();
        let (mut client, mut client_end) = duplex(1024);
        let (_node, mut node_end) = duplex(1024);
        let talk = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(8)).await;
                client.write_all(b"x").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let idle = Duration::from_secs(10);
        let relayed = tokio::select! {
            () = timer.drive() => unreachable!(),
            () = talk => unreachable!(),
            relayed = relay(&mut client_end, &mut node_end, Bytes::new(), idle, &timer) => relayed,
        };
        assert!(matches!(relayed.end, End::Idle));
        assert_eq!(relayed.client_to_upstream, 3);
    }
}
