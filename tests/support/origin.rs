//! A scripted upstream on a raw socket: it records what it receives and says what it is told.

use std::any::Any;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Message, PATIENCE, eventually, text};

/// Bytes recorded of one connection; tests of large bodies count instead.
const RECORDED_MAX: usize = 4 * 1024 * 1024;

/// An upstream. Every connection plays the same script on a thread of its own.
#[derive(Debug)]
pub(crate) struct Origin {
    addr: SocketAddr,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// What came on each connection, in order of acceptance.
    received: Vec<Vec<u8>>,
    /// Connections whose script is over.
    ended: usize,
    /// Why scripts failed.
    failures: Vec<String>,
    /// No more connections are served.
    closed: bool,
}

/// The script's side of a connection. It is closed when the script returns.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Which connection this is, from 0.
    pub(crate) number: usize,
    pub(crate) stream: TcpStream,
    log: Arc<Mutex<Log>>,
}

impl Origin {
    /// Every connection plays `script`.
    pub(crate) fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"), script)
    }

    /// The same on a listener of the caller's choice.
    pub(crate) fn on(
        listener: TcpListener,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().expect("a bound socket has an address");
        let log = Arc::new(Mutex::new(Log::default()));
        let (shared, script) = (Arc::clone(&log), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accept");
                let number = {
                    let mut log = locked(&shared);
                    if log.closed {
                        return;
                    }
                    log.received.push(Vec::new());
                    log.received.len() - 1
                };
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
                stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
                stream.set_nodelay(true).expect("no delay can be set");
                let mut peer = Peer { number, stream, log: Arc::clone(&shared) };
                let (shared, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || {
                    let played = catch_unwind(AssertUnwindSafe(|| script(&mut peer)));
                    drop(peer);
                    let mut log = locked(&shared);
                    log.ended += 1;
                    if let Err(panic) = played {
                        log.failures.push(said(&*panic));
                    }
                });
            }
        });
        Self { addr, log }
    }

    /// Answers every request, bodies read, with these bytes, for as long as the connection lasts.
    pub(crate) fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |peer| {
            while peer.request().is_some() {
                peer.send(&response);
            }
        })
    }

    /// Reads one request, says these bytes, and closes.
    pub(crate) fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |peer| {
            if peer.request().is_some() {
                peer.send(&bytes);
            }
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// As a value for `--to`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Connections accepted until now.
    pub(crate) fn connections(&self) -> usize {
        locked(&self.log).received.len()
    }

    /// What came until now, on each connection.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        locked(&self.log).received.clone()
    }

    /// All that came until now, as text.
    pub(crate) fn seen(&self) -> String {
        text(&locked(&self.log).received.concat())
    }

    /// Waits until `needle` has come.
    #[track_caller]
    pub(crate) fn wait_for(&self, needle: &str) {
        eventually(&format!("the upstream receives {needle:?}"), || {
            self.seen().contains(needle).then_some(())
        });
    }

    /// Whether the scripts of `count` connections are over.
    pub(crate) fn has_ended(&self, count: usize) -> bool {
        locked(&self.log).ended >= count
    }

    /// Waits until the scripts of `count` connections are over.
    #[track_caller]
    pub(crate) fn wait_ended(&self, count: usize) {
        eventually(&format!("{count} connections of the upstream end"), || {
            self.has_ended(count).then_some(())
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let failures = {
            let mut log = locked(&self.log);
            log.closed = true;
            std::mem::take(&mut log.failures)
        };
        // Wakes the thread that accepts, which then sees that it is over.
        let _ = TcpStream::connect(self.addr);
        if !std::thread::panicking() {
            assert!(failures.is_empty(), "the upstream's script failed: {failures:?}");
        }
    }
}

impl Peer {
    /// The next head. `None`: the connection ended instead.
    pub(crate) fn head(&mut self) -> Option<Message> {
        Message::head(self)
    }

    /// The next request with its body. `None`: the connection ended first.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        request.read_body(self, false)?;
        Some(request)
    }

    /// Sends; a peer that is gone is no error.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("send: {error}"),
        }
    }

    /// Reads until the other side ends the connection; says how many bytes came.
    pub(crate) fn wait_end(&mut self) -> u64 {
        let mut count = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return count,
                Ok(read) => count += read as u64,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return count,
                Err(error) => panic!("waiting for the end: {error}"),
            }
        }
    }

    /// Ends the connection with a reset when the script returns.
    pub(crate) fn reset(&mut self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("linger can be set");
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer)?;
        if let Some(received) = locked(&self.log).received.get_mut(self.number) {
            let room = RECORDED_MAX - received.len();
            received.extend_from_slice(&buffer[..read.min(room)]);
        }
        Ok(read)
    }
}

fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    // A script that panicked holding it left it whole: every change is one statement.
    log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}
