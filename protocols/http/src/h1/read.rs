//! The read side of a connection: a buffer that exists only while bytes are in it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use gwproxy_core::net::Stream;
use tokio_util::io::poll_read_buf;

/// Room for one read of heads and small bodies.
const SMALL_BYTES: usize = 8 * 1024;
/// Room for one read of a body known to be large.
pub(super) const LARGE_BYTES: usize = 64 * 1024;
/// Buffers a worker keeps of each kind for the next connection that gets bytes.
const SPARE_BUFFERS_MAX: usize = 64;

type Shelf = RefCell<Vec<BytesMut>>;

thread_local! {
    static SMALL: Shelf = const { RefCell::new(Vec::new()) };
    static LARGE: Shelf = const { RefCell::new(Vec::new()) };
}

/// Bytes read from a connection and not yet taken.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) buf: BytesMut,
    /// Room for one read, at most.
    most: usize,
    /// `buf` has, or had, more room than most need. What it has left does not tell.
    is_large: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self::with(BytesMut::new())
    }
}

impl Reader {
    /// Starts with bytes that were already read.
    pub(crate) fn with(buf: BytesMut) -> Self {
        Self { buf, most: LARGE_BYTES, is_large: false }
    }

    /// Reads at most so many bytes at a time from now on, in a buffer of about that size.
    pub(crate) fn read_at_most(&mut self, bytes: usize) {
        self.most = bytes.clamp(SMALL_BYTES, LARGE_BYTES);
    }

    /// Reads once. `expected` is how many bytes are known to come, if they are. Ready with 0 at
    /// the end of the stream. While nothing comes, an empty buffer goes back to the worker.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        expected: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        let room = match expected {
            Some(bytes) if bytes > SMALL_BYTES as u64 => self.most,
            _ => SMALL_BYTES,
        };
        if self.buf.capacity() == 0 {
            ready!(stream.poll_readable(cx))?;
            (self.buf, self.is_large) = take_spare(self.most);
        }
        if self.buf.capacity() - self.buf.len() < room / 2 {
            self.is_large |= room == LARGE_BYTES;
            self.buf.reserve(room);
        }
        let read = poll_read_buf(Pin::new(stream), cx, &mut self.buf);
        if read.is_pending() {
            self.release();
        }
        Poll::Ready(Ok(ready!(read)?))
    }

    /// Gives an empty buffer back to the worker.
    pub(crate) fn release(&mut self) {
        if self.buf.is_empty() && self.buf.capacity() > 0 {
            put_spare(std::mem::take(&mut self.buf), self.is_large);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.buf.clear();
        self.release();
    }
}

/// A spare buffer, and whether it is a large one. Who may read much at a time gets those first.
fn take_spare(most: usize) -> (BytesMut, bool) {
    let large = if most == LARGE_BYTES { LARGE.with_borrow_mut(Vec::pop) } else { None };
    match large {
        Some(buf) => (buf, true),
        None => (SMALL.with_borrow_mut(Vec::pop).unwrap_or_default(), false),
    }
}

fn put_spare(buf: BytesMut, is_large: bool) {
    if buf.capacity() <= LARGE_BYTES {
        let shelf = if is_large { &LARGE } else { &SMALL };
        shelf.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS_MAX {
                spare.push(buf);
            }
        });
    }
}
