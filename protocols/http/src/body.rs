//! One body type for every message, whatever wire it came from or goes to.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use gwproxy_core::upstream::{Lease, Outcome};
use gwproxy_core::worker::is_stopping;
use gwproxy_core::{Code, Error};
use http_body::{Body as _, Frame, SizeHint};

use crate::h1;
use crate::pool::StreamSlot;
use crate::tunnel::{Tunnel, Upgraded};
use crate::wire::hop;

/// A message body: frames of data, at most one of trailers.
#[derive(Debug, Default)]
pub struct Body {
    kind: Kind,
    attached: Option<Box<Attached>>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    H1Request(h1::server::RequestBody),
    H1Response(Box<h1::client::ResponseBody>),
    H2 {
        body: hyper::body::Incoming,
        on_reset: Code,
    },
    Tunnel(Tunnel),
    Upgraded(Upgraded),
}

/// What must hear of the end of the body.
#[derive(Debug, Default)]
struct Attached {
    lease: Option<(Lease, Outcome)>,
    slot: Option<StreamSlot>,
    progress: Option<Rc<Progress>>,
    end: Option<Box<dyn OnEnd>>,
    filter: Option<Box<dyn Filter>>,
    bytes: u64,
}

/// A protocol on top of HTTP that looks at a body on its way. It may change frames, end the body
/// on its own, and judge how the exchange went.
pub trait Filter: std::fmt::Debug {
    /// What goes on in place of `frame`, which came from the wire. An end, trailers or an error
    /// end the body: the filter is not asked again, and what was to come from the wire is dropped
    /// (HTTP/2: the stream is reset).
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        frame: Poll<Option<Result<Frame<Bytes>, Error>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>>;

    /// Whether it may add something after the last frame of the wire. If not, a last frame of data
    /// can carry the end with it.
    fn appends(&self) -> bool {
        true
    }

    /// How the node did, asked when the body ended in order. None: as its status said.
    fn outcome(&self) -> Option<Outcome> {
        None
    }

    /// Why the exchange failed although its body ended in order.
    fn error(&self) -> Option<Code> {
        None
    }
}

/// How far a body got, for whoever waits while another task reads it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Frames handed on.
    pub(crate) frames: Cell<u64>,
    /// It was asked for more and has none yet: its sender is to bring it.
    pub(crate) waits_for_sender: Cell<bool>,
    /// Nothing more will come.
    pub(crate) ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// Wakes this task at the next change.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn note(&self, frames: u64, waits_for_sender: bool, ended: bool) {
        let waited = self.waits_for_sender.replace(waits_for_sender);
        self.frames.set(self.frames.get() + frames);
        let was_ended = self.ended.replace(ended);
        if (frames > 0 || waited != waits_for_sender || was_ended != ended)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

/// Hears when the last byte of a body was handed on, or that it never will be.
pub trait OnEnd: std::fmt::Debug {
    /// `bytes` of content went by. `error` tells why it ended early; a body that was dropped
    /// before its end ends with [`Code::ClientClosed`].
    fn end(self: Box<Self>, bytes: u64, error: Option<Code>);
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Content that is all there.
    pub fn full(content: impl Into<Bytes>) -> Self {
        Kind::Full(content.into()).into()
    }

    /// The end of HTTP on the client's connection.
    pub fn tunnel(tunnel: Tunnel) -> Self {
        Kind::Tunnel(tunnel).into()
    }

    pub(crate) fn h1_request(body: h1::server::RequestBody) -> Self {
        Kind::H1Request(body).into()
    }

    pub(crate) fn h1_response(body: h1::client::ResponseBody) -> Self {
        Kind::H1Response(Box::new(body)).into()
    }

    /// An HTTP/2 body; `on_reset` is what its reset means: which side it comes from.
    pub(crate) fn h2(body: hyper::body::Incoming, on_reset: Code) -> Self {
        Kind::H2 { body, on_reset }.into()
    }

    pub(crate) fn upgraded(upgraded: Upgraded) -> Self {
        Kind::Upgraded(upgraded).into()
    }

    /// Lets the lease live until the body ends, then reports `outcome`, or a failure if the body
    /// is cut off by the node.
    pub fn hold(&mut self, lease: Lease, outcome: Outcome) {
        self.attached.get_or_insert_default().lease = Some((lease, outcome));
    }

    /// The name of the node it comes from.
    pub fn node(&self) -> Option<&Arc<str>> {
        let (lease, _) = self.attached.as_ref()?.lease.as_ref()?;
        Some(&lease.endpoint().name)
    }

    /// Keeps a place on an HTTP/2 connection until the body ends.
    pub(crate) fn occupy(&mut self, slot: StreamSlot) {
        self.attached.get_or_insert_default().slot = Some(slot);
    }

    /// Lets someone see how far it gets.
    pub(crate) fn watched(&mut self) -> Rc<Progress> {
        let progress = Rc::new(Progress::default());
        if self.is_empty() {
            progress.ended.set(true);
        } else {
            self.attached.get_or_insert_default().progress = Some(Rc::clone(&progress));
        }
        progress
    }

    /// Tells `end` when the body ends.
    pub fn on_end(&mut self, end: Box<dyn OnEnd>) {
        self.attached.get_or_insert_default().end = Some(end);
    }

    /// Lets `filter` see every frame before it goes on.
    pub fn filter(&mut self, filter: Box<dyn Filter>) {
        self.attached.get_or_insert_default().filter = Some(filter);
    }

    /// Reports `outcome` in place of the one that [`Body::hold`] was given.
    pub fn judge(&mut self, outcome: Outcome) {
        if let Some((_, held)) = self.attached.as_mut().and_then(|a| a.lease.as_mut()) {
            *held = outcome;
        }
    }

    /// Drops what was to come; who must hear of the end hears of one in order.
    pub fn clear(&mut self) {
        self.kind = Kind::Empty;
        if let Some(attached) = self.attached.as_mut() {
            attached.filter = None;
        }
    }

    /// Takes the tunnel out, if this is one, with what must hear of its end.
    pub(crate) fn take_tunnel(&mut self) -> Option<(Tunnel, Guard)> {
        match std::mem::take(&mut self.kind) {
            Kind::Tunnel(tunnel) => Some((tunnel, Guard(self.attached.take()))),
            kind => {
                self.kind = kind;
                None
            }
        }
    }

    /// Takes the node's upgraded connection out, if this is one.
    pub(crate) fn take_upgraded(&mut self) -> Option<Upgraded> {
        match std::mem::take(&mut self.kind) {
            Kind::Upgraded(upgraded) => Some(upgraded),
            kind => {
                self.kind = kind;
                None
            }
        }
    }

    /// Lets what must hear of the end of `other` hear of the end of this instead.
    pub(crate) fn inherit(&mut self, mut other: Self) {
        self.attached = other.attached.take();
    }

    /// Ends it in order without its content, which the protocol leaves out here (HEAD, 304).
    pub(crate) fn leave_out(mut self) {
        self.kind = Kind::Empty;
    }

    /// Whether nothing will come and nothing had to be read for it.
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(content) => content.is_empty(),
            Kind::H2 { body, .. } => body.is_end_stream(),
            _ => false,
        }
    }

    /// The size of the content if it is known.
    pub fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Empty | Kind::Tunnel(_) | Kind::Upgraded(_) => Poll::Ready(None),
            Kind::Full(content) => {
                let content = std::mem::take(content);
                self.kind = Kind::Empty;
                Poll::Ready((!content.is_empty()).then(|| Ok(Frame::data(content))))
            }
            Kind::H1Request(body) => body.poll_frame(cx),
            Kind::H1Response(body) => body.poll_frame(cx),
            Kind::H2 { body, on_reset } => Pin::new(body).poll_frame(cx).map(|frame| {
                frame.map(|frame| match frame {
                    Ok(frame) => Ok(without_forbidden_trailers(frame)),
                    Err(error) => {
                        let sentence = "the HTTP/2 stream was reset";
                        Err(Error::new(*on_reset, sentence).because(error))
                    }
                })
            }),
        }
    }
}

/// Reports the end of what it was attached to when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Option<Box<Attached>>);

impl Guard {
    /// The end comes after `bytes` of what was no content any more.
    pub(crate) fn ends_after(mut self, bytes: u64) {
        if let Some(attached) = self.0.as_deref_mut() {
            attached.bytes += bytes;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut attached) = self.0.take() {
            attached.finish(None);
        }
    }
}

/// Why something ends that nobody ended: its client left, or the proxy stops.
pub fn left() -> Code {
    if is_stopping() { Code::Draining } else { Code::ClientClosed }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, attached: None }
    }
}

impl Attached {
    fn finish(&mut self, error: Option<Code>) {
        let filter = self.filter.take();
        let filter = filter.as_deref();
        let error = error.or_else(|| filter.and_then(Filter::error));
        if let Some((mut lease, outcome)) = self.lease.take() {
            let outcome = match error {
                None => filter.and_then(Filter::outcome).unwrap_or(outcome),
                Some(
                    Code::ClientClosed
                    | Code::ClientMalformed
                    | Code::ClientTimeout
                    | Code::Draining,
                ) => Outcome::Cancelled,
                Some(_) => Outcome::Failure,
            };
            lease.settle(outcome, Instant::now());
        }
        if let Some(progress) = self.progress.take() {
            progress.note(0, false, true);
        }
        if let Some(end) = self.end.take() {
            end.end(self.bytes, error);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut frame = self.poll_kind(cx);
        if let Some(filter) = self.attached.as_mut().and_then(|a| a.filter.as_mut()) {
            frame = filter.poll_frame(cx, frame);
            let goes_on = match &frame {
                Poll::Pending => true,
                Poll::Ready(Some(Ok(frame))) => !frame.is_trailers(),
                Poll::Ready(Some(Err(_)) | None) => false,
            };
            if !goes_on {
                self.kind = Kind::Empty;
            }
        }
        let Poll::Ready(frame) = frame else {
            if let Some(progress) = self.attached.as_ref().and_then(|a| a.progress.as_ref()) {
                progress.note(0, true, false);
            }
            return Poll::Pending;
        };
        if self.attached.is_some() {
            // hyper does not ask again after the last data frame of a body of known length.
            let (ended, error) = match &frame {
                Some(Ok(frame)) => (frame.is_trailers() || self.is_end_stream(), None),
                Some(Err(error)) => (true, Some(error.code())),
                None => (true, None),
            };
            if let (Some(attached), Some(Ok(frame))) = (self.attached.as_deref_mut(), &frame) {
                attached.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(progress) = &attached.progress {
                    progress.note(1, false, false);
                }
            }
            if let Some(mut attached) = self.attached.take_if(|_| ended) {
                attached.finish(error);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let filter = self.attached.as_ref().and_then(|attached| attached.filter.as_ref());
        if filter.is_some_and(|filter| filter.appends()) {
            return false;
        }
        match &self.kind {
            Kind::Empty | Kind::Tunnel(_) | Kind::Upgraded(_) => true,
            Kind::Full(content) => content.is_empty(),
            Kind::H1Request(body) => body.is_done(),
            Kind::H1Response(body) => body.is_done(),
            Kind::H2 { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = match &self.kind {
            Kind::Empty | Kind::Tunnel(_) | Kind::Upgraded(_) => Some(0),
            Kind::Full(content) => Some(content.len() as u64),
            Kind::H1Request(body) => body.remaining(),
            Kind::H1Response(body) => body.remaining(),
            Kind::H2 { body, .. } => return body.size_hint(),
        };
        remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// RFC 9110 §6.5.1, for trailers that came over HTTP/2; HTTP/1.1's own are cleaned when they are
/// parsed.
fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(data) => Frame::data(data),
        Err(frame) => {
            let mut trailers = frame.into_trailers().unwrap_or_default();
            hop::strip_trailers(&mut trailers, &[]);
            Frame::trailers(trailers)
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(mut attached) = self.attached.take() {
            let error = if self.is_end_stream() { None } else { Some(left()) };
            attached.finish(error);
        }
    }
}

#[cfg(test)]
mod tests;
