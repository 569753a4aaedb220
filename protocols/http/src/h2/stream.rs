//! The streams of a connection.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::Reason;
use crate::{Fields, ResponseParts};

/// Data frames up to this size are gathered while nobody reads them. Others keep the buffer alive
/// that they were read into, and that may be eight times as large; a peer must not make us hold
/// more than that for what it sends.
const TINY_BYTES: usize = 8 * 1024;
/// Until this many are gathered.
const GATHER_BYTES: usize = 16 * 1024;

/// One stream, for as long as someone holds a handle to it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// The response's head, on the client's side.
    pub(super) head: Option<ResponseParts>,
    /// Interim responses before it that nobody has taken yet.
    pub(super) hints: VecDeque<ResponseParts>,
    /// A final head was received.
    pub(super) has_head: bool,
    /// Interim responses received.
    pub(super) interim: u8,
    /// The oldest of what was not read. Most streams never have a second.
    first: Option<Event>,
    events: VecDeque<Event>,
    /// The peer has ended its side.
    pub(super) is_recv_ended: bool,
    /// We have ended ours.
    pub(super) is_send_ended: bool,
    /// The exchange ended early.
    pub(super) broken: Option<Broken>,
    /// Nobody reads any more: what comes is dropped.
    pub(super) is_ignored: bool,
    /// Its head was beyond the limits: its end in order is no honest work.
    pub(super) is_refused: bool,
    /// It waits for its turn to send.
    pub(super) is_queued: bool,
    /// The final head of the answer is out (server).
    pub(super) is_answered: bool,
    pub(super) send_window: i64,
    pub(super) recv_window: i64,
    /// Bytes that the peer may be ahead of the reader.
    pub(super) window: u32,
    /// Bytes that were taken out and are still with whoever took them.
    pub(super) in_hand: usize,
    /// Bytes read and not yet given back to the peer.
    pub(super) unreturned: u32,
    /// What `Content-Length` said is still to come.
    pub(super) expected: Option<u64>,
    /// What its request asks for (client).
    pub(super) asks: Asks,
    /// Where its head stands among the bytes of the connection (client).
    pub(super) asked_at: u64,
    pub(super) recv_waker: Option<Waker>,
    pub(super) send_waker: Option<Waker>,
    pub(super) handles: u8,
}

/// What a request asks for, as far as it changes what its answer's `Content-Length` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Content,
    /// HEAD: what there would be.
    Head,
    /// CONNECT: nothing, if there is a tunnel.
    Tunnel,
}

/// What a stream received.
#[derive(Debug)]
pub(super) enum Event {
    Data(Bytes),
    Gathered(BytesMut),
    Trailers(Fields),
}

impl Event {
    /// Bytes of the windows that it takes up.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Gathered(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}

/// Why a stream ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The peer reset it.
    Reset(Reason),
    /// The peer broke the rules; the stream was reset for it.
    Malformed(&'static str),
    /// It was given up for want of memory.
    Overloaded,
    /// The peer promises that it did not look at it (RFC 9113 §6.8).
    Unprocessed,
    /// The connection ended.
    Lost(&'static str),
}

impl Stream {
    pub(super) fn new(id: u32, send_window: i64, window: u32) -> Self {
        Self {
            id,
            head: None,
            hints: VecDeque::new(),
            has_head: false,
            interim: 0,
            first: None,
            events: VecDeque::new(),
            is_recv_ended: false,
            is_send_ended: false,
            broken: None,
            is_ignored: false,
            is_refused: false,
            is_queued: false,
            is_answered: false,
            send_window,
            recv_window: i64::from(window),
            window,
            in_hand: 0,
            unreturned: 0,
            expected: None,
            asks: Asks::Content,
            asked_at: 0,
            recv_waker: None,
            send_waker: None,
            handles: 1,
        }
    }

    /// Whether neither side will send any more.
    pub(super) fn is_closed(&self) -> bool {
        self.broken.is_some() || (self.is_recv_ended && self.is_send_ended)
    }

    pub(super) fn push_data(&mut self, data: Bytes) {
        if data.len() <= TINY_BYTES {
            match self.events.back_mut().or(self.first.as_mut()) {
                Some(Event::Gathered(last)) if last.len() + data.len() <= GATHER_BYTES => {
                    return last.extend_from_slice(&data);
                }
                Some(Event::Data(_) | Event::Gathered(_)) => {
                    let mut gathered = BytesMut::with_capacity(data.len().max(TINY_BYTES / 2));
                    gathered.extend_from_slice(&data);
                    return self.push(Event::Gathered(gathered));
                }
                _ => {}
            }
        }
        self.push(Event::Data(data));
    }

    fn push(&mut self, event: Event) {
        if self.first.is_none() {
            self.first = Some(event);
        } else {
            self.events.push_back(event);
        }
    }

    pub(super) fn push_trailers(&mut self, trailers: Fields) {
        self.push(Event::Trailers(trailers));
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let next = self.events.pop_front();
        std::mem::replace(&mut self.first, next)
    }

    /// Bytes received and not done with.
    pub(super) fn unread(&self) -> usize {
        self.in_hand + self.queued()
    }

    /// Bytes received and not taken.
    fn queued(&self) -> usize {
        self.first.iter().chain(&self.events).map(Event::len).sum()
    }

    /// Bytes of content that its reader has still to get, if the peer said how many.
    pub(super) fn to_come(&self) -> Option<u64> {
        if self.is_read() {
            return Some(0);
        }
        self.expected.map(|left| left + self.queued() as u64)
    }

    pub(super) fn clear(&mut self) {
        self.in_hand = 0;
        self.first = None;
        self.events.clear();
    }

    /// Nothing more will be read from it, in order.
    pub(super) fn is_read(&self) -> bool {
        self.is_recv_ended && self.first.is_none()
    }

    pub(super) fn wake_recv(&mut self) {
        if let Some(waker) = self.recv_waker.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_send(&mut self) {
        if let Some(waker) = self.send_waker.take() {
            waker.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        self.wake_recv();
        self.wake_send();
    }
}

/// Keeps the waker of the task that waits last.
pub(super) fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

/// Streams by key, and by id while they are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slab: Slab<Stream>,
    ids: HashMap<u32, usize, foldhash::fast::RandomState>,
}

impl Streams {
    pub(super) fn insert(&mut self, stream: Stream) -> usize {
        let id = stream.id;
        let key = self.slab.insert(stream);
        self.ids.insert(id, key);
        key
    }

    pub(super) fn get(&self, key: usize) -> Option<&Stream> {
        self.slab.get(key)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Stream> {
        self.slab.get_mut(key)
    }

    /// An open stream.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    /// The stream is closed: frames for it are late.
    pub(super) fn close(&mut self, id: u32) -> bool {
        self.ids.remove(&id).is_some()
    }

    /// Nobody holds it any more.
    pub(super) fn remove(&mut self, key: usize) {
        if let Some(stream) = self.slab.try_remove(key) {
            self.ids.remove(&stream.id);
        }
    }

    /// Streams that are open.
    pub(super) fn open(&self) -> usize {
        self.ids.len()
    }

    /// Streams that someone still holds, open or not.
    pub(super) fn held(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slab.iter_mut().map(|(_, stream)| stream)
    }
}
