//! How much of what nodes send is held for clients that do not read it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::frames::{GET, headers, window};
use super::support::{House, Wire, node, run, seconds, send_all};
use crate::h2::Reason;
use crate::h2::frame::Kind;

const MIB: usize = 1 << 20;

/// A node whose answers do not end, and the bytes that it got rid of.
async fn endless() -> (std::net::SocketAddr, Rc<Cell<usize>>) {
    let sent = Rc::new(Cell::new(0));
    let count = Rc::clone(&sent);
    let node = node(h2::server::Builder::new(), move |_, mut respond| {
        let count = Rc::clone(&count);
        async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let piece = Bytes::from(vec![b'x'; 4_096]);
            while send_all(&mut send, piece.clone()).await {
                count.set(count.get() + piece.len());
            }
        }
    })
    .await;
    (node, sent)
}

/// Asks on `streams` streams, each with this window, and takes what comes until nothing does.
async fn taken(house: &House, streams: u32, each: u32) -> (Wire, usize, usize) {
    let (node, sent) = endless().await;
    let mut wire = Wire::connect(house.proxy(&[node]), &[(4, each)]).await;
    wire.say(&window(0, 0x3fff_ffff)).await;
    for stream in 0..streams {
        wire.say(&headers(stream * 2 + 1, GET, true)).await;
    }
    let mut taken = 0;
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(1), wire.hear()).await {
        let frame = frame.expect("the connection goes on");
        if frame.kind == Kind::Data {
            taken += frame.payload.len();
        }
    }
    (wire, taken, sent.get())
}

/// T22, R15: a client that asks for all it may and reads none of it makes the proxy hold less than
/// 4 MiB, whether it never read or has read well before.
#[test]
fn r15_what_a_client_does_not_read_is_bounded() {
    for each in [0, 300_000] {
        run(async |house| {
            let (_wire, taken, sent) = taken(&house, 100, each).await;
            assert_eq!(taken, 100 * each as usize);
            // What the node's own socket holds of it is not counted apart.
            assert!(sent - taken <= 4 * MIB, "{} bytes with a window of {each}", sent - taken);
        });
    }
}

/// D13: a single client that keeps up is not held to the window of the many.
#[test]
fn d13_a_client_that_keeps_up_gets_a_larger_window() {
    run(async |house| {
        let (_wire, taken, sent) = taken(&house, 1, 4_000_000).await;
        assert_eq!(taken, 4_000_000);
        assert!(sent - taken > 200_000, "{} bytes", sent - taken);
    });
}

/// T22, T24, D03: 500 bytes a second is the least that a client must read, and enough.
#[test]
fn d03_a_client_that_reads_too_slowly() {
    for (bytes, is_enough) in [(1, false), (700, false), (1_100, true)] {
        run(async |house| {
            let (node, _) = endless().await;
            let mut wire = Wire::connect(house.proxy(&[node]), &[(4, 100)]).await;
            wire.say(&[window(0, 1 << 20), headers(1, GET, true)].concat()).await;
            let limit = Duration::from_secs(200);
            let ended = tokio::time::timeout(limit, wire.drips(2, window(1, bytes)));
            let (after, ended) = seconds(ended).await;
            match (bytes, is_enough) {
                (_, true) => assert!(ended.is_err(), "it was given up after {after} s"),
                (1, _) => {
                    assert_eq!(ended, Ok(Reason::CANCEL));
                    assert!((30..=41).contains(&after), "{after} s");
                }
                _ => assert_eq!(ended, Ok(Reason::CANCEL)),
            }
        });
    }
}
