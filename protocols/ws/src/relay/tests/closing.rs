//! The ways a connection ends: RFC 6455 §7, lost sides, drain.

use gwproxy_core::worker::Workers;

use super::*;

/// Runs a relay with the default settings and nothing left from the handshake.
async fn plainly<T>(body: impl AsyncFnOnce(Ends) -> T) -> (Report, T) {
    relayed(Opening::default(), Settings::default(), body).await
}

// P62: RFC 6455 §7.1.1. We are the client's server and close first; the upstream is ours.
#[tokio::test(start_paused = true)]
async fn p62_the_server_ends_tcp_first() {
    let (report, took) = plainly(async |mut ends| {
        ends.client.write_all(&close_frame(Sender::Client, 1000)).await.unwrap();
        expect(&mut ends.node, &close_frame(Sender::Client, 1000)).await;
        ends.node.write_all(&close_frame(Sender::Server, 1000)).await.unwrap();
        expect(&mut ends.client, &close_frame(Sender::Server, 1000)).await;
        expect_end(&mut ends.client).await;
        drop(ends.client);
        // The upstream still has its write half to itself: nothing came after the Close.
        let early = tokio::time::timeout(Duration::from_secs(1), ends.node.read_u8()).await;
        assert!(early.is_err(), "we closed towards the upstream first");
        ends.node.shutdown().await.unwrap();
        let start = Instant::now();
        expect_end(&mut ends.node).await;
        start.elapsed()
    })
    .await;
    assert!(report.clean);
    assert_eq!(took, Duration::ZERO, "the answer to FIN is FIN, not the close timeout");
}

// P62: §7.1.1. Once both Close frames are through, a client that stays costs no time.
#[tokio::test(start_paused = true)]
async fn p62_a_client_that_stays_after_both_closes_is_not_waited_for() {
    for client_first in [true, false] {
        let start = Instant::now();
        let (report, ends) = plainly(async |mut ends| {
            let client = async |ends: &mut Ends| {
                ends.client.write_all(&close_frame(Sender::Client, 1000)).await.unwrap();
                expect(&mut ends.node, &close_frame(Sender::Client, 1000)).await;
            };
            let node = async |ends: &mut Ends| {
                ends.node.write_all(&close_frame(Sender::Server, 1000)).await.unwrap();
                expect(&mut ends.client, &close_frame(Sender::Server, 1000)).await;
            };
            if client_first {
                client(&mut ends).await;
                node(&mut ends).await;
            } else {
                node(&mut ends).await;
                client(&mut ends).await;
            }
            expect_end(&mut ends.client).await;
            ends.node.shutdown().await.unwrap();
            expect_end(&mut ends.node).await;
            ends
        })
        .await;
        assert!(report.clean, "{report:?}");
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop(ends);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_close_but_the_other_direction_goes_on() {
    let (report, ()) = plainly(async |mut ends| {
        let last = [
            close_frame(Sender::Client, 1000),
            frame(Sender::Client, 0x81, b"after"),
            b"junk".to_vec(),
        ];
        ends.client.write_all(&last.concat()).await.unwrap();
        expect(&mut ends.node, &close_frame(Sender::Client, 1000)).await;
        let rest = frame(Sender::Server, 0x82, &vec![1; 70_000]);
        let send = ends.node.write_all(&rest);
        let (sent, ()) = tokio::join!(send, expect(&mut ends.client, &rest));
        sent.unwrap();
        ends.node.write_all(&close_frame(Sender::Server, 1000)).await.unwrap();
        ends.node.shutdown().await.unwrap();
        expect_end(&mut ends.node).await;
        expect(&mut ends.client, &close_frame(Sender::Server, 1000)).await;
    })
    .await;
    assert!(report.clean);
    assert_eq!(report.client_to_upstream.bytes, 8);
}

#[tokio::test(start_paused = true)]
async fn a_close_without_answer_ends_after_the_close_timeout() {
    let (report, took) = plainly(async |mut ends| {
        let start = Instant::now();
        ends.client.write_all(&close_frame(Sender::Client, 4000)).await.unwrap();
        expect(&mut ends.node, &close_frame(Sender::Client, 4000)).await;
        expect_end(&mut ends.client).await;
        expect_end(&mut ends.node).await;
        start.elapsed()
    })
    .await;
    let limit = Settings::default().close_timeout.get();
    assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?}");
    assert!(!report.clean);
    assert_eq!((report.client_close, report.upstream_close), (Some(4000), None));
}

// A connection whose writes fail but whose reads never end must not stay.
#[tokio::test(start_paused = true)]
async fn a_side_that_takes_nothing_and_says_nothing_ends_after_the_close_timeout() {
    let (worker, _phase) = Worker::for_test();
    let settings = Settings::default();
    let (mut client, client_end) = duplex(PIPE_BYTES);
    let (_silent, reader) = duplex(PIPE_BYTES);
    let (_, writer) = duplex(PIPE_BYTES);
    let broken = tokio::io::join(reader, writer);
    client.write_all(&frame(Sender::Client, 0x81, b"hello?")).await.unwrap();
    let start = Instant::now();
    let report = tokio::select! {
        () = worker.run_for_test() => unreachable!("a worker runs for ever"),
        report = relay(client_end, broken, Opening::default(), &worker, &settings) => report,
    };
    assert!(matches!(report.end, End::Lost(Side::Upstream, None)), "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// Notes that its write half was shut down in order, as TLS needs it.
struct Noting {
    io: DuplexStream,
    shut: Rc<std::cell::Cell<bool>>,
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut.set(true);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn when_time_is_up_both_are_still_shut_down_in_order() {
    let (worker, phase) = Worker::for_test();
    let settings = Settings::default();
    let (_client, client_end) = duplex(PIPE_BYTES);
    let (_node, node_end) = duplex(PIPE_BYTES);
    let (client_shut, node_shut) = (Rc::default(), Rc::default());
    let client_end = Noting { io: client_end, shut: Rc::clone(&client_shut) };
    let node_end = Noting { io: node_end, shut: Rc::clone(&node_shut) };
    phase.send_replace(Phase::Draining);
    let report = tokio::select! {
        () = worker.run_for_test() => unreachable!("a worker runs for ever"),
        report = relay(client_end, node_end, Opening::default(), &worker, &settings) => report,
    };
    assert!(matches!(report.end, End::Drained) && !report.clean, "{report:?}");
    assert!(client_shut.get() && node_shut.get());
}

// RFC 6455 §7.1.5: 1006 is what the peers may conclude, not what may be sent.
#[tokio::test(start_paused = true)]
async fn a_lost_client_is_going_away_for_the_upstream() {
    let (report, ()) = plainly(async |mut ends| {
        let whole = frame(Sender::Client, 0x81, b"last words");
        ends.client.write_all(&whole).await.unwrap();
        ends.client.write_all(&[0x81]).await.unwrap(); // half a header, never forwarded
        drop(ends.client);
        expect(&mut ends.node, &whole).await;
        let close = read_close(&mut ends.node, Sender::Client).await;
        assert_eq!(close, (1001, "client is gone".into()));
        ends.node.write_all(&close_frame(Sender::Server, 1001)).await.unwrap();
        ends.node.shutdown().await.unwrap();
        expect_end(&mut ends.node).await;
    })
    .await;
    assert!(matches!(report.end, End::Lost(Side::Client, None)), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_upstream_is_a_bad_gateway_for_the_client() {
    let (report, ()) = plainly(async |mut ends| {
        drop(ends.node);
        let close = read_close(&mut ends.client, Sender::Server).await;
        assert_eq!(close, (1014, "upstream is gone".into()));
        ends.client.write_all(&close_frame(Sender::Client, 1014)).await.unwrap();
        expect_end(&mut ends.client).await;
    })
    .await;
    assert!(matches!(report.end, End::Lost(Side::Upstream, None)), "{report:?}");
    assert_eq!(report.client_close, Some(1014));
}

#[tokio::test(start_paused = true)]
async fn a_frame_cut_short_cuts_the_connection() {
    let start = Instant::now();
    let (report, ()) = plainly(async |mut ends| {
        let cut = frame(Sender::Server, 0x82, &vec![5; 100_000]).get(..1000).unwrap().to_vec();
        ends.node.write_all(&cut).await.unwrap();
        drop(ends.node);
        expect(&mut ends.client, &cut).await;
        expect_end(&mut ends.client).await;
    })
    .await;
    assert!(matches!(report.end, End::Lost(Side::Upstream, None)), "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "nobody is waited for");
}

// The upstream answers a Close by hanging up: the client still gets its handshake.
#[tokio::test(start_paused = true)]
async fn a_hang_up_in_answer_to_close_is_completed_for_the_side_that_asked() {
    let (report, ()) = plainly(async |mut ends| {
        ends.client.write_all(&close_frame(Sender::Client, 3005)).await.unwrap();
        expect(&mut ends.node, &close_frame(Sender::Client, 3005)).await;
        drop(ends.node);
        assert_eq!(read_close(&mut ends.client, Sender::Server).await, (3005, String::new()));
        expect_end(&mut ends.client).await;
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Client)), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn drain_closes_both_with_1001() {
    let (report, ()) = plainly(async |mut ends| {
        ends.phase.send_replace(Phase::Draining);
        for (end, from, to) in [
            (&mut ends.client, Sender::Server, Sender::Client),
            (&mut ends.node, Sender::Client, Sender::Server),
        ] {
            assert_eq!(read_close(end, from).await, (1001, "proxy is going away".into()));
            end.write_all(&close_frame(to, 1001)).await.unwrap();
        }
        expect_end(&mut ends.client).await;
        drop(ends.client);
        ends.node.shutdown().await.unwrap();
        expect_end(&mut ends.node).await;
    })
    .await;
    assert!(matches!(report.end, End::Drained), "{report:?}");
    assert!(report.clean);
}

// A frame under way is finished first, even when that takes longer than the close timeout.
#[tokio::test(start_paused = true)]
async fn drain_waits_for_the_frame_boundary() {
    let (report, ()) = plainly(async |mut ends| {
        let message = frame(Sender::Server, 0x82, &vec![6; 100_000]);
        let (head, tail) = message.split_at(50_000);
        let (sent, ()) = tokio::join!(ends.node.write_all(head), expect(&mut ends.client, head));
        sent.unwrap();
        ends.phase.send_replace(Phase::Draining);
        assert_eq!(read_close(&mut ends.node, Sender::Client).await.0, 1001);
        let send = async {
            for chunk in tail.chunks(10_000) {
                tokio::time::sleep(Duration::from_secs(2)).await;
                ends.node.write_all(chunk).await.unwrap();
            }
            // What begins after the drain does not go on.
            ends.node.write_all(&frame(Sender::Server, 0x81, b"late")).await.unwrap();
        };
        tokio::join!(send, expect(&mut ends.client, tail));
        assert_eq!(read_close(&mut ends.client, Sender::Server).await.0, 1001);
        drop((ends.client, ends.node));
    })
    .await;
    assert!(matches!(report.end, End::Drained), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn drain_does_not_wait_for_a_frame_that_stands_still() {
    let (report, took) = plainly(async |mut ends| {
        let head = frame(Sender::Server, 0x82, &vec![6; 100_000]).get(..500).unwrap().to_vec();
        ends.node.write_all(&head).await.unwrap();
        expect(&mut ends.client, &head).await;
        ends.phase.send_replace(Phase::Draining);
        let start = Instant::now();
        expect_end(&mut ends.client).await;
        start.elapsed()
    })
    .await;
    assert!(matches!(report.end, End::Drained), "{report:?}");
    assert!(took < Duration::from_secs(11), "{took:?}");
}

// A side that talks on without answering our Close does not hold the drain up.
#[tokio::test(start_paused = true)]
async fn drain_does_not_wait_for_who_talks_on() {
    let (report, took) = plainly(async |mut ends| {
        ends.phase.send_replace(Phase::Draining);
        let start = Instant::now();
        let more = frame(Sender::Server, 0x81, b"and another thing");
        while ends.node.write_all(&more).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        start.elapsed()
    })
    .await;
    assert!(matches!(report.end, End::Drained), "{report:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

// The same on a real worker thread with sockets.
#[test]
fn drain_of_a_real_worker() {
    let (sender, reports) = std::sync::mpsc::channel();
    let (addr_sender, addrs) = std::sync::mpsc::channel();
    let workers = Workers::start("worker", 1, move |worker| {
        let (sender, addr_sender) = (sender.clone(), addr_sender.clone());
        let this = Rc::clone(&worker);
        worker.spawn(async move {
            let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let back = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addrs = (front.local_addr().unwrap(), back.local_addr().unwrap());
            addr_sender.send(addrs).unwrap();
            let ((client, _), (node, _)) = tokio::try_join!(front.accept(), back.accept()).unwrap();
            let settings = Settings::default();
            let report = relay(client, node, Opening::default(), &this, &settings).await;
            sender.send(report).unwrap();
        });
    })
    .unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (front, back) = addrs.recv().unwrap();
        let mut client = tokio::net::TcpStream::connect(front).await.unwrap();
        let mut node = tokio::net::TcpStream::connect(back).await.unwrap();
        let hello = frame(Sender::Client, 0x81, b"hello");
        client.write_all(&hello).await.unwrap();
        let mut got = vec![0; hello.len()];
        node.read_exact(&mut got).await.unwrap();
        assert_eq!(got, hello);

        workers.enter(Phase::Draining);
        let goodbye = close::close_frame(Sender::Server, Some(1001), "proxy is going away");
        let mut got = vec![0; goodbye.len()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, goodbye);
        client.write_all(&close_frame(Sender::Client, 1001)).await.unwrap();
        assert_eq!(client.read(&mut got).await.unwrap(), 0);
        drop(client);
        let mut got = vec![0; 6 + 2 + "proxy is going away".len()];
        node.read_exact(&mut got).await.unwrap();
        node.write_all(&close_frame(Sender::Server, 1001)).await.unwrap();
        node.shutdown().await.unwrap();
        assert_eq!(node.read(&mut got).await.unwrap(), 0);
    });
    let report = reports.recv().unwrap();
    assert!(report.clean && matches!(report.end, End::Drained), "{report:?}");
    workers.stop();
}
