//! The write side of a connection: heads and small data are gathered, large data is not copied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use gwproxy_core::net::Stream;
use gwproxy_core::net::splice::Pipe;
use tokio::io::AsyncWrite;

/// Data up to this size is copied behind the head, to leave in one segment with it.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Gathered bytes from which on they must leave before more is taken.
const GATHER_BYTES_MAX: usize = 16 * 1024;

/// Bytes on their way out: `gathered`, then `data`, then `tail`, then what is in the pipe.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) gathered: BytesMut,
    data: Bytes,
    tail: &'static [u8],
    pipe: Option<Pipe>,
    /// Bytes that left.
    pub(super) written: u64,
    /// TLS may hold some of them back for want of room in the socket.
    is_unflushed: bool,
}

impl Writer {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && !self.is_unflushed
    }

    /// Whether another piece may be queued before a flush.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty()
            && self.tail.is_empty()
            && self.pipe.is_none()
            && self.gathered.len() < GATHER_BYTES_MAX
    }

    /// Queues what is in `pipe`, for a stream that is [`Stream::bare_tcp`]; there must be room.
    pub(super) fn push_pipe(&mut self, pipe: Pipe) {
        debug_assert!(self.has_room());
        self.pipe = Some(pipe);
    }

    /// Queues data and what follows it; there must be room.
    pub(super) fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        debug_assert!(self.has_room());
        if data.len() <= COPY_BYTES_MAX {
            self.gathered.extend_from_slice(&data);
            self.gathered.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// Writes everything out. Ready with whether bytes moved since the call, so that a caller can
    /// tell a slow peer from a stalled one.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<io::Result<()>> {
        while self.bytes() > 0 {
            let slices =
                [IoSlice::new(&self.gathered), IoSlice::new(&self.data), IoSlice::new(self.tail)];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.gathered))?
            } else {
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.consume(written);
            self.is_unflushed = true;
        }
        if let Some((pipe, tcp)) = self.pipe.as_mut().zip(stream.bare_tcp()) {
            let before = pipe.len();
            let drained = pipe.poll_drain(cx, tcp);
            self.written += before.saturating_sub(pipe.len()) as u64;
            ready!(drained)?;
            self.pipe = None;
        }
        if self.is_unflushed || matches!(stream, Stream::TlsServer(_) | Stream::TlsClient(_)) {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes waiting.
    fn len(&self) -> usize {
        self.bytes() + self.pipe.as_ref().map_or(0, Pipe::len)
    }

    /// Bytes waiting in memory.
    fn bytes(&self) -> usize {
        self.gathered.len() + self.data.len() + self.tail.len()
    }

    /// Frees the buffer of an idle connection.
    pub(super) fn release(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
    }

    fn consume(&mut self, mut written: usize) {
        self.written += written as u64;
        let head = written.min(self.gathered.len());
        if head == self.gathered.len() {
            self.gathered.clear();
        } else {
            self.gathered.advance(head);
        }
        written -= head;
        let data = written.min(self.data.len());
        self.data.advance(data);
        written -= data;
        self.tail = self.tail.get(written..).unwrap_or_default();
    }
}
