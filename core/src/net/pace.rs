//! A connection whose bytes are limited: each way for itself, by token buckets that it may share
//! with others.
//!
//! Bytes are charged when they have been carried, and the next ones wait until the debt is paid.
//! So no byte is held back here, back-pressure does the rest, and many connections of one key
//! share its rate. One read or write is at most `STEP` bytes, so that nobody owes for long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Stream;
use crate::limit::Limiter;

/// Bytes of one read or write at most.
const STEP: usize = 16 * 1024;

/// The limits of one connection.
#[derive(Debug)]
pub struct Pace {
    /// What counts bytes from the other end, each with the connection's key.
    pub read: Vec<(Arc<Limiter>, u64)>,
    /// What counts bytes to the other end.
    pub write: Vec<(Arc<Limiter>, u64)>,
}

/// A stream at a pace.
#[derive(Debug)]
pub struct Paced {
    pub(super) stream: Stream,
    pace: Pace,
    reading: Turn,
    writing: Turn,
}

/// When the next bytes may be carried.
#[derive(Debug, Default)]
struct Turn(Option<Pin<Box<Sleep>>>);

impl Turn {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            ready!(sleep.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }

    fn charge(&mut self, limits: &[(Arc<Limiter>, u64)], bytes: usize) {
        let (now, bytes) = (Instant::now(), u32::try_from(bytes).unwrap_or(u32::MAX));
        let waits = limits.iter().map(|(limiter, key)| limiter.settle(*key, bytes, now));
        let wait = waits.max().unwrap_or(Duration::ZERO);
        if !wait.is_zero() {
            self.0 = Some(Box::pin(sleep(wait)));
        }
    }
}

impl Paced {
    pub(super) fn new(stream: Stream, pace: Pace) -> Self {
        Self { stream, pace, reading: Turn::default(), writing: Turn::default() }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.reading.poll(cx));
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(buf.remaining().min(STEP)));
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part));
        let bytes = part.filled().len();
        buf.advance(bytes);
        self.reading.charge(&self.pace.read, bytes);
        Poll::Ready(read)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.writing.poll(cx));
        let part = buf.get(..STEP).unwrap_or(buf);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, part));
        self.writing.charge(&self.pace.write, *written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    pub(super) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}
