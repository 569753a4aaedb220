//! A call's two bodies on their way: its deadline, and the status at its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use gwproxy_core::limit::{Exceeded, Meters};
use gwproxy_core::timer::Deadline;
use gwproxy_core::upstream::Outcome;
use gwproxy_core::{Code, Error};
use gwproxy_http::Frame;
use gwproxy_http::body::Filter;
use gwproxy_http::h2;
use gwproxy_http::rescue::title_of;

use crate::status::Status;

type Polled = Poll<Option<Result<Frame, Error>>>;

/// What one body of a call tells the other: to the request's that the call is over before it was
/// all sent, to the response's that there was a message too many.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    exceeded: Cell<Option<Exceeded>>,
    answering: RefCell<Option<Waker>>,
}

/// When a call is over, whatever happens. Armed already.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) deadline: Option<Deadline>,
    pub(crate) cut: Rc<Cut>,
}

/// The request body of a call with a deadline or limited messages: cut when the response was ended
/// by it, so that a node hears of the end of a call that is still being sent.
#[derive(Debug)]
pub(crate) struct Asking {
    cut: Rc<Cut>,
    meters: Meters,
    messages: Messages,
}

/// Where messages begin: each has a byte of flags and four of its length before it
/// (`PROTOCOL-HTTP2.md`, Length-Prefixed-Message).
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; 5],
    /// Bytes of the prefix that are there.
    known: usize,
    /// Bytes of the message that are to come.
    left: u64,
}

/// The response body of a call: ends with a status, if need be with one of ours.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    limit: Option<Limit>,
    outcome: Option<Outcome>,
    status: Option<Status>,
    error: Option<Code>,
}

impl Messages {
    /// How many messages begin within these bytes, by their whole prefix.
    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut begun = 0;
        loop {
            let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skip as u64;
            bytes = bytes.get(skip..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return begun };
            bytes = rest;
            if let Some(place) = self.prefix.get_mut(self.known) {
                *place = byte;
                self.known += 1;
            }
            if self.known == self.prefix.len() {
                let [_, length @ ..] = self.prefix;
                (self.known, self.left) = (0, u32::from_be_bytes(length).into());
                begun += 1;
            }
        }
    }
}

impl Asking {
    pub(crate) fn new(cut: Rc<Cut>, meters: Meters) -> Self {
        Self { cut, meters, messages: Messages::default() }
    }

    /// Charges the messages that begin here.
    fn charge(&mut self, bytes: &[u8]) -> Result<(), Exceeded> {
        if self.meters.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        (0..self.messages.count(bytes)).try_for_each(|_| self.meters.take(now))
    }
}

/// The error of a call with a message too many.
pub(crate) fn too_many(exceeded: Exceeded) -> Error {
    let error = Error::new(Code::RateLimited, "the call has more messages than its limit allows");
    error.retry_in(exceeded.retry_after)
}

impl Cut {
    /// What was exceeded, if anything was.
    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded.get()
    }

    fn exceed(&self, exceeded: Exceeded) {
        self.exceeded.set(Some(exceeded));
        if let Some(waker) = self.answering.take() {
            waker.wake();
        }
    }

    fn now(&self) {
        self.over.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Filter for Asking {
    fn poll_frame(&mut self, cx: &mut Context<'_>, frame: Polled) -> Polled {
        if self.cut.over.get() {
            let error = h2::cancel(Code::UpstreamTimeout, "the call's deadline passed");
            return Poll::Ready(Some(Err(error)));
        }
        match &frame {
            Poll::Pending => drop(self.cut.waker.replace(Some(cx.waker().clone()))),
            Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                if let Err(exceeded) = self.charge(bytes) {
                    self.cut.exceed(exceeded);
                    let error = h2::cancel(Code::RateLimited, "a message too many");
                    return Poll::Ready(Some(Err(error)));
                }
            }
            Poll::Ready(_) => {}
        }
        frame
    }

    fn appends(&self) -> bool {
        false
    }
}

impl Answering {
    pub(crate) fn within(limit: Option<Limit>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether the deadline passed; if so the request is cut.
    fn is_over(&self, cx: &mut Context<'_>) -> bool {
        let Some(limit) = &self.limit else { return false };
        let deadline = limit.deadline.as_ref();
        let over = deadline.is_some_and(|deadline| deadline.poll_expired(cx).is_ready());
        if over {
            limit.cut.now();
        }
        over
    }

    fn end(&mut self, error: Code, status: Status, message: &str) -> Polled {
        self.error = Some(error);
        self.outcome = Some(Outcome::Failure);
        self.status = Some(status);
        Poll::Ready(Some(Ok(Frame::Trailers(status.trailers(message)))))
    }
}

impl Answering {
    fn is_exceeded(&self, cx: &mut Context<'_>) -> bool {
        let Some(limit) = &self.limit else { return false };
        limit.cut.answering.replace(Some(cx.waker().clone()));
        limit.cut.exceeded().is_some()
    }
}

impl Filter for Answering {
    fn poll_frame(&mut self, cx: &mut Context<'_>, frame: Polled) -> Polled {
        if self.is_exceeded(cx) {
            let code = Code::RateLimited;
            let message = format!("{code}: {}", title_of(code));
            let ended = self.end(code, Status::ResourceExhausted, &message);
            // The node did nothing wrong.
            self.outcome = Some(Outcome::Cancelled);
            return ended;
        }
        match frame {
            Poll::Ready(Some(Ok(Frame::Trailers(mut trailers)))) => {
                let status = Status::of_fields(&trailers);
                if status.is_none() {
                    Status::Unknown.put(NO_STATUS, &mut trailers);
                    self.error = Some(Code::UpstreamMalformed);
                }
                let status = status.unwrap_or(Status::Unknown);
                self.outcome = Some(status.outcome());
                self.status = Some(status);
                Poll::Ready(Some(Ok(Frame::Trailers(trailers))))
            }
            Poll::Ready(None) => self.end(Code::UpstreamMalformed, Status::Unknown, NO_STATUS),
            // The client gets the node's reset with the same code and maps it itself.
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            _ if self.is_over(cx) => {
                let code = Code::UpstreamTimeout;
                let message = format!("{code}: {}", title_of(code));
                self.end(code, Status::DeadlineExceeded, &message)
            }
            frame => frame,
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    fn error(&self) -> Option<Code> {
        self.error
    }

    fn status(&self) -> Option<u32> {
        self.status.map(|status| status as u32)
    }
}

pub(crate) const NO_STATUS: &str =
    "upstream_malformed: The service ended the call without a status.";

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages are counted however the bytes are cut, empty ones and the largest length as well.
    #[test]
    fn messages_are_counted_by_their_prefixes() {
        let message = |length: usize| {
            let prefix = u32::try_from(length).unwrap().to_be_bytes();
            [&[0][..], &prefix, &vec![7; length]].concat()
        };
        let all =
            [message(0), message(3), message(0), message(300), vec![1, 0xff, 0xff, 0xff, 0xff, 1]];
        let all = all.concat();
        for step in 1..all.len() {
            let mut messages = Messages::default();
            let count: u32 = all.chunks(step).map(|bytes| messages.count(bytes)).sum();
            assert_eq!((count, messages.left), (5, u64::from(u32::MAX) - 1), "{step}");
        }
    }
}
