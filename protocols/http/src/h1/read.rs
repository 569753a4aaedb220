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
const LARGE_BYTES: usize = 64 * 1024;
/// Buffers a worker keeps for the next connection that gets bytes.
const SPARE_BUFFERS_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Bytes read from a connection and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) buf: BytesMut,
}

impl Reader {
    /// Starts with bytes that were already read.
    pub(crate) fn with(buf: BytesMut) -> Self {
        Self { buf }
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
            Some(bytes) if bytes > SMALL_BYTES as u64 => LARGE_BYTES,
            _ => SMALL_BYTES,
        };
        if self.buf.capacity() == 0 {
            self.buf = take_spare();
        }
        if self.buf.capacity() - self.buf.len() < room / 2 {
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
            put_spare(std::mem::take(&mut self.buf));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.buf.clear();
        self.release();
    }
}

fn take_spare() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

fn put_spare(buf: BytesMut) {
    if buf.capacity() <= LARGE_BYTES {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS_MAX {
                spare.push(buf);
            }
        });
    }
}
