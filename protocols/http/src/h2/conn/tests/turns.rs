//! Streams that share a connection's room.

use super::*;

/// Sends as many frames as it may, and tells how many.
fn send_all(side: &Side, key: usize) -> usize {
    let cx = Context::from_waker(Waker::noop());
    let mut frames = 0;
    while let Poll::Ready(Ok(room)) = side.with(|state| state.poll_capacity(&cx, key)) {
        side.with(|state| state.send_data(key, Bytes::from(vec![0; room]), false));
        frames += 1;
    }
    frames
}

/// A large answer must not take all the room that a slow reader makes: the others would starve,
/// and be given up for a silence that is none of theirs.
#[test]
fn streams_take_turns_of_one_frame() {
    let mut server = Side::server();
    server.hear(&settings(&[(4, 1 << 20)])).unwrap();
    server.hear(&window(0, 1 << 20)).unwrap();
    for id in [1, 3, 5] {
        server.hear(&headers(id, GET, true)).unwrap();
    }
    let keys = server.keys.clone();
    assert!(send_all(&server, keys[0]) > 1, "alone it may send all there is room for");
    assert_eq!((send_all(&server, keys[1]), send_all(&server, keys[2])), (0, 0));
    server.said();
    let turns: Vec<usize> = keys.iter().map(|&key| send_all(&server, key)).collect();
    assert_eq!(turns, [1, 1, 1]);
    // One that is gone is passed over.
    server.said();
    server.hear(&reset(1)).unwrap();
    assert_eq!(send_all(&server, keys[2]), 0, "it is the other's turn");
    assert_eq!(send_all(&server, keys[1]), 1);
    server.hear(&reset(3)).unwrap();
    assert!(send_all(&server, keys[2]) > 1, "alone again");
}

/// RFC 9113 §6.9.2: a peer may take windows back. Whoever waits for its turn then has nothing to do
/// with it, and must not hold up those who have.
#[test]
fn a_stream_without_a_window_gives_up_its_turn() {
    let mut server = Side::server();
    server.hear(&settings(&[(4, 1 << 20)])).unwrap();
    server.hear(&window(0, 1 << 20)).unwrap();
    for id in [1, 3] {
        server.hear(&headers(id, GET, true)).unwrap();
    }
    let (first, second) = (server.keys[0], server.keys[1]);
    assert!(send_all(&server, first) > 1, "until the connection has no room");
    assert_eq!(send_all(&server, second), 0);
    server.said();
    server.hear(&settings(&[(4, 0)])).unwrap();
    server.hear(&window(3, 16_384)).unwrap();
    assert_eq!(send_all(&server, first), 0);
    assert_eq!(send_all(&server, second), 1, "it has both room and a window");
    // And it comes back as any other.
    server.hear(&window(1, 1 << 21)).unwrap();
    assert!(send_all(&server, first) > 1);
}
