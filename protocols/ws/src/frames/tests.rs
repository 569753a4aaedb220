//! RFC 6455 §5 rule by rule, and that no cut of the stream changes a verdict.

use proptest::prelude::*;

use super::*;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What happened in a stream, however it was cut.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Begin(Header),
    Payload(usize),
    End,
    Control(Opcode, Vec<u8>),
    After(usize),
    Refused(Violation),
}

/// Feeds `chunks` as a relay does: what is not taken is shown again with more behind it.
fn events<'a>(frames: &mut Frames, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut held = Vec::new();
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            let item = match frames.next(&held) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(violation) => {
                    events.push(Event::Refused(violation));
                    return events;
                }
            };
            match item {
                Item::Data { begins, bytes, ends } => {
                    events.extend(begins.map(Event::Begin));
                    let payload = bytes - begins.map_or(0, |header| header.header_bytes);
                    match events.last_mut() {
                        Some(Event::Payload(sum)) => *sum += payload,
                        _ => events.push(Event::Payload(payload)),
                    }
                    events.extend(ends.then_some(Event::End));
                }
                Item::Control(header) => {
                    let payload = header.control_payload(&held).as_slice().to_vec();
                    events.push(Event::Control(header.opcode, payload));
                }
                Item::AfterClose { bytes } => match events.last_mut() {
                    Some(Event::After(sum)) => *sum += bytes,
                    _ => events.push(Event::After(bytes)),
                },
            }
            assert!(item.bytes() <= held.len());
            held.drain(..item.bytes());
        }
        assert!(held.len() <= HELD_BYTES_MAX);
    }
    events
}

fn verdict(sender: Sender, extensions: bool, limits: Limits, bytes: &[u8]) -> Option<Violation> {
    let mut frames = Frames::new(sender, extensions, limits);
    events(&mut frames, [bytes]).into_iter().find_map(|event| match event {
        Event::Refused(violation) => Some(violation),
        _ => None,
    })
}

fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = vec![first];
    let mask = if key.is_some() { MASKED } else { 0 };
    match payload.len() {
        n @ 0..126 => frame.push(mask | n as u8),
        n @ 126..=0xffff => {
            frame.push(mask | 0x7e);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(mask | 0x7f);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(key.iter().flatten());
    let key = key.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

// The examples of RFC 6455 §5.7.
#[test]
fn the_examples_of_the_rfc() {
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(verdict(Sender::Server, false, Limits::OFF, &hello), None);
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(verdict(Sender::Client, false, Limits::OFF, &masked), None);
    let fragmented = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let mut frames = Frames::new(Sender::Server, false, Limits::OFF);
    let seen = events(&mut frames, [&fragmented[..]]);
    assert_eq!(seen.iter().filter(|event| **event == Event::End).count(), 2);
    assert_eq!(frames.messages(), 1);
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let mut frames = Frames::new(Sender::Client, false, Limits::OFF);
    let expected = vec![Event::Control(Opcode::Pong, b"Hello".to_vec())];
    assert_eq!(events(&mut frames, [&pong[..]]), expected);
}

// P61, T57: RFC 6455 §5.1.
#[test]
fn p61_masking_is_what_the_role_requires() {
    let (client, server) = (Sender::Client, Sender::Server);
    let open = frame(FIN | 1, b"x", None);
    let masked = frame(FIN | 1, b"x", Some([1, 2, 3, 4]));
    assert_eq!(verdict(client, false, Limits::OFF, &open), Some(Violation::Unmasked));
    assert_eq!(verdict(server, false, Limits::OFF, &masked), Some(Violation::Masked));
    assert_eq!(verdict(client, false, Limits::OFF, &masked), None);
    assert_eq!(verdict(server, false, Limits::OFF, &open), None);
}

// P62, T57: RFC 6455 §5.2, §5.4, §5.5, told as early as the bytes allow.
#[test]
fn p62_t57_every_violation_by_name() {
    let cases: &[(&[u8], Violation)] = &[
        (&[FIN | 0x40], Violation::ReservedBits),
        (&[FIN | 0x20], Violation::ReservedBits),
        (&[FIN | 0x10], Violation::ReservedBits),
        (&[FIN | 3], Violation::ReservedOpcode(3)),
        (&[FIN | 7], Violation::ReservedOpcode(7)),
        (&[FIN | 0xb], Violation::ReservedOpcode(0xb)),
        (&[FIN | 0xf], Violation::ReservedOpcode(0xf)),
        (&[0x08], Violation::ControlFragmented),
        (&[0x09], Violation::ControlFragmented),
        (&[0x0a], Violation::ControlFragmented),
        (&[FIN | 9, 126], Violation::ControlTooLong),
        (&[FIN | 8, 127], Violation::ControlTooLong),
        (&[FIN], Violation::ContinuationWithoutMessage),
        (&[0x00], Violation::ContinuationWithoutMessage),
        (&[0x01, 0, FIN | 2], Violation::MessageInterrupted),
        (&[0x02, 0, 0x01], Violation::MessageInterrupted),
        (&[FIN | 1, 126, 0, 125], Violation::LengthNotMinimal),
        (&[FIN | 1, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Violation::LengthNotMinimal),
        (&[FIN | 1, 127, 0x80], Violation::LengthOverflow),
        (&[FIN | 8, 1, 3], Violation::ClosePayload),
        (&[FIN | 8, 2, 3, 0xed], Violation::CloseCode(1005)),
        (&[FIN | 8, 2, 0, 0], Violation::CloseCode(0)),
        (&[FIN | 8, 3, 3, 0xe8, 0xff], Violation::CloseReason),
    ];
    for (bytes, violation) in cases {
        assert_eq!(
            verdict(Sender::Server, false, Limits::OFF, bytes),
            Some(*violation),
            "{bytes:x?}"
        );
        let expected = if *violation == Violation::CloseReason { 1007 } else { 1002 };
        assert_eq!(violation.close_code(), expected, "{violation}");
    }
}

/// T56.
#[test]
fn legal_at_the_edge() {
    let cases: &[&[u8]] = &[
        &[FIN | 1, 126, 0, 126],
        &[FIN | 1, 127, 0, 0, 0, 0, 0, 1, 0, 0],
        &[FIN | 1, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[FIN | 8, 0],
        &[FIN | 8, 2, 3, 0xe8],
        &[0x01, 0, FIN | 9, 0, 0x00, 0, FIN, 0, FIN | 2, 0],
    ];
    for bytes in cases {
        assert_eq!(verdict(Sender::Server, false, Limits::OFF, bytes), None, "{bytes:x?}");
    }
    // T56: with an extension RSV bits are its own affair, and nobody here inflates anything.
    assert_eq!(verdict(Sender::Server, true, Limits::OFF, &[FIN | 0x41, 0]), None);
}

// T55: empty fragments count; a flood of small ones ends at the limits.
#[test]
fn t55_fragments_and_sizes_are_bounded() {
    let limits = Limits { frame: Size::bytes(200), fragments: 1024, message: Size::bytes(1000) };
    let flood = |payload: &[u8], frames: usize| {
        let first = frame(0x02, payload, None);
        [first, frame(0x00, payload, None).repeat(frames - 1)].concat()
    };
    let verdict = |bytes: &[u8]| verdict(Sender::Server, false, limits, bytes);
    assert_eq!(verdict(&flood(b"", 1024)), None);
    assert_eq!(verdict(&flood(b"", 1025)), Some(Violation::FragmentsExceeded));
    assert_eq!(verdict(&flood(b"x", 1000)), None);
    assert_eq!(verdict(&flood(b"x", 1001)), Some(Violation::MessageTooBig));
    assert_eq!(verdict(&flood(&[0; 200], 5)), None);
    assert_eq!(verdict(&flood(&[0; 201], 1)), Some(Violation::FrameTooBig));
    // A message that ended owes nothing to the next one.
    assert_eq!(verdict(&frame(FIN | 2, &[0; 200], None).repeat(100)), None);
    for violation in
        [Violation::FragmentsExceeded, Violation::MessageTooBig, Violation::FrameTooBig]
    {
        assert_eq!(violation.close_code(), 1009);
    }
    // The largest lengths there are do not overflow the sum.
    let huge = [0x02, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(verdict(&huge), Some(Violation::FrameTooBig));
}

/// A stream of frames as `sender` may send them, mostly legal.
fn stream(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a]),
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    let length = prop_oneof![8 => 0..20usize, 2 => 120..130usize, 1 => 65_530..65_540usize];
    let payload = length.prop_map(|length| vec![b'a'; length]);
    prop::collection::vec((first, payload, any::<[u8; 4]>()), 0..12).prop_map(move |frames| {
        let frame = |(first, payload, key): (u8, Vec<u8>, [u8; 4])| {
            frame(first, &payload, (sender == Sender::Client).then_some(key))
        };
        frames.into_iter().flat_map(frame).collect()
    })
}

/// Any sender with a stream of its own.
fn any_stream() -> impl Strategy<Value = (Sender, Vec<u8>)> {
    prop_oneof![
        stream(Sender::Client).prop_map(|bytes| (Sender::Client, bytes)),
        stream(Sender::Server).prop_map(|bytes| (Sender::Server, bytes)),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (Sender::Client, bytes)),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (Sender::Server, bytes)),
    ]
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_gives_the_same_events(
        (sender, bytes) in any_stream(),
        sizes in prop::collection::vec(1..40usize, 1..8),
        extensions in any::<bool>(),
    ) {
        let limits = Limits { frame: Size::bytes(65_536), fragments: 5, message: Size::bytes(100_000) };
        let whole = events(&mut Frames::new(sender, extensions, limits), [&bytes[..]]);
        let bytewise = events(&mut Frames::new(sender, extensions, limits), bytes.chunks(1));
        prop_assert_eq!(&whole, &bytewise);

        let mut rest = &bytes[..];
        let chunks = sizes.iter().cycle().map_while(|&size| {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        });
        let cut = events(&mut Frames::new(sender, extensions, limits), chunks);
        prop_assert_eq!(&whole, &cut);
    }
}
