//! What one side says and the rules of RFC 9113 demand in answer.

use super::*;

#[test]
fn a_request_is_taken_and_answered() {
    let mut server = Side::server();
    server.hear(&headers(1, GET, true)).unwrap();
    assert_eq!(server.event(server.keys[0]).as_deref(), Some("end"));
    server.answer(server.keys[0]);
    let said = server.said();
    assert_eq!((said[0].kind, said[0].stream, &said[0].payload[..]), (Kind::Headers, 1, OK));
    assert_eq!(said.len(), 1, "and nothing else: {said:?}");
}

/// P50.
#[test]
fn what_breaks_the_connection() {
    let ping = |len| frame_of(Kind::Ping, 0, 0, &vec![0; len]);
    for (bytes, reason, what) in [
        (data(1, 1, false), Reason::PROTOCOL_ERROR, "DATA on an idle stream"),
        (data(0, 1, false), Reason::PROTOCOL_ERROR, "DATA on stream 0"),
        (headers(0, GET, true), Reason::PROTOCOL_ERROR, "HEADERS on stream 0"),
        (headers(2, GET, true), Reason::PROTOCOL_ERROR, "HEADERS on an even stream"),
        (headers(1, &[0x80], true), Reason::COMPRESSION_ERROR, "a bad block"),
        (reset(1), Reason::PROTOCOL_ERROR, "RST_STREAM on an idle stream"),
        (reset(0), Reason::PROTOCOL_ERROR, "RST_STREAM on stream 0"),
        (window(1, 1), Reason::PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream"),
        (window(0, 0), Reason::PROTOCOL_ERROR, "WINDOW_UPDATE of 0"),
        (window(0, 0x7fff_ffff), Reason::FLOW_CONTROL_ERROR, "a window above the maximum"),
        (ping(7), Reason::FRAME_SIZE_ERROR, "a short PING"),
        (ping(9), Reason::FRAME_SIZE_ERROR, "a long PING"),
        (frame_of(Kind::Ping, 0, 1, &[0; 8]), Reason::PROTOCOL_ERROR, "PING on a stream"),
        (frame_of(Kind::Settings, 0, 0, &[0; 5]), Reason::FRAME_SIZE_ERROR, "short SETTINGS"),
        (frame_of(Kind::Settings, 1, 0, &[0; 6]), Reason::FRAME_SIZE_ERROR, "ACK with content"),
        (frame_of(Kind::Settings, 0, 1, &[]), Reason::PROTOCOL_ERROR, "SETTINGS on a stream"),
        (settings(&[(2, 2)]), Reason::PROTOCOL_ERROR, "ENABLE_PUSH 2"),
        (settings(&[(4, 1 << 31)]), Reason::FLOW_CONTROL_ERROR, "a window above 2^31-1"),
        (settings(&[(5, 16_383)]), Reason::PROTOCOL_ERROR, "a frame size too small"),
        (settings(&[(5, 1 << 24)]), Reason::PROTOCOL_ERROR, "a frame size too large"),
        (frame_of(Kind::Unknown, 0, 0, &vec![0; 16_385]), Reason::FRAME_SIZE_ERROR, "a long frame"),
        (frame_of(Kind::PushPromise, 4, 1, GET), Reason::PROTOCOL_ERROR, "PUSH_PROMISE"),
        (frame_of(Kind::Continuation, 4, 1, GET), Reason::PROTOCOL_ERROR, "CONTINUATION alone"),
        (frame_of(Kind::Headers, 12, 1, &[9, 0x82]), Reason::PROTOCOL_ERROR, "too much padding"),
        (frame_of(Kind::Headers, 0x24, 1, &[0; 4]), Reason::FRAME_SIZE_ERROR, "a cut priority"),
        (frame_of(Kind::GoAway, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR, "a short GOAWAY"),
        (frame_of(Kind::Priority, 0, 0, &[0; 5]), Reason::PROTOCOL_ERROR, "PRIORITY on stream 0"),
    ] {
        assert_eq!(Side::server().ends_at(&bytes), reason, "{what}");
    }
    let mut within_block = frame_of(Kind::Headers, 0, 1, GET);
    within_block.extend(ping(8));
    assert_eq!(Side::server().ends_at(&within_block), Reason::PROTOCOL_ERROR);
    for first in [ping(8), frame_of(Kind::Settings, 1, 0, &[])] {
        let bytes = [frame::PREFACE.to_vec(), first].concat();
        let reason = Side::silent(Role::Server).ends_at(&bytes);
        assert_eq!(reason, Reason::PROTOCOL_ERROR, "SETTINGS come first");
    }
    assert_eq!(Side::client().ends_at(&settings(&[(2, 1)])), Reason::PROTOCOL_ERROR);
    assert_eq!(Side::client().ends_at(&headers(1, OK, true)), Reason::PROTOCOL_ERROR);
}

/// P46, P50, RFC 9113 §5.4.2: the stream ends, the connection goes on.
#[test]
fn what_breaks_a_stream_only() {
    for (bytes, reason, what) in [
        (window(1, 0), Reason::PROTOCOL_ERROR, "WINDOW_UPDATE of 0"),
        (window(1, 0x7fff_ffff), Reason::FLOW_CONTROL_ERROR, "a window above the maximum"),
        (frame_of(Kind::Priority, 0, 1, &[0; 4]), Reason::FRAME_SIZE_ERROR, "a short PRIORITY"),
        (headers(1, &[], false), Reason::PROTOCOL_ERROR, "trailers that end nothing"),
        (headers(1, &[0x84], true), Reason::PROTOCOL_ERROR, "a pseudo-field in trailers"),
        (
            [data(1, 0, true), data(1, 1, true)].concat(),
            Reason::STREAM_CLOSED,
            "DATA after the end",
        ),
        (
            [data(1, 0, true), headers(1, &[], true)].concat(),
            Reason::STREAM_CLOSED,
            "trailers, too",
        ),
    ] {
        let mut server = Side::server();
        server.hear(&headers(1, POST, false)).unwrap();
        server.hear(&bytes).unwrap();
        assert_eq!(server.reset_of(1), Some(reason), "{what}");
        server.hear(&headers(3, GET, true)).unwrap();
        assert_eq!(server.keys.len(), 2, "{what}: the connection goes on");
    }
}

/// P50, RFC 9113 §5.1.1.
#[test]
fn stream_ids_only_grow() {
    let mut server = Side::server();
    server.hear(&headers(5, GET, true)).unwrap();
    assert_eq!(server.ends_at(&headers(3, GET, true)), Reason::PROTOCOL_ERROR, "never opened");
    let mut server = Side::server();
    server.hear(&headers(1, GET, true)).unwrap();
    server.hear(&headers(3, GET, true)).unwrap();
    server.answer(server.keys[0]);
    assert_eq!(server.ends_at(&headers(1, GET, true)), Reason::STREAM_CLOSED, "used before");
}

/// P50, RFC 9113 §5.1: after its own last word a peer has nothing more to say.
#[test]
fn nothing_follows_a_reset_or_an_end() {
    for more in [data(1, 1, true), headers(1, &[], true)] {
        let mut server = Side::server();
        server.hear(&headers(1, POST, false)).unwrap();
        server.hear(&reset(1)).unwrap();
        assert_eq!(server.ends_at(&more), Reason::STREAM_CLOSED);
        let mut server = Side::server();
        server.hear(&headers(1, POST, true)).unwrap();
        server.answer(server.keys[0]);
        assert_eq!(server.ends_at(&more), Reason::STREAM_CLOSED);
    }
}

/// What crosses our own reset is no mistake, and its room in the connection's window comes back.
#[test]
fn what_crosses_our_reset_is_let_pass() {
    let mut server = Side::server();
    server.hear(&headers(1, POST, false)).unwrap();
    server.with(|state| state.release(server.keys[0]));
    assert_eq!(server.reset_of(1), Some(Reason::INTERNAL_ERROR));
    for _ in 0..40 {
        server.hear(&data(1, 16_384, false)).unwrap();
    }
    server.hear(&headers(1, &[], true)).unwrap();
    server.hear(&reset(1)).unwrap();
    let returned: usize = server
        .said()
        .iter()
        .filter(|sent| sent.kind == Kind::WindowUpdate && sent.stream == 0)
        .map(|sent| u32::from_be_bytes(sent.payload[..4].try_into().unwrap()) as usize)
        .sum();
    assert!(returned >= 512 * 1024, "{returned} of 655360");
}

/// P49, RFC 9113 §6.8: a POST that crosses our last GOAWAY is dropped, with all of its frames, and
/// what was opened before is served.
#[test]
fn requests_that_cross_the_farewell_break_nothing() {
    let mut server = Side::server();
    server.hear(&headers(1, POST, false)).unwrap();
    server.with(State::announce_farewell);
    server.hear(&headers(3, GET, true)).unwrap();
    assert_eq!(server.keys.len(), 2, "announced is not said: it is still served");
    server.with(State::say_farewell);
    let said = server.said();
    let last: Vec<u8> =
        said.iter().filter(|s| s.kind == Kind::GoAway).map(|s| s.payload[3]).collect();
    assert_eq!(last, [255, 3]);
    let frames = [headers(5, POST, false), data(5, 100, false), window(5, 1), data(5, 9, true)];
    server.hear(&frames.concat()).unwrap();
    server.hear(&reset(5)).unwrap();
    server.hear(&data(1, 10, true)).unwrap();
    assert_eq!(server.event(server.keys[0]).as_deref(), Some("10 bytes"));
    assert_eq!(server.keys.len(), 2);
    assert!(!server.with(|state| state.is_done()));
    server.answer(server.keys[0]);
    server.answer(server.keys[1]);
    assert!(server.with(|state| state.is_done()));
}

/// P50, RFC 9113 §6.9.2: windows shift by what SETTINGS change, below zero if need be.
#[test]
fn windows_shift_with_the_settings() {
    let mut server = Side::server();
    server.hear(&settings(&[(4, 1000)])).unwrap();
    server.hear(&headers(1, GET, true)).unwrap();
    let key = server.keys[0];
    let cx = Context::from_waker(Waker::noop());
    let capacity = || match server.with(|state| state.poll_capacity(&cx, key)) {
        Poll::Ready(Ok(capacity)) => capacity,
        other => {
            assert!(other.is_pending());
            0
        }
    };
    assert_eq!(capacity(), 1000);
    server.with(|state| state.send_data(key, Bytes::from(vec![0; 600]), false));
    assert_eq!(capacity(), 400);
    let mut buf = BytesMut::from(&settings(&[(4, 9), (4, 100)])[..]);
    server.with(|state| state.receive(&mut buf, server.now)).unwrap();
    assert_eq!(capacity(), 0, "-500");
    let mut buf = BytesMut::from(&window(1, 500)[..]);
    server.with(|state| state.receive(&mut buf, server.now)).unwrap();
    assert_eq!(capacity(), 0, "0");
    let mut buf = BytesMut::from(&window(1, 1)[..]);
    server.with(|state| state.receive(&mut buf, server.now)).unwrap();
    assert_eq!(capacity(), 1);
    let mut buf = BytesMut::from(&window(1, 100)[..]);
    server.with(|state| state.receive(&mut buf, server.now)).unwrap();
    let mut buf = BytesMut::from(&settings(&[(4, 0x7fff_ffff)])[..]);
    let fault = server.with(|state| state.receive(&mut buf, server.now)).unwrap_err();
    assert_eq!(fault.reason, Reason::FLOW_CONTROL_ERROR);
}

/// P50: both windows bound what a peer may send before anyone reads.
#[test]
fn data_beyond_a_window() {
    let mut server = Side::server();
    server.hear(&headers(1, POST, false)).unwrap();
    for _ in 0..16 {
        server.hear(&data(1, 16_384, false)).unwrap();
    }
    server.hear(&data(1, 1, false)).unwrap();
    assert_eq!(server.reset_of(1), Some(Reason::FLOW_CONTROL_ERROR), "256 KiB are the limit");
    let mut server = Side::server();
    for stream in [1, 3, 5, 7, 9] {
        server.hear(&headers(stream, POST, false)).unwrap();
    }
    for stream in [1, 3, 5, 7] {
        for _ in 0..16 {
            server.hear(&data(stream, 16_384, false)).unwrap();
        }
    }
    assert_eq!(server.ends_at(&data(9, 1, false)), Reason::FLOW_CONTROL_ERROR, "1 MiB is");
}

/// T16, RFC 9113 §8.1.1.
#[test]
fn content_must_match_its_length() {
    let with_length = [POST, &[0x0f, 13, 1, b'5']].concat();
    let server = |frames: &[Vec<u8>]| {
        let mut server = Side::server();
        server.hear(&headers(1, &with_length, false)).unwrap();
        server.hear(&frames.concat()).unwrap();
        server.reset_of(1)
    };
    assert_eq!(server(&[data(1, 5, true)]), None);
    assert_eq!(server(&[data(1, 2, false), data(1, 3, false), data(1, 0, true)]), None);
    assert_eq!(server(&[data(1, 5, false), headers(1, &[], true)]), None);
    for wrong in [
        &[data(1, 6, false)][..],
        &[data(1, 4, true)],
        &[data(1, 4, false), headers(1, &[], true)],
        &[data(1, 5, false), data(1, 1, true)],
    ] {
        assert_eq!(server(wrong), Some(Reason::PROTOCOL_ERROR), "{wrong:?}");
    }
    let mut server = Side::server();
    server.hear(&headers(1, &with_length, true)).unwrap();
    assert_eq!(server.reset_of(1), Some(Reason::PROTOCOL_ERROR), "no content at all");
    assert_eq!(server.malformed, 1);
}

/// P49.
#[test]
fn go_away_tells_which_requests_may_go_elsewhere() {
    let mut client = Side::client();
    let keys: Vec<usize> = (0..3).map(|_| client.ask(true)).collect();
    client.hear(&go_away(3)).unwrap();
    assert!(!client.conn.is_open());
    assert_eq!(client.event(keys[2]).as_deref(), Some("Unprocessed"));
    assert_eq!(client.event(keys[0]), None);
    client.hear(&headers(1, OK, true)).unwrap();
    client.hear(&headers(3, OK, true)).unwrap();
    assert!(client.with(|state| state.is_done()));
    // A second GOAWAY may say less (RFC 9113 §6.8).
    let mut client = Side::client();
    let key = client.ask(true);
    client.hear(&go_away(STREAM_ID_MAX)).unwrap();
    assert_eq!(client.event(key), None);
    client.hear(&go_away(0)).unwrap();
    assert_eq!(client.event(key).as_deref(), Some("Unprocessed"));
}

/// RFC 9113 §8.7: what was never written was never processed.
#[test]
fn a_request_that_was_not_written_is_unprocessed() {
    let client = Side::client();
    let written = client.ask(true);
    client.said();
    let unwritten = client.ask(true);
    client.with(|state| state.lose("it broke"));
    assert_eq!(client.event(written).as_deref(), Some("Lost(\"it broke\")"));
    assert_eq!(client.event(unwritten).as_deref(), Some("Unprocessed"));
}

/// T13.
#[test]
fn a_response_is_held_to_its_form() {
    for (bytes, what) in [
        (data(1, 1, true), "DATA before the head"),
        (headers(1, &[], true), "no :status"),
        (headers(1, &[0x88, 0x84], true), "a request's field"),
        (headers(1, &[0x08, 3, b'1', b'0', b'1'], false), "101"),
        (headers(1, &[0x08, 3, b'1', b'0', b'0'], true), "an interim response that ends it"),
        ([headers(1, &[0x89], false), data(1, 1, true)].concat(), "204 with content"),
    ] {
        let mut client = Side::client();
        let key = client.ask(true);
        client.hear(&bytes).unwrap();
        assert_eq!(client.reset_of(1), Some(Reason::PROTOCOL_ERROR), "{what}");
        client.with(|state| state.release(key));
    }
    let interim = headers(1, &[0x08, 3, b'1', b'0', b'3'], false);
    let mut client = Side::client();
    client.ask(true);
    client.hear(&interim.repeat(10)).unwrap();
    client.hear(&interim).unwrap();
    assert_eq!(client.reset_of(1), Some(Reason::PROTOCOL_ERROR), "the eleventh");
}

/// P50: a field section that exceeds one frame goes on in CONTINUATION frames, and is read as it
/// was.
#[test]
fn large_heads_go_in_pieces() {
    let (name, value) = field("x-large", "v");
    let large = HeaderValue::from_bytes(&vec![b'x'; 40_000]).unwrap();
    let client = Side::client();
    let head = |encoder: &mut Encoder, out: &mut BytesMut| {
        Encoder::method(out, &http::Method::GET);
        Encoder::scheme(out, false);
        Encoder::path(out, "/");
        encoder.header(out, &name, &value);
        encoder.header(out, &name, &large);
    };
    client.with(|state| state.open(head, Asks::Content, true)).unwrap();
    let said = client.said();
    let kinds: Vec<Kind> = said.iter().map(|sent| sent.kind).collect();
    assert_eq!(kinds, [Kind::Headers, Kind::Continuation, Kind::Continuation]);
    assert!(said.iter().all(|sent| sent.payload.len() <= INITIAL_FRAME_BYTES));
    let flags: Vec<u8> = said.iter().map(|sent| sent.flags).collect();
    assert_eq!(flags, [END_STREAM, 0, END_HEADERS]);
    let conn = Conn::new(Role::Server, Bounds { section: 64 * 1024, fields: 100 });
    let mut server = Side { conn, ..Side::silent(Role::Server) };
    server.hear(&[frame::PREFACE, &settings(&[])].concat()).unwrap();
    for Sent { kind, flags, stream, payload } in said {
        server.hear(&frame_of(kind, flags, stream, &payload)).unwrap();
    }
    assert_eq!((server.keys.len(), server.malformed), (1, 0));
}

/// Content that nobody reads any more does not hold up its sender: the answer may take long.
#[test]
fn what_is_ignored_is_given_back() {
    let mut server = Side::server();
    server.hear(&headers(1, POST, false)).unwrap();
    for _ in 0..CLIENT_STREAM_BYTES / 16_384 {
        server.hear(&data(1, 16_384, false)).unwrap();
    }
    server.said();
    server.with(|state| state.ignore(server.keys[0]));
    let said = server.said();
    let opened = said.iter().find(|s| s.kind == Kind::WindowUpdate && s.stream == 1);
    assert_eq!(opened.map(|s| s.payload.clone()), Some(CLIENT_STREAM_BYTES.to_be_bytes().to_vec()));
}
