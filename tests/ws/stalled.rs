//! Clients that take nothing of what their nodes say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use socket2::{Domain, SockRef, Socket, Type};

use super::frame::{CLOSE, Frame, handshake, node};
use crate::support::{Conn, Proxy, eventually, home, wrapped, write_until_stall};

/// Of them that stall.
const STALLED: usize = 100;
/// What a node would send of small frames, if it could.
const FLOOD: u64 = 1 << 30;

/// T22: a hundred clients that read nothing, while each node sends small messages without
/// end. Each holds up its node; what each costs, both directions and two connections, is one read of
/// 64 KiB and some, and nobody else is held up.
#[test]
fn t22_stalled_websockets_hold_up_their_nodes() {
    let (stalled, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let (told, sent) = (Arc::clone(&stalled), Arc::clone(&most));
    let node = node(move |peer| {
        SockRef::from(&peer.stream).set_send_buffer_size(16 * 1024).expect("it can be set");
        let messages = Frame::new(2, vec![b'x'; 100]).bytes(false).repeat(640);
        let taken = write_until_stall(&mut peer.stream, &messages, FLOOD);
        sent.fetch_max(taken, Ordering::SeqCst);
        told.fetch_add(1, Ordering::SeqCst);
        // Its client is gone, which it is told.
        assert_eq!(Frame::read(peer, true).map(|end| end.opcode), Some(CLOSE));
    });
    let (home, url) = (home(), format!("ws://{}", node.addr()));
    let mut command = wrapped(&[], &home);
    command.args(["ws", "--listen", "127.0.0.1:0", "--to", &url, "--workers", "1"]);
    command.args(["--access-log", "off"]);
    // Huge pages come two megabytes at a time.
    command.env("MIMALLOC_ALLOW_THP", "0");
    let proxy = Proxy::launch(&mut command, home, 1);
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("it can be set");
        socket.connect(&proxy.addr(0).into()).expect("connect");
        let mut conn = Conn::of(socket.into());
        assert_eq!(conn.ask(handshake("/", "")).status(), 101);
        conn
    };
    let are_stalled = |count| {
        eventually("all are held up", || (stalled.load(Ordering::SeqCst) == count).then_some(()));
    };
    // What the first one costs is not for those that follow.
    let first = open();
    are_stalled(1);
    let before = proxy.memory("VmHWM");
    let clients: Vec<Conn> = (0..STALLED).map(|_| open()).collect();
    are_stalled(1 + STALLED);
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < STALLED as u64 * 96, "{grown} kB");
    assert!(most.load(Ordering::SeqCst) < FLOOD, "sent to nobody");
    // Another one gets its first message at once.
    let mut honest = open();
    let message = Frame::read(&mut honest.stream, false).expect("a message");
    assert_eq!(message, Frame::new(2, vec![b'x'; 100]));
    // Its node has to be done with writing before it is gone.
    are_stalled(2 + STALLED);
    drop((first, clients, honest));
    node.wait_ended(2 + STALLED);
}
