//! Bodies that are larger than the proxy, and clients that leave: memory stays bounded, and what
//! nobody reads is not fetched.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::h2::{Frame, H2, PREFACE, flag, kind, request};
use crate::support::{Conn, Origin, PATIENCE, Peer, Proxy, home, wrapped};

const QUIET: [&str; 2] = ["--access-log", "off"];
/// Uploads of any size.
const ANY_SIZE: [&str; 4] = ["--access-log", "off", "--max-body-size", "0"];
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A body that would not fit by far.
const LARGE: u64 = 1 << 30;
/// What the proxy may take for it.
const GROWTH_MAX_KB: u64 = 64 * 1024;
/// What both legs' socket buffers may hold while nobody reads, with room to spare; the kernel's
/// maximum is 4 MiB to send and 6 MiB to receive.
const IN_FLIGHT_MAX: u64 = 48 << 20;

/// The most memory it had, before and after.
#[track_caller]
fn assert_small(proxy: &Proxy, before: u64) {
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH_MAX_KB, "{grown} kB");
}

/// Writes up to `count` bytes until the other side takes no more; how many were taken.
fn write_until_stall(stream: &mut TcpStream, count: u64) -> u64 {
    crate::support::write_until_stall(stream, &vec![b'x'; 64 * 1024], count)
}

fn write_all(stream: &mut impl Write, mut count: u64) {
    let block = vec![b'x'; 256 * 1024];
    while count > 0 {
        let part = count.min(block.len() as u64) as usize;
        stream.write_all(&block[..part]).expect("taken");
        count -= part as u64;
    }
}

fn read_count(stream: &mut impl Read, count: u64) {
    let mut buffer = vec![0; 256 * 1024];
    let mut left = count;
    while left > 0 {
        let part = left.min(buffer.len() as u64) as usize;
        let read = stream.read(&mut buffer[..part]).expect("more");
        assert!(read > 0, "{left} of {count} bytes are missing");
        left -= read as u64;
    }
}

/// Answers with a body of `count` bytes, and counts what was taken before it was held up.
fn sends(count: u64, taken: Arc<AtomicU64>) -> impl Fn(&mut Peer) + Send + Sync {
    move |peer| {
        if peer.request().is_none() {
            return;
        }
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n"));
        let written = write_until_stall(&mut peer.stream, count);
        taken.store(written, Ordering::SeqCst);
        write_all(&mut peer.stream, count - written);
        peer.wait_end();
    }
}

/// T27.
#[test]
fn a_large_download_streams_through_little_memory() {
    let origin = Origin::start(|peer| {
        while peer.request().is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            write_all(&mut peer.stream, LARGE);
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let before = proxy.memory("VmHWM");
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).head().status(), 200);
    read_count(&mut conn.stream, LARGE);
    assert_small(&proxy, before);
}

/// T27.
#[test]
fn a_large_upload_streams_through_little_memory() {
    let origin = Origin::start(|peer| {
        if peer.head().is_some() {
            read_count(&mut peer.stream, LARGE);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::http(&origin.url(), &ANY_SIZE);
    let before = proxy.memory("VmHWM");
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    write_all(&mut conn.stream, LARGE);
    assert_eq!(conn.response().status(), 200);
    assert_small(&proxy, before);
}

/// T22, T27: a client that does not read holds up the node, not the proxy's memory; and when it
/// reads on, it gets everything.
#[test]
fn a_slow_reader_holds_up_the_node() {
    let taken = Arc::new(AtomicU64::new(0));
    let count = 128 << 20;
    let origin = Origin::start(sends(count, Arc::clone(&taken)));
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let before = proxy.memory("VmHWM");
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).head().status(), 200);
    let stalled = crate::support::eventually("the node is held up", || {
        Some(taken.load(Ordering::SeqCst)).filter(|&taken| taken > 0)
    });
    assert!(stalled < IN_FLIGHT_MAX, "the node could send {stalled} bytes to nobody");
    assert_small(&proxy, before);
    read_count(&mut conn.stream, count);
}

/// The same on HTTP/2, where the streams of one connection must not add up.
#[test]
fn t22_slow_http2_streams_hold_up_their_nodes() {
    let count = 32 << 20;
    let stalled = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&stalled);
    let origin = Origin::start(move |peer| {
        if peer.request().is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n"));
            let taken = write_until_stall(&mut peer.stream, count);
            told.lock().expect("nobody panics with it").push(taken);
            peer.wait_end();
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let before = proxy.memory("VmHWM");
    let mut client = H2::open(proxy.addr(0));
    let open: Vec<_> = (0..10).map(|_| client.begin(request("GET", "/", &[]), true)).collect();
    let taken = client.run_until(|| {
        let taken = stalled.lock().expect("nobody panics with it").clone();
        (taken.len() == open.len()).then_some(taken)
    });
    assert!(taken.iter().all(|&taken| taken < count), "sent to nobody: {taken:?}");
    assert_small(&proxy, before);
    drop((open, client));
    origin.wait_ended(10);
}

/// R15: what one connection of HTTP/2 does not read makes the proxy hold 4 MiB at most, for as many
/// requests and tunnels as it may have: pieces of nodes' HTTP/1.1 answers and of CONNECT's bytes.
#[test]
fn r15_what_an_http2_client_leaves_unread_is_bounded() {
    for is_tunnel in [false, true] {
        let stalled = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&stalled);
        let origin = Origin::start(move |peer| {
            if !is_tunnel && peer.request().is_some() {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            }
            write_until_stall(&mut peer.stream, LARGE);
            told.fetch_add(1, Ordering::SeqCst);
            peer.wait_end();
        });
        let port = origin.addr().port().to_string();
        let one = ["--listen", "127.0.0.1:0", "--workers", "1"];
        let to = ["--forward", "--allow-private", "--allow-port", &port];
        let (home, url) = (home(), origin.url());
        let mut command = wrapped(&[], &home);
        command.arg("http").args(one);
        if is_tunnel {
            command.args(to);
        } else {
            command.args(["--to", &url]).args(QUIET);
        }
        // Huge pages come two megabytes at a time: half of what is to be measured.
        command.env("MIMALLOC_ALLOW_THP", "0");
        let proxy = Proxy::launch(&mut command, home, 1);
        let mut conn = Conn::open(proxy.addr(0));
        // As much as the large reads of a stream begin with, and no more.
        let window: u32 = 20_000;
        let initial = [&[0, 4][..], &window.to_be_bytes()].concat();
        let settings = Frame::new(kind::SETTINGS, 0, 0, initial).bytes();
        let all = Frame::new(kind::WINDOW_UPDATE, 0, 0, (1_u32 << 30).to_be_bytes()).bytes();
        conn.send([PREFACE, &settings, &all].concat());
        let addr = origin.addr().to_string();
        let mut asked = 0;
        // Asks, and reads what the windows allow.
        let mut ask = |conn: &mut Conn, count: u32| {
            for stream in (asked..asked + count).map(|number| 2 * number + 1) {
                let connect =
                    [(&b":method"[..], &b"CONNECT"[..]), (b":authority", addr.as_bytes())];
                let get = [
                    (&b":method"[..], &b"GET"[..]),
                    (b":scheme", b"http"),
                    (b":path", b"/"),
                    (b":authority", b"a"),
                ];
                let (fields, ends) = if is_tunnel { (&connect[..], 0) } else { (&get[..], 1) };
                let flags = flag::END_HEADERS | (ends * flag::END_STREAM);
                conn.send(Frame::headers(stream, flags, fields).bytes());
            }
            asked += count;
            let mut left = u64::from(count * window);
            while left > 0 {
                let frame = Frame::read(&mut conn.stream).expect("the connection goes on");
                if frame.kind == kind::DATA {
                    left -= frame.payload.len() as u64;
                }
            }
        };
        // What the first one costs is not for those that stall.
        ask(&mut conn, 1);
        let before = proxy.memory("VmHWM");
        ask(&mut conn, 99);
        crate::support::eventually("all are held up", || {
            (stalled.load(Ordering::SeqCst) == 100).then_some(())
        });
        let grown = proxy.memory("VmHWM").saturating_sub(before);
        assert!(grown < 4096, "{grown} kB, tunnels: {is_tunnel}");
        drop(conn);
        origin.wait_ended(100);
    }
}

/// T27: the other way: a node that does not read holds up the client.
#[test]
fn a_slow_node_holds_up_the_client() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let count: u64 = 128 << 20;
    let origin = Origin::start(move |peer| {
        if peer.head().is_some() {
            let told = wait.lock().expect("one script").recv_timeout(PATIENCE);
            told.expect("the client is held up in time");
            read_count(&mut peer.stream, count);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::http(&origin.url(), &ANY_SIZE);
    let before = proxy.memory("VmHWM");
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {count}\r\n\r\n"));
    let written = write_until_stall(&mut conn.stream, count);
    assert!(written < IN_FLIGHT_MAX, "the proxy took {written} bytes that nobody reads");
    assert_small(&proxy, before);
    go.send(()).expect("the script waits");
    write_all(&mut conn.stream, count - written);
    assert_eq!(conn.response().status(), 200);
}

/// A client that leaves while the node still works: the node hears of it.
#[test]
fn a_client_that_leaves_early_cancels_the_request() {
    let origin = Origin::start(|peer| {
        let _ = peer.request();
        peer.wait_end();
    });
    let proxy = Proxy::http(&origin.url(), &["--access-log", "-"]);
    let mut conn = Conn::open(proxy.addr(0));
    conn.send(GET);
    origin.wait_for("\r\n\r\n");
    drop(conn);
    origin.wait_ended(1);
    let mut client = H2::open(proxy.addr(0));
    let open = client.begin(request("GET", "/", &[]), true);
    client.run_until(|| (origin.connections() == 2).then_some(()));
    drop(open);
    client.run_until(|| origin.has_ended(2).then_some(()));
    for line in proxy.wait_lines(2) {
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&line["error"], &line["status"]), (&"client_closed".into(), &499.into()));
    }
}

/// The same in the middle of a response.
#[test]
fn a_client_that_leaves_in_mid_response_cancels_it() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            peer.wait_end();
        }
    });
    let proxy = Proxy::http(&origin.url(), &QUIET);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).head().status(), 200);
    conn.reset();
    origin.wait_ended(1);
}
