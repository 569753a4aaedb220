//! A client that sends exactly the bytes it is given.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Message, PATIENCE};

/// A write that makes no progress for so long is held up.
const STALL: Duration = Duration::from_secs(1);

/// A connection to the proxy.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
}

impl Conn {
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).unwrap_or_else(|e| panic!("connect {addr}: {e}")))
    }

    /// A connection from this address of the machine.
    #[track_caller]
    pub(crate) fn open_from(from: &str, to: SocketAddr) -> Self {
        let from: std::net::IpAddr = from.parse().expect("an address");
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this machine");
        socket.connect(&to.into()).unwrap_or_else(|e| panic!("connect {to} from {from}: {e}"));
        Self::of(socket.into())
    }

    /// A connection that is open already.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("no delay can be set");
        Self { stream }
    }

    /// Sends all of it. A peer that has closed meanwhile is no error: what it answered shows.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("send: {error}"),
        }
        self
    }

    /// No more from us; the other direction stays open.
    pub(crate) fn finish(&mut self) -> &mut Self {
        // The peer may have closed already.
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// The next head alone; interim responses are heads as well.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Message {
        Message::head(&mut self.stream).expect("a response, not the end of the connection")
    }

    /// The next final response to a request other than HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        let mut response = self.head();
        while (100..200).contains(&response.status()) && response.status() != 101 {
            response = self.head();
        }
        if !matches!(response.status(), 101 | 204 | 304) {
            response.read_body(&mut self.stream, true).expect("a whole body");
        }
        response
    }

    /// Sends a request and takes its response.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).response()
    }

    /// Everything until the peer ends the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}, after {:?}", super::text(&rest)),
        }
        rest
    }

    /// Waits until the peer ends the connection; it must not say anything more.
    #[track_caller]
    pub(crate) fn assert_ends(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more came: {:?}", super::text(&rest));
    }

    /// Whether there is something to read, or the end.
    pub(crate) fn is_ready(&self) -> bool {
        self.stream.set_nonblocking(true).expect("it can be set");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("it can be set");
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("linger can be set");
    }
}

/// Sends `bytes`, then reads until the proxy closes the connection.
#[track_caller]
pub(crate) fn raw(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    Conn::open(addr).send(bytes).rest()
}

/// Writes `block` again and again, up to `count` bytes, until the other side takes no more; how many
/// were taken.
pub(crate) fn write_until_stall(stream: &mut TcpStream, block: &[u8], count: u64) -> u64 {
    stream.set_write_timeout(Some(STALL)).expect("a timeout can be set");
    let mut written = 0;
    while written < count {
        let rest = &block[(written % block.len() as u64) as usize..];
        let part = rest.len().min((count - written) as usize);
        match stream.write(&rest[..part]) {
            Ok(n) => written += n as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    written
}
