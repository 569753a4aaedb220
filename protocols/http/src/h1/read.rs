//! The read side of a connection: a buffer that exists only while bytes are in it.

use std::cell::{Cell, RefCell};
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
/// Connections of a worker that have room for large reads at a time; those above make small ones.
/// Clients that ask for large bodies and do not read keep what was read for them.
const LARGE_BUFFERS_MAX: usize = 128;
/// The beginning of a head up to this size waits for the rest in a buffer of its own size.
const KEPT_BYTES_MAX: usize = 1024;

type Shelf = RefCell<Vec<BytesMut>>;

thread_local! {
    static SMALL: Shelf = const { RefCell::new(Vec::new()) };
    static LARGE: Shelf = const { RefCell::new(Vec::new()) };
    /// Of [`LARGE_BUFFERS_MAX`].
    static LARGE_IN_USE: Cell<usize> = const { Cell::new(0) };
}

/// Bytes read from a connection and not yet taken.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) buf: BytesMut,
    /// Room for one read, at most.
    most: usize,
    /// `buf` has, or had, more room than most need, and counts as such. What it has left does not
    /// tell.
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
        if self.buf.capacity() <= KEPT_BYTES_MAX {
            if self.buf.capacity() > 0 {
                self.release();
            }
            ready!(stream.poll_readable(cx))?;
            let kept = std::mem::take(&mut self.buf);
            self.buf = self.take_spare();
            if !kept.is_empty() {
                self.buf.extend_from_slice(&kept);
            }
        }
        if self.buf.capacity() - self.buf.len() < room / 2 {
            let room = if room == LARGE_BYTES && !self.claim_large() { SMALL_BYTES } else { room };
            self.buf.reserve(room);
        }
        let read = poll_read_buf(Pin::new(stream), cx, &mut self.buf);
        if read.is_pending() {
            self.release();
            self.shrink();
        }
        Poll::Ready(Ok(ready!(read)?))
    }

    /// Whether the buffer may be a large one.
    fn claim_large(&mut self) -> bool {
        if !self.is_large {
            let in_use = LARGE_IN_USE.get();
            self.is_large = in_use < LARGE_BUFFERS_MAX;
            LARGE_IN_USE.set(in_use + usize::from(self.is_large));
        }
        self.is_large
    }

    /// What waits for more with little in it does so in little room.
    fn shrink(&mut self) {
        let kept = self.buf.len();
        if (1..=KEPT_BYTES_MAX).contains(&kept) && self.buf.capacity() > KEPT_BYTES_MAX {
            let small = BytesMut::from(self.buf.as_ref());
            self.buf.clear();
            self.release();
            self.buf = small;
        }
    }

    /// A spare buffer, if there is one; who may read much at a time gets a large one first.
    fn take_spare(&mut self) -> BytesMut {
        let may = self.most == LARGE_BYTES && LARGE.with_borrow(|spare| !spare.is_empty());
        if may && self.claim_large() {
            return LARGE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        SMALL.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Gives an empty buffer back to the worker.
    pub(crate) fn release(&mut self) {
        if self.buf.is_empty() && self.buf.capacity() > 0 {
            let buf = std::mem::take(&mut self.buf);
            // The rest of one that others are in is of no use to anybody.
            if buf.capacity() > KEPT_BYTES_MAX {
                put_spare(buf, self.is_large);
            }
            self.disclaim();
        }
    }

    fn disclaim(&mut self) {
        if std::mem::take(&mut self.is_large) {
            LARGE_IN_USE.set(LARGE_IN_USE.get().saturating_sub(1));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.buf.clear();
        self.release();
        self.disclaim();
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use gwproxy_core::net::Socket;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (Stream::Plain(Socket::Tcp(accepted.unwrap().0)), peer.unwrap())
    }

    /// R13: whose clients do not take it keeps what was read.
    #[tokio::test]
    async fn large_buffers_in_use_are_bounded() {
        let (mut stream, mut peer) = pair().await;
        for _ in 0..2 {
            let mut readers = Vec::new();
            for _ in 0..LARGE_BUFFERS_MAX + 10 {
                let mut reader = Reader::default();
                peer.write_all(b"x").await.unwrap();
                let fill = poll_fn(|cx| reader.poll_fill(cx, &mut stream, Some(u64::MAX)));
                assert_eq!(fill.await.unwrap(), 1);
                readers.push(reader);
            }
            let is_large = |reader: &&Reader| reader.buf.capacity() > 2 * SMALL_BYTES;
            assert_eq!(readers.iter().filter(is_large).count(), LARGE_BUFFERS_MAX);
            // All of them come back, and the next may have them.
        }
    }

    /// R13: a head that comes slowly waits in the room that it takes, and is none the worse for it.
    #[tokio::test]
    async fn the_beginning_of_a_head_waits_in_little_room() {
        let (mut stream, mut peer) = pair().await;
        let mut reader = Reader::default();
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for (number, byte) in head.iter().enumerate() {
            peer.write_all(&[*byte]).await.unwrap();
            let fill = poll_fn(|cx| reader.poll_fill(cx, &mut stream, None));
            assert_eq!(fill.await.unwrap(), 1);
            let waits = poll_fn(|cx| Poll::Ready(reader.poll_fill(cx, &mut stream, None)));
            assert!(waits.await.is_pending());
            assert_eq!(&reader.buf[..], &head[..=number]);
            assert!(reader.buf.capacity() <= KEPT_BYTES_MAX, "{}", reader.buf.capacity());
        }
    }
}
