//! Uploads that outlive what they belong to, and those that nobody takes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::support::h2::{Frame, flag, kind};
use crate::support::{Conn, Origin, PATIENCE, Proxy, eventually, home, text, wrapped};

const QUIET: [&str; 2] = ["--access-log", "off"];
const END: u8 = flag::END_STREAM | flag::END_HEADERS;
/// `SETTINGS_INITIAL_WINDOW_SIZE` 0: no content may come before a `WINDOW_UPDATE`.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
/// What a connection may send before any `WINDOW_UPDATE` (RFC 9113 §6.9.2).
const WINDOW: usize = 65_535;
const SECRET: &str = "SECRET-OF-NEXT-REQ!!";

/// P11: once the final response has begun, no `100 Continue` is written into it, although the
/// node's answer starts the upload.
#[test]
fn p11_no_interim_response_within_the_final_one() {
    let content = format!("hello{}", "A".repeat(25));
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{content}");
    let origin = Origin::start(move |peer| {
        if peer.head().is_some() {
            peer.send(&response);
            peer.wait_end();
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(conn.head().status(), 200);
    assert_eq!(text(&conn.rest()), content);
}

/// T08: a node that answers an upload early over HTTP/2 keeps its stream open; what the client
/// sends with its *next* request must never arrive on that stream.
#[test]
fn t08_an_early_answered_upload_gets_nothing_of_the_next_request() {
    let seen: Arc<Mutex<Vec<(u32, String)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let origin = Origin::start(move |peer| {
        let mut preface = [0; 24];
        if peer.read_exact(&mut preface).is_err() {
            return;
        }
        peer.send(Frame::new(kind::SETTINGS, 0, 0, NO_WINDOW).bytes());
        let answer = |stream| Frame::headers(stream, END, &[(b":status", b"200")]).bytes();
        let window = |stream| Frame::new(kind::WINDOW_UPDATE, 0, stream, [0, 0, 4, 0]).bytes();
        while let Some(frame) = Frame::read(peer) {
            match (frame.kind, frame.stream) {
                (kind::SETTINGS, _) if frame.flags & flag::ACK == 0 => {
                    peer.send(Frame::new(kind::SETTINGS, flag::ACK, 0, []).bytes());
                }
                (kind::HEADERS, 5) => peer.send([window(3), window(5)].concat()),
                (kind::HEADERS, stream) => peer.send(answer(stream)),
                (kind::DATA, stream) => {
                    let content = text(&frame.payload);
                    log.lock().expect("nobody panics with it").push((stream, content));
                    if stream == 5 && frame.flags & flag::END_STREAM != 0 {
                        peer.send(answer(5));
                    }
                }
                _ => {}
            }
        }
    });
    let proxy = Proxy::http(&origin.url().replace("http://", "h2c://"), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    let first = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naaaaa\r\n";
    assert_eq!(conn.ask(first).status(), 200);
    conn.send("5\r\nbbbbb\r\n0\r\n\r\n");
    let second = format!("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{SECRET}");
    assert_eq!(conn.ask(second).status(), 200);
    let seen = seen.lock().expect("nobody panics with it").clone();
    let of = |stream| -> String {
        seen.iter().filter(|(each, _)| *each == stream).map(|(_, content)| &**content).collect()
    };
    assert_eq!(of(5), SECRET, "{seen:?}");
    // Its own content may still come, as far as it was taken from the client.
    assert!("aaaaabbbbb".starts_with(&of(3)), "{seen:?}");
}

/// R15, RFC 9113 §5.2: two clients upload to one connection of a node that takes 64 KiB of both
/// together at a time: the one that came first, and has much waiting, takes nothing from the other.
#[test]
fn uploads_to_one_node_share_its_window() {
    /// Turns of the node after which it has seen enough.
    const TURNS: usize = 64;
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let origin = Origin::start(move |peer| {
        let mut preface = [0; 24];
        if peer.read_exact(&mut preface).is_err() {
            return;
        }
        // No stream has a limit of its own: it is the connection's 64 KiB that they share.
        let open = [0, 4, 0x7f, 0xff, 0xff, 0xff];
        peer.send(Frame::new(kind::SETTINGS, 0, 0, open).bytes());
        peer.send(Frame::new(kind::SETTINGS, flag::ACK, 0, []).bytes());
        let (mut streams, mut taken, mut turns) = (Vec::new(), [0_usize; 2], 0);
        let mut left = WINDOW;
        while turns < TURNS {
            let Some(frame) = Frame::read(peer) else { return };
            match frame.kind {
                kind::HEADERS => streams.push(frame.stream),
                kind::DATA => {
                    left -= frame.payload.len();
                    // Only what both wanted is compared.
                    if let [first, second] = streams[..] {
                        taken[0] += if frame.stream == first { frame.payload.len() } else { 0 };
                        taken[1] += if frame.stream == second { frame.payload.len() } else { 0 };
                    }
                }
                _ => {}
            }
            if left == 0 {
                turns += usize::from(streams.len() == 2);
                left = WINDOW;
                let more = u32::try_from(WINDOW).expect("it fits").to_be_bytes();
                peer.send(Frame::new(kind::WINDOW_UPDATE, 0, 0, more).bytes());
            }
        }
        tell.lock().expect("nobody panics with it").send(taken).expect("the test waits");
    });
    let flags = [&QUIET[..], &["--max-body-size", "0", "--workers", "1"]].concat();
    let proxy = Proxy::http(&origin.url().replace("http://", "h2c://"), &flags);
    for _ in 0..2 {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 30));
        std::thread::spawn(move || {
            let block = vec![b'x'; 64 * 1024];
            // Until the proxy ends with the test.
            while conn.stream.write_all(&block).is_ok() {}
        });
        origin.wait_for("PRI * HTTP/2.0");
    }
    let [first, second] = told.recv_timeout(PATIENCE).expect("the node has seen enough");
    assert!(first.min(second) * 2 > first.max(second), "{first} and {second} bytes");
    assert_eq!(origin.connections(), 1);
}

/// Writes what is taken at once; whether anything was.
fn write_some(client: &mut TcpStream, block: &[u8]) -> bool {
    match client.write(block) {
        Ok(written) => written > 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// T27, as it stands there: two thousand uploads of 1 GiB each to a node that reads nothing; what
/// each costs, two connections, is less than 64 KiB for each of them.
#[test]
fn t27_thousands_of_uploads_that_no_node_reads_take_little_memory() {
    const UPLOADS: usize = 2000;
    let mut descriptors = getrlimit(Resource::Nofile);
    descriptors.current = descriptors.maximum;
    setrlimit(Resource::Nofile, descriptors).expect("a limit can be raised to its maximum");
    let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    // The kernel's share of it should not be hundreds of megabytes.
    socket2::SockRef::from(&node).set_recv_buffer_size(16 * 1024).expect("it can be set");
    socket2::SockRef::from(&node).set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let url = format!("http://{}", node.local_addr().expect("it is bound"));
    let (home, flags) = (home(), ["--max-body-size", "0", "--workers", "2"]);
    let mut command = wrapped(&[], &home);
    command.args(["http", "--listen", "127.0.0.1:0", "--to", &url]).args(QUIET).args(flags);
    command.env("MIMALLOC_ALLOW_THP", "0");
    let proxy = Proxy::launch(&mut command, home, 1);
    let before = proxy.memory("VmHWM");
    let (mut clients, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..UPLOADS {
        let mut conn = Conn::open(proxy.addr(0));
        conn.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n");
        conn.stream.set_nonblocking(true).expect("it can be set");
        socket2::SockRef::from(&conn.stream)
            .set_send_buffer_size(16 * 1024)
            .expect("it can be set");
        clients.push(conn.stream);
        taken.push(node.accept().expect("the proxy connects"));
    }
    let (block, mut idle) = (vec![b'x'; 64 * 1024], 0);
    eventually("all are held up", || {
        let moved =
            clients.iter_mut().filter_map(|one| write_some(one, &block).then_some(())).count();
        idle = if moved == 0 { idle + 1 } else { 0 };
        (idle > 10).then_some(())
    });
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < UPLOADS as u64 * 96, "{grown} kB for {UPLOADS} uploads");
    let asked = "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    assert_eq!(Conn::open(proxy.addr(0)).ask(asked).status(), 200, "nobody else is held up");
}
