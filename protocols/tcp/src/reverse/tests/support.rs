//! A proxy on a worker of its own, and what it tells of its connections.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use gwproxy_core::Code;
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::{ListenAddr, listen};
use gwproxy_core::tls::ServerTls;
use gwproxy_core::upstream::connect::Resolver;
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint};
use gwproxy_core::worker::{Phase, Workers};

use crate::session::Ending;
use crate::{Reverse, Session, Settings};

/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A [`Session`] that may leave its worker.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) node: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) client_to_upstream: u64,
    pub(crate) upstream_to_client: u64,
    pub(crate) ending: &'static str,
    pub(crate) code: Option<Code>,
    pub(crate) sentence: Option<String>,
}

pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    workers: Workers,
    ended: mpsc::Receiver<Ended>,
}

impl Proxy {
    pub(crate) fn start(cluster: Arc<Cluster>, settings: Settings) -> Self {
        Self::with(cluster, settings, |reverse| reverse)
    }

    pub(crate) fn with(
        cluster: Arc<Cluster>,
        settings: Settings,
        more: impl Fn(Reverse) -> Reverse + Send + Sync + 'static,
    ) -> Self {
        Self::over(None, cluster, settings, more)
    }

    pub(crate) fn over(
        tls: Option<Arc<ServerTls>>,
        cluster: Arc<Cluster>,
        settings: Settings,
        more: impl Fn(Reverse) -> Reverse + Send + Sync + 'static,
    ) -> Self {
        let bound = listen::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
        let listener = Arc::new(Listener::new("tcp".into(), tls, PATIENCE, 1024));
        let sockets = Mutex::new(bound.sockets);
        let (tell, ended) = mpsc::channel();
        let workers = Workers::start("worker", 1, move |worker| {
            let resolver = Rc::new(Resolver::default());
            let reverse =
                Reverse::new(Arc::clone(&cluster), Rc::clone(&worker), resolver, settings);
            let tell = tell.clone();
            let reverse = more(reverse).report(Rc::new(move |session| {
                let _ = tell.send(Ended::of(session));
            }));
            let socket = sockets.lock().unwrap().pop().unwrap();
            worker.listen(socket, Arc::clone(&listener), Rc::new(reverse)).unwrap();
        });
        Self { addr, workers: workers.unwrap(), ended }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.addr).unwrap())
    }

    pub(crate) fn connect_from(&self, from: IpAddr) -> TcpStream {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&self.addr.into()).unwrap();
        patient(socket.into())
    }

    /// The next connection that is over.
    pub(crate) fn ended(&self) -> Ended {
        self.ended.recv_timeout(PATIENCE).expect("a connection ends")
    }

    /// The next connection that is over, or what `other` finds before.
    pub(crate) fn ended_or<T>(&self, other: impl Fn() -> Option<T>) -> Result<Ended, T> {
        loop {
            if let Ok(ended) = self.ended.recv_timeout(Duration::from_millis(1)) {
                return Ok(ended);
            }
            if let Some(found) = other() {
                return Err(found);
            }
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.workers.enter(phase);
    }

    /// Waits until the listener is closed.
    pub(crate) fn refuses_connections(&self) {
        while TcpStream::connect(self.addr).is_ok() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn stop(self) {
        self.workers.stop();
    }
}

impl Ended {
    fn of(session: &Session) -> Self {
        let sentence = match &session.ending {
            Ending::Refused(error) => Some(error.to_string()),
            _ => None,
        };
        Self {
            node: session.node.as_ref().map(ToString::to_string),
            attempts: session.attempts,
            client_to_upstream: session.client_to_upstream,
            upstream_to_client: session.upstream_to_client,
            ending: session.ending.as_str(),
            code: session.ending.code(),
            sentence,
        }
    }
}

pub(crate) fn cluster(addrs: &[SocketAddr]) -> Arc<Cluster> {
    let nodes = addrs.iter().enumerate().map(|(index, addr)| node(index, *addr)).collect();
    Cluster::new(ClusterSettings::new("service"), nodes)
}

pub(crate) fn node(index: usize, addr: SocketAddr) -> Endpoint {
    node_at(&format!("n{index}"), &addr.to_string())
}

pub(crate) fn node_at(name: &str, addr: &str) -> Endpoint {
    Endpoint::new(name, "tcp", addr.parse().unwrap(), None, 1)
}

/// An address that nothing listens at, and that nobody else gets meanwhile.
pub(crate) struct Dead(socket2::Socket);

impl Dead {
    pub(crate) fn new() -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    pub(crate) fn come_alive(self) -> TcpListener {
        self.0.listen(8).unwrap();
        self.0.into()
    }
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
