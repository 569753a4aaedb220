//! Response bodies: whole, patterned, streamed, broken on purpose.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

/// Any cause.
pub(super) type Cause = Box<dyn StdError + Send + Sync>;

/// Any response body.
pub(super) type Body = UnsyncBoxBody<Bytes, Cause>;

/// The length of the repeated line of filler: prime, so that a lost or doubled block of any usual
/// size shows.
const LINE: usize = 61;

/// What one frame of filler holds at most: a multiple of the line, so that every frame begins one.
const FRAME: usize = LINE * 256;

static FILLER: [u8; FRAME] = filler();

const fn filler() -> [u8; FRAME] {
    let alphabet = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX\n";
    assert!(alphabet.len() == LINE);
    let mut bytes = [0; FRAME];
    let mut at = 0;
    while at < FRAME {
        bytes[at] = alphabet[at % LINE];
        at += 1;
    }
    bytes
}

/// No bytes.
pub(super) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// These bytes.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// That many bytes of filler; `sized` says whether the receiver learns the length beforehand.
pub(super) fn pattern(bytes: u64, sized: bool) -> Body {
    Pattern { left: bytes, sized }.map_err(never).boxed_unsync()
}

/// That many bytes of filler in memory; for messages, which cannot be streamed.
pub(super) fn filler_bytes(bytes: usize) -> Bytes {
    FILLER.iter().copied().cycle().take(bytes).collect()
}

/// These bytes, then these trailers.
pub(super) fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Body {
    let frames = [Ok(Frame::data(bytes)), Ok(Frame::trailers(trailers))];
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// What `next` makes of its state, until it makes nothing.
pub(super) fn unfold<S, F, R>(state: S, next: F) -> Body
where
    S: Send + 'static,
    F: FnMut(S) -> R + Send + 'static,
    R: Future<Output = Option<(Result<Frame<Bytes>, Cause>, S)>> + Send + 'static,
{
    StreamBody::new(stream::unfold(state, next)).boxed_unsync()
}

/// That many bytes of filler, then a failure, upon which hyper drops an HTTP/1 connection and
/// resets an HTTP/2 stream. `fail` runs just before.
pub(super) fn cut(bytes: u64, fail: impl FnOnce() + Send + Unpin + 'static) -> Body {
    Cut { pattern: Pattern { left: bytes, sized: false }, waited: false, fail: Some(fail) }
        .boxed_unsync()
}

fn never(infallible: Infallible) -> Cause {
    match infallible {}
}

struct Pattern {
    left: u64,
    sized: bool,
}

struct Cut<F> {
    pattern: Pattern,
    waited: bool,
    fail: Option<F>,
}

impl Pattern {
    fn next(&mut self) -> Option<Bytes> {
        let here = usize::try_from(self.left).unwrap_or(FRAME).min(FRAME);
        self.left -= here as u64;
        FILLER.get(..here).filter(|bytes| !bytes.is_empty()).map(Bytes::from_static)
    }
}

impl http_body::Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}

impl<F: FnOnce() + Send + Unpin> http_body::Body for Cut<F> {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if let Some(bytes) = self.pattern.next() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if !self.waited {
            // hyper flushes what it has when a body is pending; an error would discard it.
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(fail) = self.fail.take() {
            fail();
        }
        Poll::Ready(Some(Err(io::Error::other("cut on request").into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pattern_has_the_length_asked_for_and_repeats_by_line() {
        for length in [0, 1, LINE, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 7] {
            let body = pattern(length as u64, true);
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length as u64));
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes, filler_bytes(length), "{length}");
        }
        let bytes = filler_bytes(LINE * 2);
        assert_eq!(bytes[..LINE], bytes[LINE..]);
        assert_eq!(bytes[LINE - 1], b'\n');
    }
}
