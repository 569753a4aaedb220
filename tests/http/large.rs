//! Large bodies with a length, which go from socket to socket without being read: the bytes, the
//! ends and the records are the same as of those that are.

use crate::support::{Conn, Origin, Proxy};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Bytes that tell when one is missing, twice there or out of place.
fn content(size: usize) -> Vec<u8> {
    (0..size as u32).map(|n| (n % 251) as u8 ^ (n >> 12) as u8).collect()
}

fn answer(size: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    [head.into_bytes(), content(size)].concat()
}

/// Around the size where it begins, and around what is taken at once; the connections on both
/// sides go on to serve.
#[test]
fn large_bodies_arrive_whole_and_leave_the_connections_in_order() {
    let sizes = [1, 32_767, 32_768, 40_960, 40_961, 131_072, 300_001, 5_000_000, 2];
    let origin = Origin::start(move |peer| {
        for size in sizes {
            if peer.request().is_none() {
                return;
            }
            peer.send(answer(size));
        }
        peer.wait_end();
    });
    let proxy = Proxy::http(&origin.url(), &["--workers", "1"]);
    let mut conn = Conn::open(proxy.addr(0));
    for size in sizes {
        let got = conn.ask(GET);
        assert_eq!(got.status(), 200);
        assert!(got.body == content(size), "{size}: {} bytes came", got.body.len());
    }
    assert_eq!(origin.connections(), 1, "one that was used up would have been replaced");
    let lines = proxy.wait_lines(sizes.len());
    for (line, size) in lines.iter().zip(sizes) {
        assert!(line.contains(&format!("\"bytes_sent\":{size},")), "{line}");
    }
}

/// R06: what the node sent before it broke off arrives, and it is told that it is not all.
#[test]
fn r06_a_large_body_that_is_cut_arrives_as_far_as_it_came() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let all = answer(1_000_000);
            peer.send(&all[..all.len() - 600_000]);
        }
    });
    let proxy = Proxy::start(&["http", "--listen", "127.0.0.1:0", "--to", &origin.url()]);
    let mut conn = Conn::open(proxy.addr(0));
    assert_eq!(conn.send(GET).head().status(), 200);
    assert!(conn.rest() == content(1_000_000)[..400_000]);
    let line = proxy.wait_lines(1).remove(0);
    assert!(line.contains("\"error\":\"upstream_reset\""), "{line}");
    assert!(line.contains("\"bytes_sent\":400000,"), "{line}");
}

/// T13: bytes behind a body are no answer, however they came.
#[test]
fn t13_what_follows_a_large_body_is_never_a_response() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            peer.send([answer(200_000), evil.to_vec()].concat());
        }
        peer.wait_end();
    });
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off", "--workers", "1"]);
    let mut conn = Conn::open(proxy.addr(0));
    for connections in 1..=3 {
        let got = conn.ask(GET);
        assert!(got.body == content(200_000));
        assert_eq!(origin.connections(), connections);
    }
}

/// A client that leaves in the middle of it cancels it, and others go on with the same pipes.
#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    let origin = Origin::start(|peer| {
        while peer.request().is_some() {
            peer.send(answer(3_000_000));
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off", "--workers", "1"]);
    for _ in 0..8 {
        let mut leaves = Conn::open(proxy.addr(0));
        assert_eq!(leaves.send(GET).head().status(), 200);
        leaves.reset();
        let got = Conn::open(proxy.addr(0)).ask(GET);
        assert!(got.body == content(3_000_000), "{} bytes came", got.body.len());
    }
}
