//! A whole HTTP/2 connection without its socket: whatever a peer sends, it stays within its bounds
//! and says only what the protocol allows.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use gwproxy_http::h2::hpack::Decoder;
use gwproxy_http::h2::{Engine, Reason};

use crate::mutate::Rng;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS without a parameter.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SECTION_BYTES: usize = 2048;

/// What happens next.
#[derive(Debug)]
enum Step {
    /// The peer sends this.
    Hear(Vec<u8>),
    /// Whoever holds the nth stream does something.
    Act(u8, usize),
}

/// Steps of which most frames are whole: an act is two bytes, what and on which stream; a frame is
/// four, what, flags, stream and length, and its payload.
fn steps(mut rest: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        rest = match *rest {
            [act @ 0x80..=0xff, nth, ref behind @ ..] => {
                steps.push(Step::Act(act & 7, usize::from(nth)));
                behind
            }
            [what, flags, stream, length, ref after @ ..] => {
                let (frame, behind) = frame(what, flags, stream, length, after);
                steps.push(Step::Hear(frame));
                behind
            }
            _ => return steps,
        };
    }
}

/// A frame, and what follows its payload.
fn frame(what: u8, flags: u8, stream: u8, length: u8, after: &[u8]) -> (Vec<u8>, &[u8]) {
    let (payload, behind) = after.split_at(usize::from(length).min(after.len()));
    let mut payload = payload.to_vec();
    if what & 0x40 != 0 {
        // Filled up to what seldom fits into an input.
        payload.resize(usize::from(length) * 65, 0);
    }
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[what & 0x0f, flags, 0, 0, 0, stream]);
    frame.append(&mut payload);
    (frame, behind)
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    result: Result<(), Reason>,
    said: Vec<u8>,
    heard: usize,
    read: usize,
    sent: usize,
    answers: usize,
    malformed: usize,
    held: usize,
}

fn run(is_server: bool, steps: &[Step], now: Instant, mut cut: Option<Rng>) -> Outcome {
    let new = if is_server { Engine::server } else { Engine::client };
    let mut engine = new(SECTION_BYTES, 50);
    let mut outcome = Outcome {
        result: Ok(()),
        said: Vec::new(),
        heard: 0,
        read: 0,
        sent: 0,
        answers: 0,
        malformed: 0,
        held: 0,
    };
    if !is_server {
        engine.ask(true);
        engine.ask(false);
    }
    for step in steps {
        match step {
            Step::Hear(bytes) => {
                let pieces = cut.as_mut().map_or_else(|| vec![&bytes[..]], |rng| rng.pieces(bytes));
                outcome.heard += bytes.len();
                outcome.result = pieces.iter().try_for_each(|piece| {
                    engine.receive(piece, now)?;
                    within_bounds(&engine);
                    Ok(())
                });
            }
            Step::Act(what, nth) => act(&mut engine, !is_server, *what, *nth, &mut outcome),
        }
        if outcome.result.is_err() {
            break;
        }
    }
    outcome.said = engine.output();
    outcome.malformed = engine.malformed();
    outcome.held = engine.held();
    outcome
}

fn act(engine: &mut Engine, is_client: bool, what: u8, nth: usize, outcome: &mut Outcome) {
    let nth = if engine.held() == 0 { 0 } else { nth % engine.held() };
    match what {
        0 if !is_client => {
            engine.answer(nth);
            outcome.answers += 1;
        }
        1 => outcome.sent += engine.send(nth, Bytes::from_static(&[b'x'; 5000]), false),
        2 => outcome.sent += engine.send(nth, Bytes::from_static(b"bye"), true),
        3 => outcome.read += engine.read(nth),
        4 => {
            outcome.read += engine.read(nth);
            engine.cancel(nth);
        }
        5 if is_client && engine.held() < 50 => {
            engine.ask(nth.is_multiple_of(2));
            outcome.answers += 1;
        }
        _ => {}
    }
}

fn within_bounds(engine: &Engine) {
    let (load, most) = (engine.load(), engine.bound());
    assert!(load.streams <= most.streams, "{load:?}");
    assert!(load.data_bytes <= most.data_bytes, "{load:?}");
    assert!(load.block_bytes <= most.block_bytes, "{load:?}");
    assert!(load.frame_bytes <= most.frame_bytes, "{load:?}");
}

/// The first byte says which side we are and whether frames are made of what follows or are what
/// follows. The same comes of it however it is cut, within bounds; and what we say is HTTP/2.
pub(super) fn connection(data: &[u8]) {
    let Some((&knobs, data)) = data.split_first() else { return };
    let is_server = knobs & 1 == 0;
    let hello = if is_server { [PREFACE, SETTINGS].concat() } else { SETTINGS.to_vec() };
    let mut all = if knobs & 4 == 0 { vec![Step::Hear(hello)] } else { Vec::new() };
    if knobs & 2 == 0 {
        all.extend(steps(data));
    } else {
        all.push(Step::Hear(data.to_vec()));
    }
    let now = Instant::now();
    let whole = run(is_server, &all, now, None);
    let cut = run(is_server, &all, now, Some(Rng::of(data)));
    assert_eq!(whole, cut, "cut differently");

    let Outcome { said, heard, sent, answers, .. } = &whole;
    let most = 600 + 4 * heard + 10 * sent + 40 * answers;
    assert!(said.len() <= most, "{} bytes in answer to {heard}", said.len());
    check_frames(said, is_server, whole.result);
}

/// What is said must be frames in an order that RFC 9113 allows.
fn check_frames(said: &[u8], is_server: bool, result: Result<(), Reason>) {
    let mut rest = if is_server { said } else { said.strip_prefix(PREFACE).unwrap_or_default() };
    let (mut over, mut block) = (HashSet::new(), None::<(u32, Vec<u8>)>);
    let (mut decoder, mut is_first, mut last_kind) = (Decoder::default(), true, 0xff);
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some((payload, behind)) = after.split_at_checked(length) else {
            panic!("half a frame of kind {kind}");
        };
        rest = behind;
        assert!(!std::mem::take(&mut is_first) || (kind == 4 && flags == 0), "no SETTINGS first");
        assert!(id >> 31 == 0 && kind <= 9 && kind != 5 && kind != 2, "kind {kind} on {id:#x}");
        let on_connection = matches!(kind, 4 | 6 | 7);
        assert!(kind == 8 || on_connection == (id == 0), "kind {kind} on {id}");
        assert_eq!(block.is_some(), kind == 9, "a field block is broken up");
        let number = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk().copied());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        match kind {
            0 | 1 => {
                assert!(!over.contains(&id), "kind {kind} on {id}, which is over");
                if flags & 1 != 0 {
                    over.insert(id);
                }
                if kind == 1 {
                    block = Some((id, payload.to_vec()));
                }
            }
            3 => {
                assert_eq!(length, 4);
                over.insert(id);
            }
            4 => assert!(length.is_multiple_of(6) && (flags & 1 == 0 || length == 0)),
            6 => assert_eq!(length, 8),
            7 => assert!(length >= 8),
            8 => assert!(length == 4 && (1..1 << 31).contains(&number(0))),
            _ => {
                let Some((stream, bytes)) = &mut block else { unreachable!("checked above") };
                assert_eq!(*stream, id);
                bytes.extend_from_slice(payload);
            }
        }
        if matches!(kind, 1 | 9) && flags & 4 != 0 {
            let (_, bytes) = block.take().unwrap_or_default();
            let decoded = decoder.decode(&bytes, usize::MAX, |_| {});
            assert!(decoded.is_ok(), "a field block that nobody can decode");
        }
        last_kind = kind;
        if kind == 7 && rest.is_empty() {
            assert_eq!(result.err().map(|reason| reason.0), Some(number(4)), "another reason");
        }
    }
    assert!(rest.is_empty() && block.is_none(), "the last frame is not whole");
    assert!(result.is_ok() || last_kind == 7, "a connection ends without a word");
}
