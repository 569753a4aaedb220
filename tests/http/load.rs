//! Nodes and the proxy itself end while clients are busy: nothing that could be saved is lost.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::support::h2::{Frame, H2, PREFACE, flag, kind, request};
use crate::support::{Conn, Message, Origin, Proxy, Signal, echo, eventually};

const GET: &str = "GET /bytes/2000 HTTP/1.1\r\nHost: a\r\n\r\n";

/// Clients that ask and ask until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Each client asks on one connection at a time. `is_end`: whether a connection that ends
    /// without a response is in order.
    fn start(proxy: &Proxy, is_end: fn() -> bool) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let addr = proxy.addr(0);
        let client = |_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(stream) = std::net::TcpStream::connect(addr) else {
                        assert!(is_end(), "refused");
                        return;
                    };
                    let mut conn = Conn::of(stream);
                    while !stop.load(Ordering::Relaxed) {
                        conn.send(GET);
                        let Some(mut answer) = Message::head(&mut conn.stream) else {
                            assert!(is_end(), "the connection ended without a response");
                            break;
                        };
                        let whole = answer.read_body(&mut conn.stream, true);
                        assert_eq!(answer.status(), 200, "{}", answer.text());
                        assert!(whole.is_some() && answer.body.len() == 2000, "cut off");
                        served.fetch_add(1, Ordering::Relaxed);
                        if answer.fields.lists("connection", "close") {
                            break;
                        }
                    }
                }
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, served, clients }
    }

    /// Waits until so many more requests are served.
    fn wait(&self, count: usize) {
        let from = self.served.load(Ordering::Relaxed);
        eventually("requests are served", || {
            assert!(!self.clients.iter().all(JoinHandle::is_finished), "the clients gave up");
            (self.served.load(Ordering::Relaxed) >= from + count).then_some(())
        });
    }

    /// Ends the clients; fails if one of them failed.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("every request was served");
        }
    }
}

/// R05: a node is killed while all are busy; its requests, all idempotent, find the other one.
#[test]
fn r05_a_killed_node_costs_no_idempotent_request() {
    let (doomed, other) = (echo("http", &[]), echo("http", &[]));
    let to_other = other.url("http", "");
    let proxy = Proxy::http(
        &doomed.url("http", ""),
        &["--to", &to_other, "--workers", "2", "--access-log", "off"],
    );
    let load = Load::start(&proxy, || false);
    load.wait(200);
    doomed.signal(Signal::KILL);
    load.wait(400);
    load.finish();
}

/// R04: the proxy drains while all are busy; every response that began is whole.
#[test]
fn r04_a_drain_under_load_cuts_nothing() {
    let echo = echo("http", &[]);
    let mut proxy = Proxy::http(&echo.url("http", ""), &["--workers", "2", "--access-log", "off"]);
    // A request that meets the closing of an idle connection is the known race of HTTP/1.1
    // (RFC 9112 §9.6): the client may send it again elsewhere.
    let load = Load::start(&proxy, || true);
    load.wait(200);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), Some(0));
    load.finish();
}

/// P49: an HTTP/2 node that ends its connections again and again (GOAWAY) loses no request.
#[test]
fn p49_a_node_that_goes_away_loses_no_request() {
    let echo = echo("http", &[]);
    let proxy = Proxy::http(&echo.url("h2c", ""), &["--workers", "1", "--access-log", "off"]);
    let mut client = H2::open(proxy.addr(0));
    for round in 0..20 {
        let mut open = Vec::new();
        for n in 0..5 {
            let path = if n == 2 { "/close" } else { "/x" };
            open.push(client.begin(request("POST", path, &[]), true));
        }
        for open in open {
            let answer = client.finish(open).expect("a response");
            assert_eq!(
                answer.status,
                200,
                "round {round}: {:?}",
                crate::support::text(&answer.body)
            );
        }
    }
}

/// An HTTP/2 node by hand: says `no` (frames for a stream) instead of answering the first request
/// it ever sees, then answers every one.
fn declines_once(no: fn(u32) -> Frame) -> (Origin, Arc<AtomicBool>) {
    let declined = Arc::<AtomicBool>::default();
    let shared = Arc::clone(&declined);
    let origin = Origin::start(move |peer| {
        let mut preface = [0; 24];
        if peer.read_exact(&mut preface).is_err() {
            return;
        }
        assert_eq!(preface[..], PREFACE[..24]);
        peer.send(Frame::new(kind::SETTINGS, 0, 0, []).bytes());
        while let Some(frame) = Frame::read(peer) {
            let ends = frame.flags & flag::END_STREAM != 0;
            match frame.kind {
                kind::SETTINGS if frame.flags & flag::ACK == 0 => {
                    peer.send(Frame::new(kind::SETTINGS, flag::ACK, 0, []).bytes());
                }
                kind::HEADERS if !shared.swap(true, Ordering::SeqCst) => {
                    peer.send(no(frame.stream).bytes());
                }
                kind::HEADERS | kind::DATA if ends => {
                    // `:status: 200` as one indexed field.
                    let flags = flag::END_HEADERS | flag::END_STREAM;
                    peer.send(Frame::new(kind::HEADERS, flags, frame.stream, [0x88]).bytes());
                }
                _ => {}
            }
        }
    });
    (origin, declined)
}

/// P49, RFC 9113 §8.7: what a node certainly did not look at (a refused stream, or one above the
/// last of a GOAWAY) is sent to another one.
#[test]
fn p49_a_stream_that_was_not_looked_at_goes_to_another_node() {
    let refuse: fn(u32) -> Frame = |stream| Frame::new(kind::RST_STREAM, 0, stream, [0, 0, 0, 7]);
    let go_away: fn(u32) -> Frame = |_| Frame::new(kind::GOAWAY, 0, 0, [0; 8]);
    for no in [refuse, go_away] {
        let (origin, declined) = declines_once(no);
        let spare = echo("http", &[]);
        let (to, to_spare) = (format!("h2c://{}", origin.addr()), spare.url("h2c", ""));
        let arguments = ["--to", &to_spare, "--balance", "first", "--access-log", "off"];
        let proxy = Proxy::http(&to, &arguments);
        let answer = Conn::open(proxy.addr(0)).ask("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((answer.status(), &answer.json()["path"]), (200, &"/x".into()));
        assert!(declined.load(Ordering::SeqCst), "nothing was declined");
    }
}
