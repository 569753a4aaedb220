//! From a body to a stream, as far as the peer has room.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gwproxy_core::Error;
use gwproxy_core::timer::Timer;

use super::Reason;
use super::handle::Send;
use crate::body::{Body, Frame};
use crate::debt::{Debt, Progress};

/// A body on its way out.
#[derive(Debug)]
pub(super) struct Pump {
    body: Body,
    pending: Bytes,
    /// `pending` is the last of it.
    is_last: bool,
    /// Whose turn it is.
    waits_for: Turn,
    /// Bytes moved; the end, if it has any of its own, counts as one.
    moved: u64,
}

/// Who holds a pump up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The body has nothing yet.
    Body,
    /// The peer has no room.
    Peer,
}

/// Why a body did not get through.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its own side failed.
    Body(Error),
    /// The stream ended early.
    Stream,
}

impl Pump {
    pub(super) fn new(body: Body) -> Self {
        Self { body, pending: Bytes::new(), is_last: false, waits_for: Turn::Body, moved: 0 }
    }

    /// What changes while it is not stuck: its own pieces, or, while it waits for its turn, what
    /// the streams before it send.
    pub(super) fn progress(&self, send: &Send) -> Progress {
        (self.moved, send.progress_of_others())
    }

    /// Who is to do something when it is pending.
    pub(super) fn waits_for(&self) -> Turn {
        self.waits_for
    }

    /// The body, if none of it has gone.
    pub(super) fn untouched(self) -> Option<Body> {
        (self.moved == 0 && self.pending.is_empty()).then_some(self.body)
    }

    /// Sends all of the body. A peer that takes none of it for `silence`, which may change, or
    /// takes it too slowly for long ([`Debt`]) is given up: the stream is reset.
    pub(super) async fn run(
        mut self,
        send: &Send,
        timer: &Timer,
        silence: impl Fn() -> Duration,
    ) -> Result<(), Stopped> {
        let mut deadline = None;
        let mut debt = Debt::default();
        poll_fn(|cx| {
            if let Poll::Ready(done) = self.poll(cx, send) {
                return Poll::Ready(done);
            }
            if self.waits_for == Turn::Body {
                debt.forgive();
                // Whoever waits for the body must hear when nobody wants it any more.
                return send.poll_broken(cx).map(|_| Err(Stopped::Stream));
            }
            let deadline = deadline.get_or_insert_with(|| timer.deadline());
            ready!(debt.poll_too_much(cx, deadline, silence(), self.progress(send)));
            send.reset(Reason::CANCEL);
            Poll::Ready(Err(Stopped::Stream))
        })
        .await
    }

    /// Ready when all of the body, and its end, is on its way.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, send: &Send) -> Poll<Result<(), Stopped>> {
        loop {
            if !self.pending.is_empty() {
                self.waits_for = Turn::Peer;
                let Ok(capacity) = ready!(send.poll_capacity(cx)) else {
                    return Poll::Ready(Err(Stopped::Stream));
                };
                let size = capacity.min(self.pending.len());
                let piece = self.pending.split_to(size);
                let ends = self.is_last && self.pending.is_empty();
                send.data(piece, ends);
                self.moved += size as u64;
                if ends {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            self.waits_for = Turn::Body;
            match ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => {
                    self.is_last = self.body.is_end_stream();
                    if data.is_empty() && self.is_last {
                        send.data(data, true);
                        return Poll::Ready(Ok(()));
                    }
                    self.pending = data;
                }
                Some(Ok(Frame::Trailers(trailers))) => {
                    self.moved += 1;
                    send.trailers(&trailers);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(Stopped::Body(error))),
                None => {
                    send.data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
