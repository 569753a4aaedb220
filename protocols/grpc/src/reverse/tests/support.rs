//! A node and a client that speak HTTP/2 frame by frame, and a proxy on a worker between them.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::{ListenAddr, listen};
use gwproxy_core::tls::ServerTls;
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint};
use gwproxy_core::worker::Workers;
use gwproxy_http::fields::Value;
use gwproxy_http::rescue::{Problem, Rescue};
use gwproxy_http::reverse::Reverse;
use gwproxy_http::serve::Server;
use gwproxy_http::tunnel::RawTunnel;
use gwproxy_http::upstream::{Terms, Upstream};
use gwproxy_http::{Client, Handle};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::deadline::Settings;
use crate::reverse::Grpc;

/// No test waits this long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a listener of the gateway does with a call, without the gateway.
struct Front {
    reverse: Rc<Reverse>,
    cluster: Arc<Cluster>,
    settings: Settings,
}

impl Handle for Front {
    async fn handle(
        self: Rc<Self>,
        mut request: Box<gwproxy_http::Request>,
        client: Rc<Client>,
    ) -> gwproxy_http::Response {
        let rescue = crate::rescue_for(request.headers());
        let mut grpc = Grpc::new(&self.reverse).obeying(self.settings);
        // As a gateway that kept the call for a while.
        let spent = request.headers().get("x-spent").map(Value::to_value);
        if let Some(spent) = spent {
            request.headers_mut().remove("x-spent");
            let spent = Duration::from_secs(spent.to_str().unwrap().parse().unwrap());
            grpc = grpc.since(Instant::now().checked_sub(spent).unwrap());
        }
        match grpc.forward(request, &client, &self.cluster, &Terms::default()).await {
            Ok(response) => response,
            Err(error) => match rescue {
                Some(rescue) => rescue.answer(&error),
                None => Problem::default().answer(&error),
            },
        }
    }
}

/// A proxy on a worker of its own; it stops with the test's process.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    _workers: Workers,
}

impl Proxy {
    pub(crate) fn to(node: SocketAddr) -> Self {
        Self::start(cluster(node), Settings::default())
    }

    pub(crate) fn start(cluster: Arc<Cluster>, settings: Settings) -> Self {
        Self::over(None, cluster, settings)
    }

    pub(crate) fn over(
        tls: Option<Arc<ServerTls>>,
        cluster: Arc<Cluster>,
        settings: Settings,
    ) -> Self {
        let bound = listen::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
        let listener = Arc::new(Listener::new("grpc".into(), tls, PATIENCE, 1024));
        let sockets = Mutex::new(bound.sockets);
        let workers = Workers::start("worker", 1, move |worker| {
            let upstream = Upstream::new(Rc::clone(&worker));
            let reverse = Reverse::new(upstream, Rc::new(RawTunnel::default()), Arc::default());
            let cluster = Arc::clone(&cluster);
            let front = Front { reverse: Rc::new(reverse), cluster, settings };
            let server = Server::new(
                Rc::new(front),
                Rc::clone(&worker),
                gwproxy_http::serve::Settings::default(),
            );
            let socket = sockets.lock().unwrap().pop().unwrap();
            worker.listen(socket, Arc::clone(&listener), Rc::new(server)).unwrap();
        });
        Self { addr, _workers: workers.unwrap() }
    }

    /// A client's connection.
    pub(crate) async fn connect(&self) -> SendRequest<Bytes> {
        handshake(TcpStream::connect(self.addr).await.unwrap()).await
    }

    /// Sends a call whose request is `message` and waits for all of the answer.
    pub(crate) async fn unary(&self, call: Request<()>, message: &[u8]) -> Answer {
        let mut client = self.connect().await;
        let (response, mut body) = client.send_request(call, false).unwrap();
        body.send_data(Bytes::copy_from_slice(message), true).unwrap();
        Answer::read(response.await.unwrap()).await
    }
}

/// A client's connection over `io`.
pub(crate) async fn handshake<T>(io: T) -> SendRequest<Bytes>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: StatusCode,
    pub(crate) head: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// The head was all there was.
    pub(crate) only_head: bool,
}

impl Answer {
    pub(crate) async fn read(response: Response<RecvStream>) -> Self {
        let (parts, mut stream) = response.into_parts();
        let only_head = stream.is_end_stream();
        let body = read_all(&mut stream).await.unwrap();
        let trailers = stream.trailers().await.unwrap();
        Self { http: parts.status, head: parts.headers, body, trailers, only_head }
    }

    /// The number and the message, wherever they are.
    pub(crate) fn status(&self) -> (&str, &str) {
        let fields = self.trailers.as_ref().unwrap_or(&self.head);
        let text = |name| fields.get(name).map_or("", |value| value.to_str().unwrap());
        (text("grpc-status"), text("grpc-message"))
    }

    /// Asserts that this is trailers-only.
    #[track_caller]
    pub(crate) fn is_trailers_only(&self, status: &str) {
        assert_eq!(self.http, 200, "{self:?}");
        assert!(self.only_head && self.trailers.is_none(), "{self:?}");
        assert_eq!(self.head["content-type"], "application/grpc+test");
        assert_eq!(self.head["grpc-status"], status, "{self:?}");
    }
}

/// A node that gives every call to `handle`.
pub(crate) async fn node<F, Fut>(handle: F) -> SocketAddr
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let handle = handle.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(handle(request, respond));
                }
            });
        }
    });
    addr
}

pub(crate) fn cluster(node: SocketAddr) -> Arc<Cluster> {
    cluster_of(ClusterSettings::new("service"), "grpc", node)
}

pub(crate) fn cluster_of(
    settings: ClusterSettings,
    scheme: &str,
    node: SocketAddr,
) -> Arc<Cluster> {
    let addr = node.to_string().parse().unwrap();
    Cluster::new(settings, vec![Endpoint::new("n0", scheme, addr, None, 1)])
}

/// A call as gRPC clients make them.
pub(crate) fn call(path: &str) -> Request<()> {
    Request::post(format!("http://service.test{path}"))
        .header("content-type", "application/grpc+test")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

pub(crate) fn with(mut request: Request<()>, fields: &[(&'static str, &str)]) -> Request<()> {
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

pub(crate) fn ok_head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc+test").body(()).unwrap()
}

pub(crate) fn trailers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for (name, value) in fields {
        trailers.append(*name, value.parse().unwrap());
    }
    trailers
}

/// A length-prefixed message, not compressed.
pub(crate) fn message(content: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend((content.len() as u32).to_be_bytes());
    message.extend(content);
    message
}

pub(crate) async fn read_all(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend(data);
    }
    Ok(all)
}

/// Reads `expected` off the stream, in however many frames.
pub(crate) async fn expect(stream: &mut RecvStream, expected: &[u8]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let data = stream.data().await.expect("the stream goes on").unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        got.extend(data);
    }
    assert_eq!(got, expected);
}

/// Sends `bytes` as fast as the peer takes them; false if it reset the stream.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> bool {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { return false };
        let part = bytes.split_to(room.min(bytes.len()));
        if stream.send_data(part, end && bytes.is_empty()).is_err() {
            return false;
        }
    }
    true
}

/// The code with which the peer reset this stream, once it did.
pub(crate) async fn reset_of(stream: &mut SendStream<Bytes>) -> h2::Reason {
    let reset = std::future::poll_fn(|cx| stream.poll_reset(cx));
    tokio::time::timeout(PATIENCE, reset).await.expect("a reset").unwrap()
}

/// The same before a response was begun.
pub(crate) async fn reset_of_call(respond: &mut SendResponse<Bytes>) -> h2::Reason {
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    tokio::time::timeout(PATIENCE, reset).await.expect("a reset").unwrap()
}
