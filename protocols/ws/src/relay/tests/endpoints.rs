//! Real endpoints (tungstenite) through the relay, and bytes that must arrive as they were sent.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::*;

type Peer = WebSocketStream<DuplexStream>;

/// Runs a relay between two real endpoints.
async fn between_peers<T>(body: impl AsyncFnOnce(Peer, Peer) -> T) -> (Report, T) {
    relayed(Opening::default(), Settings::default(), async |ends| {
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let client = WebSocketStream::from_raw_socket(ends.client, Role::Client, Some(config));
        let node = WebSocketStream::from_raw_socket(ends.node, Role::Server, Some(config));
        body(client.await, node.await).await
    })
    .await
}

async fn next(peer: &mut Peer) -> Message {
    peer.next().await.unwrap().unwrap()
}

/// Closes from one end and follows the handshake to its end on both.
async fn close_from(first: &mut Peer, second: &mut Peer, close: Option<CloseFrame>) {
    first.close(close.clone()).await.unwrap();
    let answer = async {
        assert_eq!(next(second).await, Message::Close(close.clone()));
        while second.next().await.is_some() {}
    };
    let confirmed = async {
        assert_eq!(next(first).await, Message::Close(close.clone()));
        while first.next().await.is_some() {}
    };
    tokio::join!(answer, confirmed);
}

#[tokio::test]
async fn messages_of_every_kind_pass_both_ways() {
    let (report, ()) = between_peers(async |mut client, mut node| {
        for peer_is_client in [true, false] {
            let (from, to) =
                if peer_is_client { (&mut client, &mut node) } else { (&mut node, &mut client) };
            for message in [
                Message::text("grüß dich"),
                Message::binary(vec![0, 255, 128]),
                Message::text(""),
                Message::binary(vec![7; 70_000]),
            ] {
                let (sent, got) = tokio::join!(from.send(message.clone()), next(to));
                sent.unwrap();
                assert_eq!(got, message);
            }
            let fragment = |data: &'static str, opcode, fin| {
                Message::Frame(Frame::message(data, OpCode::Data(opcode), fin))
            };
            from.send(fragment("one ", Data::Text, false)).await.unwrap();
            from.send(Message::Ping("amid".into())).await.unwrap();
            from.send(fragment("two ", Data::Continue, false)).await.unwrap();
            from.send(fragment("three", Data::Continue, true)).await.unwrap();
            assert_eq!(next(to).await, Message::Ping("amid".into()));
            assert_eq!(next(to).await, Message::text("one two three"));
            to.flush().await.unwrap(); // the pong
            assert_eq!(next(from).await, Message::Pong("amid".into()));
        }
        close_from(&mut client, &mut node, None).await;
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Client)), "{report:?}");
    assert!(report.clean);
    assert_eq!((report.client_close, report.upstream_close), (Some(1005), Some(1005)));
    assert_eq!(report.client_to_upstream.messages, 5);
    assert_eq!(report.upstream_to_client.messages, 5);
}

#[tokio::test]
async fn close_codes_and_reasons_pass_both_ways() {
    let close =
        |code: u16, reason: &'static str| CloseFrame { code: code.into(), reason: reason.into() };
    let (report, ()) = between_peers(async |mut client, mut node| {
        close_from(&mut client, &mut node, Some(close(4001, "bye, node"))).await;
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Client)), "{report:?}");
    assert!(report.clean);
    assert_eq!((report.client_close, report.upstream_close), (Some(4001), Some(4001)));

    let (report, ()) = between_peers(async |mut client, mut node| {
        close_from(&mut node, &mut client, Some(close(1012, "service restart"))).await;
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Upstream)), "{report:?}");
    assert!(report.clean);
    assert_eq!((report.client_close, report.upstream_close), (Some(1012), Some(1012)));
}

#[tokio::test]
async fn a_mebibyte_crosses_a_mebibyte() {
    let (report, ()) = between_peers(async |client, node| {
        let (mut client_out, mut client_in) = client.split();
        let (mut node_out, mut node_in) = node.split();
        let (up, down) = (Message::binary(vec![1; 1 << 20]), Message::binary(vec![2; 1 << 20]));
        for _ in 0..3 {
            let (a, b, at_node, at_client) = tokio::join!(
                client_out.send(up.clone()),
                node_out.send(down.clone()),
                node_in.next(),
                client_in.next()
            );
            a.and(b).unwrap();
            assert!(at_node.unwrap().unwrap() == up && at_client.unwrap().unwrap() == down);
        }
        let (mut client, mut node) =
            (client_in.reunite(client_out).unwrap(), node_in.reunite(node_out).unwrap());
        close_from(&mut client, &mut node, None).await;
    })
    .await;
    assert!(report.clean);
    assert!(report.client_to_upstream.bytes > 3 << 20);
    assert!(report.upstream_to_client.bytes > 3 << 20);
}

// Extensions and subprotocols are the endpoints' own: not a bit changes, however it is cut.
#[tokio::test]
async fn bytes_pass_untouched() {
    let opening = Opening { extensions: true, ..Opening::default() };
    relayed(opening, Settings::default(), async |mut ends| {
        for sender in [Sender::Client, Sender::Server] {
            let mut bytes = Vec::new();
            bytes.extend(frame(sender, 0xc1, b"deflated, they say"));
            bytes.extend(frame(sender, 0x02, &vec![0x55; 100_000]));
            bytes.extend(frame(sender, 0x8a, b"a pong nobody asked for"));
            bytes.extend(frame(sender, 0x80, b""));
            bytes.extend(frame(sender, 0x89, &[9; 125]));
            for cut in [1, 7, 131, 1024] {
                let (from, to) = match sender {
                    Sender::Client => (&mut ends.client, &mut ends.node),
                    Sender::Server => (&mut ends.node, &mut ends.client),
                };
                let send = async {
                    for chunk in bytes.chunks(cut) {
                        from.write_all(chunk).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                tokio::join!(send, expect(to, &bytes));
            }
        }
        drop((ends.client, ends.node));
    })
    .await;
}

#[tokio::test]
async fn bytes_read_with_the_handshake_go_first() {
    let first = frame(Sender::Client, 0x81, b"with the request");
    let (head, tail) = first.split_at(9);
    let greeting = frame(Sender::Server, 0x81, b"with the response");
    let opening = Opening {
        early_from_client: Bytes::copy_from_slice(head),
        early_from_upstream: greeting.clone().into(),
        ..Opening::default()
    };
    relayed(opening, Settings::default(), async |mut ends| {
        expect(&mut ends.client, &greeting).await;
        expect(&mut ends.node, head).await;
        ends.client.write_all(tail).await.unwrap();
        expect(&mut ends.node, tail).await;
        drop((ends.client, ends.node));
    })
    .await;
}

// TLS holds records back until it is flushed; so does this.
#[tokio::test(start_paused = true)]
async fn what_is_written_is_flushed() {
    let (worker, _phase) = Worker::for_test();
    let settings = Settings::default();
    let (mut client, client_end) = duplex(PIPE_BYTES);
    let (mut node, node_end) = duplex(PIPE_BYTES);
    let (client_end, node_end) =
        (tokio::io::BufStream::new(client_end), tokio::io::BufStream::new(node_end));
    let body = async {
        for _ in 0..3 {
            let (up, down) =
                (frame(Sender::Client, 0x81, b"ping"), frame(Sender::Server, 0x81, b"pong"));
            client.write_all(&up).await.unwrap();
            expect(&mut node, &up).await;
            node.write_all(&down).await.unwrap();
            expect(&mut client, &down).await;
        }
        drop((client, node));
    };
    let run = relay(client_end, node_end, Opening::default(), &worker, &settings);
    tokio::select! {
        () = worker.run_for_test() => unreachable!("a worker runs for ever"),
        (report, ()) = async { tokio::join!(run, body) } => {
            assert!(matches!(report.end, End::Lost(..)), "ended before it was over: {report:?}");
        }
    }
}

// A reader that stalls stops the sender; the relay keeps one buffer and no more.
#[tokio::test(start_paused = true)]
async fn a_stalled_reader_holds_the_sender_back() {
    let (_, accepted) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        let message = frame(Sender::Server, 0x82, &vec![3; 1 << 20]);
        let mut accepted = 0;
        while let Some(rest) = message.get(accepted..).filter(|rest| !rest.is_empty()) {
            let write = ends.node.write(rest);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(n) => accepted += n.unwrap(),
                Err(_) => break,
            }
        }
        // Once the reader is back, everything arrives.
        let (head, tail) = message.split_at(accepted);
        let send = ends.node.write_all(tail);
        let receive = async {
            expect(&mut ends.client, head).await;
            expect(&mut ends.client, tail).await;
        };
        let (sent, ()) = tokio::join!(send, receive);
        sent.unwrap();
        drop((ends.client, ends.node));
        accepted
    })
    .await;
    assert!(accepted <= 2 * PIPE_BYTES + BUFFER_BYTES, "{accepted}");
}

/// The read buffer of an HTTP connection, as [`Bytes`] hold it.
struct ReadBuffer {
    bytes: Vec<u8>,
    _held: std::sync::Arc<()>,
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

// R09: what came with the handshake is a part of a larger buffer, which goes once it was read.
#[tokio::test(start_paused = true)]
async fn the_read_buffer_of_the_handshake_is_let_go_of() {
    let message = frame(Sender::Client, 0x81, b"early");
    let held = std::sync::Arc::new(());
    let buffer =
        |bytes: &[u8]| Bytes::from_owner(ReadBuffer { bytes: bytes.to_vec(), _held: held.clone() });
    let opening = Opening {
        early_from_client: buffer(&message),
        early_from_upstream: buffer(b""),
        ..Opening::default()
    };
    relayed(opening, Settings::default(), async |mut ends| {
        expect(&mut ends.node, &message).await;
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "a buffer is still held");
        drop((ends.client, ends.node));
    })
    .await;
}

// R09: no buffer while nothing is on its way, and a small state.
#[tokio::test(start_paused = true)]
async fn an_idle_pair_holds_no_buffer() {
    let (worker, _phase) = Worker::for_test();
    let settings = Settings::default();
    let (mut client, mut client_end) = duplex(PIPE_BYTES);
    let (mut node, mut node_end) = duplex(PIPE_BYTES);
    let (a, b) = (duplex(1).0, duplex(1).0);
    let state = size_of_val(&relay(a, b, Opening::default(), &worker, &settings));
    assert!(state <= 2048, "{state} bytes of state");

    let traffic = Traffic::default();
    let mut pair = Pair::new(Opening::default(), &worker, &settings, &traffic);
    let mut poll = async |pair: &mut Pair<'_>| {
        poll_fn(|cx| {
            assert!(pair.poll(cx, &mut client_end, &mut node_end).is_pending());
            Poll::Ready(())
        })
        .await;
    };
    client.write_all(&frame(Sender::Client, 0x81, b"hello")).await.unwrap();
    node.write_all(&frame(Sender::Server, 0x81, b"hello")).await.unwrap();
    poll(&mut pair).await;
    assert_eq!((pair.up.carried.get(), pair.down.carried.get()), (11, 7));
    assert!(!pair.up.holds_memory() && !pair.down.holds_memory());
    // The beginning of a header is kept in a few bytes of its own.
    client.write_all(&[0x81]).await.unwrap();
    poll(&mut pair).await;
    assert!(pair.up.holds_memory());
    client.write_all(&[0x80, 1, 2, 3, 4]).await.unwrap();
    poll(&mut pair).await;
    assert!(!pair.up.holds_memory());
    assert_eq!(pair.up.carried.get(), 17);
}
