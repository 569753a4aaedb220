//! Pairs of in-memory pipes; time is paused where it matters.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

#[tokio::test(start_paused = true)]
async fn half_close_keeps_the_return_direction() {
    let timer = Timer::new();
    let (mut client, mut client_end) = duplex(1024);
    let (mut node, mut node_end) = duplex(1024);
    let peer = async {
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        node.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"early ask");
        node.write_all(b"answer after half-close").await.unwrap();
        node.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer after half-close");
    };
    let early = Bytes::from_static(b"early ");
    let run = relay(&mut client_end, &mut node_end, early, Duration::from_secs(9), &timer);
    let (relayed, ()) = tokio::join!(run, peer);
    assert!(matches!(relayed.end, End::Closed));
    assert_eq!((relayed.client_to_upstream, relayed.upstream_to_client), (9, 23));
}

#[tokio::test(start_paused = true)]
async fn idle_pair_is_ended_and_traffic_postpones_it() {
    let timer = Timer::new();
    let (mut client, mut client_end) = duplex(1024);
    let (_node, mut node_end) = duplex(1024);
    let talk = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(8)).await;
            client.write_all(b"x").await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let idle = Duration::from_secs(10);
    let relayed = tokio::select! {
        () = timer.drive() => unreachable!(),
        () = talk => unreachable!(),
        relayed = relay(&mut client_end, &mut node_end, Bytes::new(), idle, &timer) => relayed,
    };
    assert!(matches!(relayed.end, End::Idle));
    assert_eq!(relayed.client_to_upstream, 3);
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_time_silence_lasts() {
    let timer = Timer::new();
    let (mut client, mut client_end) = duplex(64);
    let (node, mut node_end) = duplex(64);
    let days = async {
        tokio::time::sleep(Duration::from_hours(48)).await;
        client.write_all(b"still here").await.unwrap();
        drop((client, node));
    };
    let run = relay(&mut client_end, &mut node_end, Bytes::new(), Duration::ZERO, &timer);
    let (relayed, ()) = tokio::select! {
        () = timer.drive() => unreachable!("the driver never ends"),
        both = async { tokio::join!(run, days) } => both,
    };
    assert!(!matches!(relayed.end, End::Idle), "{:?}", relayed.end);
}

#[tokio::test]
async fn a_node_that_answers_early_and_closes_is_still_heard() {
    let (mut client, mut client_end) = duplex(64);
    let (mut node, mut node_end) = duplex(64);
    client.write_all(b"a long upload").await.unwrap();
    node.write_all(b"too long").await.unwrap();
    drop(node);
    let idle = Duration::from_secs(9);
    let relayed = relay(&mut client_end, &mut node_end, Bytes::new(), idle, &Timer::new()).await;
    assert!(matches!(relayed.end, End::Upstream(_)), "{:?}", relayed.end);
    drop(client_end);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"too long");
}

#[tokio::test]
async fn a_client_that_says_its_last_and_goes_is_still_heard() {
    let (mut client, mut client_end) = duplex(64);
    // The node reads slowly: the last words wait while the way back is broken already.
    let (mut node, mut node_end) = duplex(4);
    client.write_all(b"last words").await.unwrap();
    drop(client);
    node.write_all(b"wait").await.unwrap();
    let (mut heard, timer) = (Vec::new(), Timer::new());
    let idle = Duration::from_secs(9);
    let run = async {
        let relayed = relay(&mut client_end, &mut node_end, Bytes::new(), idle, &timer).await;
        drop(node_end);
        relayed
    };
    let (relayed, read) = tokio::join!(run, node.read_to_end(&mut heard));
    read.unwrap();
    assert!(matches!(relayed.end, End::Client(_)), "{:?}", relayed.end);
    assert_eq!(heard, b"last words");
}

#[tokio::test]
async fn only_a_direction_whose_writer_is_slow_holds_a_buffer() {
    let (mut from, mut from_end) = duplex(64);
    let (mut to, mut to_end) = duplex(4);
    let carried = Cell::new(0);
    let mut direction = Direction::new(Bytes::new(), BUFFER_BYTES, &carried);
    let mut poll = async |direction: &mut Direction<'_>| {
        poll_fn(|cx| Poll::Ready(direction.poll(cx, &mut from_end, &mut to_end, true).is_ready()))
            .await
    };
    assert!(!poll(&mut direction).await);
    assert_eq!(direction.buffer.capacity(), 0, "it waits for data");
    from.write_all(b"0123456789").await.unwrap();
    assert!(!poll(&mut direction).await);
    assert_eq!(direction.buffer.capacity(), BUFFER_BYTES, "its writer takes no more");
    let mut got = [0; 10];
    for four in got.chunks_mut(4) {
        to.read_exact(four).await.unwrap();
        assert!(!poll(&mut direction).await);
    }
    assert_eq!(&got, b"0123456789");
    assert_eq!(direction.buffer.capacity(), 0, "everything is on its way");
    let spare = SPARE.take();
    assert_eq!(spare.capacity(), BUFFER_BYTES);
    assert!(spare.is_empty());
}

#[tokio::test]
async fn a_direction_holds_no_more_than_it_may() {
    let (mut from, mut from_end) = duplex(1 << 20);
    let (mut to, mut to_end) = duplex(100);
    let (carried, sent) = (Cell::new(0), (0..=255).cycle().take(40_000).collect::<Vec<u8>>());
    let mut direction = Direction::new(Bytes::new(), 4096, &carried);
    from.write_all(&sent).await.unwrap();
    drop(from);
    let mut got = Vec::new();
    let mut held = 0;
    // Its turns are counted here, not by the runtime.
    tokio::task::unconstrained(async {
        while got.len() < sent.len() {
            let polled = |cx: &mut Context<'_>| {
                Poll::Ready(direction.poll(cx, &mut from_end, &mut to_end, true).is_ready())
            };
            poll_fn(polled).await;
            assert!(direction.buffer.capacity() <= 4096, "{}", direction.buffer.capacity());
            held = held.max(direction.buffer.len());
            let mut piece = [0; 100];
            let size = to.read(&mut piece).await.unwrap();
            got.extend_from_slice(&piece[..size]);
        }
    })
    .await;
    assert!(got == sent && held > 3900, "{held}");
}
