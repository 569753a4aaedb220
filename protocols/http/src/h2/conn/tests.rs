//! The kernel, byte for byte: no socket, no clock.

mod attacks;
mod pairs;
mod rules;
mod turns;

use std::fmt::Write as _;
use std::task::Waker;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use http::HeaderName;
use http::header::HeaderValue;
use proptest::prelude::*;

use super::frame::{ACK, END_HEADERS, END_STREAM, Kind};
use super::receive::HELD_MAX;
use super::*;
use crate::h2::tests::frames::{
    GET, OK, POST, Sent, data, frame_of, go_away, headers, reset, sent, settings, window,
};

const BOUNDS: Bounds = Bounds { section: 16 * 1024, fields: 100 };
/// One side of a connection whose other side is bytes.
struct Side {
    conn: Rc<Conn>,
    now: Instant,
    /// Requests taken, by key.
    keys: Vec<usize>,
    malformed: usize,
}

impl Side {
    /// A server whose client has said hello.
    fn server() -> Self {
        let mut server = Self::silent(Role::Server);
        server.hear(frame::PREFACE).unwrap();
        server.hear(&settings(&[])).unwrap();
        server.said();
        server
    }

    /// A client whose server has said hello.
    fn client() -> Self {
        let mut client = Self::silent(Role::Client);
        client.hear(&settings(&[])).unwrap();
        client.said();
        client
    }

    fn silent(role: Role) -> Self {
        let conn = Conn::new(role, BOUNDS);
        Self { conn, now: Instant::now(), keys: Vec::new(), malformed: 0 }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        self.conn.with(act)
    }

    /// Receives bytes, which are whole frames.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut buf = BytesMut::from(bytes);
        let heard = self.with(|state| state.receive(&mut buf, self.now));
        self.take_accepted();
        assert!(heard.is_err() || buf.is_empty(), "frames are taken whole");
        if heard.is_ok() {
            self.check();
        }
        heard
    }

    /// The reason for which the connection ends at these bytes.
    #[track_caller]
    fn ends_at(&mut self, bytes: &[u8]) -> Reason {
        self.hear(bytes).expect_err("it should end").reason
    }

    fn take_accepted(&mut self) {
        while let Some(accepted) = self.with(|state| state.accepted.pop_front()) {
            match accepted {
                Accepted::Request { key, .. } => self.keys.push(key),
                Accepted::Malformed(_) => self.malformed += 1,
            }
        }
    }

    /// What was sent since the last look.
    fn said(&self) -> Vec<Sent> {
        sent(&self.with(|state| state.out.take()))
    }

    /// The code with which `stream` was reset since the last look.
    fn reset_of(&self, stream: u32) -> Option<Reason> {
        let said = self.said();
        said.iter().find(|s| s.kind == Kind::RstStream && s.stream == stream).map(Sent::reason)
    }

    /// A request that the client sends, by its key.
    fn ask(&self, ends: bool) -> usize {
        let head = |encoder: &mut Encoder, out: &mut BytesMut| {
            Encoder::method(out, &http::Method::GET);
            Encoder::scheme(out, false);
            encoder.authority(out, b"a");
            Encoder::path(out, "/");
        };
        self.with(|state| state.open(head, Asks::Content, ends)).expect("a stream")
    }

    /// Answers in full and lets the stream go.
    fn answer(&self, key: usize) {
        let ok = |_: &mut Encoder, out: &mut BytesMut| {
            Encoder::status(out, StatusCode::OK);
        };
        self.with(|state| {
            state.send_fields(key, ok, true);
            state.release(key);
        });
    }

    /// What `stream` received next, as text: data, `end` or why it broke.
    fn event(&self, key: usize) -> Option<String> {
        let cx = Context::from_waker(Waker::noop());
        match self.with(|state| state.poll_event(&cx, key)) {
            Poll::Pending => None,
            Poll::Ready(None) => Some("end".to_owned()),
            Poll::Ready(Some(Ok(Event::Data(data)))) => Some(format!("{} bytes", data.len())),
            Poll::Ready(Some(Ok(Event::Gathered(data)))) => Some(format!("{} bytes", data.len())),
            Poll::Ready(Some(Ok(Event::Trailers(_)))) => Some("trailers".to_owned()),
            Poll::Ready(Some(Err(broken))) => Some(format!("{broken:?}")),
        }
    }

    /// What must hold at any time.
    #[track_caller]
    fn check(&self) {
        self.with(|state| {
            assert!(state.ended.len() <= ENDED_MAX);
            assert!(state.streams.held() <= HELD_MAX, "{} streams", state.streams.held());
            assert!(state.streams.open() <= state.streams.held());
            let window = state.role.connection_window();
            assert!(state.recv_window <= i64::from(window));
            assert!(state.send_window <= frame::WINDOW_MAX);
            let mut unread = 0;
            for stream in state.streams.iter_mut() {
                assert!(stream.recv_window <= i64::from(stream.window));
                assert!(stream.unread() <= stream.window as usize);
                unread += stream.unread();
            }
            assert!(unread <= window as usize, "{unread} bytes unread");
            if let Some(block) = &state.block {
                assert!(block.bytes.len() <= 2 * state.bounds.section + INITIAL_FRAME_BYTES);
            }
        });
    }
}

/// Frames a peer might send, most of them valid on their own.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![8 => 0..12u32, 1 => any::<u32>()];
    let kinds = vec![
        Kind::Data,
        Kind::Headers,
        Kind::Priority,
        Kind::RstStream,
        Kind::Settings,
        Kind::PushPromise,
        Kind::Ping,
        Kind::GoAway,
        Kind::WindowUpdate,
        Kind::Continuation,
        Kind::Unknown,
    ];
    let odd = (0..12u32).prop_map(|n| 2 * n + 1);
    let block = prop::sample::select(vec![GET, POST, OK, &[0x88, 0x84], &[0x80], &[]]);
    let setting = (1..8u16, prop_oneof![Just(0u32), 0..100_000u32, any::<u32>()]);
    let kind = prop::sample::select(kinds);
    prop_oneof![
        1 => (kind, any::<u8>(), id, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, id, payload)| frame_of(kind, flags, id, &payload)),
        6 => (odd.clone(), block, any::<bool>()).prop_map(|(id, b, end)| headers(id, b, end)),
        4 => (odd.clone(), 0..16_384usize, any::<bool>()).prop_map(|(id, n, end)| data(id, n, end)),
        2 => odd.clone().prop_map(reset),
        3 => (prop_oneof![Just(0), odd], prop_oneof![0..100_000u32, any::<u32>()])
            .prop_map(|(id, more)| window(id, more)),
        2 => prop::collection::vec(setting, 0..4).prop_map(|all| settings(&all)),
        1 => (0..20u32).prop_map(go_away),
    ]
}

/// What is left of a connection after these bytes, given in pieces of these sizes.
fn outcome(role: Role, bytes: &[u8], sizes: &[usize]) -> (Result<(), Fault>, Vec<Sent>, String) {
    let mut side = Side::silent(role);
    if role == Role::Client {
        side.ask(true);
        side.ask(false);
        side.said();
    }
    let (mut buf, mut rest, mut result) = (BytesMut::new(), bytes, Ok(()));
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() && result.is_ok() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(usize::MAX).min(rest.len()));
        buf.put_slice(piece);
        rest = after;
        result = side.with(|state| state.receive(&mut buf, side.now));
        if result.is_ok() {
            side.check();
        }
    }
    side.take_accepted();
    let mut seen = format!("{:?} {}", side.keys, side.malformed);
    for key in 0..40 {
        while let Some(event) = side.event(key).filter(|event| event.ends_with(" bytes")) {
            seen += &event;
        }
        let _ = write!(seen, "{:?} ", side.event(key));
    }
    (result, side.said(), seen)
}

proptest! {
    /// Whatever comes, however it is cut: no panic, within bounds, and the same in the end.
    #[test]
    fn arbitrary_frames_however_they_are_cut(
        frames in prop::collection::vec(any_frame(), 0..60),
        sizes in prop::collection::vec(1..5000usize, 1..20),
        is_server in any::<bool>(),
    ) {
        let role = if is_server { Role::Server } else { Role::Client };
        let preface = if is_server { frame::PREFACE } else { &[] };
        let bytes = [preface.to_vec(), settings(&[]), frames.concat()].concat();
        prop_assert_eq!(outcome(role, &bytes, &[usize::MAX]), outcome(role, &bytes, &sizes));
    }

    /// Bytes that are no frames at all.
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..500),
        sizes in prop::collection::vec(1..50usize, 1..5),
        with_preface in any::<bool>(),
    ) {
        let preface = if with_preface { frame::PREFACE } else { &[] };
        let bytes = [preface, &bytes].concat();
        prop_assert_eq!(
            outcome(Role::Server, &bytes, &[usize::MAX]),
            outcome(Role::Server, &bytes, &sizes)
        );
    }
}

fn field(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}
