//! The whole way over real sockets: a client, a `ws` listener on a worker, a node.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::listen::bind;
use gwproxy_core::net::{HostPort, ListenAddr};
use gwproxy_core::upstream::cluster::ClusterSettings;
use gwproxy_core::upstream::{Cluster, Endpoint, NodeAddr};
use gwproxy_core::worker::{Phase, Workers};
use gwproxy_http::rescue::{Problem, Rescue};
use gwproxy_http::reverse::Reverse;
use gwproxy_http::serve::{self, Server};
use gwproxy_http::upstream::{Terms, Upstream};
use gwproxy_http::{Client, Handle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Asked, Response as Answer};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use super::*;

/// The handler of a `ws` listener in its smallest form.
struct Forward {
    reverse: Reverse,
    cluster: Arc<Cluster>,
}

impl Handle for Forward {
    async fn handle(self: Rc<Self>, request: Box<Request>, client: Rc<Client>) -> Response {
        if let Some(refusal) = refusal(&request) {
            return refusal;
        }
        let terms = Terms::default();
        match self.reverse.forward(request, &client, &self.cluster, &terms).await {
            Ok(response) => response,
            Err(error) => Problem::default().answer(&error),
        }
    }
}

/// A worker that serves one `ws` listener.
struct Proxy {
    workers: Workers,
    addr: SocketAddr,
    cluster: Weak<Cluster>,
}

impl Proxy {
    /// Stops it; whatever its worker held must be let go of.
    fn stop(self) {
        self.workers.stop();
        assert_eq!(self.cluster.strong_count(), 0, "the worker left something behind");
    }
}

/// Starts a `ws` listener towards `node`.
fn listener(node: SocketAddr) -> Proxy {
    let bound = bind(&ListenAddr::Tcp(([127, 0, 0, 1], 0).into()), 1).unwrap();
    let ListenAddr::Tcp(addr) = bound.addr else { panic!("bound elsewhere") };
    let sockets = std::sync::Mutex::new(bound.sockets);
    let node: HostPort = node.to_string().parse().unwrap();
    let endpoint = Endpoint::new("node", "ws", NodeAddr::Tcp(node), None, 1);
    let cluster = Cluster::new(ClusterSettings::new("echo"), vec![endpoint]);
    let left = Arc::downgrade(&cluster);
    let listener = Arc::new(Listener::new("ws".into(), None, Duration::from_secs(5), 100));
    let workers = Workers::start("worker", 1, move |worker| {
        let upgrade = Rc::new(WebSocket::default());
        let upstream = Upstream::new(Rc::clone(&worker));
        let reverse = Reverse::new(upstream, upgrade, Arc::default());
        let handler = Forward { reverse, cluster: Arc::clone(&cluster) };
        let settings = serve::Settings::default();
        let server = Rc::new(Server::new(Rc::new(handler), Rc::clone(&worker), settings));
        let socket = sockets.lock().unwrap().pop().unwrap();
        worker.listen(socket, Arc::clone(&listener), server).unwrap();
    });
    Proxy { workers: workers.unwrap(), addr, cluster: left }
}

/// A node that takes one WebSocket with the subprotocol `mqtt` and echoes until it is closed.
async fn echo_once(node: TcpListener) -> Option<Message> {
    let (stream, _) = node.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let agree = |asked: &Asked, mut answer: Answer| {
        let offered = asked.headers().get("sec-websocket-protocol").unwrap();
        assert_eq!(offered, "amqp, mqtt");
        answer.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
        Ok(answer)
    };
    let mut socket = accept_hdr_async(stream, agree).await.unwrap();
    let mut last = None;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message.clone()).await.unwrap();
        }
        last = Some(message);
    }
    last
}

async fn connect(addr: SocketAddr) -> WebSocketStream<TcpStream> {
    let mut request = "ws://gwproxy.test/chat?room=1".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "amqp, mqtt".parse().unwrap());
    let stream = TcpStream::connect(addr).await.unwrap();
    let (socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers().get("sec-websocket-protocol").unwrap(), "mqtt");
    socket
}

/// Sends `request` on a fresh connection and returns the answer's head and body.
async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_websocket_through_a_listener() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener(node.local_addr().unwrap());
    let addr = proxy.addr;
    let talk = async {
        let mut socket = connect(addr).await;
        for message in [Message::text("hello"), Message::binary(vec![1; 200_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        let close = CloseFrame { code: 4123.into(), reason: "enough".into() };
        socket.close(Some(close.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(close)));
        assert!(socket.next().await.is_none());
    };
    let (seen, ()) = tokio::join!(echo_once(node), talk);
    let Some(Message::Close(Some(close))) = seen else { panic!("{seen:?}") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4123, "enough"));
    proxy.stop();
}

#[tokio::test]
async fn draining_closes_what_is_open_with_1001() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener(node.local_addr().unwrap());
    let addr = proxy.addr;
    let talk = async {
        let mut socket = connect(addr).await;
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        proxy.workers.enter(Phase::Draining);
        let closed = socket.next().await.unwrap().unwrap();
        let Message::Close(Some(close)) = closed else { panic!("{closed:?}") };
        assert_eq!(u16::from(close.code), 1001);
        assert!(socket.next().await.is_none());
    };
    let (seen, ()) = tokio::join!(echo_once(node), talk);
    let Some(Message::Close(Some(close))) = seen else { panic!("{seen:?}") };
    assert_eq!(u16::from(close.code), 1001);
    proxy.stop();
}

#[tokio::test]
async fn what_is_no_handshake_never_reaches_the_node() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener(node.local_addr().unwrap());
    let addr = proxy.addr;
    let with = |fields: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             {fields}\r\n"
        )
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let plain = ask(addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 426 "), "{plain}");
    assert!(plain.contains("\r\nupgrade: websocket\r\n"), "{plain}");
    assert!(plain.contains("\r\nconnection: close, upgrade\r\n"), "{plain}");
    assert!(plain.contains("Only WebSocket connections are served here."), "{plain}");

    let old = ask(addr, &with(&format!("{key}Sec-WebSocket-Version: 8\r\n"))).await;
    assert!(old.starts_with("HTTP/1.1 426 "), "{old}");
    assert!(old.contains("\r\nsec-websocket-version: 13\r\n"), "{old}");

    let keyless = ask(addr, &with("Sec-WebSocket-Version: 13\r\n")).await;
    assert!(keyless.starts_with("HTTP/1.1 400 "), "{keyless}");
    let post = with(&format!("{key}Sec-WebSocket-Version: 13\r\n")).replacen("GET", "POST", 1);
    let post = ask(addr, &post).await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("\r\nallow: GET\r\n"), "{post}");

    // Nobody has knocked at the node.
    let knocked = std::future::poll_fn(|cx| std::task::Poll::Ready(node.poll_accept(cx))).await;
    assert!(knocked.is_pending());
    proxy.stop();
}

/// A node that gives one fixed answer and hangs up, after the proxy did if it switched.
async fn answer_once(node: TcpListener, answer: &str) {
    let (mut stream, _) = node.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    if answer.starts_with("HTTP/1.1 101") {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "the client's bytes got through");
    }
}

async fn status_after(answer: &str) -> u16 {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener(node.local_addr().unwrap());
    let addr = proxy.addr;
    let ask = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        match client_async("ws://gwproxy.test/", stream).await {
            Err(WsError::Http(response)) => response.status().as_u16(),
            other => panic!("{other:?}"),
        }
    };
    let (status, ()) = tokio::join!(ask, answer_once(node, answer));
    proxy.stop();
    status
}

#[tokio::test]
async fn a_node_that_did_not_read_the_key_is_a_bad_gateway() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(status_after(answer).await, 502);
}

#[tokio::test]
async fn a_node_that_refuses_has_its_say() {
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(status_after(answer).await, 403);
}
