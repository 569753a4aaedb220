//! One body type for every message, whatever wire it came from or goes to.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gwproxy_core::net::splice::Pipe;
use gwproxy_core::upstream::{Lease, Outcome};
use gwproxy_core::worker::is_stopping;
use gwproxy_core::{Code, Error};

use crate::Fields;
use crate::pool::StreamSlot;
use crate::serve::Client;
use crate::tunnel::{Traffic, Tunnel, Upgraded};
use crate::{h1, h2};

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Content.
    Data(Bytes),
    /// Fields behind the content; the body ends with them.
    Trailers(Fields),
}

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
    /// The same of a request on this stream (HTTP/2).
    None(u32),
    Full(Bytes),
    H1Request(h1::server::RequestBody),
    H1Response(Box<h1::client::ResponseBody>),
    H2(Box<h2::Recv>),
    Tunnel(Tunnel),
    Upgraded(Upgraded),
}

/// What must hear of the end of the body.
#[derive(Debug, Default)]
struct Attached {
    lease: Option<(Lease, Outcome)>,
    slot: Option<StreamSlot>,
    end: Option<Box<dyn OnEnd>>,
    filter: Option<Box<dyn Filter>>,
    bytes: u64,
    /// Bytes that it may have; none: any number.
    bytes_max: Option<u64>,
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
        frame: Poll<Option<Result<Frame, Error>>>,
    ) -> Poll<Option<Result<Frame, Error>>>;

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

    /// The protocol's own status for how it ended, if it has one and it is known.
    fn status(&self) -> Option<u32> {
        None
    }
}

/// Hears when the last byte of a body was handed on, or that it never will be.
pub trait OnEnd: std::fmt::Debug {
    /// It is over, `now`.
    fn end(self: Box<Self>, ended: &Ended<'_>, now: Instant);
}

/// How a body ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ended<'a> {
    /// Bytes of content that went by.
    pub bytes: u64,
    /// Why it ended early; what was dropped before its end has [`left`]'s word for it.
    pub error: Option<Code>,
    /// [`Filter::status`].
    pub status: Option<u32>,
    /// What a tunnel carried; `bytes` are those that the client was sent.
    pub traffic: Option<&'a Traffic>,
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

    /// No content of a request on `stream`.
    pub(crate) fn none_on(stream: u32) -> Self {
        Kind::None(stream).into()
    }

    /// The stream that it came on, if it is a request's of HTTP/2; else 0.
    pub(crate) fn stream(&self) -> u32 {
        match &self.kind {
            Kind::None(stream) => *stream,
            Kind::H2(recv) => recv.stream(),
            _ => 0,
        }
    }

    pub(crate) fn h2(recv: h2::Recv) -> Self {
        Kind::H2(Box::new(recv)).into()
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

    /// `client` reads it, whose connection may have many to read.
    pub(crate) fn read_by(&mut self, client: &Rc<Client>) {
        match &mut self.kind {
            Kind::H2(recv) => recv.read_by(client),
            Kind::H1Response(body) => body.read_by(client),
            _ => {}
        }
    }

    /// Keeps a place on an HTTP/2 connection until the body ends.
    pub(crate) fn occupy(&mut self, slot: StreamSlot) {
        self.attached.get_or_insert_default().slot = Some(slot);
    }

    /// Lets it have `bytes_max` bytes of content. If its length is not known, it ends with an error
    /// where it has more.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`] for a length above that; nothing of it was read.
    pub fn limit(&mut self, bytes_max: u64) -> Result<(), Error> {
        match self.length() {
            Some(length) if length > bytes_max => Err(too_large(bytes_max).unsent()),
            Some(_) => Ok(()),
            None => {
                self.attached.get_or_insert_default().bytes_max = Some(bytes_max);
                Ok(())
            }
        }
    }

    /// It is one side of a conversation, as a call's that streams, unless its length is known: its
    /// client may be silent for `silence` before the answer begins, and for any time after that.
    /// Only HTTP/2 has these.
    pub fn converses(&mut self, silence: Duration) {
        if let Kind::H2(recv) = &mut self.kind
            && recv.remaining().is_none()
        {
            recv.converses(silence);
        }
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
            Kind::Tunnel(tunnel) => {
                let (attached, traffic) = (self.attached.take(), Rc::default());
                Some((tunnel, Guard { attached, traffic, is_done: false }))
            }
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

    /// Ends it for what went wrong on the way to whom it is for.
    pub(crate) fn cut_off(&mut self, error: Code) {
        if let Some(mut attached) = self.attached.take() {
            attached.finish(Some(error), None);
        }
    }

    /// Ends it in order without its content, which the protocol leaves out here (HEAD, 304).
    pub(crate) fn leave_out(mut self) {
        self.kind = Kind::Empty;
    }

    /// Whether nothing will come and nothing had to be read for it.
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Empty | Kind::None(_) => true,
            Kind::Full(content) => content.is_empty(),
            Kind::H2(recv) => recv.is_end_stream(),
            _ => false,
        }
    }

    /// The size of the content if it is known.
    pub fn length(&self) -> Option<u64> {
        self.remaining()
    }

    /// Whether its next bytes can go from socket to socket ([`Self::poll_splice`]).
    pub(crate) fn can_splice(&self) -> bool {
        let is_filtered = || self.attached.as_ref().is_some_and(|a| a.filter.is_some());
        matches!(&self.kind, Kind::H1Response(body) if body.can_splice()) && !is_filtered()
    }

    /// Takes content into an empty `pipe` in place of a frame; how many bytes.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<usize, Error>> {
        let Kind::H1Response(body) = &mut self.kind else { return Poll::Ready(Ok(0)) };
        let taken = ready!(body.poll_splice(cx, pipe));
        let (bytes, error) = match &taken {
            Ok(bytes) => (*bytes, None),
            Err(error) => (0, Some(error.code())),
        };
        self.note(bytes as u64, error.is_some() || self.is_end_stream(), error);
        Poll::Ready(taken)
    }

    /// Counts `bytes` that were handed on; reports the end when they were the last.
    fn note(&mut self, bytes: u64, ended: bool, error: Option<Code>) {
        if let Some(attached) = self.attached.as_deref_mut() {
            attached.bytes += bytes;
        }
        if let Some(mut attached) = self.attached.take_if(|_| ended) {
            attached.finish(error, None);
        }
    }

    /// Bytes that were handed on, if anybody counts them.
    fn bytes(&self) -> u64 {
        self.attached.as_ref().map_or(0, |attached| attached.bytes)
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        match &mut self.kind {
            Kind::Empty | Kind::None(_) | Kind::Tunnel(_) | Kind::Upgraded(_) => Poll::Ready(None),
            Kind::Full(content) => {
                let content = std::mem::take(content);
                self.kind = Kind::Empty;
                Poll::Ready((!content.is_empty()).then(|| Ok(Frame::Data(content))))
            }
            Kind::H1Request(body) => body.poll_frame(cx),
            Kind::H1Response(body) => body.poll_frame(cx),
            Kind::H2(recv) => recv.poll_frame(cx),
        }
    }
}

/// Bytes of content in a frame.
fn data_of(frame: Option<&Result<Frame, Error>>) -> u64 {
    match frame {
        Some(Ok(Frame::Data(data))) => data.len() as u64,
        _ => 0,
    }
}

#[cold]
fn too_large(bytes_max: u64) -> Error {
    let sentence = format!("the request's content is larger than {bytes_max} bytes");
    let remedy =
        "`--max-body-size` (`max_body_size` of a listener or route) says how large it may be";
    Error::new(Code::BodyTooLarge, sentence).because(remedy)
}

/// Reports the end of a tunnel when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    attached: Option<Box<Attached>>,
    traffic: Rc<Traffic>,
    is_done: bool,
}

impl Guard {
    /// Where the tunnel keeps account.
    pub(crate) fn traffic(&self) -> Rc<Traffic> {
        Rc::clone(&self.traffic)
    }

    /// The tunnel came to its own end. Dropped without this, it was cut off.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut attached) = self.attached.take() {
            attached.bytes += self.traffic.carried.upstream_to_client.get();
            let ended = || self.traffic.ending.get().and_then(|(_, error)| error);
            let error = if self.is_done { ended() } else { Some(left()) };
            attached.finish(error, Some(&self.traffic));
        }
    }
}

/// Why something ends that nobody ended: its client left, the proxy stops, or a bug ended its task.
pub fn left() -> Code {
    if std::thread::panicking() {
        return Code::Internal;
    }
    if is_stopping() { Code::Draining } else { Code::ClientClosed }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, attached: None }
    }
}

impl Attached {
    fn finish(&mut self, error: Option<Code>, traffic: Option<&Traffic>) {
        let filter = self.filter.take();
        let filter = filter.as_deref();
        let error = error.or_else(|| filter.and_then(Filter::error));
        let now = Instant::now();
        if let Some((mut lease, outcome)) = self.lease.take() {
            let outcome = match error {
                None => filter.and_then(Filter::outcome).unwrap_or(outcome),
                Some(
                    Code::BodyTooLarge
                    | Code::ClientClosed
                    | Code::ClientMalformed
                    | Code::ClientTimeout
                    | Code::Draining
                    | Code::Internal,
                ) => Outcome::Cancelled,
                Some(_) => Outcome::GatewayFailure,
            };
            lease.settle(outcome, now);
        }
        if let Some(end) = self.end.take() {
            let status = filter.and_then(Filter::status);
            end.end(&Ended { bytes: self.bytes, error, status, traffic }, now);
        }
    }
}

impl Body {
    /// The next frame; none when it is over.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut frame = self.poll_kind(cx);
        if let Some(filter) = self.attached.as_mut().and_then(|a| a.filter.as_mut()) {
            frame = filter.poll_frame(cx, frame);
            let goes_on = match &frame {
                Poll::Pending => true,
                Poll::Ready(Some(Ok(frame))) => matches!(frame, Frame::Data(_)),
                Poll::Ready(Some(Err(_)) | None) => false,
            };
            if !goes_on {
                self.kind = Kind::Empty;
            }
        }
        let Poll::Ready(mut frame) = frame else { return Poll::Pending };
        if let Some(bytes_max) = self.attached.as_ref().and_then(|attached| attached.bytes_max)
            && data_of(frame.as_ref()) > bytes_max.saturating_sub(self.bytes())
        {
            self.kind = Kind::Empty;
            frame = Some(Err(too_large(bytes_max)));
        }
        if self.attached.is_some() {
            // Who knows the length does not ask again after the last data frame of a body of known length.
            let (ended, error) = match &frame {
                Some(Ok(frame)) => {
                    (matches!(frame, Frame::Trailers(_)) || self.is_end_stream(), None)
                }
                Some(Err(error)) => (true, Some(error.code())),
                None => (true, None),
            };
            self.note(data_of(frame.as_ref()), ended, error);
        }
        Poll::Ready(frame)
    }

    /// Whether nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        let filter = self.attached.as_ref().and_then(|attached| attached.filter.as_ref());
        if filter.is_some_and(|filter| filter.appends()) {
            return false;
        }
        match &self.kind {
            Kind::Empty | Kind::None(_) | Kind::Tunnel(_) | Kind::Upgraded(_) => true,
            Kind::Full(content) => content.is_empty(),
            Kind::H1Request(body) => body.is_done(),
            Kind::H1Response(body) => body.is_done(),
            Kind::H2(recv) => recv.is_end_stream(),
        }
    }

    /// Bytes of content still to come, if that is known.
    fn remaining(&self) -> Option<u64> {
        match &self.kind {
            Kind::Empty | Kind::None(_) | Kind::Tunnel(_) | Kind::Upgraded(_) => Some(0),
            Kind::Full(content) => Some(content.len() as u64),
            Kind::H1Request(body) => body.remaining(),
            Kind::H1Response(body) => body.remaining(),
            Kind::H2(recv) => recv.remaining(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(mut attached) = self.attached.take() {
            let error = if self.is_end_stream() { None } else { Some(left()) };
            attached.finish(error, None);
        }
    }
}

#[cfg(test)]
mod tests;
