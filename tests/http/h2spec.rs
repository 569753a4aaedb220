//! P50: the cases of h2spec by their numbers, in its strict form: the error code is exact, and so
//! is whether a stream ends or the connection.
//!
//! h2spec is of RFC 7540; where RFC 9113 says otherwise the case says so. Each case has a
//! connection of its own, without TLS, in front of a node of HTTP/1.1. One that goes on must still
//! answer a PING and a request behind the case.

mod cases;

use std::collections::{BTreeSet, VecDeque};

use self::cases::{Case, Outcome, Step};
use crate::support::h2::{Frame, PREFACE, flag, kind};
use crate::support::{Conn, Origin, Proxy, text};

/// The content of the node's answers.
const CONTENT: &[u8] = b"content";
/// The last question of each case: this PING, and a request on this stream.
const LAST_PING: &[u8; 8] = b"last one";
const LAST_STREAM: u32 = 1001;

/// A connection, and what came on it until now.
struct Talk {
    conn: Conn,
    /// Streams that ended in order.
    ended: BTreeSet<u32>,
    data: VecDeque<(u32, usize)>,
    resets: Vec<(u32, u32)>,
    pongs: VecDeque<Vec<u8>>,
    acknowledged: usize,
    farewell: Option<u32>,
    is_over: bool,
}

impl Talk {
    fn open(proxy: &Proxy) -> Self {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(PREFACE);
        Self {
            conn,
            ended: BTreeSet::new(),
            data: VecDeque::new(),
            resets: Vec::new(),
            pongs: VecDeque::new(),
            acknowledged: 0,
            farewell: None,
            is_over: false,
        }
    }

    /// Reads one frame.
    fn hear(&mut self) {
        let Some(frame) = Frame::read(&mut self.conn.stream) else {
            self.is_over = true;
            return;
        };
        let acknowledges = frame.flags & flag::ACK != 0;
        match frame.kind {
            kind::RST_STREAM => self.resets.push((frame.stream, frame.error())),
            kind::GOAWAY => self.farewell = Some(frame.error()),
            kind::PING if acknowledges => self.pongs.push_back(frame.payload),
            kind::SETTINGS if acknowledges => self.acknowledged += 1,
            kind::DATA | kind::HEADERS => {
                if frame.kind == kind::DATA && !frame.payload.is_empty() {
                    self.data.push_back((frame.stream, frame.payload.len()));
                }
                if frame.flags & flag::END_STREAM != 0 {
                    self.ended.insert(frame.stream);
                }
            }
            _ => {}
        }
    }

    /// Reads until there is an answer.
    #[track_caller]
    fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(!self.is_over, "{what}: it ended, {:?} {:?}", self.farewell, self.resets);
            self.hear();
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Acknowledged(count) => {
                self.until("SETTINGS", |talk| (talk.acknowledged == *count).then_some(()));
            }
            Step::Answered(stream) => {
                self.until("an answer", |talk| talk.ended.contains(stream).then_some(()));
            }
            Step::Data(stream, size) => {
                let came = self.until("DATA", |talk| talk.data.pop_front());
                assert_eq!(came, (*stream, *size));
            }
            Step::Pong(payload) => {
                let came = self.until("a pong", |talk| talk.pongs.pop_front());
                assert_eq!(text(&came), text(*payload));
            }
            Step::Send(bytes) => {
                self.conn.send(bytes);
            }
        }
    }
}

/// Plays one case; panics with what went wrong.
fn play(proxy: &Proxy, case: &Case) {
    let mut talk = Talk::open(proxy);
    case.steps.iter().for_each(|step| talk.take(step));
    let wanted = match case.outcome {
        Outcome::Ends(code) => {
            while !talk.is_over {
                talk.hear();
            }
            assert_eq!((talk.farewell, &talk.resets[..]), (Some(code), &[][..]));
            return;
        }
        Outcome::GoesOn => None,
        Outcome::Resets(stream, code) => Some((stream, code)),
    };
    if wanted.is_some() {
        talk.until("RST_STREAM", |talk| (!talk.resets.is_empty()).then_some(()));
    }
    // HEAD, for which no window is needed.
    let last = cases::request(LAST_STREAM, flag::END_STREAM, &[(b":method", b"HEAD")]);
    talk.take(&Step::Send([cases::ping(0, LAST_PING), last].concat()));
    talk.take(&Step::Pong(LAST_PING));
    talk.take(&Step::Answered(LAST_STREAM));
    assert_eq!(talk.resets, Vec::from_iter(wanted));
    assert_eq!(talk.farewell, None);
}

/// Answers what is not below `/held`.
fn node() -> Origin {
    Origin::start(|peer| {
        while let Some(request) = peer.request() {
            if request.target().starts_with("/held") {
                peer.wait_end();
                return;
            }
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CONTENT.len()));
            if !request.start.starts_with("HEAD ") {
                peer.send(CONTENT);
            }
        }
    })
}

/// Plays the cases; all that fail are told, by their numbers.
#[track_caller]
fn hold(cases: &[Case]) {
    let origin = node();
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut failed = Vec::new();
    for case in cases {
        let play = std::panic::AssertUnwindSafe(|| play(&proxy, case));
        if std::panic::catch_unwind(play).is_err() {
            failed.push(case.number);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn p50_h2spec_generic_what_is_right_goes_on() {
    hold(&[cases::generic(), cases::generic_hpack()].concat());
}

#[test]
fn p50_h2spec_4_frames_and_field_blocks() {
    hold(&cases::frames());
}

#[test]
fn p50_h2spec_5_streams() {
    hold(&cases::streams());
}

#[test]
fn p50_h2spec_6_1_to_6_4_data_headers_priority_resets() {
    hold(&cases::of_streams());
}

#[test]
fn p50_h2spec_6_5_to_6_8_settings_pings_farewells() {
    hold(&cases::of_connections());
}

#[test]
fn p50_h2spec_6_9_and_6_10_windows_and_continuations() {
    hold(&[cases::windows(), cases::continuations()].concat());
}

#[test]
fn p50_h2spec_7_and_8_messages() {
    hold(&cases::messages());
}

#[test]
fn p50_h2spec_hpack() {
    hold(&cases::hpack());
}

/// generic/1/1, http2/3.5: a connection begins with its preface. What is none on a port that also
/// speaks HTTP/1.1 is HTTP/1.1, and refused as such; what stops being one is no connection at all.
#[test]
fn p50_h2spec_3_5_the_preface() {
    let origin = node();
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let mut talk = Talk::open(&proxy);
    talk.take(&Step::Acknowledged(1));
    let refused = Conn::open(proxy.addr(0)).send("INVALID CONNECTION PREFACE\r\n\r\n").rest();
    assert!(text(&refused).starts_with("HTTP/1.1 400 "), "{}", text(&refused));
    // What does not go on as one ends the connection; whether it says so is its own affair.
    for cut in [b"PRI * HTTP/2.0\r\n\r\nSM\r\nXX".as_slice(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let answer = Conn::open(proxy.addr(0)).send(cut).rest();
        assert!(!text(&answer).contains(" 200 "), "{}", text(&answer));
    }
    assert_eq!(origin.connections(), 0);
}
