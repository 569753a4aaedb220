//! Bytes from one TCP socket to another without a copy into user space (`splice(2)`, Linux).
//!
//! Both copies of a relayed byte cost more than all the rest that a proxy does with a large body.
//! A [`Pipe`] takes what a socket has as references to the kernel's own buffers and hands them to
//! the other socket.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

/// Bytes that a pipe takes at once: what a reader that stops can pin.
pub const PIPE_BYTES: usize = 128 * 1024;

/// Empty pipes that a worker keeps; two descriptors each.
const SPARE_PIPES_MAX: usize = 16;
/// Pipes in use at a time on a worker. Readers that stop keep theirs, and must not take the
/// descriptors that others need; bodies above this are copied.
pub const PIPES_MAX: usize = 128;

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
    static SPARE: RefCell<Vec<imp::Ends>> = const { RefCell::new(Vec::new()) };
}

/// Bytes on their way from socket to socket. Empty ones go back to the worker when dropped.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<imp::Ends>,
    held: usize,
}

impl Pipe {
    /// An empty pipe; none where there is no `splice`, no descriptor left for one, or
    /// [`PIPES_MAX`] in use.
    pub fn take() -> Option<Self> {
        if IN_USE.get() >= PIPES_MAX {
            return None;
        }
        let ends = SPARE.with_borrow_mut(Vec::pop).or_else(|| imp::Ends::open().ok())?;
        IN_USE.set(IN_USE.get() + 1);
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes up to `limit` bytes, at most [`PIPE_BYTES`], off `from`. Ready with 0 at the end of
    /// the stream. Only for an empty pipe: of a full one the kernel says the same as of a socket
    /// that has nothing.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty());
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        let limit = usize::try_from(limit).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(tokio::io::Interest::READABLE, || ends.fill(from, limit)) {
                Err(error) if is_transient(&error) => {}
                filled => {
                    self.held = *filled.as_ref().unwrap_or(&0);
                    return Poll::Ready(filled);
                }
            }
        }
    }

    /// Hands all of it to `to`. Ready when it is empty; see [`Self::len`] for progress before.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(())) };
        while self.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(tokio::io::Interest::WRITABLE, || ends.drain(to, self.held)) {
                Err(error) if is_transient(&error) => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.held -= count.min(self.held),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        IN_USE.set(IN_USE.get().saturating_sub(1));
        // One with bytes in it would give them to the next.
        if let Some(ends) = self.ends.take_if(|_| self.held == 0) {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_PIPES_MAX {
                    spare.push(ends);
                }
            });
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
    use tokio::net::TcpStream;

    use crate::net::descriptors::spare_last;

    /// Both ends of a pipe.
    #[derive(Debug)]
    pub(super) struct Ends {
        read: OwnedFd,
        write: OwnedFd,
    }

    impl Ends {
        pub(super) fn open() -> io::Result<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            spare_last(&read)?;
            spare_last(&write)?;
            // Best effort: a user may have only so many pages in pipes; 64 KiB do as well.
            let _ = fcntl_setpipe_size(&write, super::PIPE_BYTES);
            Ok(Self { read, write })
        }

        pub(super) fn fill(&self, from: &TcpStream, limit: usize) -> io::Result<usize> {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(from, None, &self.write, None, limit, flags)?)
        }

        pub(super) fn drain(&self, to: &TcpStream, count: usize) -> io::Result<usize> {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(&self.read, None, to, None, count, flags)?)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;

    use tokio::net::TcpStream;

    /// There are none.
    #[derive(Debug)]
    pub(super) enum Ends {}

    impl Ends {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn fill(&self, _from: &TcpStream, _limit: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(super) fn drain(&self, _to: &TcpStream, _count: usize) -> io::Result<usize> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (a, b) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (a.unwrap(), b.unwrap().0)
    }

    /// All bytes arrive in order, however much there is and however slow the reader.
    #[tokio::test]
    async fn what_goes_in_comes_out() {
        let ((mut source, from), (to, mut sink)) = (pair().await, pair().await);
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writing = async move {
            source.write_all(&sent).await.unwrap();
        };
        let reading = async move {
            let mut got = Vec::new();
            sink.read_to_end(&mut got).await.unwrap();
            got
        };
        let carrying = async move {
            let mut pipe = Pipe::take().unwrap();
            let mut left = expected.len() as u64;
            loop {
                let count = poll_fn(|cx| pipe.poll_fill(cx, &from, left)).await.unwrap();
                assert!(count <= PIPE_BYTES && count as u64 <= left);
                if count == 0 {
                    assert_eq!(left, 0, "not before the end");
                    return expected;
                }
                left -= count as u64;
                poll_fn(|cx| pipe.poll_drain(cx, &to)).await.unwrap();
                assert!(pipe.is_empty());
                if left == 0 {
                    return expected;
                }
            }
        };
        let ((), got, expected) = tokio::join!(writing, reading, carrying);
        assert!(got == expected, "{} of {}", got.len(), expected.len());
    }

    /// Not a byte more than asked for leaves the socket.
    #[tokio::test]
    async fn a_limit_is_kept() {
        let ((mut source, mut from), (to, mut sink)) = (pair().await, pair().await);
        source.write_all(b"content, and the next response").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        from.readable().await.unwrap();
        let mut left = 7;
        while left > 0 {
            left -= poll_fn(|cx| pipe.poll_fill(cx, &from, left)).await.unwrap() as u64;
            poll_fn(|cx| pipe.poll_drain(cx, &to)).await.unwrap();
        }
        let mut got = [0; 7];
        sink.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"content");
        drop(source);
        let mut rest = String::new();
        from.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, ", and the next response");
    }

    /// One client's bytes never wait in a pipe for the next.
    #[tokio::test]
    async fn a_pipe_that_is_not_empty_is_not_used_again() {
        let (mut source, from) = pair().await;
        source.write_all(b"secret").await.unwrap();
        SPARE.with_borrow_mut(Vec::clear);
        let mut pipe = Pipe::take().unwrap();
        poll_fn(|cx| pipe.poll_fill(cx, &from, 100)).await.unwrap();
        assert_eq!(pipe.len(), 6);
        drop(pipe);
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
        drop(Pipe::take());
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
    }

    /// At, below and above the bound; what goes back makes room.
    #[test]
    fn pipes_in_use_are_bounded() {
        let mut pipes: Vec<_> = (0..PIPES_MAX).map(|_| Pipe::take().unwrap()).collect();
        assert!(Pipe::take().is_none());
        pipes.pop();
        let again = Pipe::take();
        assert!(again.is_some() && Pipe::take().is_none());
        drop((pipes, again));
        assert_eq!(IN_USE.get(), 0);
        assert!(SPARE.with_borrow(Vec::len) <= SPARE_PIPES_MAX);
    }

    /// The end of the stream, and a reset.
    #[tokio::test]
    async fn ends_are_told() {
        let (source, from) = pair().await;
        drop(source);
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from, 100)).await.unwrap(), 0);
        let (source, from) = pair().await;
        socket2::SockRef::from(&source).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(source);
        let error = poll_fn(|cx| pipe.poll_fill(cx, &from, 100)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
