//! The cases: what is sent, what is waited for in between, and what becomes of it.

use super::CONTENT;
use crate::support::h2::{Frame, flag, kind};

use flag::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY};

/// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;

/// Settings (RFC 9113 §6.5.2).
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

const FRAME_BYTES: usize = 16_384;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Streams that the proxy lets a client open.
const STREAMS: u32 = 100;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// So many SETTINGS of ours are acknowledged.
    Acknowledged(usize),
    /// This stream has ended in order.
    Answered(u32),
    /// The next DATA that is not empty is this stream's, of this size.
    Data(u32, usize),
    /// The next pong is this one.
    Pong(&'static [u8; 8]),
    Send(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// The connection ends with this code, and no stream before it.
    Ends(u32),
    GoesOn,
    /// This stream ends with this code, and nothing else.
    Resets(u32, u32),
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    /// h2spec's.
    pub(super) number: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) outcome: Outcome,
}

/// The connection ends with this code.
fn ends(number: &'static str, bytes: Vec<u8>, code: u32) -> Case {
    Case { number, steps: vec![Step::Send(bytes)], outcome: Outcome::Ends(code) }
}

/// Stream 1 ends with this code.
fn resets(number: &'static str, bytes: Vec<u8>, code: u32) -> Case {
    Case { number, steps: vec![Step::Send(bytes)], outcome: Outcome::Resets(1, code) }
}

/// Stream 1 is answered.
fn answers(number: &'static str, bytes: Vec<u8>) -> Case {
    goes_on(number, vec![Step::Send(bytes), Step::Answered(1)])
}

fn goes_on(number: &'static str, steps: Vec<Step>) -> Case {
    Case { number, steps, outcome: Outcome::GoesOn }
}

/// First stream 1 is used up by a request and its answer.
fn after_an_answer(case: Case) -> Case {
    let first = [Step::Send(get()), Step::Answered(1)];
    Case { steps: first.into_iter().chain(case.steps).collect(), ..case }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Vec<u8> {
    Frame::new(kind, flags, stream, payload).bytes()
}

/// A request; a field that is given here replaces the one of its name, or is one more.
pub(super) fn request(stream: u32, flags: u8, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut fields: Vec<(&[u8], &[u8])> =
        vec![(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")];
    for (name, value) in more {
        match fields.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => fields.push((name, value)),
        }
    }
    Frame::headers(stream, flags | END_HEADERS, &fields).bytes()
}

/// Stream 1: a request that is whole.
fn get() -> Vec<u8> {
    request(1, END_STREAM, &[])
}

/// Stream 1: one whose content follows.
fn post() -> Vec<u8> {
    request(1, 0, &[(b":method", b"POST")])
}

/// A whole request that gets no answer.
fn held(stream: u32) -> Vec<u8> {
    request(stream, END_STREAM, &[(b":path", b"/held")])
}

/// Stream 1: one whose content follows and that gets no answer.
fn held_post() -> Vec<u8> {
    request(1, 0, &[(b":method", b"POST"), (b":path", b"/held")])
}

/// Stream 1: exactly these fields, and `END_STREAM`.
fn fields(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    Frame::headers(1, END_STREAM | END_HEADERS, fields).bytes()
}

/// The field block of [`get`].
fn block() -> Vec<u8> {
    vec![0x82, 0x86, 0x84, 0x01, 1, b'a']
}

/// Stream 1: a request with this behind its fields, as HPACK has it.
fn coded(more: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, [&block(), more].concat())
}

fn data(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, 1, payload)
}

/// A field block's beginning, and CONTINUATION of it.
fn opened() -> Vec<u8> {
    frame(kind::HEADERS, END_STREAM, 1, block())
}

fn continuation(flags: u8, stream: u32) -> Vec<u8> {
    // `x: y`, a literal without indexing.
    frame(kind::CONTINUATION, flags, stream, [0, 1, b'x', 1, b'y'])
}

fn priority(stream: u32, depends_on: u32, weight: u8) -> Vec<u8> {
    let payload = [&depends_on.to_be_bytes()[..], &[weight]].concat();
    frame(kind::PRIORITY, 0, stream, payload)
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, code.to_be_bytes())
}

fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let bytes =
        |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(kind::SETTINGS, 0, 0, all.iter().flat_map(bytes).collect::<Vec<u8>>())
}

pub(super) fn ping(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::PING, flags, 0, payload)
}

fn goaway(code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, [[0; 4], code.to_be_bytes()].concat())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, more.to_be_bytes())
}

/// One behind the other.
fn all<const N: usize>(parts: &[Vec<u8>; N]) -> Vec<u8> {
    parts.concat()
}

/// A client's GOAWAY is about pushes, which there are none of: its requests are served.
pub(super) fn generic() -> Vec<Case> {
    let exclusive = 1 << 31 | 3;
    let padded = [&[4][..], &block(), &[0; 4]].concat();
    let with_priority = [&[0, 0, 0, 3, 15][..], &block()].concat();
    let trailers = Frame::headers(1, END_STREAM | END_HEADERS, &[(b"x-trailer", b"1")]).bytes();
    let head = END_STREAM | END_HEADERS;
    vec![
        goes_on("generic/1/1", vec![Step::Acknowledged(1)]),
        answers("generic/2/1", all(&[priority(1, 0, 0), get()])),
        answers("generic/2/2", all(&[get(), window(1, 1)])),
        answers("generic/2/3", all(&[get(), priority(1, 0, 255)])),
        goes_on("generic/2/4", vec![Step::Send(all(&[held(1), reset(1, CANCEL)]))]),
        after_an_answer(goes_on("generic/2/5", vec![Step::Send(priority(1, 0, 255))])),
        answers("generic/3.1/1", all(&[post(), data(END_STREAM, b"test")])),
        answers("generic/3.1/2", all(&[post(), data(0, b"test"), data(END_STREAM, b"test")])),
        answers("generic/3.1/3", all(&[post(), data(END_STREAM | PADDED, b"\x02test\0\0")])),
        answers("generic/3.2/1", get()),
        answers("generic/3.2/2", frame(kind::HEADERS, head | PADDED, 1, padded)),
        answers("generic/3.2/3", frame(kind::HEADERS, head | PRIORITY, 1, with_priority)),
        answers("generic/3.3/1", all(&[priority(1, 0, 0), get()])),
        answers("generic/3.3/2", all(&[priority(1, 0, 255), get()])),
        answers("generic/3.3/3", all(&[priority(1, 3, 255), get()])),
        answers("generic/3.3/4", all(&[priority(1, exclusive, 255), get()])),
        answers("generic/3.3/5", all(&[priority(5, 0, 255), get()])),
        goes_on("generic/3.4/1", vec![Step::Send(all(&[held(1), reset(1, CANCEL)]))]),
        goes_on("generic/3.5/1", vec![Step::Send(settings(&[])), Step::Acknowledged(2)]),
        goes_on(
            "generic/3.7/1",
            vec![Step::Send(ping(0, b"h2spec\0\0")), Step::Pong(b"h2spec\0\0")],
        ),
        answers("generic/3.8/1", all(&[goaway(0), get()])),
        answers("generic/3.9/1", all(&[window(0, 1), get()])),
        answers("generic/3.9/2", all(&[get(), window(1, 1)])),
        answers("generic/3.10/1", all(&[opened(), continuation(END_HEADERS, 1)])),
        answers(
            "generic/3.10/2",
            all(&[opened(), continuation(0, 1), continuation(END_HEADERS, 1)]),
        ),
        answers("generic/4/1", get()),
        answers("generic/4/2", request(1, END_STREAM, &[(b":method", b"HEAD")])),
        answers("generic/4/3", all(&[post(), data(END_STREAM, b"test")])),
        answers("generic/4/4", all(&[post(), data(0, b"test"), trailers])),
    ]
}

/// Every representation of HPACK (RFC 7541 §6), as it is and in Huffman's code.
pub(super) fn generic_hpack() -> Vec<Case> {
    // `a` as a value is 0x1f in Huffman's code; names are indexed (58: user-agent) or `a`.
    let fields: [(&'static str, &[u8]); 13] = [
        ("generic/5/1", &[0x90]),
        ("generic/5/2", &[0x7a, 1, b'a']),
        ("generic/5/3", &[0x7a, 0x81, 0x1f]),
        ("generic/5/4", &[0x40, 1, b'a', 1, b'a']),
        ("generic/5/5", &[0x40, 0x81, 0x1f, 0x81, 0x1f]),
        ("generic/5/6", &[0x0f, 43, 1, b'a']),
        ("generic/5/7", &[0x0f, 43, 0x81, 0x1f]),
        ("generic/5/8", &[0, 1, b'a', 1, b'a']),
        ("generic/5/9", &[0, 0x81, 0x1f, 0x81, 0x1f]),
        ("generic/5/10", &[0x1f, 43, 1, b'a']),
        ("generic/5/11", &[0x1f, 43, 0x81, 0x1f]),
        ("generic/5/12", &[0x10, 1, b'a', 1, b'a']),
        ("generic/5/13", &[0x10, 0x81, 0x1f, 0x81, 0x1f]),
    ];
    let mut cases: Vec<Case> =
        fields.into_iter().map(|(number, field)| answers(number, coded(field))).collect();
    let update = |sizes: &[u8]| {
        frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, [sizes, &block()].concat())
    };
    // To 128; to 128 and then 4096.
    cases.push(answers("generic/5/14", update(&[0x3f, 97])));
    cases.push(answers("generic/5/15", update(&[0x3f, 97, 0x3f, 0xe1, 0x1f])));
    cases
}

pub(super) fn frames() -> Vec<Case> {
    let large = vec![0; FRAME_BYTES + 1];
    // A literal without indexing whose value is as large as a frame may be.
    let fat = [&block()[..], &[0, 1, b'x', 0x7f, 0x81, 0x7f], &large[..FRAME_BYTES]].concat();
    let other = || request(3, END_STREAM, &[]);
    let mut reserved = ping(0, b"reserved");
    reserved[5] |= 0x80;
    vec![
        goes_on("http2/4.1/1", vec![Step::Send(frame(0xff, 0, 0, *b"unknown!"))]),
        goes_on("http2/4.1/2", vec![Step::Send(ping(0x16, b"flagged!")), Step::Pong(b"flagged!")]),
        goes_on("http2/4.1/3", vec![Step::Send(reserved), Step::Pong(b"reserved")]),
        answers("http2/4.2/1", all(&[post(), data(END_STREAM, &large[1..])])),
        ends("http2/4.2/2", all(&[post(), data(END_STREAM, &large)]), FRAME_SIZE_ERROR),
        ends(
            "http2/4.2/3",
            frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, fat),
            FRAME_SIZE_ERROR,
        ),
        // A literal that is cut off.
        ends("http2/4.3/1", coded(&[0x40]), COMPRESSION_ERROR),
        ends("http2/4.3/2", all(&[opened(), priority(1, 0, 255)]), PROTOCOL_ERROR),
        ends("http2/4.3/3", all(&[opened(), other()]), PROTOCOL_ERROR),
    ]
}

pub(super) fn streams() -> Vec<Case> {
    let bytes = || data(END_STREAM, b"test");
    let more = || continuation(END_HEADERS, 1);
    let gone = || all(&[held_post(), reset(1, CANCEL)]);
    let again = || request(1, END_STREAM, &[]);
    let too_many: Vec<u8> = (0..=STREAMS).flat_map(|number| held(2 * number + 1)).collect();
    let refused = Outcome::Resets(2 * STREAMS + 1, REFUSED_STREAM);
    let own = [&[0, 0, 0, 1, 255][..], &block()].concat();
    let flags = END_STREAM | END_HEADERS | PRIORITY;
    vec![
        ends("http2/5.1/1", bytes(), PROTOCOL_ERROR),
        ends("http2/5.1/2", reset(1, CANCEL), PROTOCOL_ERROR),
        ends("http2/5.1/3", window(1, 100), PROTOCOL_ERROR),
        ends("http2/5.1/4", more(), PROTOCOL_ERROR),
        resets("http2/5.1/5", all(&[held(1), bytes()]), STREAM_CLOSED),
        resets("http2/5.1/6", all(&[held(1), again()]), STREAM_CLOSED),
        ends("http2/5.1/7", all(&[held(1), more()]), PROTOCOL_ERROR),
        ends("http2/5.1/8", all(&[gone(), bytes()]), STREAM_CLOSED),
        ends("http2/5.1/9", all(&[gone(), again()]), STREAM_CLOSED),
        ends("http2/5.1/10", all(&[gone(), more()]), PROTOCOL_ERROR),
        after_an_answer(ends("http2/5.1/11", bytes(), STREAM_CLOSED)),
        after_an_answer(ends("http2/5.1/12", again(), STREAM_CLOSED)),
        after_an_answer(ends("http2/5.1/13", more(), PROTOCOL_ERROR)),
        ends("http2/5.1.1/1", request(2, END_STREAM, &[]), PROTOCOL_ERROR),
        ends("http2/5.1.1/2", all(&[held(5), request(3, END_STREAM, &[])]), PROTOCOL_ERROR),
        // One of them makes room for the last question.
        Case {
            outcome: refused,
            ..resets("http2/5.1.2/1", all(&[too_many, reset(1, CANCEL)]), REFUSED_STREAM)
        },
        // RFC 9113 §5.3.2: dependencies are no more, so none is wrong.
        answers("http2/5.3.1/1", frame(kind::HEADERS, flags, 1, own)),
        answers("http2/5.3.1/2", all(&[get(), priority(1, 1, 255)])),
        ends("http2/5.4.1/1", ping(0, b"short"), FRAME_SIZE_ERROR),
        ends("http2/5.4.1/2", all(&[ping(0, b"short"), get()]), FRAME_SIZE_ERROR),
        goes_on("http2/5.5/1", vec![Step::Send(frame(0xfe, 0, 0, [0; 8]))]),
        ends("http2/5.5/2", all(&[opened(), frame(0xfe, 0, 0, [0; 8])]), PROTOCOL_ERROR),
    ]
}

pub(super) fn of_streams() -> Vec<Case> {
    let head = END_STREAM | END_HEADERS;
    let on_no_stream = |kind| frame(kind, head, 0, block());
    let padded = [&[100][..], &block()].concat();
    vec![
        ends("http2/6.1/1", frame(kind::DATA, END_STREAM, 0, *b"test"), PROTOCOL_ERROR),
        resets("http2/6.1/2", all(&[held(1), data(END_STREAM, b"test")]), STREAM_CLOSED),
        ends("http2/6.1/3", all(&[held_post(), data(PADDED, b"\x06tests")]), PROTOCOL_ERROR),
        ends("http2/6.2/1", all(&[opened(), priority(1, 0, 255)]), PROTOCOL_ERROR),
        ends("http2/6.2/2", all(&[opened(), request(3, END_STREAM, &[])]), PROTOCOL_ERROR),
        ends("http2/6.2/3", on_no_stream(kind::HEADERS), PROTOCOL_ERROR),
        ends("http2/6.2/4", frame(kind::HEADERS, head | PADDED, 1, padded), PROTOCOL_ERROR),
        ends("http2/6.3/1", priority(0, 1, 255), PROTOCOL_ERROR),
        resets(
            "http2/6.3/2",
            all(&[held(1), frame(kind::PRIORITY, 0, 1, [0; 4])]),
            FRAME_SIZE_ERROR,
        ),
        ends("http2/6.4/1", reset(0, CANCEL), PROTOCOL_ERROR),
        ends("http2/6.4/2", reset(1, CANCEL), PROTOCOL_ERROR),
        ends(
            "http2/6.4/3",
            all(&[held(1), frame(kind::RST_STREAM, 0, 1, [0; 3])]),
            FRAME_SIZE_ERROR,
        ),
    ]
}

pub(super) fn of_connections() -> Vec<Case> {
    let two = settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]);
    let one_byte = vec![Step::Send(all(&[two, get()])), Step::Data(1, 1)];
    let not_asked = vec![Step::Send(all(&[ping(ACK, b"invalid!"), ping(0, b"h2spec\0\0")]))];
    let ping_on_stream = frame(kind::PING, 0, 1, *b"h2spec\0\0");
    let goaway_on_stream = frame(kind::GOAWAY, 0, 1, [0; 8]);
    vec![
        ends("http2/6.5/1", frame(kind::SETTINGS, ACK, 0, [0]), FRAME_SIZE_ERROR),
        ends("http2/6.5/2", frame(kind::SETTINGS, 0, 1, [0, 3, 0, 0, 0, 100]), PROTOCOL_ERROR),
        ends("http2/6.5/3", frame(kind::SETTINGS, 0, 0, [0, 3, 0]), FRAME_SIZE_ERROR),
        ends("http2/6.5.2/1", settings(&[(ENABLE_PUSH, 2)]), PROTOCOL_ERROR),
        ends("http2/6.5.2/2", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), FLOW_CONTROL_ERROR),
        ends("http2/6.5.2/3", settings(&[(MAX_FRAME_SIZE, (1 << 14) - 1)]), PROTOCOL_ERROR),
        ends("http2/6.5.2/4", settings(&[(MAX_FRAME_SIZE, 1 << 24)]), PROTOCOL_ERROR),
        goes_on("http2/6.5.2/5", vec![Step::Send(settings(&[(0xff, 1)])), Step::Acknowledged(2)]),
        goes_on("http2/6.5.3/1", one_byte),
        goes_on("http2/6.5.3/2", vec![Step::Send(settings(&[])), Step::Acknowledged(2)]),
        goes_on("http2/6.7/1", vec![Step::Send(ping(0, b"h2spec\0\0")), Step::Pong(b"h2spec\0\0")]),
        goes_on("http2/6.7/2", [not_asked, vec![Step::Pong(b"h2spec\0\0")]].concat()),
        ends("http2/6.7/3", ping_on_stream, PROTOCOL_ERROR),
        ends("http2/6.7/4", ping(0, b"h2spec"), FRAME_SIZE_ERROR),
        ends("http2/6.8/1", goaway_on_stream, PROTOCOL_ERROR),
    ]
}

pub(super) fn windows() -> Vec<Case> {
    let initial = |size| settings(&[(INITIAL_WINDOW_SIZE, size)]);
    let asked = |size| Step::Send(all(&[initial(size), get()]));
    let overflow = |stream| all(&[held(1), window(stream, WINDOW_MAX), window(stream, WINDOW_MAX)]);
    let rest = CONTENT.len() - 1;
    let all_of_it = vec![
        asked(1),
        Step::Data(1, 1),
        Step::Send(window(1, 1000)),
        Step::Data(1, rest),
        Step::Answered(1),
    ];
    let opened_later = vec![asked(0), Step::Send(initial(1)), Step::Data(1, 1)];
    // 3 less 3, then 2 for 3, which is -1, and 2 more.
    let negative = vec![
        asked(3),
        Step::Data(1, 3),
        Step::Send(all(&[initial(2), window(1, 2)])),
        Step::Data(1, 1),
    ];
    vec![
        ends("http2/6.9/1", window(0, 0), PROTOCOL_ERROR),
        resets("http2/6.9/2", all(&[held(1), window(1, 0)]), PROTOCOL_ERROR),
        ends("http2/6.9/3", frame(kind::WINDOW_UPDATE, 0, 0, [0, 0, 1]), FRAME_SIZE_ERROR),
        goes_on("http2/6.9.1/1", all_of_it),
        ends("http2/6.9.1/2", overflow(0), FLOW_CONTROL_ERROR),
        resets("http2/6.9.1/3", overflow(1), FLOW_CONTROL_ERROR),
        goes_on("http2/6.9.2/1", opened_later),
        goes_on("http2/6.9.2/2", negative),
        ends("http2/6.9.2/3", initial(1 << 31), FLOW_CONTROL_ERROR),
    ]
}

pub(super) fn continuations() -> Vec<Case> {
    let (open, end) = (|| continuation(0, 1), || continuation(END_HEADERS, 1));
    vec![
        answers("http2/6.10/1", all(&[opened(), open(), end()])),
        ends("http2/6.10/2", all(&[opened(), open(), data(END_STREAM, b"test")]), PROTOCOL_ERROR),
        ends("http2/6.10/3", all(&[opened(), continuation(END_HEADERS, 0)]), PROTOCOL_ERROR),
        ends("http2/6.10/4", all(&[held(1), end()]), PROTOCOL_ERROR),
        ends("http2/6.10/5", all(&[opened(), end(), end()]), PROTOCOL_ERROR),
        ends("http2/6.10/6", all(&[held_post(), data(0, b"test"), end()]), PROTOCOL_ERROR),
    ]
}

pub(super) fn messages() -> Vec<Case> {
    const METHOD: (&[u8], &[u8]) = (b":method", b"GET");
    const SCHEME: (&[u8], &[u8]) = (b":scheme", b"http");
    const PATH: (&[u8], &[u8]) = (b":path", b"/");
    let with = |name: &'static [u8], value: &'static [u8]| request(1, END_STREAM, &[(name, value)]);
    let trailers = |flags, name| Frame::headers(1, END_HEADERS | flags, &[(name, b"x")]).bytes();
    let late = fields(&[METHOD, SCHEME, (b"x-test", b"ok"), PATH]);
    let long = request(1, 0, &[(b":method", b"POST"), (b"content-length", b"1")]);
    let promise = [&[0, 0, 0, 2][..], &block()].concat();
    let pushed = frame(kind::PUSH_PROMISE, END_HEADERS, 1, promise);
    vec![
        answers("http2/7/1", all(&[goaway(0xff), get()])),
        goes_on("http2/7/2", vec![Step::Send(all(&[held(1), reset(1, 0xff)]))]),
        resets("http2/8.1/1", all(&[post(), trailers(0, b"x-trailer")]), PROTOCOL_ERROR),
        resets("http2/8.1.2/1", with(b"X-TEST", b"ok"), PROTOCOL_ERROR),
        resets("http2/8.1.2.1/1", with(b":test", b"ok"), PROTOCOL_ERROR),
        resets("http2/8.1.2.1/2", with(b":status", b"200"), PROTOCOL_ERROR),
        resets("http2/8.1.2.1/3", all(&[post(), trailers(END_STREAM, b":method")]), PROTOCOL_ERROR),
        resets("http2/8.1.2.1/4", late, PROTOCOL_ERROR),
        resets("http2/8.1.2.2/1", with(b"connection", b"keep-alive"), PROTOCOL_ERROR),
        resets("http2/8.1.2.2/2", with(b"te", b"trailers, deflate"), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/1", with(b":path", b""), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/2", fields(&[SCHEME, PATH]), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/3", fields(&[METHOD, PATH]), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/4", fields(&[METHOD, SCHEME]), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/5", fields(&[METHOD, METHOD, SCHEME, PATH]), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/6", fields(&[METHOD, SCHEME, SCHEME, PATH]), PROTOCOL_ERROR),
        resets("http2/8.1.2.3/7", fields(&[METHOD, SCHEME, PATH, PATH]), PROTOCOL_ERROR),
        resets("http2/8.1.2.6/1", all(&[long.clone(), data(END_STREAM, b"test")]), PROTOCOL_ERROR),
        resets(
            "http2/8.1.2.6/2",
            all(&[long, data(0, b"t"), data(END_STREAM, b"e")]),
            PROTOCOL_ERROR,
        ),
        ends("http2/8.2/1", all(&[held(1), pushed]), PROTOCOL_ERROR),
    ]
}

pub(super) fn hpack() -> Vec<Case> {
    vec![
        // 70 is in no table.
        ends("hpack/2.3.3/1", coded(&[0xc6]), COMPRESSION_ERROR),
        ends("hpack/2.3.3/2", coded(&[0x7f, 7, 1, b'a']), COMPRESSION_ERROR),
        // RFC 7541 §4.2: a change of the table's size stands first.
        ends("hpack/4.2/1", coded(&[0x3f, 97]), COMPRESSION_ERROR),
        // `a` with 11 bits of padding, with zeros, and with EOS.
        ends("hpack/5.2/1", coded(&[0, 1, b'x', 0x82, 0x1f, 0xff]), COMPRESSION_ERROR),
        ends("hpack/5.2/2", coded(&[0, 1, b'x', 0x81, 0x18]), COMPRESSION_ERROR),
        ends("hpack/5.2/3", coded(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), COMPRESSION_ERROR),
        ends("hpack/6.1/1", coded(&[0x80]), COMPRESSION_ERROR),
        // 4097.
        ends(
            "hpack/6.3/1",
            frame(
                kind::HEADERS,
                END_STREAM | END_HEADERS,
                1,
                [&[0x3f, 0xe2, 0x1f][..], &block()].concat(),
            ),
            COMPRESSION_ERROR,
        ),
    ]
}
