//! A connection by itself: bytes in, bytes out, neither socket nor task nor clock. Whoever examines
//! the kernel from outside (fuzzing) drives it here as [`super::super::drive`] and the tasks of the
//! requests do in the proxy.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use super::receive::HELD_MAX;
use super::{Accepted, Bounds, Conn, INITIAL_FRAME_BYTES, Role, State};
use crate::h2::Reason;
use crate::h2::hpack::Encoder;
use crate::h2::stream::{Asks, Broken, Event};

/// One side of a connection.
#[derive(Debug)]
pub struct Engine {
    conn: Rc<Conn>,
    /// Bytes of a frame that is not all there.
    unread: BytesMut,
    /// The streams that someone holds.
    keys: Vec<usize>,
    malformed: usize,
}

/// What a connection holds in memory for its peer, or the most it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Streams, those included that were reset and are still held.
    pub streams: usize,
    /// Bytes of DATA that nobody has read.
    pub data_bytes: usize,
    /// Bytes of a field block whose end has not come.
    pub block_bytes: usize,
    /// Bytes of a frame that is not all there.
    pub frame_bytes: usize,
}

impl Engine {
    /// A server's side, for field sections of at most `section` bytes and `fields` fields.
    pub fn server(section: usize, fields: usize) -> Self {
        Self::new(Role::Server, Bounds { section, fields })
    }

    /// A client's side, for field sections of at most `section` bytes and `fields` fields.
    pub fn client(section: usize, fields: usize) -> Self {
        Self::new(Role::Client, Bounds { section, fields })
    }

    fn new(role: Role, bounds: Bounds) -> Self {
        let conn = Conn::new(role, bounds);
        Self { conn, unread: BytesMut::new(), keys: Vec::new(), malformed: 0 }
    }

    /// Receives bytes, cut anywhere.
    ///
    /// # Errors
    /// Why the connection has ended; [`Self::output`] says so to the peer.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Reason> {
        self.unread.extend_from_slice(bytes);
        let received = self.conn.with(|state| {
            let received = state.receive(&mut self.unread, now);
            while let Some(accepted) = state.accepted.pop_front() {
                match accepted {
                    Accepted::Request { key, .. } => self.keys.push(key),
                    Accepted::Malformed(_) => self.malformed += 1,
                }
            }
            received.inspect_err(|fault| state.fail(*fault))
        });
        received.map_err(|fault| fault.reason)
    }

    /// Sends a request, which has a body unless it `ends`; whether it could be sent (client).
    pub fn ask(&mut self, ends: bool) -> bool {
        let head = |encoder: &mut Encoder, out: &mut BytesMut| {
            Encoder::method(out, if ends { &Method::GET } else { &Method::POST });
            Encoder::scheme(out, false);
            encoder.authority(out, b"a.test");
            Encoder::path(out, "/");
        };
        let key = self.conn.with(|state| state.open(head, Asks::Content, ends));
        self.keys.extend(key);
        key.is_some()
    }

    /// Sends the head of a response on the `nth` stream that is held (server).
    pub fn answer(&mut self, nth: usize) {
        let ok = |_: &mut Encoder, out: &mut BytesMut| Encoder::status(out, StatusCode::OK);
        if let Some(&key) = self.keys.get(nth) {
            self.conn.with(|state| state.send_fields(key, ok, false));
        }
    }

    /// Sends `data` on the `nth` stream that is held, as far as windows and turns allow it now, and
    /// then the end if it `ends`; how many bytes went.
    pub fn send(&mut self, nth: usize, mut data: Bytes, ends: bool) -> usize {
        let Some(&key) = self.keys.get(nth) else { return 0 };
        let (cx, size) = (Context::from_waker(Waker::noop()), data.len());
        self.conn.with(|state| {
            while !data.is_empty() {
                let Poll::Ready(Ok(room)) = state.poll_capacity(&cx, key) else { break };
                let part = data.split_to(room.min(data.len()));
                let is_last = ends && data.is_empty();
                state.send_data(key, part, is_last);
            }
            if size == 0 && ends {
                state.send_data(key, Bytes::new(), true);
            }
        });
        size - data.len()
    }

    /// Reads what came on the `nth` stream that is held; how many bytes of DATA.
    pub fn read(&mut self, nth: usize) -> usize {
        let Some(&key) = self.keys.get(nth) else { return 0 };
        let cx = Context::from_waker(Waker::noop());
        self.conn.with(|state| {
            let mut read = 0;
            while let Poll::Ready(Some(Ok(event))) = state.poll_event(&cx, key) {
                match event {
                    Event::Data(data) => read += data.len(),
                    Event::Gathered(data) => read += data.len(),
                    Event::Trailers(_) => {}
                }
            }
            read
        })
    }

    /// Resets the `nth` stream that is held and lets go of it.
    pub fn cancel(&mut self, nth: usize) {
        if nth < self.keys.len() {
            let key = self.keys.remove(nth);
            self.conn.with(|state| {
                state.reset(key, Reason::CANCEL, Broken::Reset(Reason::CANCEL));
                state.release(key);
            });
        }
    }

    /// Streams that are held.
    pub fn held(&self) -> usize {
        self.keys.len()
    }

    /// Requests that were malformed, and reset for it.
    pub fn malformed(&self) -> usize {
        self.malformed
    }

    /// What is to be written, as if it had been.
    pub fn output(&mut self) -> Vec<u8> {
        self.conn.with(|state| state.out.take())
    }

    /// What it holds.
    pub fn load(&self) -> Load {
        self.conn.with(|state| Load {
            streams: state.streams.held(),
            data_bytes: state.streams.iter_mut().map(|stream| stream.unread()).sum(),
            block_bytes: state.block.as_ref().map_or(0, |block| block.bytes.len()),
            frame_bytes: self.unread.len(),
        })
    }

    /// The most it may hold.
    pub fn bound(&self) -> Load {
        self.conn.with(|state: &mut State| Load {
            streams: HELD_MAX,
            data_bytes: state.role.connection_window() as usize,
            block_bytes: 2 * state.bounds.section + INITIAL_FRAME_BYTES,
            frame_bytes: super::frame::HEAD_BYTES + INITIAL_FRAME_BYTES,
        })
    }
}
