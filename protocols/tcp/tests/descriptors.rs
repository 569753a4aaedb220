//! Goal: whatever ends a connection, the proxy keeps no descriptor of it.
//!
//! Method: 200 connections of every ending at a time through a real worker, with
//! `/proc/self/fd` counted before and after. A process of its own, so that nothing else opens
//! descriptors meanwhile: one test in this file.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::{ListenAddr, listen};
use gwproxy_core::units::Span;
use gwproxy_core::upstream::connect::Resolver;
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint};
use gwproxy_core::worker::Workers;
use gwproxy_tcp::{Reverse, Settings};

const CONNECTIONS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

type Ending = (&'static str, &'static str, Play);
type Play = fn(TcpStream, TcpStream) -> Kept;
type Kept = Option<(TcpStream, TcpStream)>;

const ENDINGS: [Ending; 7] = [
    ("client closes", "closed", |mut client, mut node| {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(node.read(&mut [0; 9]).unwrap(), 0);
        drop(node);
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
        None
    }),
    ("node closes", "closed", |mut client, mut node| {
        node.write_all(b"bye").unwrap();
        node.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        drop(client);
        assert_eq!(node.read(&mut [0; 9]).unwrap(), 0);
        None
    }),
    ("both close at once", "closed", |client, node| {
        client.shutdown(Shutdown::Write).unwrap();
        node.shutdown(Shutdown::Write).unwrap();
        Some((client, node))
    }),
    ("client resets", "client_reset", |client, mut node| {
        reset(client);
        node.read(&mut [0; 9]).unwrap_err();
        None
    }),
    ("node resets", "upstream_reset", |mut client, node| {
        reset(node);
        client.read(&mut [0; 9]).unwrap_err();
        None
    }),
    ("node resets with bytes under way", "upstream_reset", |mut client, node| {
        client.write_all(&[7; 4096]).unwrap();
        reset(node);
        client.read(&mut [0; 9]).unwrap_err();
        None
    }),
    ("nobody says anything", "idle", |client, node| Some((client, node))),
];

#[test]
fn no_descriptor_is_left_whatever_the_ending() {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let (proxy, endings) = start(node.local_addr().unwrap());
    // One connection first: what is opened once (resolver, clock) is no leak.
    for (_, _, ending) in ENDINGS {
        let kept = join(ending, proxy, &node);
        endings.recv_timeout(PATIENCE).unwrap();
        drop(kept);
    }
    let before = open_descriptors();
    for (name, expected, ending) in ENDINGS {
        let kept: Vec<Kept> = (0..CONNECTIONS).map(|_| join(ending, proxy, &node)).collect();
        for _ in 0..CONNECTIONS {
            let ended = endings.recv_timeout(PATIENCE).expect(name);
            assert_eq!(ended, expected, "{name}");
        }
        drop(kept);
        assert_eq!(open_descriptors(), before, "{name}");
    }
    // Nobody listens there any more: the client is refused, and nothing stays of that either.
    drop(node);
    for _ in 0..CONNECTIONS {
        connect(proxy).read(&mut [0; 9]).unwrap_err();
        assert_eq!(endings.recv_timeout(PATIENCE).unwrap(), "refused");
    }
    assert_eq!(open_descriptors(), before - 1);
}

fn start(node: SocketAddr) -> (SocketAddr, mpsc::Receiver<&'static str>) {
    let endpoint = Endpoint::new("node", "tcp", node.to_string().parse().unwrap(), None, 1);
    let cluster = Cluster::new(ClusterSettings::new("service"), vec![endpoint]);
    let bound = listen::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
    let listener = Arc::new(Listener::new("tcp".into(), None, PATIENCE, 2 * CONNECTIONS));
    let sockets = Mutex::new(bound.sockets);
    let (tell, endings) = mpsc::channel();
    let workers = Workers::start("worker", 1, move |worker| {
        // Longer than any of the other endings takes, short enough to wait for.
        let settings = Settings { idle: Span::secs(5) };
        let resolver = Rc::new(Resolver::default());
        let reverse = Reverse::new(Arc::clone(&cluster), Rc::clone(&worker), resolver, settings);
        let tell = tell.clone();
        // The report comes when the descriptors are closed.
        let reverse = reverse.report(Rc::new(move |session| {
            let _ = tell.send(session.ending.as_str());
        }));
        let socket = sockets.lock().unwrap().pop().unwrap();
        worker.listen(socket, Arc::clone(&listener), Rc::new(reverse)).unwrap();
    });
    std::mem::forget(workers.unwrap());
    (addr, endings)
}

/// Ends a connection that a byte went through: the proxy knows by then that it is connected.
fn join(ending: Play, proxy: SocketAddr, node: &TcpListener) -> Kept {
    let mut client = connect(proxy);
    let (mut node, _) = node.accept().unwrap();
    client.write_all(b"x").unwrap();
    node.read_exact(&mut [0]).unwrap();
    ending(client, node)
}

fn connect(proxy: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
