//! The ends of a stream, as the tasks of its request hold them.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use gwproxy_core::timer::{Deadline, Timer};
use gwproxy_core::{Code, Error};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ahead::Pace;
use super::conn::{Conn, Role, State};
use super::stream::{Broken, Event, Stream};
use super::{Reason, hpack::Encoder};
use crate::debt::Debt;
use crate::serve::Client;
use crate::wire::hop;
use crate::{Fields, Frame, ResponseParts};

/// A share in a stream. The last one to go ends it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) conn: Rc<Conn>,
    pub(super) key: usize,
}

impl Handle {
    /// The first share, which the stream was made with.
    pub(super) fn first(conn: Rc<Conn>, key: usize) -> Self {
        Self { conn, key }
    }

    fn id(&self) -> u32 {
        self.conn.with(|state| state.streams.get(self.key).map_or(0, |stream| stream.id))
    }

    pub(super) fn share(&self) -> Self {
        self.conn.with(|state| state.hold(self.key));
        Self { conn: Rc::clone(&self.conn), key: self.key }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.conn.with(|state| state.release(self.key));
    }
}

/// What comes from the peer: a message's content. Dropped before its end, the rest is not wanted:
/// a client's stream is reset with CANCEL, a server goes on with its answer.
#[derive(Debug)]
pub(crate) struct Recv {
    handle: Handle,
    timer: Timer,
    /// Longest silence of the peer.
    silence: Duration,
    deadline: Option<Deadline>,
    is_waiting: bool,
    /// It is one side of a conversation ([`Self::converses`]).
    converses: bool,
    debt: Debt,
    /// Bytes received.
    received: u64,
    /// The client waits to be told that its content is wanted (RFC 9110 §10.1.1).
    owes_continue: bool,
    pace: Pace,
    is_over: bool,
}

impl Recv {
    pub(super) fn new(
        handle: Handle,
        timer: Timer,
        silence: Duration,
        owes_continue: bool,
    ) -> Self {
        let is_waiting = false;
        Self {
            handle,
            timer,
            silence,
            deadline: None,
            is_waiting,
            converses: false,
            debt: Debt::default(),
            received: 0,
            owes_continue,
            pace: Pace::default(),
            is_over: false,
        }
    }

    /// `client` reads it, whose connection has others to read besides.
    pub(crate) fn read_by(&mut self, client: &Rc<Client>) {
        self.pace.read_by(client);
    }

    /// It is one side of a conversation: its peer may be silent for `silence`, and once the answer
    /// has begun, whose own silence has a limit, for as long as that goes on.
    pub(crate) fn converses(&mut self, silence: Duration) {
        (self.silence, self.converses) = (silence, true);
    }

    /// The stream's id.
    pub(crate) fn stream(&self) -> u32 {
        self.handle.id()
    }

    /// Whether nothing more will come.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.is_over
            || self
                .handle
                .conn
                .with(|state| state.streams.get(self.handle.key).is_none_or(Stream::is_read))
    }

    /// Bytes still to come, where the peer said so.
    pub(crate) fn remaining(&self) -> Option<u64> {
        let key = self.handle.key;
        self.handle.conn.with(|state| match state.streams.get(key) {
            Some(stream) if !self.is_over => stream.to_come(),
            _ => Some(0),
        })
    }

    /// The next frame.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Error>>> {
        let event = match self.poll_event(cx) {
            Poll::Ready(event) => event,
            Poll::Pending => {
                ready!(self.poll_silence(cx));
                self.is_over = true;
                self.cancel();
                return Poll::Ready(Some(Err(self.silent())));
            }
        };
        Poll::Ready(match event {
            None => {
                self.is_over = true;
                None
            }
            Some(Ok(Event::Data(data))) => Some(Ok(Frame::Data(self.take(data)))),
            Some(Ok(Event::Gathered(data))) => Some(Ok(Frame::Data(self.take(data.freeze())))),
            Some(Ok(Event::Trailers(mut trailers))) => {
                self.is_over = true;
                // RFC 9110 §6.5.1; HTTP/1.1's own are cleaned when they are parsed.
                hop::strip_trailers(&mut trailers, &[]);
                Some(Ok(Frame::Trailers(trailers)))
            }
            Some(Err(broken)) => {
                self.is_over = true;
                Some(Err(self.explain(broken)))
            }
        })
    }

    fn take(&mut self, data: Bytes) -> Bytes {
        let more = self.pace.take(data.len());
        if more > 0 {
            self.handle.conn.with(|state| state.widen(self.handle.key, more));
        }
        data
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Broken>>> {
        let key = self.handle.key;
        let owes_continue = self.owes_continue;
        let event = self.handle.conn.with(|state| {
            let event = state.poll_event(cx, key);
            let is_answered = state.streams.get(key).is_none_or(|stream| stream.is_answered);
            if event.is_pending() && owes_continue && !is_answered {
                let fields = |_: &mut Encoder, out: &mut bytes::BytesMut| {
                    Encoder::status(out, StatusCode::CONTINUE);
                };
                state.send_fields(key, fields, false);
            }
            event
        });
        self.owes_continue = false;
        if let Poll::Ready(event) = &event {
            if let Some(Ok(event)) = event {
                self.received += event.len() as u64;
            }
            // What is there before it is waited for has a peer that keeps up.
            let was_waiting = std::mem::take(&mut self.is_waiting);
            if !(was_waiting && self.must_go_on())
                && self.debt.forgive()
                && let Some(deadline) = &self.deadline
            {
                deadline.disarm();
            }
        }
        event
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = &self.timer;
        let deadline = self.deadline.get_or_insert_with(|| timer.deadline());
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.pace.wait();
        }
        loop {
            let now = (self.received, None);
            ready!(self.debt.poll_too_much(cx, deadline, self.silence, now));
            let key = self.handle.key;
            let is_answered =
                |state: &mut State| state.streams.get(key).is_some_and(|stream| stream.is_answered);
            if !self.converses || !self.handle.conn.with(is_answered) {
                return Poll::Ready(());
            }
            self.debt.forgive();
        }
    }

    /// Whether what comes is late if it is little: a request whose length is known is all there,
    /// while a node, or a call that streams, may have nothing to say for long.
    fn must_go_on(&self) -> bool {
        let key = self.handle.key;
        self.handle.conn.with(|state| {
            let stream = state.streams.get(key).filter(|_| state.role() == Role::Server);
            stream.is_some_and(|stream| stream.expected.is_some())
        })
    }

    /// Ends the stream: the rest of it has no use.
    fn cancel(&mut self) {
        let reset = Broken::Reset(Reason::CANCEL);
        self.handle.conn.with(|state| state.reset(self.handle.key, Reason::CANCEL, reset));
    }

    fn role(&self) -> Role {
        self.handle.conn.with(|state| state.role())
    }

    fn silent(&self) -> Error {
        let silence = self.silence;
        match self.role() {
            Role::Client => {
                Error::new(Code::UpstreamTimeout, format!("the node sent nothing for {silence:?}"))
            }
            Role::Server => {
                Error::new(Code::ClientTimeout, format!("the client sent nothing for {silence:?}"))
            }
        }
    }

    fn explain(&self, broken: Broken) -> Error {
        match self.role() {
            Role::Client => explain_node(broken),
            Role::Server => explain_client(broken),
        }
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        let key = self.handle.key;
        self.handle.conn.with(|state| {
            if state.role() == Role::Client && !self.is_over {
                let reset = Broken::Reset(Reason::CANCEL);
                let is_read = state.streams.get(key).is_none_or(Stream::is_read);
                if !is_read {
                    state.reset(key, Reason::CANCEL, reset);
                }
            }
            state.ignore(key);
        });
    }
}

/// What a broken exchange with a node is, in our words.
pub(super) fn explain_node(broken: Broken) -> Error {
    match broken {
        Broken::Reset(reason) => {
            let sentence = format!("the node reset the HTTP/2 stream: {reason}");
            let error = Error::new(Code::UpstreamReset, sentence).because(reason);
            if reason == Reason::REFUSED_STREAM { error.unsent() } else { error }
        }
        Broken::Malformed(why) => {
            let sentence = format!("the node's response is not valid HTTP/2: {why}");
            Error::new(Code::UpstreamMalformed, sentence)
        }
        Broken::Overloaded => overloaded(),
        Broken::Unprocessed => {
            let sentence = "the node is closing the HTTP/2 connection and did not take the request";
            Error::new(Code::UpstreamReset, sentence).unsent()
        }
        Broken::Lost(why) => {
            let sentence = format!("the HTTP/2 connection to the node ended: {why}");
            Error::new(Code::UpstreamReset, sentence)
        }
    }
}

fn overloaded() -> Error {
    Error::new(Code::Overloaded, "the proxy ran out of memory for the upload")
}

fn explain_client(broken: Broken) -> Error {
    match broken {
        Broken::Reset(reason) => {
            let sentence = format!("the client reset the HTTP/2 stream: {reason}");
            Error::new(Code::ClientClosed, sentence).because(reason)
        }
        Broken::Malformed(why) => {
            let sentence = format!("the client's request is not valid HTTP/2: {why}");
            Error::new(Code::ClientMalformed, sentence)
        }
        Broken::Overloaded => overloaded(),
        Broken::Unprocessed => Error::new(Code::ClientClosed, "the client is leaving"),
        Broken::Lost(why) => {
            let sentence = format!("the client's HTTP/2 connection ended: {why}");
            Error::new(Code::ClientClosed, sentence)
        }
    }
}

/// What goes to the peer.
#[derive(Debug)]
pub(super) struct Send {
    handle: Handle,
}

impl Send {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    pub(super) fn share(&self) -> Handle {
        self.handle.share()
    }

    /// The stream's id, if the peer has ended its side and nothing of it is left to read.
    pub(super) fn recv_ended(&self) -> Option<u32> {
        let key = self.handle.key;
        self.handle.conn.with(|state| match state.streams.get(key) {
            Some(stream) => stream.is_read().then_some(stream.id),
            None => Some(0),
        })
    }

    /// Sends a response's head.
    pub(super) fn head(&self, parts: &ResponseParts, length: Option<u64>, ends: bool) {
        let fields = |encoder: &mut Encoder, out: &mut bytes::BytesMut| {
            Encoder::status(out, parts.status);
            for (name, value) in parts.headers.iter() {
                if length.is_none() || name != CONTENT_LENGTH {
                    encoder.header(out, name, value);
                }
            }
            if let Some(length) = length {
                encoder.header(out, CONTENT_LENGTH, HeaderValue::from(length));
            }
        };
        self.handle.conn.with(|state| {
            if let Some(stream) = state.streams.get_mut(self.handle.key) {
                stream.is_answered = true;
            }
            state.send_fields(self.handle.key, fields, ends);
        });
    }

    /// What moves while this stream waits for its turn.
    pub(super) fn progress_of_others(&self) -> Option<u64> {
        self.handle.conn.with(|state| state.progress_of_others(self.handle.key))
    }

    /// Whether our side has ended.
    fn is_sent(&self) -> bool {
        let key = self.handle.key;
        self.handle.conn.with(|state| state.streams.get(key).is_none_or(|s| s.is_send_ended))
    }

    /// Whether the peer has sent all it will.
    pub(super) fn is_peer_done(&self) -> bool {
        let key = self.handle.key;
        self.handle.conn.with(|state| state.streams.get(key).is_none_or(|s| s.is_recv_ended))
    }

    pub(super) fn poll_capacity(&self, cx: &Context<'_>) -> Poll<Result<usize, Broken>> {
        self.handle.conn.with(|state| state.poll_capacity(cx, self.handle.key))
    }

    pub(super) fn poll_broken(&self, cx: &Context<'_>) -> Poll<Broken> {
        self.handle.conn.with(|state| state.poll_broken(cx, self.handle.key))
    }

    pub(super) fn poll_head(&self, cx: &Context<'_>) -> Poll<Result<ResponseParts, Broken>> {
        self.handle.conn.with(|state| state.poll_head(cx, self.handle.key))
    }

    pub(super) fn data(&self, data: Bytes, ends: bool) {
        self.handle.conn.with(|state| state.send_data(self.handle.key, data, ends));
    }

    pub(super) fn trailers(&self, trailers: &Fields) {
        self.handle.conn.with(|state| state.send_trailers(self.handle.key, trailers));
    }

    pub(super) fn reset(&self, reason: Reason) {
        let broken = Broken::Reset(reason);
        self.handle.conn.with(|state| state.reset(self.handle.key, reason, broken));
    }
}

/// A stream as a stream of bytes, after CONNECT (RFC 9113 §8.5), extended or not (RFC 8441 §5).
#[derive(Debug)]
pub struct StreamIo {
    recv: Recv,
    send: Send,
    early: Bytes,
    /// What the peer is told when it is cut off.
    cut: Reason,
}

impl StreamIo {
    pub(super) fn new(recv: Recv, send: Send, cut: Reason) -> Self {
        Self { recv, send, early: Bytes::new(), cut }
    }
}

impl Drop for StreamIo {
    /// What ends before we have said so was cut off.
    fn drop(&mut self) {
        if !self.send.is_sent() {
            self.send.reset(self.cut);
        }
    }
}

fn broken_pipe(error: impl Into<Cow<'static, str>>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error.into().into_owned())
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.early.is_empty() {
            // The tunnel has its own limit of idleness.
            let data = match ready!(self.recv.poll_event(cx)) {
                Some(Ok(Event::Data(data))) => data,
                Some(Ok(Event::Gathered(data))) => data.freeze(),
                Some(Ok(Event::Trailers(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(broken)) => {
                    let error = self.recv.explain(broken);
                    return Poll::Ready(Err(broken_pipe(error.sentence().to_owned())));
                }
            };
            self.early = data;
        }
        let size = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.get(..size).unwrap_or_default());
        self.early.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match ready!(self.send.poll_capacity(cx)) {
            Ok(capacity) => {
                let size = capacity.min(buf.len());
                let data = Bytes::copy_from_slice(buf.get(..size).unwrap_or_default());
                self.send.data(data, false);
                Poll::Ready(Ok(size))
            }
            Err(_) => Poll::Ready(Err(broken_pipe("the stream was reset"))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
