//! P62: the cases of the Autobahn test suite that are about the protocol, by their numbers, with
//! each side as the one that sends.
//!
//! Autobahn tests an endpoint; this is what is between two of them. What an endpoint must take
//! crosses byte for byte, and so does its answer; what it must fail is refused to both sides, with
//! the code of RFC 6455 §7.4.1, and nothing of it or behind it crosses. Section 6 differs: text is
//! opaque here (T57), so what is no UTF-8 crosses as well, and the verdict of the endpoint goes
//! back. Sections 9 and 10 are sizes, not speeds; 12 and 13, compression, are opaque bytes.

mod cases;

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use self::cases::{Case, Chops, Verdict};
use super::frame::{CLOSE, Frame, PING, PONG, handshake, switching};
use super::messages::ws;
use crate::support::{Conn, Origin, PATIENCE, Proxy};

/// One end of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Node,
}

/// A proxy, and the connections that its node accepts.
struct Bench {
    proxy: Proxy,
    accepted: Receiver<TcpStream>,
    _node: Origin,
}

impl Bench {
    fn new(extensions: &'static str) -> Self {
        let (give, accepted) = channel();
        let give = Mutex::new(give);
        let node = Origin::start(move |peer| {
            if peer.head().is_some() {
                peer.send(switching(extensions));
                let stream = peer.stream.try_clone().expect("a socket can be shared");
                // The test may be over.
                let _ = give.lock().map(|give| give.send(stream));
            }
        });
        let proxy = ws(&format!("ws://{}", node.addr()), &["--access-log", "off"]);
        Self { proxy, accepted, _node: node }
    }

    /// Both ends of a new WebSocket.
    #[track_caller]
    fn open(&self, extensions: &str) -> (Conn, Conn) {
        let mut client = Conn::open(self.proxy.addr(0));
        assert_eq!(client.ask(handshake("/", extensions)).status(), 101);
        (client, Conn::of(self.accepted.recv_timeout(PATIENCE).expect("it reached the node")))
    }

    /// Plays one case; panics with what went wrong.
    fn play(&self, case: &Case, from: Side) {
        let (mut client, mut node) = self.open(if case.compressed { DEFLATE } else { "" });
        let (sender, receiver) = match from {
            Side::Client => (&mut client, &mut node),
            Side::Node => (&mut node, &mut client),
        };
        let masked = from == Side::Client;
        let crossing = match case.verdict {
            Verdict::Passes => case.frames.len(),
            Verdict::Closes(count) | Verdict::Refused(count, _) => count,
        };
        let expected = case.bytes(crossing, masked);
        let mut got = vec![0; expected.len()];
        let mut output = Conn::of(sender.stream.try_clone().expect("a socket can be shared"));
        std::thread::scope(|scope| {
            scope.spawn(|| send(&mut output, case, masked));
            receiver.stream.read_exact(&mut got).expect("all that may cross");
        });
        assert!(got == expected, "it changed on its way");
        match case.verdict {
            Verdict::Passes => {
                answer(case, sender, receiver, masked);
                sender.send(Frame::close(1000, "").bytes(masked));
                assert_eq!(Frame::read(&mut receiver.stream, masked), Some(Frame::close(1000, "")));
                ends(receiver, sender, &Frame::close(1000, ""), masked);
            }
            Verdict::Closes(count) => {
                let close = &case.frames[count - 1].frame;
                assert_eq!(close.opcode, CLOSE);
                ends(receiver, sender, close, masked);
            }
            Verdict::Refused(_, code) => {
                for (side, masked) in [(&mut *sender, !masked), (&mut *receiver, masked)] {
                    let told = Frame::read(&mut side.stream, masked).expect("a Close");
                    assert_eq!((told.opcode, &told.payload[..2]), (CLOSE, &code.to_be_bytes()[..]));
                }
                receiver.send(Frame::close(code, "").bytes(!masked));
            }
        }
        // Nothing more comes to anybody.
        node.finish();
        client.assert_ends();
        drop(client);
        node.assert_ends();
    }
}

/// What compresses, as both sides say it.
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// Sends the frames of a case, cut as it says.
fn send(output: &mut Conn, case: &Case, masked: bool) {
    let all = case.bytes(case.frames.len(), masked);
    match case.chops {
        Chops::Frames => {
            for sent in &case.frames {
                output.send(sent.bytes(masked));
            }
        }
        Chops::Octets(size) => {
            for piece in all.chunks(size) {
                output.send(piece);
            }
        }
        Chops::Whole => {
            output.send(all);
        }
    }
}

/// The receiver's answer, as Autobahn asks for: messages again, and a pong for each ping.
#[track_caller]
fn answer(case: &Case, sender: &mut Conn, receiver: &mut Conn, masked: bool) {
    let frames = case.frames.iter().filter(|sent| sent.frame.opcode != PONG);
    let mut sent = Vec::new();
    for each in frames {
        let mut each = each.clone();
        if each.frame.opcode == PING {
            each.frame.opcode = PONG;
        }
        sent.extend(each.bytes(!masked));
    }
    let mut got = vec![0; sent.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| receiver.send(&sent));
        sender.stream.read_exact(&mut got).expect("all of the answer");
    });
    assert!(got == sent, "the answer changed on its way");
}

/// The receiver answers a Close with it; its sender gets that.
#[track_caller]
fn ends(receiver: &mut Conn, sender: &mut Conn, close: &Frame, masked: bool) {
    receiver.send(close.bytes(!masked));
    assert_eq!(Frame::read(&mut sender.stream, !masked).as_ref(), Some(close));
}

/// Plays the cases from both sides; all that fail are told, by their numbers.
#[track_caller]
fn hold(extensions: &'static str, cases: &[Case]) {
    let bench = Bench::new(extensions);
    let mut failed = Vec::new();
    for case in cases {
        for from in [Side::Client, Side::Node] {
            let play = std::panic::AssertUnwindSafe(|| bench.play(case, from));
            if std::panic::catch_unwind(play).is_err() {
                failed.push(format!("{} from the {from:?}", case.number));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn p62_autobahn_1_and_2_framing_and_pings() {
    hold("", &[cases::framing(), cases::pings()].concat());
}

#[test]
fn p62_autobahn_3_and_4_reserved_bits_and_opcodes() {
    hold("", &[cases::reserved_bits(), cases::opcodes()].concat());
}

#[test]
fn p62_autobahn_5_fragmentation() {
    hold("", &cases::fragmentation());
}

/// T57: what is no UTF-8 is the endpoint's to judge.
#[test]
fn p62_autobahn_6_text_is_opaque() {
    hold("", &cases::text());
    let bench = Bench::new("");
    for masked in [true, false] {
        let (mut client, mut node) = bench.open("");
        let (sender, judge) =
            if masked { (&mut client, &mut node) } else { (&mut node, &mut client) };
        let wrong = Frame::new(super::frame::TEXT, [0xed, 0xa0, 0x80]);
        sender.send(wrong.bytes(masked));
        assert_eq!(Frame::read(&mut judge.stream, masked), Some(wrong));
        let verdict = Frame::close(1007, "not UTF-8");
        ends(judge, sender, &verdict, masked);
        sender.send(Frame::close(1007, "").bytes(masked));
        assert_eq!(Frame::read(&mut judge.stream, masked), Some(Frame::close(1007, "")));
    }
}

#[test]
fn p62_autobahn_7_closing() {
    hold("", &cases::closing());
}

#[test]
fn p62_autobahn_9_and_10_sizes() {
    hold("", &cases::sizes());
}

/// T56: nothing is inflated, so nothing of it can be wrong here.
#[test]
fn p62_autobahn_12_and_13_compression_is_opaque() {
    hold(DEFLATE, &cases::compression());
}
