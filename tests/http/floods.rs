//! Clients that ask for much and take nothing.

use crate::support::h2::{Frame, PREFACE, flag, kind};
use crate::support::{Conn, Origin, Proxy};

/// Streams that a client may have open.
const STREAMS: u32 = 100;

/// T20, CVE-2026-47774: the largest heads on every stream a client may have, by a table whose entry
/// is named again and again, while no answer may leave. What it costs is a multiple of what one
/// section may be, and of one read from each node.
#[test]
fn t20_heads_behind_closed_windows_are_bounded() {
    let body = vec![b'x'; 1024 * 1024];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let origin = Origin::answering([head.as_bytes(), &body].concat());
    let proxy = Proxy::http(&origin.url(), &["--workers", "1", "--access-log", "off"]);
    let mut honest = Conn::open(proxy.addr(0));
    assert_eq!(honest.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    let before = proxy.memory("VmHWM");
    let mut client = Conn::open(proxy.addr(0));
    // No window for any stream (RFC 9113 §6.5.2).
    client.send(PREFACE).send(Frame::new(kind::SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0]).bytes());
    for number in 0..STREAMS {
        // GET, http, `/`, `:authority: a`, then `x: …` of 3,900 bytes four times.
        let mut block = vec![0x82, 0x86, 0x84, 0x01, 1, b'a'];
        if number == 0 {
            block.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
            block.extend([b'v'; 3900]);
            block.extend([0xbe; 3]);
        } else {
            block.extend([0xbe; 4]);
        }
        let flags = flag::END_HEADERS | flag::END_STREAM;
        client.send(Frame::new(kind::HEADERS, flags, 2 * number + 1, block).bytes());
    }
    let sent = || origin.seen().matches("x: vvvv").count();
    crate::support::eventually("every request is at the node", || {
        (sent() == 4 * STREAMS as usize).then_some(())
    });
    assert_eq!(honest.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} kB for {STREAMS} streams");
}
