//! The cases: what is sent, how it is cut, and what becomes of it.

use crate::ws::frame::{CLOSE, Frame, PING, PONG, TEXT};

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;

/// A frame with reserved bits.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) rsv: u8,
    pub(super) frame: Frame,
}

/// How what is sent is cut into writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chops {
    Frames,
    Octets(usize),
    Whole,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// This many frames cross, of which the last is a Close.
    Closes(usize),
    /// All of it crosses.
    Passes,
    /// After this many frames the connection ends with this code.
    Refused(usize, u16),
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    /// Autobahn's.
    pub(super) number: String,
    pub(super) frames: Vec<Sent>,
    pub(super) chops: Chops,
    pub(super) verdict: Verdict,
    pub(super) compressed: bool,
}

impl Sent {
    pub(super) fn bytes(&self, masked: bool) -> Vec<u8> {
        let mut bytes = self.frame.bytes(masked);
        bytes[0] |= self.rsv << 4;
        bytes
    }
}

impl Case {
    fn new(number: &str, frames: &[Frame], chops: Chops, verdict: Verdict) -> Self {
        let frames = frames.iter().map(|frame| Sent { rsv: 0, frame: frame.clone() }).collect();
        Self { number: number.into(), frames, chops, verdict, compressed: false }
    }

    /// With these reserved bits in one of its frames.
    fn with_rsv(mut self, at: usize, rsv: u8) -> Self {
        self.frames[at].rsv = rsv;
        self
    }

    /// Its first frames as they are on the wire.
    pub(super) fn bytes(&self, count: usize, masked: bool) -> Vec<u8> {
        self.frames[..count].iter().flat_map(|sent| sent.bytes(masked)).collect()
    }
}

const WHOLE: Chops = Chops::Whole;
const FRAMES: Chops = Chops::Frames;
const OCTETS: Chops = Chops::Octets(1);
const PASSES: Verdict = Verdict::Passes;

/// The protocol is broken after this many frames.
const fn broken(after: usize) -> Verdict {
    Verdict::Refused(after, 1002)
}

/// A frame that is not the last of its message.
fn part(opcode: u8, payload: impl Into<Vec<u8>>) -> Frame {
    Frame { fin: false, ..Frame::new(opcode, payload) }
}

fn hello() -> Frame {
    Frame::new(TEXT, "Hello, world!")
}

/// The last frame of a message, or a frame of its own.
fn last(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(CONTINUATION, payload)
}

fn ping() -> Frame {
    Frame::new(PING, "ping payload")
}

/// A message in pieces of this size.
fn pieces(opcode: u8, message: &[u8], size: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> =
        message.chunks(size).map(|piece| part(CONTINUATION, piece)).collect();
    frames[0].opcode = opcode;
    if let Some(last) = frames.last_mut() {
        last.fin = true;
    }
    frames
}

pub(super) fn framing() -> Vec<Case> {
    let lengths = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536];
    let mut cases = Vec::new();
    for (group, opcode, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        for (at, length) in lengths.into_iter().enumerate() {
            let chops = if at == 7 { Chops::Octets(997) } else { WHOLE };
            let frame = Frame::new(opcode, vec![byte; length]);
            cases.push(Case::new(&format!("1.{group}.{}", at + 1), &[frame], chops, PASSES));
        }
    }
    cases
}

pub(super) fn pings() -> Vec<Case> {
    let long = |length| [Frame::new(PING, vec![0xfe; length])];
    let ten: Vec<Frame> =
        (0..10).map(|number| Frame::new(PING, format!("payload-{number}"))).collect();
    let (empty, pong) = (Frame::new(PONG, ""), Frame::new(PONG, "unsolicited pong payload"));
    vec![
        Case::new("2.1", &[Frame::new(PING, "")], WHOLE, PASSES),
        Case::new("2.2", &[Frame::new(PING, "Hello, world!")], WHOLE, PASSES),
        Case::new(
            "2.3",
            &[Frame::new(PING, [0, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0, 0xff])],
            WHOLE,
            PASSES,
        ),
        Case::new("2.4", &long(125), WHOLE, PASSES),
        Case::new("2.5", &long(126), WHOLE, broken(0)),
        Case::new("2.6", &long(125), OCTETS, PASSES),
        Case::new("2.7", std::slice::from_ref(&empty), WHOLE, PASSES),
        Case::new("2.8", std::slice::from_ref(&pong), WHOLE, PASSES),
        Case::new("2.9", &[pong, ping()], WHOLE, PASSES),
        Case::new("2.10", &ten, FRAMES, PASSES),
        Case::new("2.11", &ten, OCTETS, PASSES),
    ]
}

pub(super) fn reserved_bits() -> Vec<Case> {
    let three = [hello(), hello(), ping()];
    let binary = Frame::new(BINARY, [0, 0xff, 0xfe]);
    vec![
        Case::new("3.1", &[hello()], WHOLE, broken(0)).with_rsv(0, 1),
        Case::new("3.2", &three, WHOLE, broken(1)).with_rsv(1, 2),
        Case::new("3.3", &three, FRAMES, broken(1)).with_rsv(1, 3),
        Case::new("3.4", &three, OCTETS, broken(1)).with_rsv(1, 4),
        Case::new("3.5", &[binary], WHOLE, broken(0)).with_rsv(0, 5),
        Case::new("3.6", &[ping()], WHOLE, broken(0)).with_rsv(0, 6),
        Case::new("3.7", &[Frame::close(1000, "")], WHOLE, broken(0)).with_rsv(0, 7),
    ]
}

pub(super) fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (group, first) in [(1, 3), (2, 11)] {
        let number = |at: u8| format!("4.{group}.{}", at + 1);
        let behind = |at: u8, payload: &str| [hello(), Frame::new(first + at, payload), ping()];
        cases.extend([
            Case::new(&number(0), &[Frame::new(first, "")], WHOLE, broken(0)),
            Case::new(&number(1), &[Frame::new(first + 1, "reserved")], WHOLE, broken(0)),
            Case::new(&number(2), &behind(2, ""), WHOLE, broken(1)),
            Case::new(&number(3), &behind(3, "reserved"), WHOLE, broken(1)),
            Case::new(&number(4), &behind(4, "reserved"), OCTETS, broken(1)),
        ]);
    }
    cases
}

pub(super) fn fragmentation() -> Vec<Case> {
    let two = || [part(TEXT, "fragment1"), last("fragment2")];
    let around = [part(TEXT, "fragment1"), ping(), last("fragment2")];
    let mut cases = vec![
        Case::new("5.1", &[part(PING, "fragment1"), last("fragment2")], WHOLE, broken(0)),
        Case::new("5.2", &[part(PONG, "fragment1"), last("fragment2")], WHOLE, broken(0)),
    ];
    // Whole, by frames and by octets.
    let triples: [(u8, &[Frame], Verdict); 4] = [
        (3, &two(), PASSES),
        (6, &around, PASSES),
        (9, &[last("nothing to continue"), hello()], broken(0)),
        (12, &[part(CONTINUATION, "nothing to continue"), hello()], broken(0)),
    ];
    for (first, frames, verdict) in triples {
        for (number, chops) in (first..).zip([WHOLE, FRAMES, OCTETS]) {
            cases.push(Case::new(&format!("5.{number}"), frames, chops, verdict));
        }
    }
    let [first, second] = two();
    let more = [first, second, part(CONTINUATION, "fragment3"), Frame::new(TEXT, "fragment4")];
    let wrong_first = |fin| {
        let first = Frame { fin, ..last("fragment1") };
        let once = [first, part(TEXT, "fragment2"), last("fragment3")];
        [once.clone(), once].concat()
    };
    let five: Vec<Frame> = {
        let mut five = pieces(TEXT, b"fragment1fragment2fragment3fragment4fragment5", 9);
        five.insert(4, Frame::new(PING, "pongme 2!"));
        five.insert(2, Frame::new(PING, "pongme 1!"));
        five
    };
    let (text, again) = (part(TEXT, "fragment1"), Frame::new(TEXT, "fragment2"));
    cases.extend([
        Case::new("5.15", &more, WHOLE, broken(2)),
        Case::new("5.16", &wrong_first(false), WHOLE, broken(0)),
        Case::new("5.17", &wrong_first(true), WHOLE, broken(0)),
        Case::new("5.18", &[text, again], WHOLE, broken(1)),
        Case::new("5.19", &five, WHOLE, PASSES),
        Case::new("5.20", &five, FRAMES, PASSES),
    ]);
    cases
}

/// Valid and invalid alike: whole, in two pieces, and by octets in frames of their own.
pub(super) fn text() -> Vec<Case> {
    let empty = || [part(TEXT, ""), part(CONTINUATION, ""), last("")];
    let [first, _, end] = empty();
    let middle = [first, part(CONTINUATION, "middle frame payload"), end];
    let mut cases = vec![
        Case::new("6.1.1", &[Frame::new(TEXT, "")], WHOLE, PASSES),
        Case::new("6.1.2", &empty(), WHOLE, PASSES),
        Case::new("6.1.3", &middle, WHOLE, PASSES),
    ];
    let wrong = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    let texts: &[(&str, &[u8])] = &[
        ("6.2", "Hello-µ@ßöäüàá-UTF-8!!".as_bytes()),
        ("6.3", wrong),
        ("6.4", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited"),
        ("6.5", "κόσμε".as_bytes()),
        ("6.6", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"),
        ("6.7", b"\0\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80"),
        ("6.8", b"\xf8\x88\x80\x80\x80\xfc\x84\x80\x80\x80\x80"),
        ("6.9", b"\x7f\xdf\xbf\xef\xbf\xbf\xf4\x8f\xbf\xbf"),
        ("6.10", b"\xf7\xbf\xbf\xbf\xfb\xbf\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf\xbf"),
        ("6.11", b"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd\xf4\x90\x80\x80"),
        ("6.12", b"\x80\xbf\x80\xbf\x80\xbf\x80\xbf"),
        ("6.13", b"\xc0 \xc1 \xe0 \xf0 \xf8 \xfc "),
        ("6.14", b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf"),
        ("6.16", b"\xfe\xff\xfe\xfe\xff\xff"),
        ("6.17", b"\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf"),
        ("6.18", b"\xc1\xbf\xe0\x9f\xbf\xf0\x8f\xbf\xbf"),
        ("6.19", b"\xc0\x80\xe0\x80\x80\xf0\x80\x80\x80"),
        ("6.20", b"\xed\xa0\x80\xed\xad\xbf\xed\xae\x80\xed\xaf\xbf\xed\xb0\x80"),
        ("6.21", b"\xed\xa0\x80\xed\xb0\x80\xed\xaf\xbf\xed\xbf\xbf"),
        ("6.22", b"\xef\xbf\xbe\xef\xbf\xbf\xf0\x9f\xbf\xbe\xf4\x8f\xbf\xbf"),
        ("6.23", b"\xef\xbf\xb9\xef\xbf\xba\xef\xbf\xbb\xef\xbf\xbc\xef\xbf\xbd"),
    ];
    for (number, text) in texts {
        let half = pieces(TEXT, text, text.len() - text.len() / 2);
        let octets = pieces(TEXT, text, 1);
        cases.extend([
            Case::new(&format!("{number}, whole"), &[Frame::new(TEXT, *text)], WHOLE, PASSES),
            Case::new(&format!("{number}, in two"), &half, FRAMES, PASSES),
            Case::new(&format!("{number}, by octets"), &octets, OCTETS, PASSES),
        ]);
    }
    cases
}

pub(super) fn closing() -> Vec<Case> {
    let close = || Frame::close(1000, "");
    let reason = |length| Frame::close(1000, &"*".repeat(length));
    let large = Frame::new(TEXT, vec![b'B'; 256 * 1024]);
    let halves = [part(TEXT, "fragment1"), close(), last("fragment2")];
    let (one, bad) = (Frame::new(CLOSE, "a"), b"\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80");
    let mut cases = vec![
        Case::new("7.1.1", &[hello(), close()], WHOLE, Verdict::Closes(2)),
        Case::new("7.1.2", &[close(), close()], WHOLE, Verdict::Closes(1)),
        Case::new("7.1.3", &[close(), ping()], WHOLE, Verdict::Closes(1)),
        Case::new("7.1.4", &[close(), hello()], WHOLE, Verdict::Closes(1)),
        Case::new("7.1.5", &halves, WHOLE, Verdict::Closes(2)),
        Case::new("7.1.6", &[large, hello(), close(), ping()], WHOLE, Verdict::Closes(3)),
        Case::new("7.3.1", &[Frame::new(CLOSE, "")], WHOLE, Verdict::Closes(1)),
        Case::new("7.3.2", &[one], WHOLE, broken(0)),
        Case::new("7.3.3", &[close()], WHOLE, Verdict::Closes(1)),
        Case::new("7.3.4", &[Frame::close(1000, "Hello World!")], WHOLE, Verdict::Closes(1)),
        Case::new("7.3.5", &[reason(123)], WHOLE, Verdict::Closes(1)),
        Case::new("7.3.6", &[reason(124)], WHOLE, broken(0)),
        Case::new("7.5.1", &[Frame::new(CLOSE, bad)], WHOLE, Verdict::Refused(0, 1007)),
    ];
    // 1012 to 1014 were registered after RFC 6455.
    let valid = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 1012, 1013,
        1014,
    ];
    let invalid = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 1015, 5000, 65535];
    let tables: [(u8, &[u16], Verdict); 2] =
        [(7, &valid, Verdict::Closes(1)), (9, &invalid, broken(0))];
    for (group, codes, verdict) in tables {
        for code in codes {
            let number = format!("7.{group}, {code}");
            cases.push(Case::new(&number, &[Frame::close(*code, "")], WHOLE, verdict));
        }
    }
    cases
}

pub(super) fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (groups, opcode) in [([1, 3, 5], TEXT), ([2, 4, 6], BINARY)] {
        let content = |length: usize| vec![b'*'; length];
        let [whole, fragments, chops] = groups.map(|group| format!("9.{group}"));
        for length in [64 << 10, 256 << 10, 1 << 20] {
            let frame = Frame::new(opcode, content(length));
            let number = format!("{whole}, {length}");
            cases.push(Case::new(&number, std::slice::from_ref(&frame), WHOLE, PASSES));
        }
        for size in [1 << 10, 4 << 10, 64 << 10, 256 << 10] {
            let frames = pieces(opcode, &content(1 << 20), size);
            cases.push(Case::new(&format!("{fragments}, by {size}"), &frames, FRAMES, PASSES));
        }
        for size in [64, 256, 1024] {
            let frame = [Frame::new(opcode, content(64 << 10))];
            let number = format!("{chops}, by {size}");
            cases.push(Case::new(&number, &frame, Chops::Octets(size), PASSES));
        }
        for size in [0, 16, 1024] {
            let group = if opcode == TEXT { 7 } else { 8 };
            let messages = vec![Frame::new(opcode, content(size)); 1000];
            cases.push(Case::new(&format!("9.{group}, {size}"), &messages, WHOLE, PASSES));
        }
    }
    let frames = pieces(TEXT, &vec![b'*'; 65_536], 1300);
    cases.push(Case::new("10.1.1", &frames, FRAMES, PASSES));
    cases
}

/// RFC 7692 §7.2.3.1: "Hello" compressed, the same in fragments, and what inflates to nothing
/// good.
pub(super) fn compression() -> Vec<Case> {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let random: Vec<u8> =
        (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let first = Frame { fin: false, ..Frame::new(TEXT, &hello[..3]) };
    let cases = [
        Case::new("12, whole", &[Frame::new(TEXT, hello)], WHOLE, PASSES).with_rsv(0, 4),
        Case::new("12, in two", &[first, last(&hello[3..])], FRAMES, PASSES).with_rsv(0, 4),
        Case::new("12, no DEFLATE", &[Frame::new(BINARY, random)], WHOLE, PASSES).with_rsv(0, 4),
        Case::new("13, one message is not", &[self::hello()], OCTETS, PASSES),
    ];
    cases.into_iter().map(|case| Case { compressed: true, ..case }).collect()
}
