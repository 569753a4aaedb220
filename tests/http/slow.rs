//! Readers that are slow and honest.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::h2::{Frame, PREFACE, flag, kind};
use crate::support::{Conn, Origin, Proxy, eventually};

/// A body of which a kernel holds megabytes for a reader that takes some kilobytes a second: on
/// this machine it took 2.5 MB at once.
const LARGE: usize = 64 << 20;
/// How long a client may be silent here.
const SILENCE: Duration = Duration::from_secs(2);

fn large() -> Origin {
    Origin::start(|peer| {
        if peer.request().is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            // The rest may find nobody.
            let _ = peer.stream.write_all(&vec![b'x'; LARGE]);
        }
    })
}

/// T24, as it stands there: an honest reader of some kilobytes a second is not cut off, although
/// the kernel holds so much for it that none of it shows in what can be written. Several times the
/// silence that a client may keep, over HTTP/1 and HTTP/2.
#[test]
fn t24_a_slow_and_honest_reader_is_not_cut_off() {
    let origin = large();
    let proxy = Proxy::run_file(&format!(
        "listeners:\n\
         - {{bind: \"127.0.0.1:0\", service: app, timeouts: {{body: 2s}}}}\n\
         services:\n\
         - {{id: app, nodes: [\"{}\"]}}\n",
        origin.url()
    ));
    let mut readers: Vec<Conn> = (0..2)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(4096).expect("it can be set");
            socket.connect(&proxy.addr(0).into()).expect("connect");
            Conn::of(socket.into())
        })
        .collect();
    readers[0].send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let window = |stream| Frame::new(kind::WINDOW_UPDATE, 0, stream, (1_u32 << 30).to_be_bytes());
    let get = [
        (&b":method"[..], &b"GET"[..]),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"a"),
    ];
    let ask = Frame::headers(1, flag::END_STREAM | flag::END_HEADERS, &get);
    readers[1].send([PREFACE, &window(0).bytes(), &ask.bytes(), &window(1).bytes()].concat());
    let (began, mut piece) = (Instant::now(), [0; 64]);
    // Some 10 KiB a second.
    eventually("the time is over", || {
        for reader in &mut readers {
            reader.stream.read_exact(&mut piece).expect("the answer goes on");
        }
        assert!(!origin.has_ended(1), "a node is left");
        (began.elapsed() > 4 * SILENCE).then_some(())
    });
}
