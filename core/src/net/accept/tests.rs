use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as Client};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::ListenAddr;
use crate::net::listen::bind;
use crate::worker::{Phase, Workers};

/// Says one byte to each client and waits until it has left; counts who is there.
#[derive(Debug, Default)]
struct Doors {
    inside: AtomicUsize,
    most: AtomicUsize,
}

struct Door(Arc<Doors>);

impl Serve for Door {
    fn serve(self: Rc<Self>, mut stream: Stream, _peer: Peer, held: Held) -> LocalFuture<()> {
        Box::pin(async move {
            let Self(doors) = &*self;
            let inside = doors.inside.fetch_add(1, Ordering::SeqCst) + 1;
            doors.most.fetch_max(inside, Ordering::SeqCst);
            let _ = stream.write_all(b"!").await;
            let _ = stream.read(&mut [0]).await;
            drop(stream);
            doors.inside.fetch_sub(1, Ordering::SeqCst);
            drop(held);
        })
    }
}

fn open(workers: usize, max: usize) -> (Workers, SocketAddr, Arc<Doors>) {
    let bound = bind(&"127.0.0.1:0".parse().unwrap(), workers).unwrap();
    let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
    let doors = Arc::new(Doors::default());
    let listener = Arc::new(Listener::new("test".into(), None, Duration::ZERO, max));
    let (sockets, shared) = (Mutex::new(bound.sockets), Arc::clone(&doors));
    let workers = Workers::start("test", workers, move |worker| {
        let socket = sockets.lock().unwrap().pop().unwrap();
        let door = Rc::new(Door(Arc::clone(&shared)));
        worker.listen(socket, Arc::clone(&listener), door).unwrap();
    })
    .unwrap();
    (workers, addr, doors)
}

fn enter(addr: SocketAddr) -> Client {
    let client = Client::connect(addr).unwrap();
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    client
}

fn is_let_in(client: &mut Client) -> bool {
    client.read_exact(&mut [0]).is_ok()
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// Whatever worker the kernel chooses: with one place, each client in turn gets it, although the
/// other worker has nobody and could sit on it.
#[test]
fn an_idle_worker_holds_no_permit() {
    let (workers, addr, doors) = open(2, 1);
    for _ in 0..64 {
        assert!(is_let_in(&mut enter(addr)));
    }
    assert_eq!(doors.most.load(Ordering::SeqCst), 1);
    workers.stop();
}

/// Below and at the maximum all are let in at once; above it, each waits for a place, over all
/// workers, and gets it.
#[test]
fn the_maximum_is_exact_over_all_workers() {
    const MAX: usize = 8;
    let (workers, addr, doors) = open(2, MAX);
    let mut first: Vec<Client> = (0..MAX).map(|_| enter(addr)).collect();
    assert!(first.iter_mut().all(is_let_in), "as many as there are places");
    assert_eq!(doors.inside.load(Ordering::SeqCst), MAX);
    let late: Vec<JoinHandle<bool>> = (0..64)
        .map(|_| {
            let mut client = enter(addr);
            std::thread::spawn(move || is_let_in(&mut client))
        })
        .collect();
    assert_eq!(workers.connections(), MAX, "those above the maximum wait outside");
    drop(first);
    for late in late {
        assert!(late.join().unwrap());
    }
    assert_eq!(doors.most.load(Ordering::SeqCst), MAX);
    wait_until(|| workers.connections() == 0);
    workers.stop();
}

/// Clients that were told that they are connected are served, though the drain began before they
/// were accepted; after that, nobody gets in.
#[tokio::test]
async fn a_drain_serves_what_the_kernel_has_queued() {
    const QUEUED: usize = 20;
    let bound = bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
    let clients: Vec<Client> = (0..QUEUED).map(|_| enter(addr)).collect();
    let local = tokio::task::LocalSet::new();
    let (worker, phase) = Worker::for_test();
    phase.send_replace(Phase::Draining);
    let run = async {
        let listener = Arc::new(Listener::new("test".into(), None, Duration::ZERO, 100));
        let socket = bound.sockets.into_iter().next().unwrap();
        let door = Rc::new(Door(Arc::default()));
        worker.listen(socket, listener, door).unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let all = clients.into_iter().all(|mut client| is_let_in(&mut client));
            let _ = tell.send(all);
        });
        assert!(told.await.unwrap(), "those in the queue are served");
        while worker.is_accepting() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = local.run_until(run) => {}
        () = worker.run_for_test() => unreachable!("it runs until it is stopped"),
    }
    assert!(Client::connect(addr).is_err(), "the socket is closed");
}

/// A flood of clients does not put off the drain: the sockets are closed all the same.
#[test]
fn a_flood_does_not_put_off_the_drain() {
    let (workers, addr, _doors) = open(2, 10_000);
    let over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(mut client) = Client::connect(addr) {
                        let _ = client.write_all(b"?");
                    }
                }
            })
        })
        .collect();
    assert!(is_let_in(&mut enter(addr)));
    workers.enter(Phase::Draining);
    wait_until(|| {
        Client::connect(addr).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    over.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    wait_until(|| workers.are_done());
    workers.stop();
}

/// What lies between two workers counts as open.
#[test]
fn a_socket_that_is_handed_over_counts() {
    let bound = bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let ListenAddr::Tcp(addr) = bound.addr.clone() else { unreachable!("it was asked for") };
    let listener = Arc::new(Listener::new("test".into(), None, Duration::ZERO, 1));
    let _client = enter(addr);
    let (worker, _phase) = Worker::for_test();
    let BoundSocket::Tcp(tcp) = &bound.sockets[0] else { unreachable!("it was asked for") };
    tcp.set_nonblocking(false).unwrap();
    let (socket, remote) = tcp.accept().unwrap();
    let remote = PeerAddr::from_socket(remote);
    let permit = listener.try_permit().unwrap();
    let held = Held { _permit: permit, place: None, _tracked: worker.track_on(0) };
    let handover = Handover { listener: 0, socket, remote, held };
    assert_eq!(worker.shared().connections[0].0.load(Ordering::Relaxed), 1);
    assert!(listener.try_permit().is_none());
    drop(handover);
    assert_eq!(worker.shared().connections[0].0.load(Ordering::Relaxed), 0);
    assert!(listener.try_permit().is_some());
}

/// Whoever makes trouble at will does not fill the log.
#[test]
fn refusals_are_told_every_five_seconds() {
    let listener = Listener::new("test".into(), None, Duration::ZERO, 1);
    let now = std::time::Instant::now();
    let told = |after| listener.may_tell(now + Duration::from_secs(after));
    assert_eq!([0, 0, 4, 5, 5, 9, 10].map(told), [true, false, false, true, false, false, true]);
}
