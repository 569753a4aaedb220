//! What breaks the protocol or a limit ends with Close to both, and never reaches the other side.

use super::*;

/// Sends `bad` from one side, behind a good frame; returns the codes that client and node get.
async fn refuse(from: Side, bad: Vec<u8>, limits: Limits) -> (Report, (u16, u16)) {
    let settings = Settings { limits, ..Settings::default() };
    relayed(Opening::default(), settings, async |mut ends| {
        let good = match from {
            Side::Client => frame(Sender::Client, 0x81, b"good"),
            Side::Upstream => frame(Sender::Server, 0x81, b"good"),
        };
        let (sender, receiver) = match from {
            Side::Client => (&mut ends.client, &mut ends.node),
            Side::Upstream => (&mut ends.node, &mut ends.client),
        };
        sender.write_all(&good).await.unwrap();
        sender.write_all(&bad).await.unwrap();
        expect(receiver, &good).await;

        let at_client = read_close(&mut ends.client, Sender::Server).await.0;
        let at_node = read_close(&mut ends.node, Sender::Client).await.0;
        // The side that kept to the rules answers, and both see the end.
        match from {
            Side::Client => {
                ends.node.write_all(&close_frame(Sender::Server, at_node)).await.unwrap();
            }
            Side::Upstream => {
                ends.client.write_all(&close_frame(Sender::Client, at_client)).await.unwrap();
            }
        }
        expect_end(&mut ends.client).await;
        drop(ends.client);
        ends.node.shutdown().await.unwrap();
        expect_end(&mut ends.node).await;
        (at_client, at_node)
    })
    .await
}

// P61, T57: RFC 6455 §5.1.
#[tokio::test(start_paused = true)]
async fn p61_a_client_must_mask_and_a_server_must_not() {
    let unmasked = frame(Sender::Server, 0x81, b"bad");
    let (report, codes) = refuse(Side::Client, unmasked, Limits::default()).await;
    assert_eq!(codes, (1002, 1002));
    assert!(matches!(report.end, End::Violated(Side::Client, Violation::Unmasked)));

    let masked = frame(Sender::Client, 0x81, b"bad");
    let (report, codes) = refuse(Side::Upstream, masked, Limits::default()).await;
    assert_eq!(codes, (1002, 1002));
    assert!(matches!(report.end, End::Violated(Side::Upstream, Violation::Masked)));
}

// P62, T57: RFC 6455 §5.2, §5.4, §5.5.
#[tokio::test(start_paused = true)]
async fn t57_violations_close_both_sides() {
    let bad: [(&[u8], u16); 11] = [
        (&[0xc1, 0x80, 0, 0, 0, 0], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
        (&[0x8b, 0x80, 0, 0, 0, 0], 1002),
        (&[0x09, 0x80, 0, 0, 0, 0], 1002),
        (&[0x89, 0xfe, 0, 126], 1002),
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0xfe, 0, 1], 1002),
        (&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], 1002),
        (&[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
        (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xee], 1002),
        (&[0x88, 0x83, 0, 0, 0, 0, 3, 0xe8, 0xff], 1007),
    ];
    for (bytes, code) in bad {
        let (report, codes) = refuse(Side::Client, bytes.to_vec(), Limits::default()).await;
        assert_eq!(codes, (code, code), "{bytes:x?}");
        assert!(matches!(report.end, End::Violated(Side::Client, _)), "{report:?}");
        assert_eq!(report.client_to_upstream.bytes, 10, "only the good frame went on");
    }
}

// T57: what comes behind a violation cannot be told apart any more, however it looks.
#[tokio::test(start_paused = true)]
async fn nothing_behind_a_violation_goes_on() {
    let early = Bytes::from_static(&[0x83, 0x80]);
    let opening = Opening { early_from_client: early, ..Opening::default() };
    let (worker, _phase) = Worker::for_test();
    let settings = Settings::default();
    let (mut client, client_end) = duplex(PIPE_BYTES);
    let (mut node, node_end) = duplex(PIPE_BYTES);
    // All of it is there before the relay first looks, and takes several reads.
    client.write_all(&frame(Sender::Client, 0x81, b"legal by itself")).await.unwrap();
    client.write_all(&close_frame(Sender::Client, 1000)).await.unwrap();
    client.shutdown().await.unwrap();
    let ends = async {
        assert_eq!(read_close(&mut node, Sender::Client).await.0, 1002);
        node.shutdown().await.unwrap();
        expect_end(&mut node).await;
        assert_eq!(read_close(&mut client, Sender::Server).await.0, 1002);
    };
    let run = relay(client_end, node_end, opening, &worker, &settings);
    let (report, ()) = tokio::join!(run, ends);
    assert!(matches!(report.end, End::Violated(Side::Client, Violation::ReservedOpcode(3))));
    assert_eq!((report.client_close, report.client_to_upstream.bytes), (None, 0));
}

// T55: RFC 6455 §10.4. A flood of fragments stops at the limits, wherever it comes from.
#[tokio::test(start_paused = true)]
async fn t55_floods_of_fragments_are_cut() {
    let limits = Limits { frame: Size::bytes(0), fragments: 8, message: Size::bytes(1000) };
    for side in [Side::Client, Side::Upstream] {
        let sender = if side == Side::Client { Sender::Client } else { Sender::Server };
        for payload in [&b""[..], b"x"] {
            let mut flood = frame(sender, 0x01, payload);
            for _ in 0..7 {
                flood.extend(frame(sender, 0x00, payload));
            }
            let legal = flood.len();
            flood.extend(frame(sender, 0x00, payload));
            let run = relayed(
                Opening::default(),
                Settings { limits, ..Settings::default() },
                async |mut ends| {
                    let (from, to) = match side {
                        Side::Client => (&mut ends.client, &mut ends.node),
                        Side::Upstream => (&mut ends.node, &mut ends.client),
                    };
                    from.write_all(&flood).await.unwrap();
                    expect(to, flood.get(..legal).unwrap()).await;
                    let at_client = read_close(&mut ends.client, Sender::Server).await;
                    let at_node = read_close(&mut ends.node, Sender::Client).await;
                    assert_eq!(at_client, (1009, "too many fragments".into()));
                    assert_eq!(at_node, at_client);
                },
            );
            let (report, ()) = run.await;
            let expected = Violation::FragmentsExceeded;
            assert!(matches!(report.end, End::Violated(s, v) if s == side && v == expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_over_the_limit_never_begin() {
    let limits = Limits { frame: Size::bytes(0), fragments: 0, message: Size::bytes(100_000) };
    let bad = frame(Sender::Client, 0x82, &vec![0; 100_001]).get(..14).unwrap().to_vec();
    let (report, codes) = refuse(Side::Client, bad, limits).await;
    assert_eq!(codes, (1009, 1009));
    assert!(matches!(report.end, End::Violated(Side::Client, Violation::MessageTooBig)));

    let limits = Limits { frame: Size::bytes(99_999), fragments: 0, message: Size::bytes(0) };
    let bad = frame(Sender::Server, 0x82, &vec![0; 100_000]).get(..10).unwrap().to_vec();
    let (report, codes) = refuse(Side::Upstream, bad, limits).await;
    assert_eq!(codes, (1009, 1009));
    assert!(matches!(report.end, End::Violated(Side::Upstream, Violation::FrameTooBig)));
}

// T57: text that is not UTF-8 is the endpoint's to judge (RFC 6455 §8.1), for with an extension
// nobody else can; its verdict goes back as it is.
#[tokio::test(start_paused = true)]
async fn t57_bad_utf8_is_judged_by_the_endpoint() {
    let (report, ()) = relayed(Opening::default(), Settings::default(), async |mut ends| {
        let bad = frame(Sender::Client, 0x81, b"\xff\xfe");
        ends.client.write_all(&bad).await.unwrap();
        expect(&mut ends.node, &bad).await;
        let verdict = close_frame(Sender::Server, 1007);
        ends.node.write_all(&verdict).await.unwrap();
        expect(&mut ends.client, &verdict).await;
        ends.client.write_all(&close_frame(Sender::Client, 1007)).await.unwrap();
        expect(&mut ends.node, &close_frame(Sender::Client, 1007)).await;
        drop((ends.client, ends.node));
    })
    .await;
    assert!(matches!(report.end, End::Closed(Side::Upstream)), "{report:?}");
    assert_eq!((report.client_close, report.upstream_close), (Some(1007), Some(1007)));
}
