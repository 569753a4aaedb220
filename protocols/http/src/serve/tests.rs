//! How a connection over TLS ends when its client takes no part in it.

use std::path::Path;

use gwproxy_core::net::Socket;
use gwproxy_core::net::accept::Listener;
use gwproxy_core::net::listen::{self, SocketFile};
use gwproxy_core::tls::{CertificatePair, ClientSettings, ClientTls, ServerSettings, ServerTls};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use std::sync::Arc;

use super::*;
use crate::Body;
use crate::h2::tests::support::{House, run, seconds};

/// Answers with so many bytes as the path says.
struct Sized;

impl Handle for Sized {
    async fn handle(self: Rc<Self>, request: Box<Request>, _: Rc<Client>) -> Response {
        let size = request.uri().path()[1..].parse().unwrap_or_default();
        Response::new(Body::full(vec![b'x'; size]))
    }
}

/// Says when a connection has been served to its end.
struct Watched {
    server: Rc<Server<Sized>>,
    over: Sender<()>,
}

impl Serve for Watched {
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()> {
        let serving = Rc::clone(&self.server).serve(stream, peer, held);
        Box::pin(async move {
            serving.await;
            self.over.send(()).await.unwrap();
        })
    }
}

/// A listener with TLS on a Unix socket, whose buffers have a size that nothing changes.
struct Front {
    dir: TempDir,
    client: ClientTls,
    over: Receiver<()>,
    _file: Option<SocketFile>,
}

impl Front {
    fn new(house: &House) -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(path("cert"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        let certificates = vec![CertificatePair { cert: path("cert"), key: path("key") }];
        let settings = ServerSettings { certificates, ..ServerSettings::default() };
        let tls = Arc::new(ServerTls::new(settings, &[]).unwrap());
        let trust = ClientSettings { ca: Some(path("cert")), ..ClientSettings::default() };
        let client = ClientTls::new(&trust, "localhost", &[]).unwrap();
        let at = format!("unix:{}", path("socket").display()).parse().unwrap();
        let bound = listen::bind(&at, 1).unwrap();
        let socket = bound.sockets.into_iter().next().unwrap();
        let listener = Listener::new("test".into(), Some(tls), Duration::from_secs(10), 1024);
        let server =
            Rc::new(Server::new(Rc::new(Sized), Rc::clone(&house.worker), Settings::default()));
        let (tell, over) = channel(1);
        let watched = Watched { server, over: tell };
        house.worker.listen(socket, Arc::new(listener), Rc::new(watched)).unwrap();
        Self { dir, client, over, _file: bound.file }
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("socket")
    }

    /// A client that is past its handshake.
    async fn connect(&self) -> Stream {
        let unix = UnixStream::connect(self.socket()).await.unwrap();
        self.client.connect(Socket::Unix(unix)).await.unwrap()
    }
}

/// RFC 8446 §6.1: a client that was told `close_notify` and says nothing more, neither that nor the
/// end of TCP, is waited for no longer than a closing connection lingers: not at all where nothing
/// of its is unread.
#[test]
fn a_client_that_answers_no_close_notify_is_not_waited_for() {
    run(async |house| {
        let mut front = Front::new(&house);
        for (request, expected) in [
            ("GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0),
            // What is wrong has bytes behind it that nobody reads.
            ("GET /2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 1),
        ] {
            let mut client = front.connect().await;
            client.write_all(request.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            // It ends here only with `close_notify`: else this is an error.
            client.read_to_end(&mut all).await.unwrap();
            assert!(all.starts_with(b"HTTP/1.1 "));
            let (after, over) = seconds(front.over.recv()).await;
            assert_eq!((after, over), (expected, Some(())), "{request}");
        }
    });
}

/// The same of a client that reads nothing, so that sooner or later there is no room for
/// `close_notify`: it has as long as a closing connection lingers, and where there is no room for
/// the answer itself as long as a write may take. Of sizes that grow by little some fill the socket
/// to where the answer just fits.
#[test]
fn a_client_that_leaves_no_room_for_close_notify_is_given_up() {
    run(async |house| {
        let mut front = Front::new(&house);
        let (mut whole, mut lingered, mut given_up) = (0, 0, 0);
        for size in (0..100).map(|step| step * 4096) {
            let mut client = front.connect().await;
            let request = format!("GET /{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            match seconds(front.over.recv()).await.0 {
                0 => whole += 1,
                1 | 2 => lingered += 1,
                30..=32 => given_up += 1,
                other => panic!("{other} s for {size} bytes"),
            }
        }
        assert!(whole > 0 && lingered > 0 && given_up > 0, "{whole}, {lingered}, {given_up}");
    });
}

/// What TLS took and the socket did not is a part of the answer: a client that is slow to read it
/// gets all of it, and the next answer, which may be the last one.
#[test]
fn the_end_of_an_answer_waits_in_tls_for_a_slow_client() {
    run(async |house| {
        let front = Front::new(&house);
        // More than the socket takes, less than it and TLS together.
        let size = 260_000;
        for turns in [&["close"][..], &["keep-alive", "close"]] {
            let mut client = front.connect().await;
            for connection in turns {
                let request =
                    format!("GET /{size} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
                let mut all = Vec::new();
                let reading = async {
                    while !all.windows(4).any(|end| end == b"\r\n\r\n") || all.len() < size {
                        assert!(client.read_buf(&mut all).await.unwrap() > 0, "it ended");
                    }
                };
                let (after, ()) = seconds(reading).await;
                assert_eq!(after, 0);
                // The rest of the content, as long as the head.
                let head = all.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                let mut rest = vec![0; head + size - all.len()];
                client.read_exact(&mut rest).await.unwrap();
            }
        }
    });
}
