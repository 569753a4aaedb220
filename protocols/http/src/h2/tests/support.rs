//! A proxy, a client and nodes on one thread, whose clock goes on when nothing else does.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::{ListenAddr, listen};
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint};
use gwproxy_core::worker::{Phase, Worker};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::frames::{Sent, frame_of, settings};
use crate::h2::Reason;
use crate::h2::frame::{Head, Kind, PREFACE};
use crate::rescue::{Problem, Rescue};
use crate::reverse::Reverse;
use crate::serve::{Server, Settings};
use crate::tunnel::RawTunnel;
use crate::upstream::{Terms, Upstream};
use crate::{Client, Handle};

/// The worker that everything runs on.
pub(crate) struct House {
    pub(crate) worker: Rc<Worker>,
    pub(super) phase: watch::Sender<Phase>,
}

/// Runs a test on a worker whose clock stands still while there is anything to do.
pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(House) -> F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (worker, phase) = Worker::for_test();
        let house = House { worker: Rc::clone(&worker), phase };
        tokio::select! {
            () = worker.run_for_test() => unreachable!("a worker runs for ever"),
            () = test(house) => {}
        }
    });
}

/// What a listener of the gateway does with a request, without the gateway.
struct Front {
    reverse: Reverse,
    cluster: Arc<Cluster>,
}

impl Handle for Front {
    async fn handle(
        self: Rc<Self>,
        mut request: Box<crate::Request>,
        client: Rc<Client>,
    ) -> crate::Response {
        if request.uri().path() == "/talk" {
            request.body_mut().converses(Duration::from_mins(5));
        }
        let terms = Terms { interim: client.interim(&request), ..Terms::default() };
        let forwarded = self.reverse.forward(request, &client, &self.cluster, &terms);
        forwarded.await.unwrap_or_else(|error| Problem::default().answer(&error))
    }
}

impl House {
    /// A proxy to these nodes, which are spoken to in HTTP/2.
    pub(super) fn proxy(&self, nodes: &[SocketAddr]) -> SocketAddr {
        self.proxy_to("h2c", nodes)
    }

    /// A proxy to these nodes, which are spoken to in what `scheme` means.
    pub(crate) fn proxy_to(&self, scheme: &'static str, nodes: &[SocketAddr]) -> SocketAddr {
        let endpoint = |(number, node): (usize, &SocketAddr)| {
            let addr = node.to_string().parse().unwrap();
            Endpoint::new(format!("n{number}"), scheme, addr, None, 1)
        };
        let endpoints = nodes.iter().enumerate().map(endpoint).collect();
        let bound = listen::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
        let listener = Listener::new("test".into(), None, Duration::from_secs(10), 1024);
        let upstream = Upstream::new(Rc::clone(&self.worker));
        let reverse = Reverse::new(upstream, Rc::new(RawTunnel::default()), Arc::default());
        let cluster = Cluster::new(ClusterSettings::new("service"), endpoints);
        let server = Server::new(
            Rc::new(Front { reverse, cluster }),
            Rc::clone(&self.worker),
            Settings::default(),
        );
        let socket = bound.sockets.into_iter().next().unwrap();
        self.worker.listen(socket, Arc::new(listener), Rc::new(server)).unwrap();
        addr
    }
}

/// One end of a connection, frame by frame.
pub(super) struct Wire {
    pub(super) tcp: TcpStream,
    buf: BytesMut,
}

impl Wire {
    /// A client that has said hello.
    pub(super) async fn connect(addr: SocketAddr, said: &[(u16, u32)]) -> Self {
        let tcp = TcpStream::connect(addr).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut wire = Self { tcp, buf: BytesMut::new() };
        wire.say(&[PREFACE, &settings(said)].concat()).await;
        wire
    }

    /// A node whose proxy has said hello.
    pub(super) async fn accept(listener: &TcpListener, said: &[(u16, u32)]) -> Self {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut wire = Self { tcp, buf: BytesMut::new() };
        wire.say(&settings(said)).await;
        let mut preface = [0; PREFACE.len()];
        wire.tcp.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        wire
    }

    /// Says `piece` every so many seconds, and what keeps the connection up, until a stream is reset.
    pub(super) async fn drips(&mut self, every: u64, piece: Vec<u8>) -> Reason {
        let mut timer = tokio::time::interval(Duration::from_secs(every));
        loop {
            tokio::select! {
                _ = timer.tick() => self.say(&piece).await,
                sent = self.hear() => {
                    let sent = sent.expect("the connection goes on");
                    match sent.kind {
                        Kind::RstStream => return sent.reason(),
                        Kind::Ping if sent.flags == 0 => {
                            self.say(&frame_of(Kind::Ping, 1, 0, &sent.payload)).await;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.unwrap();
    }

    /// The next frame; none at the end.
    pub(super) async fn hear(&mut self) -> Option<Sent> {
        loop {
            if let Some(head) = Head::parse(&self.buf).filter(|h| self.buf.len() >= 9 + h.length) {
                let Head { length, kind, flags, stream } = head;
                let payload = self.buf.split_to(9 + length)[9..].to_vec();
                return Some(Sent { kind, flags, stream, payload });
            }
            if self.tcp.read_buf(&mut self.buf).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next frame of this kind.
    pub(super) async fn hear_of(&mut self, kind: Kind) -> Sent {
        loop {
            let sent = self.hear().await.unwrap_or_else(|| panic!("the end, and no {kind:?}"));
            if sent.kind == kind {
                return sent;
            }
        }
    }

    /// Everything until the end.
    pub(super) async fn rest(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.hear().await {
            all.push(sent);
        }
        all
    }
}

/// A listener for a node.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Seconds that `act` takes, to the next whole one below.
pub(crate) async fn seconds<T>(act: impl Future<Output = T>) -> (u64, T) {
    let began = Instant::now();
    let done = act.await;
    (began.elapsed().as_secs(), done)
}

/// A node on the `h2` crate that gives every request to `handle`.
pub(super) async fn node<F, Fut>(builder: h2::server::Builder, handle: F) -> SocketAddr
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (listener, addr) = listener().await;
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (builder, handle) = (builder.clone(), handle.clone());
            tokio::task::spawn_local(async move {
                let mut connection = builder.handshake::<_, Bytes>(tcp).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(handle(request, respond));
                }
            });
        }
    });
    addr
}

/// A node that sends back what it gets, as it comes, trailers and all.
pub(super) async fn echo(builder: h2::server::Builder) -> SocketAddr {
    node(builder, |request, mut respond| async move {
        let mut body = request.into_body();
        let ends = body.is_end_stream();
        let Ok(mut send) = respond.send_response(Response::new(()), ends) else { return };
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            if !send_all(&mut send, data).await {
                return;
            }
        }
        let _ = match body.trailers().await {
            Ok(Some(trailers)) => send.send_trailers(trailers),
            Ok(None) if !ends => send.send_data(Bytes::new(), true),
            _ => Ok(()),
        };
    })
    .await
}

/// A client's connection on the `h2` crate.
pub(super) async fn client(addr: SocketAddr, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (sender, connection) = builder.handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends as fast as the peer takes it; false if it reset the stream.
pub(super) async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { return false };
        if stream.send_data(data.split_to(room.min(data.len())), false).is_err() {
            return false;
        }
    }
    true
}

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

/// Reads a response to its end.
pub(super) async fn whole(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let status = response.status();
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { status, body, trailers })
}

/// Asks with a body and reads the answer meanwhile.
pub(super) async fn ask(
    sender: &SendRequest<Bytes>,
    body: Bytes,
    trailers: Option<HeaderMap>,
) -> Result<Answer, h2::Error> {
    let request = Request::post("http://a.test/").body(()).unwrap();
    let mut sender = sender.clone().ready().await?;
    let (response, mut send) =
        sender.send_request(request, body.is_empty() && trailers.is_none())?;
    let upload = async {
        if body.is_empty() && trailers.is_none() || !send_all(&mut send, body).await {
            return;
        }
        let _ = match trailers {
            Some(trailers) => send.send_trailers(trailers),
            None => send.send_data(Bytes::new(), true),
        };
    };
    let (answer, ()) = tokio::join!(async { whole(response.await?).await }, upload);
    answer
}
