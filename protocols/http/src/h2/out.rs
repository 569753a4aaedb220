//! Frames on their way out: small ones are gathered, large data is not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use gwproxy_core::net::Stream;
use tokio::io::AsyncWrite;

/// Data up to this size is copied behind its frame's head.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Room for what gathers while the tasks of a few streams have their turn.
const GATHER_BYTES: usize = 4 * 1024;
/// Pieces of one write.
const SLICES: usize = 32;

/// Bytes to be written: `queue`, then `gathered`.
#[derive(Debug, Default)]
pub(super) struct Out {
    queue: VecDeque<Bytes>,
    queued: usize,
    gathered: BytesMut,
    /// Bytes ever written.
    pub(super) written: u64,
    /// Bytes of those that were seen to arrive at the peer while nothing could be written.
    pub(super) arrived: u64,
}

impl Out {
    /// Where frames without much data are put.
    pub(super) fn frames(&mut self) -> &mut BytesMut {
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(GATHER_BYTES);
        }
        &mut self.gathered
    }

    /// Queues the payload of a frame whose head was just put.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() <= COPY_BYTES_MAX {
            self.gathered.extend_from_slice(&data);
            return;
        }
        let before = self.gathered.split().freeze();
        self.queued += before.len() + data.len();
        if !before.is_empty() {
            self.queue.push_back(before);
        }
        self.queue.push_back(data);
    }

    pub(super) fn len(&self) -> usize {
        self.queued + self.gathered.len()
    }

    /// Where the next byte will stand among those ever written.
    pub(super) fn position(&self) -> u64 {
        self.written + self.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, as if it had been written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let all: Vec<u8> = self
            .queue
            .iter()
            .chain([&Bytes::copy_from_slice(&self.gathered)])
            .flatten()
            .copied()
            .collect();
        self.written += all.len() as u64;
        self.consume(all.len());
        all
    }

    /// Frees the buffers of an idle connection.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.gathered = BytesMut::new();
            self.queue = VecDeque::new();
        }
    }

    /// Writes everything out.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.queue.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.gathered))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let pieces = self.queue.iter().map(|piece| &piece[..]).chain([&self.gathered[..]]);
                let mut used = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    used += 1;
                }
                let slices = slices.get(..used).unwrap_or_default();
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written as u64;
            self.consume(written);
        }
        if matches!(stream, Stream::TlsServer(_) | Stream::TlsClient(_)) {
            ready!(Pin::new(stream).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn consume(&mut self, mut written: usize) {
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.queued -= written;
                return;
            }
            written -= first.len();
            self.queued -= first.len();
            self.queue.pop_front();
        }
        if written == self.gathered.len() {
            self.gathered.clear();
        } else {
            self.gathered.advance(written);
        }
    }
}
