//! Whatever the sides send, the relay ends, and all it writes is whole, legal frames.

use proptest::prelude::*;

use super::*;

/// Follows what came out of the relay; a last frame may be cut short, nothing else may be wrong.
fn assert_legal(sender: Sender, mut bytes: &[u8]) {
    let mut frames = Frames::new(sender, true, Limits::default());
    while let Some(item) = frames.next(bytes).unwrap() {
        assert!(!matches!(item, Item::AfterClose { .. }), "bytes after a Close");
        bytes = bytes.get(item.bytes()..).unwrap();
    }
}

/// Mostly frames, sometimes noise.
fn traffic(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        20 => prop::sample::select(vec![0x81, 0x82, 0x01, 0x80, 0x89, 0x8a]),
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    let one = (first, prop::collection::vec(any::<u8>(), 0..125));
    let frames = prop::collection::vec(one, 0..20).prop_map(move |frames| {
        frames.iter().flat_map(|(first, payload)| frame(sender, *first, payload)).collect()
    });
    prop_oneof![4 => frames, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Sends in chunks of `size`, some time apart, and reads what comes until the end.
async fn endpoint(end: DuplexStream, bytes: &[u8], size: usize, pause: Duration) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(end);
    let mut got = Vec::new();
    let send = async {
        for chunk in bytes.chunks(size) {
            if writer.write_all(chunk).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        let _ = writer.shutdown().await;
    };
    let ((), read) = tokio::join!(send, reader.read_to_end(&mut got));
    read.unwrap();
    got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn only_legal_frames_come_out(
        up in traffic(Sender::Client),
        down in traffic(Sender::Server),
        size in 1..200usize,
        pause_ms in prop::sample::select(vec![0, 1, 5_000, 31_000]),
        drain_after in prop::option::of(0..100u64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        let opening = Opening { extensions: true, ..Opening::default() };
        let pause = Duration::from_millis(pause_ms);
        let run = relayed(opening, Settings::default(), async |ends| {
            let Ends { client, node, phase } = ends;
            let drain = async {
                if let Some(seconds) = drain_after {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    phase.send_replace(Phase::Draining);
                }
            };
            let (at_client, at_node, ()) = tokio::join!(
                endpoint(client, &up, size, pause),
                endpoint(node, &down, size, pause),
                drain
            );
            (at_client, at_node)
        });
        let (_, (at_client, at_node)) = runtime.block_on(run);
        assert_legal(Sender::Server, &at_client);
        assert_legal(Sender::Client, &at_node);
    }
}
