//! Pings, pongs, and sides that say nothing (RFC 6455 §5.5.2, §5.5.3; D05).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Reads the ping that is due after 30 s of silence and answers it.
async fn answer_ping(end: &mut DuplexStream, pings: Sender) {
    let (opcode, nonce) = read_control(end, pings).await;
    assert_eq!((opcode, nonce.len()), (Opcode::Ping, 8));
    let pongs = if pings == Sender::Client { Sender::Server } else { Sender::Client };
    end.write_all(&frame(pongs, 0x8a, &nonce)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_sides_are_pinged_and_their_pongs_swallowed() {
    let (report, ()) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        let start = Instant::now();
        for round in 1..=20 {
            tokio::join!(
                answer_ping(&mut ends.client, Sender::Server),
                answer_ping(&mut ends.node, Sender::Client)
            );
            let took = start.elapsed();
            assert!(took >= 30 * SECOND * round && took < 31 * SECOND * round, "{took:?}");
        }
        // Had a pong come through, it would stand before these.
        let (up, down) =
            (frame(Sender::Client, 0x8a, b"mine"), frame(Sender::Server, 0x81, b"mine"));
        ends.client.write_all(&up).await.unwrap();
        ends.node.write_all(&down).await.unwrap();
        expect(&mut ends.node, &up).await;
        expect(&mut ends.client, &down).await;
        drop((ends.client, ends.node));
    })
    .await;
    assert_eq!(report.client_to_upstream.bytes, 10);
    assert_eq!(report.upstream_to_client.bytes, 6);
}

// The wait for an answer is longer than the time between pings: an answer ends it.
#[tokio::test(start_paused = true)]
async fn an_answered_side_is_pinged_again_on_time() {
    let settings = Settings { ping: Span::secs(2), ..Settings::default() };
    relayed(Opening::default(), settings, async |mut ends| {
        let start = Instant::now();
        for round in 1..=10 {
            tokio::join!(
                answer_ping(&mut ends.client, Sender::Server),
                answer_ping(&mut ends.node, Sender::Client)
            );
            let took = start.elapsed();
            assert!(took >= 2 * SECOND * round && took < 3 * SECOND * round, "{round}: {took:?}");
        }
        drop((ends.client, ends.node));
    })
    .await;
}

// A pong in the middle of other frames goes, and they close ranks.
#[tokio::test(start_paused = true)]
async fn a_pong_between_frames_is_taken_out() {
    relayed(Opening::default(), Settings::default(), async |mut ends| {
        answer_ping(&mut ends.node, Sender::Client).await;
        let (_, nonce) = read_control(&mut ends.client, Sender::Server).await;
        let before = frame(Sender::Client, 0x01, b"one ");
        let pong = frame(Sender::Client, 0x8a, &nonce);
        let after = frame(Sender::Client, 0x80, b"two");
        ends.client.write_all(&[&before[..], &pong, &after].concat()).await.unwrap();
        expect(&mut ends.node, &[before, after].concat()).await;
        drop((ends.client, ends.node));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn traffic_postpones_pings_to_its_own_sender_only() {
    relayed(Opening::default(), Settings::default(), async |mut ends| {
        let data = frame(Sender::Client, 0x81, b"tick");
        for _ in 0..2 {
            tokio::time::sleep(14 * SECOND).await;
            ends.client.write_all(&data).await.unwrap();
            expect(&mut ends.node, &data).await;
        }
        // 28 s: the node has been silent and is pinged at 30 s; the client not before 58 s.
        let start = Instant::now();
        answer_ping(&mut ends.node, Sender::Client).await;
        assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
        read_control(&mut ends.client, Sender::Server).await;
        assert!(start.elapsed() >= 30 * SECOND, "{:?}", start.elapsed());
        drop((ends.client, ends.node));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_dead() {
    let (report, took) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        let start = Instant::now();
        answer_ping(&mut ends.node, Sender::Client).await;
        let ping = read_control(&mut ends.client, Sender::Server).await;
        assert_eq!(ping.0, Opcode::Ping);
        let at_client = read_close(&mut ends.client, Sender::Server).await;
        assert_eq!(at_client, (1011, "no answer to ping".into()));
        let took = start.elapsed();
        let at_node = loop {
            let (opcode, payload) = read_control(&mut ends.node, Sender::Client).await;
            match opcode {
                Opcode::Close => break close::code_of(&payload),
                opcode => assert_eq!(opcode, Opcode::Ping),
            }
        };
        assert_eq!(at_node, Some(1001));
        drop((ends.client, ends.node));
        took
    })
    .await;
    assert!(matches!(report.end, End::Silent(Side::Client)), "{report:?}");
    assert!(took >= 60 * SECOND && took < 61 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_answers_no_ping_is_dead() {
    let (report, ()) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        answer_ping(&mut ends.client, Sender::Server).await;
        assert_eq!(read_control(&mut ends.node, Sender::Client).await.0, Opcode::Ping);
        let at_node = read_close(&mut ends.node, Sender::Client).await;
        assert_eq!(at_node, (1011, "no answer to ping".into()));
        let (opcode, payload) = read_control(&mut ends.client, Sender::Server).await;
        assert_eq!(opcode, Opcode::Close);
        assert_eq!(close::code_of(&payload), Some(1011));
        drop((ends.client, ends.node));
    })
    .await;
    assert!(matches!(report.end, End::Silent(Side::Upstream)), "{report:?}");
}

// A client that takes nothing cannot get a ping either; the upstream, which we do not read
// meanwhile, is not to blame.
#[tokio::test(start_paused = true)]
async fn a_reader_stalled_for_good_is_dead() {
    let (report, ()) = relayed(Opening::default(), Settings::default(), async |ends| {
        let Ends { client, mut node, phase: _phase } = ends;
        let message = frame(Sender::Server, 0x82, &vec![8; 1 << 20]);
        let _ = node.write_all(&message).await.unwrap_err();
        drop(client);
    })
    .await;
    assert!(matches!(report.end, End::Silent(Side::Client)), "{report:?}");
}

// A slow reader is a living reader.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_lives() {
    let (_, ()) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        let message = frame(Sender::Server, 0x82, &vec![8; 100_000]);
        let read = async {
            for chunk in message.chunks(10_000) {
                tokio::time::sleep(40 * SECOND).await;
                expect(&mut ends.client, chunk).await;
            }
        };
        let node = async {
            ends.node.write_all(&message).await.unwrap();
        };
        tokio::join!(node, read);
        drop((ends.client, ends.node));
    })
    .await;
}

// A side that we do not read, since its peer takes nothing, cannot be heard.
#[tokio::test(start_paused = true)]
async fn a_sender_held_back_is_not_blamed_for_its_silence() {
    let (report, ()) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        let message = frame(Sender::Server, 0x82, &vec![8; 1 << 20]);
        let tick = frame(Sender::Client, 0x81, b"tick");
        let (mut node_in, mut node_out) = tokio::io::split(ends.node);
        let send = async { node_out.write_all(&message).await.unwrap() };
        let receive = async {
            for _ in 0..10 {
                tokio::time::sleep(20 * SECOND).await;
                ends.client.write_all(&tick).await.unwrap();
                let mut got = vec![0; tick.len()];
                node_in.read_exact(&mut got).await.unwrap();
                assert_eq!(got, tick);
            }
            expect(&mut ends.client, &message).await;
        };
        tokio::join!(send, receive);
        ends.client.write_all(&close_frame(Sender::Client, 1000)).await.unwrap();
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Client)), "{report:?}");
}

// Our frames go in between frames, never inside one.
#[tokio::test(start_paused = true)]
async fn a_ping_waits_for_the_frame_boundary() {
    relayed(Opening::default(), Settings::default(), async |mut ends| {
        let message = frame(Sender::Server, 0x82, &vec![4; 70_000]);
        for chunk in message.chunks(7_000) {
            // The client says nothing for longer than the ping interval while a frame for it is
            // under way, but takes what comes.
            tokio::time::sleep(4 * SECOND).await;
            let (sent, ()) =
                tokio::join!(ends.node.write_all(chunk), expect(&mut ends.client, chunk));
            sent.unwrap();
        }
        answer_ping(&mut ends.client, Sender::Server).await;
        drop((ends.client, ends.node));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_pings_an_idle_connection_is_closed() {
    let settings = Settings { ping: Span::default(), ..Settings::default() };
    let (report, took) = relayed(Opening::default(), settings, async |mut ends| {
        tokio::time::sleep(200 * SECOND).await;
        let start = Instant::now();
        let data = frame(Sender::Server, 0x81, b"push");
        ends.node.write_all(&data).await.unwrap();
        expect(&mut ends.client, &data).await;
        assert_eq!(read_close(&mut ends.client, Sender::Server).await, (1001, "idle".into()));
        assert_eq!(read_close(&mut ends.node, Sender::Client).await, (1001, "idle".into()));
        let took = start.elapsed();
        drop((ends.client, ends.node));
        took
    })
    .await;
    assert!(matches!(report.end, End::Idle), "{report:?}");
    assert!(took >= 300 * SECOND && took < 301 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn with_everything_off_silence_is_fine() {
    let zero = Span::default();
    let settings = Settings { ping: zero, idle_timeout: zero, ..Settings::default() };
    relayed(Opening::default(), settings, async |mut ends| {
        tokio::time::sleep(2_000 * SECOND).await;
        let data = frame(Sender::Server, 0x81, b"still here");
        ends.node.write_all(&data).await.unwrap();
        expect(&mut ends.client, &data).await;
        drop((ends.client, ends.node));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_pong_timeout_pings_go_on() {
    let settings = Settings { pong_timeout: Span::default(), ..Settings::default() };
    relayed(Opening::default(), settings, async |mut ends| {
        for _ in 0..5 {
            for (end, from) in
                [(&mut ends.client, Sender::Server), (&mut ends.node, Sender::Client)]
            {
                assert_eq!(read_control(end, from).await.0, Opcode::Ping);
            }
        }
        drop((ends.client, ends.node));
    })
    .await;
}

/// Ends a connection on which `from` says something every second and the other side nothing: the
/// pings that the silent side got, and the time it took.
async fn one_side_is_dead(settings: Settings, talker: Side) -> (Report, (u32, Duration)) {
    relayed(Opening::default(), settings, async |ends| {
        let Ends { client, node, phase: _phase } = ends;
        let (mut talks, mut silent, from) = match talker {
            Side::Client => (client, node, Sender::Client),
            Side::Upstream => (node, client, Sender::Server),
        };
        let start = Instant::now();
        let tick = frame(from, 0x82, b"tick");
        let talk = async {
            while talks.write_all(&tick).await.is_ok() {
                tokio::time::sleep(SECOND).await;
            }
        };
        let listen = async {
            let mut frames = Frames::new(from, false, Limits::OFF);
            let (mut bytes, mut pings) = (Vec::new(), 0);
            loop {
                let (used, over) = match frames.next(&bytes).unwrap() {
                    Some(Item::Control(header)) if header.opcode == Opcode::Close => (0, true),
                    Some(item) => {
                        pings += u32::from(matches!(item, Item::Control(_)));
                        (item.bytes(), false)
                    }
                    None => {
                        bytes.push(silent.read_u8().await.unwrap());
                        continue;
                    }
                };
                if over {
                    return (pings, start.elapsed());
                }
                bytes.drain(..used);
            }
        };
        tokio::select! {
            () = talk => panic!("the talker was cut off first"),
            told = listen => told,
        }
    })
    .await
}

// What one side says, pongs and messages, is no sign of life of the other.
#[tokio::test(start_paused = true)]
async fn a_dead_client_is_noticed_while_the_server_talks() {
    let settings = Settings { ping: Span::secs(7), ..Settings::default() };
    let (report, (pings, took)) = one_side_is_dead(settings, Side::Upstream).await;
    assert!(matches!(report.end, End::Silent(Side::Client)), "{report:?}");
    assert!(took >= 37 * SECOND && took < 38 * SECOND, "{took:?}");
    assert_eq!(pings, 5, "at 7, 14, 21, 28 and 35 s");
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_noticed_while_the_client_talks() {
    let settings = Settings { ping: Span::secs(7), ..Settings::default() };
    let (report, (pings, took)) = one_side_is_dead(settings, Side::Client).await;
    assert!(matches!(report.end, End::Silent(Side::Upstream)), "{report:?}");
    assert!(took >= 37 * SECOND && took < 38 * SECOND, "{took:?}");
    assert_eq!(pings, 5, "at 7, 14, 21, 28 and 35 s");
}

// A short idle time is short for a dead side too, but not shorter than one ping and its answer.
#[tokio::test(start_paused = true)]
async fn the_idle_time_holds_for_each_pinged_side() {
    for (ping, idle, end) in [(2, 10, 10), (20, 10, 40), (30, 300, 60)] {
        for talker in [Side::Client, Side::Upstream] {
            let (ping, idle_timeout) = (Span::secs(ping), Span::secs(idle));
            let settings = Settings { ping, idle_timeout, ..Settings::default() };
            let (report, (_, took)) = one_side_is_dead(settings, talker).await;
            assert!(matches!(report.end, End::Silent(side) if side == talker.peer()));
            assert!(took >= end * SECOND && took < (end + 1) * SECOND, "{took:?} for {end} s");
        }
    }
}

// Both sides say nothing but answer: that is no idle connection.
#[tokio::test(start_paused = true)]
async fn sides_that_answer_stay_for_longer_than_the_idle_time() {
    let settings =
        Settings { ping: Span::secs(4), idle_timeout: Span::secs(6), ..Settings::default() };
    let (report, ()) = relayed(Opening::default(), settings, async |mut ends| {
        for _ in 0..50 {
            tokio::join!(
                answer_ping(&mut ends.client, Sender::Server),
                answer_ping(&mut ends.node, Sender::Client)
            );
        }
        ends.client.write_all(&close_frame(Sender::Client, 1000)).await.unwrap();
        drop(ends);
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Client)), "{report:?}");
}
