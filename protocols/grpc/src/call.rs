//! A call's two bodies on their way: its deadline, and the status at its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use gwproxy_core::timer::Deadline;
use gwproxy_core::upstream::Outcome;
use gwproxy_core::{Code, Error};
use gwproxy_http::Frame;
use gwproxy_http::body::Filter;
use gwproxy_http::h2;
use gwproxy_http::rescue::title_of;

use crate::status::Status;

type Polled = Poll<Option<Result<Frame, Error>>>;

/// Told to the request body when the call is over before it was all sent.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// When a call is over, whatever happens. Armed already.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) deadline: Deadline,
    pub(crate) cut: Rc<Cut>,
}

/// The request body of a call with a deadline: cut when the response was ended by it, so that a
/// node hears of the end of a call that is still being sent.
#[derive(Debug)]
pub(crate) struct Asking(pub(crate) Rc<Cut>);

/// The response body of a call: ends with a status, if need be with one of ours.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    limit: Option<Limit>,
    outcome: Option<Outcome>,
    status: Option<Status>,
    error: Option<Code>,
}

impl Cut {
    fn now(&self) {
        self.over.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Filter for Asking {
    fn poll_frame(&mut self, cx: &mut Context<'_>, frame: Polled) -> Polled {
        if self.0.over.get() {
            let error = h2::cancel(Code::UpstreamTimeout, "the call's deadline passed");
            return Poll::Ready(Some(Err(error)));
        }
        if frame.is_pending() {
            self.0.waker.replace(Some(cx.waker().clone()));
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
        let over = limit.deadline.poll_expired(cx).is_ready();
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

impl Filter for Answering {
    fn poll_frame(&mut self, cx: &mut Context<'_>, frame: Polled) -> Polled {
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
