//! Real sockets and a real worker on loopback.

mod support;
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use gwproxy_core::balance::Algorithm;
use gwproxy_core::breaker::State;
use gwproxy_core::units::Span;
use gwproxy_core::upstream::{Cluster, ClusterSettings};
use gwproxy_core::worker::Phase;
use gwproxy_core::{Code, Error};

use super::*;
use support::{Dead, Proxy, cluster, node, reset};

/// A connection through `proxy` and the node's end of it.
fn pair(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = proxy.connect();
    let (node, _) = listener.accept().unwrap();
    (client, node)
}

/// The same, after a byte went through: the proxy knows by then that it is connected.
fn joined(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let (mut client, mut node) = pair(proxy, listener);
    client.write_all(b"x").unwrap();
    node.read_exact(&mut [0]).unwrap();
    (client, node)
}

fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all)
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[test]
fn bytes_go_both_ways_and_half_close_keeps_the_return_direction() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (mut client, mut node) = pair(&proxy, &listener);
    client.write_all(b"ask").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut node).unwrap(), b"ask");
    node.write_all(b"an answer").unwrap();
    drop(node);
    assert_eq!(read_all(&mut client).unwrap(), b"an answer");
    drop(client);
    let ended = proxy.ended();
    assert_eq!((ended.client_to_upstream, ended.upstream_to_client), (3, 9));
    assert_eq!((ended.ending, ended.code), ("closed", None));
    assert_eq!((ended.node.as_deref(), ended.attempts), (Some("n0"), 1));
}

#[test]
fn a_node_may_close_first() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (mut client, mut node) = pair(&proxy, &listener);
    node.write_all(b"hello and good-bye").unwrap();
    node.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client).unwrap(), b"hello and good-bye");
    client.write_all(b"late").unwrap();
    drop(client);
    assert_eq!(read_all(&mut node).unwrap(), b"late");
    assert_eq!(proxy.ended().ending, "closed");
}

#[test]
fn a_node_that_refuses_is_passed_over() {
    let (listener, alive) = listener();
    let dead = [Dead::new(), Dead::new()];
    let cluster = cluster(&[dead[0].addr(), dead[1].addr(), alive]);
    let proxy = Proxy::start(Arc::clone(&cluster), Settings::default());
    let mut client = proxy.connect();
    // What a client says before its node is found waits for it.
    client.write_all(b"early").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut node, _) = listener.accept().unwrap();
    assert_eq!(read_all(&mut node).unwrap(), b"early");
    drop((client, node));
    let ended = proxy.ended();
    assert_eq!((ended.node.as_deref(), ended.attempts), (Some("n2"), 3));
    // The next one goes straight to the node that is known to listen.
    drop(pair(&proxy, &listener));
    assert_eq!(proxy.ended().attempts, 1);
}

#[test]
fn when_every_node_refuses_the_client_is_reset() {
    let dead: Vec<_> = (0..5).map(|_| Dead::new()).collect();
    let addrs: Vec<_> = dead.iter().map(Dead::addr).collect();
    let proxy = Proxy::start(cluster(&addrs), Settings::default());
    let mut client = proxy.connect();
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ended = proxy.ended();
    assert_eq!((ended.ending, ended.code), ("refused", Some(Code::UpstreamRefused)));
    assert_eq!((ended.node.as_deref(), ended.attempts), (Some("n2"), 3), "the last one");
    let sentence = ended.sentence.unwrap();
    assert!(sentence.contains("nothing listens there"), "{sentence}");
}

#[test]
fn a_service_without_nodes_resets_too() {
    let proxy = Proxy::start(cluster(&[]), Settings::default());
    let mut client = proxy.connect();
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ended = proxy.ended();
    assert_eq!((ended.code, ended.attempts), (Some(Code::NoHealthyNode), 0));
}

#[test]
fn who_is_not_admitted_costs_no_node_anything() {
    let (listener, addr) = listener();
    listener.set_nonblocking(true).unwrap();
    let cluster = cluster(&[addr]);
    let proxy = Proxy::with(cluster, Settings::default(), |reverse| {
        reverse.admit(Rc::new(|peer, _| {
            assert!(peer.remote.ip().unwrap().is_loopback());
            Err(Error::new(Code::RateLimited, "too many connections"))
        }))
    });
    let mut client = proxy.connect();
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ended = proxy.ended();
    assert_eq!((ended.code, ended.attempts), (Some(Code::RateLimited), 0));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_clients_reset_is_passed_on() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (client, mut node) = joined(&proxy, &listener);
    reset(client);
    assert_eq!(read_all(&mut node).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ended = proxy.ended();
    assert_eq!((ended.ending, ended.code), ("client_reset", Some(Code::ClientClosed)));
}

#[test]
fn a_nodes_reset_is_passed_on() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (mut client, node) = joined(&proxy, &listener);
    reset(node);
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ended = proxy.ended();
    assert_eq!((ended.ending, ended.code), ("upstream_reset", Some(Code::UpstreamReset)));
}

#[test]
fn a_node_that_answers_early_and_closes_is_heard_and_its_reset_too() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (mut client, mut node) = joined(&proxy, &listener);
    client.write_all(b"an upload that nobody reads").unwrap();
    // It is there, and will be unread when the node closes: the kernel then sends a reset.
    node.peek(&mut [0]).unwrap();
    node.write_all(b"too long").unwrap();
    drop(node);
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"too long");
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.ended().ending, "upstream_reset");
}

#[test]
fn an_idle_connection_ends_in_order_on_both_sides() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings { idle: Span::millis(100) });
    let (mut client, mut node) = pair(&proxy, &listener);
    assert_eq!(read_all(&mut client).unwrap(), b"");
    assert_eq!(read_all(&mut node).unwrap(), b"");
    let ended = proxy.ended();
    assert_eq!((ended.ending, ended.code), ("idle", None));
}

/// A client that stopped reading is owed the rest: it must not take what it has for all there is.
#[test]
fn an_idle_side_that_is_owed_bytes_is_reset() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings { idle: Span::millis(100) });
    let (mut client, mut node) = pair(&proxy, &listener);
    let writer = std::thread::spawn(move || {
        let chunk = vec![7; 1 << 20];
        // Until no buffer on the way takes more, and then the connection is over.
        while node.write_all(&chunk).is_ok() {}
    });
    let ended = proxy.ended();
    assert_eq!((ended.ending, ended.code), ("idle", None));
    assert_eq!(read_all(&mut client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    writer.join().unwrap();
}

#[test]
fn a_client_keeps_its_node_where_the_balancer_hashes() {
    let nodes: Vec<_> = (0..4).map(|_| listener()).collect();
    let addrs: Vec<_> = nodes.iter().map(|(_, addr)| *addr).collect();
    let mut settings = ClusterSettings::new("hashed");
    settings.balance = Algorithm::IpHash.into();
    let endpoints = addrs.iter().enumerate().map(|(i, addr)| node(i, *addr)).collect();
    let proxy = Proxy::start(Cluster::new(settings, endpoints), Settings::default());
    let mut seen = std::collections::HashSet::new();
    for last in 1..=16 {
        let names: Vec<_> = (0..3)
            .map(|_| {
                reset(proxy.connect_from([127, 0, 0, last].into()));
                proxy.ended().node.unwrap()
            })
            .collect();
        assert!(names.iter().all(|name| *name == names[0]), "{last}: {names:?}");
        seen.insert(names[0].clone());
    }
    assert!(seen.len() > 1, "all sixteen clients on one node");
}

#[test]
fn a_breaker_opens_on_refusals_and_a_probe_need_not_end_to_close_it() {
    let dead = Dead::new();
    let mut settings = ClusterSettings::new("broken");
    settings.max_attempts = 1;
    settings.breaker = Some("50%,min=2,open=1ms,probes=1".parse().unwrap());
    let cluster = Cluster::new(settings, vec![node(0, dead.addr())]);
    let proxy = Proxy::start(Arc::clone(&cluster), Settings::default());
    let breaker = Arc::clone(cluster.breaker().unwrap());
    while breaker.state() == State::Closed {
        drop(proxy.connect());
        assert_eq!(proxy.ended().code, Some(Code::UpstreamRefused));
    }
    let listener = dead.come_alive();
    listener.set_nonblocking(true).unwrap();
    // The breaker's millisecond is over at some try; that one's connection stays open.
    let _open = loop {
        let client = proxy.connect();
        match proxy.ended_or(|| listener.accept().ok()) {
            Ok(ended) => assert_eq!(ended.code, Some(Code::BreakerOpen)),
            Err(node) => break (client, node),
        }
    };
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn draining_leaves_open_connections_alone_and_stopping_ends_them() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (mut client, mut node) = pair(&proxy, &listener);
    proxy.enter(Phase::Draining);
    proxy.refuses_connections();
    client.write_all(b"still").unwrap();
    node.read_exact(&mut [0; 5]).unwrap();
    node.write_all(b"here").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    proxy.stop();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(node.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn twenty_mebibytes_each_way_at_once_arrive_unchanged() {
    const SIZE: usize = 20 << 20;
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings::default());
    let (client, node) = pair(&proxy, &listener);
    let pattern = |seed: usize| (0..SIZE).map(|i| (i * 31 + seed) as u8).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for (stream, sends, expects) in [(&client, 1, 2), (&node, 2, 1)] {
            let mut writer = stream.try_clone().unwrap();
            let mut reader = stream.try_clone().unwrap();
            scope.spawn(move || {
                writer.write_all(&pattern(sends)).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                assert!(read_all(&mut reader).unwrap() == pattern(expects), "bytes changed");
            });
        }
    });
    let ended = proxy.ended();
    assert_eq!(ended.client_to_upstream, SIZE as u64);
    assert_eq!(ended.upstream_to_client, SIZE as u64);
}

#[test]
fn a_node_behind_a_unix_socket() {
    let dir = std::env::temp_dir().join(format!("gwproxy-tcp-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("node.sock");
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let endpoint = support::node_at("unix", &format!("unix:{}", path.display()));
    let cluster = Cluster::new(ClusterSettings::new("unix"), vec![endpoint]);
    let proxy = Proxy::start(cluster, Settings::default());
    let mut client = proxy.connect();
    let (mut node, _) = listener.accept().unwrap();
    client.write_all(b"over the file system").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    node.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"over the file system");
    drop(node);
    assert_eq!(proxy.ended().ending, "closed");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_half_closed_connection_is_idle_like_any_other() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings { idle: Span::millis(100) });
    let (client, mut node) = pair(&proxy, &listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(node.read(&mut [0]).unwrap(), 0);
    assert_eq!(proxy.ended().ending, "idle");
}

#[test]
fn without_an_idle_time_the_kernel_looks_after_silent_peers() {
    let (listener, addr) = listener();
    let proxy = Proxy::start(cluster(&[addr]), Settings { idle: Span::default() });
    let (client, node) = joined(&proxy, &listener);
    // Both of the proxy's sockets have a keep-alive timer armed (`timer:(02:…)` of proc(5)).
    let ours = [client.local_addr().unwrap().port(), node.local_addr().unwrap().port()];
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    for port in ours {
        let remote = format!(":{port:04X} 01 ");
        let line = table.lines().find(|line| line.contains(&remote)).unwrap();
        let timer = line.split_whitespace().nth(5).unwrap();
        assert!(timer.starts_with("02:"), "{line}");
    }
    drop(client);
    drop(node);
    assert_eq!(proxy.ended().ending, "closed");
}
