//! HTTP/2 clients: a proper one on the `h2` crate, and one that sends any frames it is given.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

use ::h2::client::SendRequest;
use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::PATIENCE;

/// How long the connection runs between looks at a condition.
const TURN: Duration = Duration::from_millis(5);

/// An HTTP/2 connection with prior knowledge (RFC 9113 §3.3), blocking. It reads and writes only
/// during the calls of its methods.
#[derive(Debug)]
pub(crate) struct H2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    /// Ends with the connection: cleanly, or with its error.
    connection: tokio::task::JoinHandle<Result<(), ::h2::Error>>,
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct H2Response {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

/// A request that was sent and not answered yet.
#[derive(Debug)]
pub(crate) struct Open {
    response: ::h2::client::ResponseFuture,
    /// For more of the request.
    pub(crate) upload: ::h2::SendStream<Bytes>,
}

impl H2 {
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (sender, connection) = runtime.block_on(async {
            let tcp = TcpStream::connect(addr).await.expect("connect");
            tcp.set_nodelay(true).expect("no delay can be set");
            let (sender, connection) = ::h2::client::handshake(tcp).await.expect("a handshake");
            (sender, tokio::spawn(connection))
        });
        Self { runtime, sender, connection }
    }

    /// Sends the head; with `end` the request is whole.
    #[track_caller]
    pub(crate) fn begin(&mut self, request: Request<()>, end: bool) -> Open {
        let sender = self.sender.clone();
        self.runtime.block_on(async {
            let mut sender =
                timeout(PATIENCE, sender.ready()).await.expect("in time").expect("ready");
            let (response, upload) = sender.send_request(request, end).expect("sent");
            Open { response, upload }
        })
    }

    /// The response, or why the stream ended without one.
    #[track_caller]
    pub(crate) fn finish(&self, open: Open) -> Result<H2Response, ::h2::Error> {
        self.runtime.block_on(async {
            timeout(PATIENCE, whole(open.response)).await.expect("a response in time")
        })
    }

    /// Sends a request with a body and takes the response.
    #[track_caller]
    pub(crate) fn ask(
        &mut self,
        request: Request<()>,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> H2Response {
        let mut open = self.begin(request, body.is_empty() && trailers.is_none());
        if !body.is_empty() {
            let body = Bytes::copy_from_slice(body);
            open.upload.send_data(body, trailers.is_none()).expect("sent");
        }
        if let Some(trailers) = trailers {
            open.upload.send_trailers(trailers).expect("sent");
        }
        self.finish(open).expect("a response")
    }

    /// Lets the connection read and write until there is an answer.
    #[track_caller]
    pub(crate) fn run_until<T>(&self, mut ask: impl FnMut() -> Option<T>) -> T {
        super::eventually("the condition of an HTTP/2 connection", || {
            self.runtime.block_on(async { tokio::time::sleep(TURN).await });
            ask()
        })
    }

    /// Waits until the proxy has ended the connection.
    #[track_caller]
    pub(crate) fn wait_end(self) -> Result<(), ::h2::Error> {
        let Self { runtime, sender, connection } = self;
        drop(sender);
        runtime
            .block_on(async { timeout(PATIENCE, connection).await })
            .expect("the connection ends in time")
            .expect("its task does not panic")
    }
}

async fn whole(response: ::h2::client::ResponseFuture) -> Result<H2Response, ::h2::Error> {
    let (parts, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(H2Response { status: parts.status.as_u16(), fields: parts.headers, body, trailers })
}

impl H2Response {
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {}", super::text(&self.body)))
    }
}

/// A request head on its way to `http://a/…`.
#[track_caller]
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(format!("http://a.test{path}"));
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.version(http::Version::HTTP_2).body(()).expect("a request")
}

/// What begins every connection: the preface and empty SETTINGS (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Types of frames (RFC 9113 §6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    /// Of SETTINGS and PING.
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    /// Of HEADERS.
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// Fields as they are given, each a literal without indexing (RFC 7541 §6.2.2).
    pub(crate) fn headers(stream: u32, flags: u8, fields: &[(&[u8], &[u8])]) -> Self {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                let length = u8::try_from(text.len()).expect("short enough");
                assert!(length < 127, "one byte of length is enough for tests");
                block.push(length);
                block.extend_from_slice(text);
            }
        }
        Self::new(kind::HEADERS, flags, stream, block)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short enough").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn read(stream: &mut impl Read) -> Option<Self> {
        let mut head = [0; 9];
        let gone = |kind| matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if gone(error.kind()) => return None,
            Err(error) => panic!("reading a frame: {error}"),
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        match stream.read_exact(&mut payload) {
            Ok(()) => {}
            Err(error) if gone(error.kind()) => return None,
            Err(error) => panic!("reading a frame: {error}"),
        }
        Some(Self { kind, flags, stream: u32::from_be_bytes(id), payload })
    }

    /// The error code of `RST_STREAM` or GOAWAY.
    #[track_caller]
    pub(crate) fn error(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4).and_then(|code| code.try_into().ok());
        u32::from_be_bytes(code.unwrap_or_else(|| panic!("{self:?} has no error code")))
    }
}
