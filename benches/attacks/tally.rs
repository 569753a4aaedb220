//! What attackers did, counted by themselves.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

/// Shared by all attackers of a case.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bytes they sent.
    pub(crate) sent: AtomicU64,
    /// Connections they made.
    pub(crate) connections: AtomicUsize,
    /// Connections that are open.
    open: AtomicUsize,
    /// The most that were open together.
    most: AtomicUsize,
    stop: AtomicBool,
}

/// A thread of attackers.
pub(crate) struct Attackers {
    pub(crate) tally: Arc<Tally>,
    thread: JoinHandle<Duration>,
}

/// An attacker's connection.
pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
    tally: Arc<Tally>,
}

impl Tally {
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn most_open(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Attackers {
    /// Runs the attack that `make` gives on a thread of its own.
    pub(crate) fn start<F: Future<Output = ()>>(
        make: impl FnOnce(Arc<Tally>) -> F + Send + 'static,
    ) -> Self {
        let tally = Arc::<Tally>::default();
        let theirs = Arc::clone(&tally);
        let thread = std::thread::spawn(move || {
            crate::runtime().block_on(make(theirs));
            cpu_of_thread()
        });
        Self { tally, thread }
    }

    /// Ends them; the CPU time they took.
    pub(crate) fn finish(self) -> Duration {
        self.tally.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("attackers do not panic")
    }
}

impl Conn {
    /// A connection, from one of many addresses of this machine.
    pub(crate) async fn open(to: SocketAddr, number: usize, tally: &Arc<Tally>) -> Option<Self> {
        let socket = TcpSocket::new_v4().ok()?;
        let [_, high, low] = [number >> 16, number / 250, number % 250 + 1].map(|n| n as u8);
        socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into()).ok()?;
        // An unread answer should be the proxy's problem and not this side's kernel's.
        socket.set_recv_buffer_size(4096).ok()?;
        let stream = socket.connect(to).await.ok()?;
        stream.set_nodelay(true).ok()?;
        tally.connections.fetch_add(1, Ordering::Relaxed);
        let open = tally.open.fetch_add(1, Ordering::Relaxed) + 1;
        tally.most.fetch_max(open, Ordering::Relaxed);
        Some(Self { stream, tally: Arc::clone(tally) })
    }

    /// Sends what the socket takes at once or within a second; false: the proxy has closed it, or
    /// does not read.
    pub(crate) async fn send(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let writable = tokio::time::timeout(Duration::from_secs(1), self.stream.writable());
            if !matches!(writable.await, Ok(Ok(()))) {
                return false;
            }
            match self.stream.try_write(bytes) {
                Ok(count) => {
                    self.tally.sent.fetch_add(count as u64, Ordering::Relaxed);
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Sends what the socket takes at once, or first within a second; how many bytes.
    pub(crate) async fn send_some(&self, bytes: &[u8]) -> usize {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.writable()).await;
        let sent = self.stream.try_write(bytes).unwrap_or(0);
        self.tally.sent.fetch_add(sent as u64, Ordering::Relaxed);
        sent
    }

    /// Takes what has come, without waiting; false: the proxy has closed the connection.
    pub(crate) fn take(&self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.tally.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// CPU time of the calling thread.
fn cpu_of_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}
