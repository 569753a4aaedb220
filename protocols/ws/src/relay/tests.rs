//! A relay between two in-memory connections, on a worker whose time may be paused.

mod any_bytes;
mod closing;
mod endpoints;
mod liveness;
mod violations;

use std::time::Duration;

use gwproxy_core::units::{Size, Span};
use gwproxy_core::worker::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use super::*;
use crate::frames::{Frames, Item, Limits, Opcode};

/// What a pipe holds, in place of a socket's buffers.
const PIPE_BYTES: usize = 4096;

/// The far ends of a relayed connection.
struct Ends {
    client: DuplexStream,
    node: DuplexStream,
    phase: watch::Sender<Phase>,
}

/// Runs a relay and `body` at its ends; both must come to their end.
async fn relayed<T>(
    opening: Opening,
    settings: Settings,
    body: impl AsyncFnOnce(Ends) -> T,
) -> (Report, T) {
    let (worker, phase) = Worker::for_test();
    let (client, client_end) = duplex(PIPE_BYTES);
    let (node, node_end) = duplex(PIPE_BYTES);
    let run = relay(client_end, node_end, opening, &worker, &settings);
    let body = body(Ends { client, node, phase });
    tokio::select! {
        () = worker.run_for_test() => unreachable!("a worker runs for ever"),
        both = async { tokio::join!(run, body) } => both,
    }
}

/// A frame, masked when from a client.
fn frame(sender: Sender, first: u8, payload: &[u8]) -> Vec<u8> {
    let (mask, key): (u8, &[u8]) = match sender {
        Sender::Client => (0x80, &[1, 2, 3, 4]),
        Sender::Server => (0, &[]),
    };
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(mask | n as u8),
        n => {
            frame.push(mask | 0x7f);
            frame.extend((n as u64).to_be_bytes());
            assert!(n > 0xffff, "the two-byte form is not needed here");
        }
    }
    frame.extend(key);
    let key = if key.is_empty() { &[0; 4] } else { key };
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn close_frame(sender: Sender, code: u16) -> Vec<u8> {
    frame(sender, 0x88, &code.to_be_bytes())
}

/// Reads one control frame of `sender` from the wire: its type and its payload.
async fn read_control(from: &mut DuplexStream, sender: Sender) -> (Opcode, Vec<u8>) {
    let mut frames = Frames::new(sender, false, Limits::OFF);
    let mut bytes = Vec::new();
    loop {
        match frames.next(&bytes).unwrap() {
            Some(Item::Control(header)) => {
                return (header.opcode, header.control_payload(&bytes).as_slice().to_vec());
            }
            Some(item) => panic!("{item:?} where a control frame was due"),
            None => bytes.push(from.read_u8().await.unwrap()),
        }
    }
}

/// Reads a Close frame: its code and its reason.
async fn read_close(from: &mut DuplexStream, sender: Sender) -> (u16, String) {
    let (opcode, payload) = read_control(from, sender).await;
    assert_eq!(opcode, Opcode::Close);
    let reason = payload.get(2..).unwrap_or_default().to_vec();
    (close::code_of(&payload).unwrap(), String::from_utf8(reason).unwrap())
}

/// Reads exactly `expected`.
async fn expect(from: &mut DuplexStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    from.read_exact(&mut got).await.unwrap();
    assert!(got == expected, "other bytes than those sent");
}

/// Reads to the end of stream and wants nothing before it.
async fn expect_end(from: &mut DuplexStream) {
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0; 0]);
}
