//! What the peer sends (RFC 9113 §6), and what it may not.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http::StatusCode;

use super::ending::{FAREWELL, Farewell};
use super::{
    Accepted, Block, Fault, INITIAL_FRAME_BYTES, Role, STREAMS_MAX, State, TOO_LARGE_RESETS,
    WAITING_MAX, signed,
};
use crate::h2::Reason;
use crate::h2::frame::{
    self, ACK, END_HEADERS, END_STREAM, HEAD_BYTES, Head, Kind, PREFACE, PRIORITY, WINDOW_MAX,
    setting,
};
use crate::h2::head::Gathered;
use crate::h2::hpack::Section;
use crate::h2::stream::{Asks, Broken, Stream};

/// Interim responses taken for one request (RFC 9110 §15.2); more is an attack.
const INTERIM_MAX: u8 = crate::interim::INTERIM_MAX as u8;
/// Frames of one field block (CVE-2024-27316).
const BLOCK_FRAMES_MAX: u32 = 64;
/// Held streams, open or not, from which on new ones are refused: cancelled work must be put away
/// before there is more.
pub(super) const HELD_MAX: usize = 2 * STREAMS_MAX;

type Received = Result<(), Fault>;

fn fault(reason: Reason, text: &'static str) -> Received {
    Err(Fault { reason, text })
}

impl State {
    /// Takes whole frames off the front of `buf`.
    ///
    /// # Errors
    /// Why the connection must end.
    pub(in crate::h2) fn receive(&mut self, buf: &mut BytesMut, now: Instant) -> Received {
        if !self.has_preface {
            let known = buf.len().min(PREFACE.len());
            if buf.get(..known) != PREFACE.get(..known) {
                return fault(Reason::PROTOCOL_ERROR, "the connection preface is missing");
            }
            if known < PREFACE.len() {
                return Ok(());
            }
            buf.advance(known);
            self.has_preface = true;
        }
        while let Some(head) = Head::parse(buf) {
            if head.length > INITIAL_FRAME_BYTES {
                return fault(Reason::FRAME_SIZE_ERROR, "a frame above SETTINGS_MAX_FRAME_SIZE");
            }
            if !self.has_settings && (head.kind != Kind::Settings || head.has(ACK)) {
                return fault(Reason::PROTOCOL_ERROR, "the first frame is not SETTINGS");
            }
            let end = HEAD_BYTES + head.length;
            if buf.len() < end {
                return Ok(());
            }
            let in_block = self.block.as_ref().map(|block| block.stream);
            if in_block.is_some_and(|id| head.kind != Kind::Continuation || head.stream != id) {
                return fault(Reason::PROTOCOL_ERROR, "another frame within a field block");
            }
            self.frames += 1;
            if head.kind == Kind::Data {
                buf.advance(HEAD_BYTES);
                let payload = buf.split_to(head.length).freeze();
                self.data(&head, &payload, now)?;
            } else {
                let payload = buf.get(HEAD_BYTES..end).unwrap_or_default();
                self.control(&head, payload, now)?;
                buf.advance(end);
            }
        }
        Ok(())
    }

    fn control(&mut self, head: &Head, payload: &[u8], now: Instant) -> Received {
        match head.kind {
            Kind::Headers => return self.headers(head, payload, now),
            Kind::Continuation => return self.continuation(head, payload, now),
            Kind::PushPromise => {
                return fault(Reason::PROTOCOL_ERROR, "PUSH_PROMISE, which is switched off");
            }
            Kind::RstStream => return self.rst_stream(head, payload, now),
            _ => {}
        }
        self.charge_idle_frame(now)?;
        match head.kind {
            Kind::Settings => self.settings(head, payload),
            Kind::Ping => self.pinged(head, payload),
            Kind::GoAway => self.go_away(head, payload),
            Kind::WindowUpdate => self.window_update(head, payload, now),
            Kind::Priority => self.priority(head, payload, now),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: &Head, payload: &Bytes, now: Instant) -> Received {
        if head.stream == 0 {
            return fault(Reason::PROTOCOL_ERROR, "DATA on stream 0");
        }
        let size = signed(payload.len());
        self.recv_window -= size;
        if self.recv_window < 0 {
            return fault(Reason::FLOW_CONTROL_ERROR, "DATA beyond the connection's window");
        }
        let Some((from, to)) = frame::without_padding(head, payload) else {
            return fault(Reason::PROTOCOL_ERROR, "padding longer than its frame");
        };
        let Some(key) = self.streams.find(head.stream) else {
            self.give_back_on_connection(payload.len());
            // What crossed our reset costs its sender more than us, but for empty frames.
            return self.late(head.stream, payload.is_empty(), now);
        };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.is_recv_ended {
            self.give_back_on_connection(payload.len());
            return self.stream_error(key, Reason::STREAM_CLOSED, "DATA after END_STREAM", now);
        }
        stream.recv_window -= size;
        if stream.recv_window < 0 {
            self.give_back_on_connection(payload.len());
            let text = "DATA beyond the stream's window";
            return self.stream_error(key, Reason::FLOW_CONTROL_ERROR, text, now);
        }
        let waits = i64::from(stream.window) - stream.recv_window > WAITING_MAX;
        if waits && self.is_out_of_memory && self.role == Role::Server {
            self.give_back_on_connection(payload.len());
            self.reset(key, Reason::ENHANCE_YOUR_CALM, Broken::Overloaded);
            return Ok(());
        }
        let data = payload.slice(from..to);
        let wrong = match &mut stream.expected {
            _ if self.role == Role::Client && !stream.has_head => Some("DATA before the head"),
            Some(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    let is_short = rest > 0 && head.has(END_STREAM);
                    is_short.then_some("the content is shorter than Content-Length")
                }
                None => Some("the content is longer than Content-Length"),
            },
            None => None,
        };
        if let Some(text) = wrong {
            self.give_back_on_connection(payload.len());
            return self.stream_error(key, Reason::PROTOCOL_ERROR, text, now);
        }
        if head.has(END_STREAM) {
            stream.is_recv_ended = true;
        } else if data.is_empty() && !self.idle_frames.take(now) {
            return fault(Reason::ENHANCE_YOUR_CALM, "too many frames without content");
        }
        let is_ignored = stream.is_ignored;
        let unwanted = if is_ignored { payload.len() } else { payload.len() - data.len() };
        if !data.is_empty() && !is_ignored {
            stream.push_data(data);
        }
        stream.wake_recv();
        self.give_back(key, unwanted);
        self.settle(key);
        Ok(())
    }

    fn headers(&mut self, head: &Head, payload: &[u8], now: Instant) -> Received {
        if head.stream == 0 {
            return fault(Reason::PROTOCOL_ERROR, "HEADERS on stream 0");
        }
        let Some((mut from, to)) = frame::without_padding(head, payload) else {
            return fault(Reason::PROTOCOL_ERROR, "padding longer than its frame");
        };
        if head.has(PRIORITY) {
            if to < from + 5 {
                return fault(Reason::FRAME_SIZE_ERROR, "a HEADERS frame cut short");
            }
            from += 5;
        }
        let fragment = payload.get(from..to).unwrap_or_default();
        if head.has(END_HEADERS) {
            return self.fields(head.stream, head.has(END_STREAM), fragment, now);
        }
        let ends_stream = head.has(END_STREAM);
        let bytes = fragment.to_vec();
        self.block = Some(Block { stream: head.stream, ends_stream, bytes, frames: 1 });
        Ok(())
    }

    fn continuation(&mut self, head: &Head, payload: &[u8], now: Instant) -> Received {
        let Some(block) = self.block.as_mut() else {
            return fault(Reason::PROTOCOL_ERROR, "CONTINUATION without HEADERS");
        };
        block.frames += 1;
        // Coded fields may be larger than what they say, but seldom, and never by much.
        if block.frames > BLOCK_FRAMES_MAX
            || block.bytes.len() + payload.len() > 2 * self.bounds.section
        {
            return fault(Reason::ENHANCE_YOUR_CALM, "a field block without end");
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(END_HEADERS) {
            return Ok(());
        }
        let Some(block) = self.block.take() else { return Ok(()) };
        self.fields(block.stream, block.ends_stream, &block.bytes, now)
    }

    /// A whole field block. It is decoded in any case: the compression's state depends on it.
    fn fields(&mut self, id: u32, ends: bool, block: &[u8], now: Instant) -> Received {
        let mut fields = Gathered::default();
        let max = self.bounds.fields;
        let section = self
            .decoder
            .decode(block, self.bounds.section, |field| fields.take(field, max))
            .map_err(|bad| Fault { reason: Reason::COMPRESSION_ERROR, text: bad.0 })?;
        if let Some(key) = self.streams.find(id) {
            return self.more_fields(key, fields, section, ends, now);
        }
        if self.role == Role::Server && id % 2 == 1 && id > self.last_id {
            return self.request(id, fields, section, ends, now);
        }
        if self.role == Role::Server && fields.is_head() && !self.ended.contains(&id) {
            return fault(Reason::PROTOCOL_ERROR, "a stream id that is not above the last one");
        }
        self.late(id, true, now)
    }

    fn request(
        &mut self,
        id: u32,
        fields: Gathered,
        section: Section,
        ends: bool,
        now: Instant,
    ) -> Received {
        if self.farewell == Farewell::Said {
            // RFC 9113 §6.8: the client was told that it is not served, and may send it elsewhere.
            return Ok(());
        }
        self.last_id = id;
        if self.streams.open() >= STREAMS_MAX || self.streams.held() >= HELD_MAX {
            frame::put_rst_stream(self.out.frames(), id, Reason::REFUSED_STREAM.0);
            // Nothing was begun, and a client that has not seen our SETTINGS cannot know.
            return self.charge_idle_frame(now);
        }
        self.opened += 1;
        let head = fields.request(section, self.bounds.fields);
        let head = head.and_then(|head| match head.length {
            Some(1..) if ends && *head.request.method() != Method::CONNECT => {
                Err("the content is shorter than Content-Length")
            }
            _ => Ok(head),
        });
        let head = match head {
            Ok(head) => head,
            Err(reason) => {
                frame::put_rst_stream(self.out.frames(), id, Reason::PROTOCOL_ERROR.0);
                self.accepted.push_back(Accepted::Malformed(reason));
                return self.charge_reset(now);
            }
        };
        let mut stream = Stream::new(id, self.initial_window, self.role.stream_window());
        stream.expected = head.length;
        stream.is_recv_ended = ends;
        stream.is_refused = head.is_too_large;
        let key = self.streams.insert(stream);
        let (request, is_too_large) = (head.request, head.is_too_large);
        self.accepted.push_back(Accepted::Request { key, request, is_too_large });
        if is_too_large && !self.resets.take_many(TOO_LARGE_RESETS, now) {
            return fault(Reason::ENHANCE_YOUR_CALM, "too many heads beyond the limits");
        }
        Ok(())
    }

    /// Fields on an open stream: a response's head, or trailers.
    fn more_fields(
        &mut self,
        key: usize,
        fields: Gathered,
        section: Section,
        ends: bool,
        now: Instant,
    ) -> Received {
        let max = self.bounds.fields;
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.is_recv_ended {
            let text = "HEADERS after END_STREAM";
            return self.stream_error(key, Reason::STREAM_CLOSED, text, now);
        }
        if self.role == Role::Server || stream.has_head {
            let trailers = match fields.trailers(section, max) {
                _ if !ends => Err("trailers that do not end the stream"),
                _ if stream.expected.is_some_and(|left| left > 0) => {
                    Err("the content is shorter than Content-Length")
                }
                trailers => trailers,
            };
            match trailers {
                Ok(trailers) => {
                    stream.is_recv_ended = true;
                    if !stream.is_ignored {
                        stream.push_trailers(trailers);
                    }
                    stream.wake_recv();
                    self.settle(key);
                    return Ok(());
                }
                Err(text) => return self.stream_error(key, Reason::PROTOCOL_ERROR, text, now),
            }
        }
        let head = match fields.response(section, max) {
            Ok(head) => head,
            Err(text) => return self.stream_error(key, Reason::PROTOCOL_ERROR, text, now),
        };
        let status = head.parts.status;
        if status.is_informational() {
            stream.interim += 1;
            if ends || stream.interim > INTERIM_MAX {
                let text = "interim responses without a final one";
                return self.stream_error(key, Reason::PROTOCOL_ERROR, text, now);
            }
            // That the content is wanted, its sender sees by itself: it was never held back.
            if status != StatusCode::CONTINUE {
                stream.hints.push_back(head.parts);
                stream.wake_recv();
            }
            return Ok(());
        }
        let has_no_content = stream.asks == Asks::Head
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        stream.expected = match stream.asks {
            // RFC 9110 §9.3.6: then its length means nothing.
            Asks::Tunnel if status.is_success() => None,
            _ if has_no_content => Some(0),
            _ => head.length,
        };
        if ends && stream.expected.is_some_and(|length| length > 0) {
            let text = "the content is shorter than Content-Length";
            return self.stream_error(key, Reason::PROTOCOL_ERROR, text, now);
        }
        stream.has_head = true;
        stream.is_recv_ended = ends;
        stream.head = Some(head.parts);
        stream.wake_recv();
        self.settle(key);
        Ok(())
    }

    fn rst_stream(&mut self, head: &Head, payload: &[u8], now: Instant) -> Received {
        let Ok(reason) = <[u8; 4]>::try_from(payload) else {
            return fault(Reason::FRAME_SIZE_ERROR, "RST_STREAM is not four bytes");
        };
        let reason = Reason(u32::from_be_bytes(reason));
        let Some(key) = self.streams.find(head.stream) else {
            return self.late_but_harmless(head.stream, true, now);
        };
        self.end_early(key, Broken::Reset(reason));
        // Nothing may follow it.
        self.remember_end(head.stream);
        self.charge_reset(now)
    }

    /// A stream was given up for the peer's sake: work for nothing. A node can only give up what
    /// we have asked of it, and a proxy's streams to it belong to many.
    fn charge_reset(&mut self, now: Instant) -> Received {
        if self.role == Role::Client || self.resets.take(now) {
            return Ok(());
        }
        fault(Reason::ENHANCE_YOUR_CALM, "too many streams reset")
    }

    fn stream_error(
        &mut self,
        key: usize,
        reason: Reason,
        text: &'static str,
        now: Instant,
    ) -> Received {
        self.reset(key, reason, Broken::Malformed(text));
        self.charge_reset(now)
    }

    /// A frame for a stream that is not open: a mistake, or it crossed our reset.
    fn late(&mut self, id: u32, costs: bool, now: Instant) -> Received {
        if self.ended.contains(&id) {
            return fault(Reason::STREAM_CLOSED, "a frame for a stream that has ended");
        }
        self.late_but_harmless(id, costs, now)
    }

    fn late_but_harmless(&mut self, id: u32, costs: bool, now: Instant) -> Received {
        if self.is_idle(id) {
            return fault(Reason::PROTOCOL_ERROR, "a frame for a stream that was never opened");
        }
        if costs { self.charge_idle_frame(now) } else { Ok(()) }
    }

    fn charge_idle_frame(&mut self, now: Instant) -> Received {
        if self.idle_frames.take(now) {
            return Ok(());
        }
        fault(Reason::ENHANCE_YOUR_CALM, "too many frames without content")
    }

    fn is_idle(&self, id: u32) -> bool {
        // Requests that crossed our last GOAWAY are not served; the rest of them comes as well.
        let was_told = self.role == Role::Server && self.farewell == Farewell::Said;
        id.is_multiple_of(2) || (id > self.last_id && !was_told)
    }

    fn settings(&mut self, head: &Head, payload: &[u8]) -> Received {
        if head.stream != 0 {
            return fault(Reason::PROTOCOL_ERROR, "SETTINGS on a stream");
        }
        if head.has(ACK) {
            return match payload.len() {
                0 => Ok(()),
                _ => fault(Reason::FRAME_SIZE_ERROR, "an acknowledgement with content"),
            };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return fault(Reason::FRAME_SIZE_ERROR, "SETTINGS is not a multiple of six bytes");
        }
        let window = self.initial_window;
        for &[a, b, c, d, e, f] in settings {
            let (name, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            self.set(name, value)?;
        }
        self.shift_windows(self.initial_window - window)?;
        self.has_settings = true;
        self.wake_settings();
        frame::put_head(self.out.frames(), 0, Kind::Settings, ACK, 0);
        self.wake_senders();
        Ok(())
    }

    fn set(&mut self, name: u16, value: u32) -> Received {
        match name {
            setting::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            setting::ENABLE_PUSH if (value > 1 || (value == 1 && self.role == Role::Client)) => {
                return fault(Reason::PROTOCOL_ERROR, "a bad SETTINGS_ENABLE_PUSH");
            }
            setting::MAX_CONCURRENT_STREAMS => self.streams_max = value as usize,
            setting::INITIAL_WINDOW_SIZE => {
                if i64::from(value) > WINDOW_MAX {
                    return fault(Reason::FLOW_CONTROL_ERROR, "a window above 2^31-1");
                }
                self.initial_window = i64::from(value);
            }
            setting::MAX_FRAME_SIZE => {
                if !(16_384..=16_777_215).contains(&value) {
                    return fault(Reason::PROTOCOL_ERROR, "a bad SETTINGS_MAX_FRAME_SIZE");
                }
                // Larger frames would only let one stream hold up the others.
                self.frame_bytes = INITIAL_FRAME_BYTES;
            }
            // To a server it means nothing.
            setting::ENABLE_CONNECT_PROTOCOL if self.role == Role::Client => {
                if value > 1 || (value == 0 && self.takes_protocols) {
                    let text = "a bad SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)";
                    return fault(Reason::PROTOCOL_ERROR, text);
                }
                self.takes_protocols = value == 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn pinged(&mut self, head: &Head, payload: &[u8]) -> Received {
        if head.stream != 0 {
            return fault(Reason::PROTOCOL_ERROR, "PING on a stream");
        }
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return fault(Reason::FRAME_SIZE_ERROR, "PING is not eight bytes");
        };
        if !head.has(ACK) {
            frame::put_ping(self.out.frames(), ACK, payload);
        } else if payload == FAREWELL && self.is_farewell_announced() {
            self.say_farewell();
        }
        Ok(())
    }

    fn go_away(&mut self, head: &Head, payload: &[u8]) -> Received {
        if head.stream != 0 {
            return fault(Reason::PROTOCOL_ERROR, "GOAWAY on a stream");
        }
        let Some(&last) = payload.first_chunk::<4>().filter(|_| payload.len() >= 8) else {
            return fault(Reason::FRAME_SIZE_ERROR, "GOAWAY is shorter than eight bytes");
        };
        let last = u32::from_be_bytes(last) & 0x7fff_ffff;
        self.is_peer_leaving = true;
        if self.role == Role::Client {
            let given_up = |stream: &&mut Stream| stream.id > last && !stream.is_closed();
            let ids: Vec<u32> = self.streams.iter_mut().filter(given_up).map(|s| s.id).collect();
            for id in ids {
                if let Some(key) = self.streams.find(id) {
                    self.end_early(key, Broken::Unprocessed);
                }
            }
        }
        Ok(())
    }

    fn window_update(&mut self, head: &Head, payload: &[u8], now: Instant) -> Received {
        let Ok(more) = <[u8; 4]>::try_from(payload) else {
            return fault(Reason::FRAME_SIZE_ERROR, "WINDOW_UPDATE is not four bytes");
        };
        let more = i64::from(u32::from_be_bytes(more) & 0x7fff_ffff);
        if head.stream == 0 {
            if more == 0 {
                return fault(Reason::PROTOCOL_ERROR, "a WINDOW_UPDATE of 0");
            }
            self.send_window += more;
            if self.send_window > WINDOW_MAX {
                return fault(Reason::FLOW_CONTROL_ERROR, "a window above 2^31-1");
            }
            self.next_turn();
            return Ok(());
        }
        let Some(key) = self.streams.find(head.stream) else {
            if self.is_idle(head.stream) {
                let text = "a frame for a stream that was never opened";
                return fault(Reason::PROTOCOL_ERROR, text);
            }
            return Ok(());
        };
        if more == 0 {
            let text = "a WINDOW_UPDATE of 0";
            return self.stream_error(key, Reason::PROTOCOL_ERROR, text, now);
        }
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        stream.send_window += more;
        if stream.send_window > WINDOW_MAX {
            let text = "a window above 2^31-1";
            return self.stream_error(key, Reason::FLOW_CONTROL_ERROR, text, now);
        }
        stream.wake_send();
        Ok(())
    }

    /// RFC 9113 §5.3: obsolete, but its form is checked.
    fn priority(&mut self, head: &Head, payload: &[u8], now: Instant) -> Received {
        if head.stream == 0 {
            return fault(Reason::PROTOCOL_ERROR, "PRIORITY on stream 0");
        }
        if payload.len() == 5 {
            return Ok(());
        }
        match self.streams.find(head.stream) {
            Some(key) => {
                let text = "PRIORITY is not five bytes";
                self.stream_error(key, Reason::FRAME_SIZE_ERROR, text, now)
            }
            None => fault(Reason::FRAME_SIZE_ERROR, "PRIORITY is not five bytes"),
        }
    }
}
