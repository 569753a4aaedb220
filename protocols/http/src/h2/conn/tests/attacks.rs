//! Peers that mean ill: at the limit they pass, one step further they end.

use std::time::Duration;

use super::*;

/// Exchanges that may be broken off at once.
const RESETS_MAX: u32 = 500;
/// Frames without content at once, after the SETTINGS that began the connection.
const IDLE_FRAMES_MAX: u32 = 2_000 - 1;

/// Opens a stream with each call, broken off by `end`, and lets go of it as the proxy does.
fn broken_off(server: &mut Side, id: u32, end: &[u8]) -> Result<(), Fault> {
    let heard = server.hear(&[headers(id, POST, false), end.to_vec()].concat());
    if let Some(key) = server.keys.pop() {
        server.with(|state| state.release(key));
    }
    server.said();
    heard
}

/// `RESETS_MAX` pass, the next one ends the connection; a second later some more pass.
#[track_caller]
fn is_calmed(what: &str, end: impl Fn(u32) -> Vec<u8>) {
    let mut server = Side::server();
    for n in 0..RESETS_MAX {
        let id = 2 * n + 1;
        assert_eq!(broken_off(&mut server, id, &end(id)), Ok(()), "{what} {n}");
    }
    let id = 2 * RESETS_MAX + 1;
    server.now += Duration::from_secs(1);
    for n in 0..50 {
        let id = id + 2 * n;
        assert_eq!(broken_off(&mut server, id, &end(id)), Ok(()), "{what}, a second later");
    }
    let id = id + 100;
    let fault = broken_off(&mut server, id, &end(id)).expect_err(what);
    assert_eq!(fault.reason, Reason::ENHANCE_YOUR_CALM, "{what}");
}

/// T17, CVE-2023-44487.
#[test]
fn rapid_reset() {
    is_calmed("RST_STREAM", reset);
}

/// T18, CVE-2025-8671: the server is made to reset.
#[test]
fn made_you_reset() {
    is_calmed("a window update of 0", |id| window(id, 0));
    is_calmed("a window too large", |id| window(id, 0x7fff_ffff));
    is_calmed("a short PRIORITY", |id| frame_of(Kind::Priority, 0, id, &[0; 4]));
    is_calmed("DATA after the end", |id| [data(id, 0, true), data(id, 0, true)].concat());
    is_calmed("HEADERS after the end", |id| [data(id, 0, true), headers(id, &[], true)].concat());
    is_calmed("bad trailers", |id| headers(id, &[0x84], true));
    is_calmed("trailers without the end", |id| headers(id, &[], false));
}

/// T18, P44.
#[test]
fn malformed_requests_without_end() {
    let mut server = Side::server();
    for n in 0..RESETS_MAX {
        server.hear(&headers(2 * n + 1, &[0x88], true)).unwrap();
    }
    assert_eq!(server.malformed as u32, RESETS_MAX);
    let next = headers(2 * RESETS_MAX + 1, &[0x88], true);
    assert_eq!(server.ends_at(&next), Reason::ENHANCE_YOUR_CALM);
}

/// T17: a front proxy with thousands of users on one connection, one in a hundred of whom leaves.
#[test]
fn a_busy_peer_is_no_attacker() {
    let mut server = Side::server();
    for n in 0..30_000u32 {
        let id = 2 * n + 1;
        // 10 000 a second, and a PING and a WINDOW_UPDATE now and then.
        server.now += Duration::from_micros(100);
        if n % 100 == 0 {
            broken_off(&mut server, id, &reset(id)).unwrap();
            server.hear(&frame_of(Kind::Ping, 0, 0, &[0; 8])).unwrap();
        } else {
            server.hear(&headers(id, GET, true)).unwrap();
            let key = server.keys.pop().unwrap();
            server.hear(&window(0, 1)).unwrap();
            server.answer(key);
        }
        server.said();
    }
}

/// Streams above the limit are refused, and refused work is no free work.
#[test]
fn streams_at_and_above_the_limit() {
    let mut server = Side::server();
    for n in 0..STREAMS_MAX as u32 {
        server.hear(&headers(2 * n + 1, POST, false)).unwrap();
    }
    assert_eq!(server.keys.len(), STREAMS_MAX);
    assert!(server.said().is_empty());
    for n in 0..IDLE_FRAMES_MAX {
        let id = 2 * (STREAMS_MAX as u32 + n) + 1;
        server.hear(&headers(id, POST, false)).unwrap();
        assert_eq!(server.reset_of(id), Some(Reason::REFUSED_STREAM));
    }
    let id = 2 * (STREAMS_MAX as u32 + IDLE_FRAMES_MAX) + 1;
    assert_eq!(server.ends_at(&headers(id, POST, false)), Reason::ENHANCE_YOUR_CALM);
}

/// T17: whoever cancels faster than the work is put away gets nothing more started.
#[test]
fn cancelled_work_still_counts_while_it_is_held() {
    let mut server = Side::server();
    for n in 0..HELD_MAX as u32 {
        let id = 2 * n + 1;
        server.hear(&[headers(id, POST, false), reset(id)].concat()).unwrap();
    }
    assert_eq!(server.keys.len(), HELD_MAX);
    let id = 2 * HELD_MAX as u32 + 1;
    server.said();
    server.hear(&headers(id, POST, false)).unwrap();
    assert_eq!(server.reset_of(id), Some(Reason::REFUSED_STREAM));
    server.with(|state| state.release(server.keys[0]));
    server.hear(&headers(id + 2, POST, false)).unwrap();
    assert_eq!(server.keys.len(), HELD_MAX + 1);
}

/// T21, CVE-2019-9512, 9515 and their kin, both from clients and from nodes.
#[test]
fn floods_of_frames_without_content() {
    let frames = [
        ("PING", frame_of(Kind::Ping, 0, 0, &[0; 8])),
        ("PING ACK", frame_of(Kind::Ping, ACK, 0, &[0; 8])),
        ("SETTINGS", settings(&[])),
        ("SETTINGS ACK", frame_of(Kind::Settings, ACK, 0, &[])),
        ("PRIORITY", frame_of(Kind::Priority, 0, 1, &[0; 5])),
        ("WINDOW_UPDATE", window(0, 1)),
        ("WINDOW_UPDATE on a stream", window(1, 1)),
        ("GOAWAY", go_away(1)),
        ("an unknown frame", frame_of(Kind::Unknown, 0, 0, &[])),
        ("empty DATA", data(1, 0, false)),
    ];
    for (what, frame) in &frames {
        for mut side in [Side::server(), Side::client()] {
            if side.with(|state| state.role()) == Role::Server {
                side.hear(&headers(1, POST, false)).unwrap();
            } else {
                side.ask(true);
                side.hear(&headers(1, OK, false)).unwrap();
            }
            for n in 0..IDLE_FRAMES_MAX {
                assert_eq!(side.hear(frame), Ok(()), "{what} {n}");
            }
            assert_eq!(side.ends_at(frame), Reason::ENHANCE_YOUR_CALM, "{what}");
        }
    }
}

/// T21: late frames are let pass, but not without end.
#[test]
fn floods_on_closed_streams() {
    for frame in [reset(1), data(1, 0, false), headers(1, &[], true)] {
        let mut server = Side::server();
        server.hear(&headers(1, POST, false)).unwrap();
        server.with(|state| state.release(server.keys[0]));
        for n in 0..IDLE_FRAMES_MAX {
            assert_eq!(server.hear(&frame), Ok(()), "{n}");
        }
        assert_eq!(server.ends_at(&frame), Reason::ENHANCE_YOUR_CALM);
    }
}

/// An upload in small messages that we reset: all that fits the window may still come.
#[test]
fn what_was_in_flight_is_no_flood() {
    let mut server = Side::server();
    server.hear(&headers(1, POST, false)).unwrap();
    server.with(|state| state.release(server.keys[0]));
    for _ in 0..5_000 {
        server.hear(&data(1, 50, false)).unwrap();
    }
}

/// T21, CVE-2019-9511: each byte of window costs its sender a frame, and us one.
#[test]
fn a_window_opened_byte_by_byte() {
    let mut server = Side::server();
    server.hear(&settings(&[(4, 0)])).unwrap();
    server.hear(&headers(1, GET, true)).unwrap();
    let key = server.keys[0];
    server.said();
    let send = |server: &Side| {
        let cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(room)) = server.with(|state| state.poll_capacity(&cx, key)) {
            server.with(|state| state.send_data(key, Bytes::from(vec![0; room]), false));
        }
        server.said()
    };
    for n in 0..IDLE_FRAMES_MAX - 1 {
        assert_eq!(server.hear(&window(1, 1)), Ok(()), "{n}");
        assert_eq!(send(&server).len(), 1);
    }
    assert_eq!(server.ends_at(&window(1, 1)), Reason::ENHANCE_YOUR_CALM);
    // A peer with a small window that reads at a decent pace.
    let mut server = Side::server();
    server.hear(&settings(&[(4, 0)])).unwrap();
    server.hear(&headers(1, GET, true)).unwrap();
    server.said();
    for _ in 0..20_000 {
        server.hear(&[window(1, 256), window(0, 256)].concat()).unwrap();
        assert_eq!(send(&server).len(), 1);
    }
}

/// T19, CVE-2024-27316.
#[test]
fn continuations_without_end() {
    let start = frame_of(Kind::Headers, 0, 1, GET);
    let more = frame_of(Kind::Continuation, 0, 1, &[]);
    let last = frame_of(Kind::Continuation, END_HEADERS, 1, &[]);
    let mut server = Side::server();
    server.hear(&start).unwrap();
    server.hear(&more.repeat(62)).unwrap();
    server.hear(&last).unwrap();
    assert_eq!(server.keys.len(), 1, "64 frames are the limit");
    let mut server = Side::server();
    server.hear(&start).unwrap();
    server.hear(&more.repeat(63)).unwrap();
    assert_eq!(server.ends_at(&more), Reason::ENHANCE_YOUR_CALM);
    // By size: twice the limit of a section.
    let large = frame_of(Kind::Continuation, 0, 1, &[0; 16_384]);
    let mut server = Side::server();
    server.hear(&start).unwrap();
    server.hear(&large).unwrap();
    assert_eq!(server.ends_at(&large), Reason::ENHANCE_YOUR_CALM);
}

/// T20: a section above the limit is not a fault of the connection: the request is refused, and the
/// next one is served.
#[test]
fn a_head_at_and_above_its_limit() {
    let head = |value: usize| {
        let mut block = GET.to_vec();
        block.extend([0x00, 1, b'x', 0x7f]);
        let mut rest = value - 127;
        while rest >= 128 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
        block.extend(vec![b'v'; value]);
        block
    };
    // Of each field its name, its value and 32: :method GET, :scheme http, :path /, :authority a.
    let rest = (7 + 3) + (7 + 4) + (5 + 1) + (10 + 1) + 1 + 5 * 32;
    for (value, expected) in [(BOUNDS.section - rest, false), (BOUNDS.section - rest + 1, true)] {
        let mut server = Side::server();
        let block = head(value);
        let (first, second) = block.split_at(10_000);
        let frames = [
            frame_of(Kind::Headers, END_STREAM, 1, first),
            frame_of(Kind::Continuation, END_HEADERS, 1, second),
        ];
        let mut buf = BytesMut::from(&frames.concat()[..]);
        server.with(|state| state.receive(&mut buf, server.now)).unwrap();
        let accepted = server.with(|state| state.accepted.pop_front());
        let Some(Accepted::Request { is_too_large, .. }) = accepted else { panic!("a request") };
        assert_eq!(is_too_large, expected, "{value}");
        server.hear(&headers(3, GET, true)).unwrap();
        assert_eq!(server.keys.len(), 1);
    }
}

/// T20: a large table entry and thousands of references to it: 16 KiB of them are looked at.
#[test]
fn a_compression_bomb() {
    let mut block = GET.to_vec();
    block.extend([0x40, 1, b'x', 0x7f, 0x81, 0x1e]);
    block.extend([b'v'; 0x7f + 0xf01]);
    block.extend([0xbe; 12_000]);
    let server = Side::server();
    let mut buf = BytesMut::from(&headers(1, &block, true)[..]);
    server.with(|state| state.receive(&mut buf, server.now)).unwrap();
    let accepted = server.with(|state| state.accepted.pop_front());
    let Some(Accepted::Request { is_too_large, request, .. }) = accepted else {
        panic!("a request")
    };
    assert!(is_too_large);
    // With Host, which :authority stands for.
    assert!(request.headers().len() <= 5, "{}", request.headers().len());
}

/// T20, R14: bombs are answered, but not for ever.
#[test]
fn r14_bombs_are_counted() {
    let mut server = Side::server();
    let block = [GET, &[0x40, 1, b'x', 1, b'y'], &[0xbe; 200]].concat();
    let send = |server: &mut Side, number: u32| {
        let mut buf = BytesMut::from(&headers(2 * number + 1, &block, true)[..]);
        let received = server.with(|state| state.receive(&mut buf, server.now));
        server.with(|state| {
            let Some(Accepted::Request { key, is_too_large, .. }) = state.accepted.pop_front()
            else {
                return;
            };
            assert!(is_too_large);
            state.reset(key, Reason::NO_ERROR, Broken::Reset(Reason::NO_ERROR));
            state.ignore(key);
        });
        received
    };
    for number in 0..50 {
        send(&mut server, number).unwrap();
    }
    assert_eq!(send(&mut server, 50).unwrap_err().reason, Reason::ENHANCE_YOUR_CALM);
}

/// R17: an upload that waits for its node is given up when memory runs out, and only then.
#[test]
fn r17_uploads_that_wait_are_given_up_when_memory_is_out() {
    for (is_out, frames, survives) in
        [(false, 8, true), (true, 4, true), (true, 5, false), (true, 8, false)]
    {
        let server = Side::server();
        server.with(|state| state.is_out_of_memory = is_out);
        let upload = [headers(1, POST, false), data(1, 16_384, false).repeat(frames)].concat();
        let mut buf = BytesMut::from(&upload[..]);
        server.with(|state| state.receive(&mut buf, server.now)).unwrap();
        let is_open = server.with(|state| state.streams.open()) == 1;
        assert_eq!(is_open, survives, "{frames} frames, out of memory: {is_out}");
    }
}

/// T20, CVE-2016-6581: each crumb of a cookie is a field, however few bytes it takes.
#[test]
fn t20_cookie_crumbs_count_as_fields() {
    // `cookie: a=1`, first as it is and into the table, then by its index.
    let crumb = &[0x60, 3, b'a', b'=', b'1'];
    for (count, expected) in [(99, false), (100, false), (101, true), (300, true)] {
        for again in [&[0x0f, 0x11, 3, b'a', b'=', b'1'][..], &[0xbe]] {
            let block = [GET, crumb, &again.repeat(count - 1)].concat();
            let (mut server, frame) = (Side::server(), headers(1, &block, true));
            let mut buf = BytesMut::from(&frame[..]);
            server.with(|state| state.receive(&mut buf, server.now)).unwrap();
            let accepted = server.with(|state| state.accepted.pop_front());
            let Some(Accepted::Request { is_too_large, request, .. }) = accepted else {
                panic!("a request")
            };
            assert_eq!(is_too_large, expected, "{count}");
            if !is_too_large {
                let cookies: Vec<_> = request.headers().get_all("cookie").collect();
                assert_eq!(cookies, [["a=1"; 100][..count].join("; ").as_str()]);
            }
            server.hear(&headers(3, GET, true)).unwrap();
            assert_eq!(server.keys.len(), 1, "the connection goes on");
        }
    }
}

/// T20: fields without a name are no fields, however many; each of their messages counts as broken
/// off.
#[test]
fn t20_fields_with_empty_names_end_their_stream() {
    for count in [1, 99, 100, 101, 4_000] {
        let mut server = Side::server();
        let block = [GET, &[0, 0, 1, b'x'].repeat(count)].concat();
        server.hear(&headers(1, &block, true)).unwrap();
        assert_eq!((server.malformed, server.keys.len()), (1, 0), "{count}");
        assert_eq!(server.reset_of(1), Some(Reason::PROTOCOL_ERROR), "{count}");
        server.hear(&headers(3, POST, false)).unwrap();
        server.hear(&headers(3, &block[GET.len()..], true)).unwrap();
        assert_eq!(server.reset_of(3), Some(Reason::PROTOCOL_ERROR), "{count}, in trailers");
    }
}

/// T03, T15: one Content-Length, also where two agree, as over HTTP/1.
#[test]
fn t03_two_lengths_that_agree_are_malformed() {
    let length = [0x0f, 13, 1, b'5'];
    for (count, expected) in [(1, 0), (2, 1)] {
        let mut server = Side::server();
        server.hear(&headers(1, &[POST, &length.repeat(count)].concat(), false)).unwrap();
        assert_eq!(server.malformed, expected);
    }
}

/// T21: tiny frames that nobody reads take no more than a multiple of their bytes, however they lie
/// in the buffers they were read into.
#[test]
fn tiny_data_is_gathered() {
    for size in [1, 100, 1_025, 8_192] {
        let mut server = Side::server();
        server.hear(&headers(1, POST, false)).unwrap();
        let count = 256 * 1024 / size;
        for _ in 0..count {
            server.hear(&data(1, size, false)).unwrap();
        }
        let mut events = 0;
        while server.event(server.keys[0]).is_some() {
            events += 1;
        }
        assert!(events <= 1 + (256 * 1024usize).div_ceil(8 * 1024), "{events} of {size} bytes");
    }
}

/// A node that refuses, or breaks off, all we ask: it is ours to stop, and others' streams go on.
#[test]
fn a_node_that_resets_everything() {
    let mut client = Side::client();
    let other = client.ask(true);
    for n in 0..2 * RESETS_MAX {
        let key = client.ask(true);
        let id = 2 * n + 3;
        let end = if n % 2 == 0 { reset(id) } else { headers(id, &[], true) };
        client.hear(&end).unwrap();
        client.with(|state| state.release(key));
        client.said();
    }
    client.hear(&headers(1, OK, true)).unwrap();
    assert_eq!(client.event(other).as_deref(), Some("end"));
}
