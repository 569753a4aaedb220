//! One connection's state: what both roles share, bytes in and bytes out.

mod ending;
pub(super) mod engine;
mod receive;
#[cfg(test)]
mod tests;
mod turns;
mod windows;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;

use self::ending::Farewell;
use super::frame::{self, INITIAL_FRAME_BYTES, setting};
use super::hpack::{Decoder, Encoder};
use super::out::Out;
use super::rate::Bucket;
use super::stream::{Asks, Broken, Event, Stream, Streams, remember};
use super::{
    CLIENT_STREAM_BYTES, CLIENT_WINDOW_BYTES, NODE_STREAM_BYTES, NODE_WINDOW_BYTES, OUT_BYTES_MAX,
    Reason,
};
use crate::Request;
use crate::{Fields, ResponseParts};

/// Streams at a time that a peer may open (`SETTINGS_MAX_CONCURRENT_STREAMS`).
pub(super) const STREAMS_MAX: usize = 100;
/// Exchanges a peer may break off before it must calm down (CVE-2023-44487, CVE-2025-8671), and
/// how many more each second; each exchange that ends in order allows another one.
const RESETS: Bucket = Bucket::new(500, 50);
/// A head beyond the limits counts as so many of them: it is decoded to its end, whatever it says,
/// because those after it depend on it (CVE-2016-6581). So there may be 50, and 5 more each second.
const TOO_LARGE_RESETS: u32 = 10;
/// Frames without content for anyone (PING, SETTINGS, PRIORITY, `WINDOW_UPDATE`, empty DATA, unknown
/// ones, requests above the limit of streams) and how many more each second; each DATA frame of ours allows others.
const IDLE_FRAMES: Bucket = Bucket::new(2_000, 200);
/// Less than this in a DATA frame because the peer's window has no more allows it nothing: a window
/// opened a byte at a time costs us more than its sender (CVE-2019-9511).
const DRIBBLE_BYTES: i64 = 256;
/// Bytes of an upload that wait for its node, above which it is given up when the process runs out of
/// memory: more than a node that keeps up leaves.
const WAITING_MAX: i64 = 64 * 1024;
/// Streams that the peer has ended, in order or by a reset, of which more is taken for an error.
const ENDED_MAX: usize = 32;
/// The last stream id there is.
const STREAM_ID_MAX: u32 = (1 << 31) - 1;

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

impl Role {
    /// Bytes that the peer may send before they are read.
    fn connection_window(self) -> u32 {
        match self {
            Self::Client => NODE_WINDOW_BYTES,
            Self::Server => CLIENT_WINDOW_BYTES,
        }
    }

    /// The same for each of its streams, at first.
    fn stream_window(self) -> u32 {
        match self {
            Self::Client => NODE_STREAM_BYTES,
            Self::Server => CLIENT_STREAM_BYTES,
        }
    }
}

/// Bounds of a field section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes, with 32 for each field (RFC 9113 §6.5.2).
    pub(super) section: usize,
    /// Fields.
    pub(super) fields: usize,
}

/// A connection, shared by its driver and the tasks of its streams.
#[derive(Debug)]
pub(crate) struct Conn {
    state: RefCell<State>,
}

/// Why a connection must end (RFC 9113 §5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) text: &'static str,
}

/// What a client asked for.
#[derive(Debug)]
pub(super) enum Accepted {
    Request {
        key: usize,
        request: Box<Request>,
        /// The head exceeds the limits: to be refused.
        is_too_large: bool,
    },
    /// The stream was reset for it.
    Malformed(&'static str),
}

#[derive(Debug)]
pub(super) struct State {
    role: Role,
    bounds: Bounds,
    pub(super) streams: Streams,
    pub(super) out: Out,
    /// The process is about to run out of memory.
    pub(super) is_out_of_memory: bool,
    decoder: Decoder,
    encoder: Encoder,
    /// What the peer asked for.
    initial_window: i64,
    frame_bytes: usize,
    streams_max: usize,
    /// It takes extended CONNECT (RFC 8441 §3).
    takes_protocols: bool,
    has_settings: bool,
    /// Who waits for them.
    settings_waker: Option<Waker>,
    has_preface: bool,
    send_window: i64,
    recv_window: i64,
    unreturned: u32,
    /// The highest stream id so far.
    last_id: u32,
    block: Option<Block>,
    pub(super) accepted: VecDeque<Accepted>,
    /// Streams, by key and id, that could send if it were their turn; each gets one frame.
    turns: VecDeque<(usize, u32)>,
    ended: VecDeque<u32>,
    /// The peer opens, or takes, no more streams.
    is_peer_leaving: bool,
    farewell: Farewell,
    /// The connection is over.
    lost: Option<&'static str>,
    resets: Bucket,
    idle_frames: Bucket,
    /// The task that drives the connection, when it waits.
    driver: Option<Waker>,
    /// Whole frames received.
    pub(super) frames: u64,
    /// Streams opened.
    pub(super) opened: u64,
}

/// A field block whose end has not come.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// A size as windows count, which can be below zero.
fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

impl Conn {
    pub(super) fn new(role: Role, bounds: Bounds) -> Rc<Self> {
        let mut out = Out::default();
        let section = (setting::MAX_HEADER_LIST_SIZE, bounds.section as u32);
        let window = (setting::INITIAL_WINDOW_SIZE, role.stream_window());
        let frames = out.frames();
        match role {
            Role::Client => {
                frames.extend_from_slice(frame::PREFACE);
                frame::put_settings(frames, &[(setting::ENABLE_PUSH, 0), window, section]);
            }
            Role::Server => {
                let streams = (setting::MAX_CONCURRENT_STREAMS, STREAMS_MAX as u32);
                let websockets = (setting::ENABLE_CONNECT_PROTOCOL, 1);
                frame::put_settings(frames, &[streams, window, section, websockets]);
            }
        }
        let window = role.connection_window();
        let more = window - frame::INITIAL_WINDOW as u32;
        frame::put_window_update(frames, 0, more);
        Rc::new(Self {
            state: RefCell::new(State {
                role,
                bounds,
                streams: Streams::default(),
                out,
                decoder: Decoder::default(),
                encoder: Encoder::default(),
                initial_window: frame::INITIAL_WINDOW,
                frame_bytes: INITIAL_FRAME_BYTES,
                streams_max: STREAMS_MAX,
                takes_protocols: false,
                has_settings: false,
                settings_waker: None,
                has_preface: role == Role::Client,
                send_window: frame::INITIAL_WINDOW,
                recv_window: i64::from(window),
                unreturned: 0,
                last_id: 0,
                block: None,
                accepted: VecDeque::new(),
                turns: VecDeque::new(),
                ended: VecDeque::new(),
                is_peer_leaving: false,
                farewell: Farewell::None,
                lost: None,
                is_out_of_memory: false,
                resets: RESETS,
                idle_frames: IDLE_FRAMES,
                driver: None,
                frames: 0,
                opened: 0,
            }),
        })
    }

    /// Whether new streams can be opened (client).
    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.borrow();
        state.lost.is_none() && !state.is_peer_leaving && state.last_id < STREAM_ID_MAX - 2
    }

    /// Ready when the node's SETTINGS have come (client). Before that, nobody knows how many streams
    /// it takes (RFC 9113 §6.5.2), nor whether it speaks HTTP/2.
    ///
    /// # Errors
    /// Why they never will.
    pub(crate) fn poll_settings(&self, cx: &Context<'_>) -> Poll<Result<(), &'static str>> {
        self.with(|state| match state.lost {
            Some(why) => Poll::Ready(Err(why)),
            None if state.has_settings => Poll::Ready(Ok(())),
            None => {
                remember(&mut state.settings_waker, cx);
                Poll::Pending
            }
        })
    }

    /// Streams that are open, answered or not.
    pub(crate) fn streams_open(&self) -> usize {
        self.state.borrow().streams.open()
    }

    /// Streams at a time that the peer takes (client); none before it said so.
    pub(crate) fn streams_max(&self) -> usize {
        let state = self.state.borrow();
        if state.has_settings { state.streams_max } else { 0 }
    }

    /// Whether the node takes extended CONNECT (client), which it must have said (RFC 8441 §3).
    pub(super) fn takes_protocols(&self) -> bool {
        self.state.borrow().takes_protocols
    }

    /// Closes it when its last stream has ended (client).
    pub(crate) fn leave(&self) {
        self.with(|state| {
            state.say_farewell();
            state.wake_driver();
        });
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.borrow_mut())
    }
}

impl State {
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Asks the driver to look at what is to be written.
    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The driver runs: it need not be woken.
    pub(super) fn forget_driver(&mut self) {
        self.driver = None;
    }

    pub(super) fn set_driver(&mut self, cx: &Context<'_>) {
        remember(&mut self.driver, cx);
    }

    /// Whether a frame or a field block has begun and not ended, given the bytes not taken yet.
    pub(super) fn is_within_frame(&self, unread: usize) -> bool {
        unread > 0 || self.block.is_some() || !self.has_settings
    }

    /// Opens a stream for a request and sends its head (client). None if there can be no more.
    pub(super) fn open(
        &mut self,
        head: impl FnOnce(&mut Encoder, &mut bytes::BytesMut),
        asks: Asks,
        ends: bool,
    ) -> Option<usize> {
        if self.lost.is_some() || self.is_peer_leaving || self.last_id >= STREAM_ID_MAX - 2 {
            return None;
        }
        let id = if self.last_id == 0 { 1 } else { self.last_id + 2 };
        self.last_id = id;
        self.opened += 1;
        let mut stream = Stream::new(id, self.initial_window, self.role.stream_window());
        stream.asks = asks;
        stream.asked_at = self.out.position();
        let key = self.streams.insert(stream);
        self.send_fields(key, head, ends);
        Some(key)
    }

    /// Sends a field section.
    pub(super) fn send_fields(
        &mut self,
        key: usize,
        fields: impl FnOnce(&mut Encoder, &mut bytes::BytesMut),
        ends: bool,
    ) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.is_closed() || stream.is_send_ended {
            return;
        }
        let id = stream.id;
        stream.is_send_ended = ends;
        let out = self.out.frames();
        let start = frame::open_block(out);
        self.encoder.begin(out);
        fields(&mut self.encoder, out);
        let flags = if ends { frame::END_STREAM } else { 0 };
        frame::close_block(out, start, self.frame_bytes, flags, id);
        self.settle(key);
        self.wake_driver();
    }

    /// Sends trailers, which end the stream.
    pub(super) fn send_trailers(&mut self, key: usize, trailers: &Fields) {
        let fields = |encoder: &mut Encoder, out: &mut bytes::BytesMut| {
            for (name, value) in trailers.iter() {
                encoder.header(out, name, value);
            }
        };
        self.send_fields(key, fields, true);
    }

    /// Sends an interim response, if it still means anything and there is room (server). It has no
    /// content (RFC 9110 §15.2), so no length.
    pub(super) fn send_interim(&mut self, id: u32, status: StatusCode, headers: &Fields) {
        let Some(key) = self.streams.find(id) else { return };
        let is_answered = self.streams.get(key).is_none_or(|stream| stream.is_answered);
        if is_answered || self.out.len() >= OUT_BYTES_MAX {
            return;
        }
        let fields = |encoder: &mut Encoder, out: &mut bytes::BytesMut| {
            Encoder::status(out, status);
            for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
                encoder.header(out, name, value);
            }
        };
        self.send_fields(key, fields, false);
    }

    /// Sends data within the capacity.
    pub(super) fn send_data(&mut self, key: usize, data: Bytes, ends: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.is_closed() || stream.is_send_ended {
            return;
        }
        let size = signed(data.len());
        debug_assert!(size <= stream.send_window.min(self.send_window).max(0));
        stream.send_window -= size;
        self.send_window -= size;
        stream.is_send_ended = ends;
        let flags = if ends { frame::END_STREAM } else { 0 };
        frame::put_head(self.out.frames(), data.len(), frame::Kind::Data, flags, stream.id);
        self.out.push(data);
        let is_dribble =
            size < DRIBBLE_BYTES && !ends && stream.send_window.min(self.send_window) <= 0;
        if !is_dribble {
            self.idle_frames.earn();
            self.idle_frames.earn();
        }
        self.settle(key);
        self.next_turn();
        self.wake_driver();
    }

    /// Takes what a stream received.
    pub(super) fn poll_event(
        &mut self,
        cx: &Context<'_>,
        key: usize,
    ) -> Poll<Option<Result<Event, Broken>>> {
        let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready(None) };
        // Whoever asks for more is done with what it had.
        let mut done = std::mem::take(&mut stream.in_hand);
        if let Some(event) = stream.pop() {
            if stream.is_recv_ended {
                done += event.len();
            } else {
                stream.in_hand = event.len();
            }
            self.give_back(key, done);
            return Poll::Ready(Some(Ok(event)));
        }
        if done > 0 {
            self.give_back(key, done);
        }
        let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready(None) };
        if stream.is_recv_ended {
            return Poll::Ready(None);
        }
        if let Some(broken) = stream.broken {
            return Poll::Ready(Some(Err(broken)));
        }
        remember(&mut stream.recv_waker, cx);
        Poll::Pending
    }

    /// The response's head, once it is there, or an interim one before it (client).
    pub(super) fn poll_head(
        &mut self,
        cx: &Context<'_>,
        key: usize,
    ) -> Poll<Result<ResponseParts, Broken>> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Poll::Ready(Err(Broken::Lost("the stream is gone")));
        };
        if let Some(hint) = stream.hints.pop_front() {
            return Poll::Ready(Ok(hint));
        }
        // What turned out malformed before anybody had its head never was a response.
        if let Some(broken @ Broken::Malformed(_)) = stream.broken {
            return Poll::Ready(Err(broken));
        }
        if let Some(head) = stream.head.take() {
            return Poll::Ready(Ok(head));
        }
        if let Some(broken) = stream.broken {
            return Poll::Ready(Err(broken));
        }
        remember(&mut stream.recv_waker, cx);
        Poll::Pending
    }

    /// Ready when the exchange ended early.
    pub(super) fn poll_broken(&mut self, cx: &Context<'_>, key: usize) -> Poll<Broken> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Poll::Ready(Broken::Lost("the stream is gone"));
        };
        if let Some(broken) = stream.broken {
            return Poll::Ready(broken);
        }
        remember(&mut stream.send_waker, cx);
        Poll::Pending
    }

    /// Drops what came and what will come: nobody reads it.
    pub(super) fn ignore(&mut self, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.is_ignored = true;
        let unread = stream.unread();
        stream.clear();
        self.give_back(key, unread);
    }

    /// Ends a stream early, if it has not ended.
    pub(super) fn reset(&mut self, key: usize, reason: Reason, broken: Broken) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.is_closed() {
            return;
        }
        let id = stream.id;
        if self.lost.is_none() {
            frame::put_rst_stream(self.out.frames(), id, reason.0);
        }
        self.end_early(key, broken);
        self.wake_driver();
    }

    fn end_early(&mut self, key: usize, broken: Broken) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.broken.get_or_insert(broken);
        stream.wake();
        let id = stream.id;
        self.streams.close(id);
        self.next_turn();
        self.look_after_end();
    }

    /// Forgets the id of a stream whose both sides have ended.
    fn settle(&mut self, key: usize) {
        let Some(stream) = self.streams.get(key) else { return };
        if !stream.is_closed() {
            return;
        }
        let (id, in_order, earns) = (stream.id, stream.broken.is_none(), !stream.is_refused);
        if self.streams.close(id) {
            if in_order {
                if earns {
                    self.resets.earn();
                    self.idle_frames.earn();
                }
                self.remember_end(id);
            }
            self.look_after_end();
        }
    }

    /// The peer has said its last word on this stream.
    fn remember_end(&mut self, id: u32) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }

    /// One handle more.
    pub(super) fn hold(&mut self, key: usize) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.handles += 1;
        }
    }

    /// One handle less; the last one ends the stream.
    pub(super) fn release(&mut self, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.handles -= 1;
        if stream.handles > 0 {
            return;
        }
        // A server that has answered in full needs no more of the request (RFC 9113 §8.1).
        let reason = match (self.role, stream.is_send_ended) {
            (Role::Server, true) => Reason::NO_ERROR,
            (Role::Server, false) => Reason::INTERNAL_ERROR,
            (Role::Client, _) => Reason::CANCEL,
        };
        let unread = stream.unread();
        self.reset(key, reason, Broken::Reset(reason));
        self.streams.remove(key);
        self.next_turn();
        if unread > 0 {
            self.give_back_on_connection(unread);
        }
    }

    fn wake_settings(&mut self) {
        if let Some(waker) = self.settings_waker.take() {
            waker.wake();
        }
    }

    pub(super) fn ping(&mut self) {
        frame::put_ping(self.out.frames(), 0, *b"gwproxy?");
    }
}
