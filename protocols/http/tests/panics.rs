//! T69. Goal: a panic ends its own request or connection, and nothing else notices.
//!
//! Method: a handler that panics where it is told to, before its answer or within it, behind the
//! real server on one worker: whatever is beside it shares its thread. A process of its own, since
//! descriptors and panics are counted: one test in this file.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gwproxy_core::Error;
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::{ListenAddr, listen};
use gwproxy_core::telemetry::{Metrics, panics};
use gwproxy_core::worker::Workers;
use gwproxy_http::body::Filter;
use gwproxy_http::serve::{Server, Settings};
use gwproxy_http::{Body, Client, Frame, Handle, Request, Response};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at a time: a place that does not come back is missed at once.
const CONNECTIONS: usize = 2;
/// Panics of each kind.
const ROUNDS: usize = 20;

/// Answers `/slow` when it is told to, `/before` and `/within` not at all, and the rest at once.
struct Fragile {
    go_on: Arc<Notify>,
}

impl Handle for Fragile {
    async fn handle(self: Rc<Self>, request: Box<Request>, _: Rc<Client>) -> Response {
        match request.uri().path() {
            "/before" => panic!("before\nthe answer"),
            // As an index out of bounds or a failed comparison has it.
            "/secret" => panic!("{}", request.uri()),
            "/within" => {
                let mut body = Body::full("some");
                body.filter(Box::<Breaks>::default());
                Response::new(body)
            }
            "/slow" => {
                self.go_on.notified().await;
                Response::new(Body::full("slow"))
            }
            _ => Response::new(Body::full("fine")),
        }
    }
}

/// Breaks a body after its first bytes.
#[derive(Debug, Default)]
struct Breaks {
    had_one: bool,
}

type Polled = Poll<Option<Result<Frame, Error>>>;

impl Filter for Breaks {
    fn poll_frame(&mut self, _: &mut Context<'_>, frame: Polled) -> Polled {
        assert!(!self.had_one, "within the answer");
        self.had_one = true;
        frame
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Shows the log when the test fails: that panic is told there, too.
struct Shown(Log);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.text());
        }
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn t69_a_panic_ends_its_own_request_or_connection() {
    let log = Log::default();
    let to = log.clone();
    tracing_subscriber::fmt().with_writer(move || to.clone()).with_ansi(false).init();
    let _shown = Shown(log.clone());
    panics::watch();
    let go_on = Arc::new(Notify::new());
    let addr = start(Arc::clone(&go_on));
    assert!(h1(addr, "/").ends_with("fine"));
    let descriptors = open_descriptors();

    // HTTP/1: a 500 before an answer, the end of the connection within it.
    for _ in 0..ROUNDS {
        let answer = h1(addr, "/before");
        assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"internal\""), "{answer}");
        let cut = h1(addr, "/within");
        assert!(!cut.ends_with("0\r\n\r\n"), "it looks whole: {cut}");
        assert!(h1(addr, "/").ends_with("fine"));
    }
    // HTTP/2: its stream ends; one that was under way before on the same connection does not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(h2(addr, &go_on));
    drop(runtime);
    // T61: what a client wrote is told by no panic.
    assert!(h1(addr, "/secret").contains(" 500 "));
    // Every place and every descriptor is back.
    assert!(h1(addr, "/").ends_with("fine"));
    wait_for(descriptors);

    let count = 4 * ROUNDS + 1;
    assert_eq!(panics::count(), count as u64);
    let metrics = Metrics::new(1, vec!["-".into()]).render();
    assert!(metrics.contains(&format!("\ngwproxy_panics_total {count}\n")), "{metrics}");
    let log = log.text();
    let told = log.matches("a bug, please report it").count();
    for field in
        ["at=\"protocols/http/tests/panics.rs:", "thread=\"worker-0\"", "code=\"internal\""]
    {
        assert_eq!(log.matches(field).count(), count, "{field}: {log}");
    }
    assert_eq!(told, count, "one line each: {log}");
    for (message, count) in [
        ("before\\nthe answer", 2 * ROUNDS),
        ("within the answer", 2 * ROUNDS),
        ("panicked: (a message with values)", 1),
        ("/secret", 0),
    ] {
        let is_told = |line: &&str| line.contains(message);
        assert_eq!(log.lines().filter(is_told).count(), count, "{log}");
    }
}

fn start(go_on: Arc<Notify>) -> SocketAddr {
    let bound = listen::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let ListenAddr::Tcp(addr) = bound.addr else { unreachable!("it was asked for") };
    let listener = Arc::new(Listener::new("http".into(), None, PATIENCE, CONNECTIONS));
    let sockets = Mutex::new(bound.sockets);
    let workers = Workers::start("worker", 1, move |worker| {
        let handler = Rc::new(Fragile { go_on: Arc::clone(&go_on) });
        let server = Server::new(handler, Rc::clone(&worker), Settings::default());
        let socket = sockets.lock().unwrap().pop().unwrap();
        worker.listen(socket, Arc::clone(&listener), Rc::new(server)).unwrap();
    });
    std::mem::forget(workers.unwrap());
    addr
}

/// All that comes for a request, until the end of the connection.
fn h1(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8(all).unwrap()
}

async fn h2(addr: SocketAddr, go_on: &Notify) {
    let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    let driving = tokio::spawn(connection);
    let ask = |path: &str| {
        let request = http::Request::get(format!("http://a{path}")).body(()).unwrap();
        let sender = sender.clone();
        async move {
            let (response, _) = sender.ready().await?.send_request(request, true)?;
            let mut body = response.await?.into_body();
            let mut all = Vec::new();
            while let Some(data) = body.data().await {
                all.extend_from_slice(&data?);
            }
            Ok::<_, h2::Error>(all)
        }
    };
    let slow = tokio::spawn(ask("/slow"));
    for _ in 0..ROUNDS {
        for path in ["/before", "/within"] {
            let error = ask(path).await.unwrap_err();
            assert!(error.is_reset(), "{path}: {error}");
            assert_ne!(error.reason(), Some(h2::Reason::NO_ERROR), "{path}");
        }
        assert_eq!(ask("/").await.unwrap(), b"fine");
    }
    go_on.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), b"slow");
    drop(sender);
    driving.await.unwrap().unwrap();
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until what is over is closed. The first look may have seen one that was not.
fn wait_for(descriptors: usize) {
    let began = Instant::now();
    while open_descriptors() > descriptors {
        assert!(began.elapsed() < PATIENCE, "{} are open", open_descriptors());
        std::thread::yield_now();
    }
}
