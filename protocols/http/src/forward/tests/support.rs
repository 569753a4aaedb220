//! A proxy, origins and clients for the tests.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use gwproxy_core::Error;
use gwproxy_core::net::ListenAddr;
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::listen::bind;
use gwproxy_core::worker::{LocalFuture, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::forward::{Credentials, Forward, Policy, Ports, Settings};
use crate::serve::{self, Server};
use crate::tunnel::RawTunnel;
use crate::upstream::Upstream;

/// What a proxy of a test is made with.
#[derive(Default)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) user: Option<(&'static str, &'static str)>,
}

/// A forward proxy on one worker; it ends with the test.
pub(super) struct Proxy {
    pub(super) at: SocketAddr,
    workers: Option<Workers>,
}

/// A listening socket that nobody answers on yet.
pub(super) struct Origin {
    pub(super) at: SocketAddr,
    pub(super) listener: TcpListener,
}

/// A connection to a proxy.
pub(super) struct Client(pub(super) TcpStream);

/// A response without transfer coding.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

#[derive(Debug)]
struct OneUser(&'static str, &'static str);

impl Credentials for OneUser {
    fn verify(self: Rc<Self>, user: String, password: String) -> LocalFuture<Result<bool, Error>> {
        Box::pin(async move { Ok(user == self.0 && password == self.1) })
    }
}

impl Config {
    /// Everything on the loopback network may be reached, on any port.
    pub(super) fn loopback() -> Self {
        let mut config = Self::any_port();
        let allow = ["127.0.0.0/8", "::1", "0.0.0.0"];
        config.settings.policy.allow = allow.map(|rule| rule.parse().unwrap()).to_vec();
        config
    }

    /// The default, but for the ports that test origins get.
    pub(super) fn any_port() -> Self {
        let ports = Ports::Only((1..=u16::MAX).collect());
        let policy = Policy { ports, ..Policy::default() };
        Self { settings: Settings { policy, ..Settings::default() }, user: None }
    }
}

impl Proxy {
    pub(super) fn start(config: Config) -> Self {
        let bound = bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let ListenAddr::Tcp(at) = bound.addr else { panic!("{bound:?}") };
        let socket = Mutex::new(bound.sockets.into_iter().next());
        let listener = Arc::new(Listener::new("forward".into(), None, Duration::from_secs(5), 100));
        let settings = Arc::new(config.settings);
        let workers = Workers::start("forward", 1, move |worker| {
            let upstream = Upstream::new(Rc::clone(&worker));
            let user = config.user.map(|(name, password)| OneUser(name, password));
            let forward = Forward::new(
                Arc::clone(&settings),
                upstream,
                Rc::new(RawTunnel::default()),
                user.map(|user| Rc::new(user) as _),
            );
            let serve_settings = serve::Settings::default();
            let server = Server::new(Rc::new(forward), Rc::clone(&worker), serve_settings);
            let socket = socket.lock().unwrap().take().unwrap();
            worker.listen(socket, Arc::clone(&listener), Rc::new(server)).unwrap();
        });
        Self { at, workers: Some(workers.unwrap()) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.workers.take().unwrap().stop();
    }
}

impl Origin {
    pub(super) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { at: listener.local_addr().unwrap(), listener }
    }

    /// Answers one request and tells its head.
    pub(super) fn serve_one(self, response: &'static [u8]) -> JoinHandle<String> {
        tokio::spawn(async move {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            let head = read_head(&mut socket).await;
            write(&mut socket, response).await;
            head
        })
    }

    /// The one connection that somebody opened.
    pub(super) async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

impl Client {
    pub(super) async fn to(proxy: &Proxy) -> Self {
        Self(TcpStream::connect(proxy.at).await.unwrap())
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads a response whose body has a length, if any.
    pub(super) async fn response(&mut self) -> Response {
        let head = read_head(&mut self.0).await;
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no status in `{head}`"));
        let mut response =
            Response { status: status.parse().unwrap(), head: head.clone(), body: String::new() };
        let length = response.field("content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        response.body = String::from_utf8(body).unwrap();
        response
    }

    /// Everything until the proxy closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }
}

impl Response {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// One byte after the other, so that nothing behind the head is read.
pub(super) async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

pub(super) async fn write(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).await.unwrap();
}

/// No further connection was opened to this listener: a finished handshake would be waiting in
/// its queue.
pub(super) fn assert_untouched(listener: TcpListener) {
    let listener = listener.into_std().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

pub(super) fn basic(user: &str, password: &str) -> String {
    let pair = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Proxy-Authorization: Basic {pair}\r\n")
}
