//! The healthy clients: requests at moments that are fixed beforehand, whatever the proxy does.
//!
//! A request's time runs from the moment it was due, not from when its client got round to sending
//! it, so that a stall is counted for every request that it put off (no coordinated omission).

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::node::CONTENT;

/// Clients; each has one request at a time.
const CLIENTS: u32 = 20;
/// Each client's time between two requests: 1,000 a second in all.
const EVERY: Duration = Duration::from_millis(20);
/// Requests on one connection; then comes a fresh one, as attacks meet accepting as well.
const REQUESTS_MAX: u32 = 16;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// The figures are medians over slices of this length, so that one disturbance from elsewhere does
/// not decide.
const SLICE: Duration = Duration::from_secs(1);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Healthy clients at work.
pub(crate) struct Healthy {
    clients: Vec<JoinHandle<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    began: Instant,
}

/// A request that was due, after so long since the beginning, and how long it took; none: it
/// failed.
#[derive(Debug, Clone, Copy)]
struct Asked {
    due: Duration,
    took: Option<Duration>,
}

/// All that was asked.
pub(crate) struct Asks {
    asked: Vec<Asked>,
    began: Instant,
}

/// What a time window saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    /// Median over slices.
    pub(crate) p99: Duration,
}

impl Healthy {
    pub(crate) fn start(addr: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let client = |number| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || client(addr, number, began, &stop))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { clients, stop, began }
    }

    pub(crate) fn finish(self) -> Asks {
        self.stop.store(true, Ordering::Relaxed);
        let join = |client: JoinHandle<Vec<Asked>>| client.join().expect("no client panics");
        Asks { asked: self.clients.into_iter().flat_map(join).collect(), began: self.began }
    }
}

fn client(addr: SocketAddr, number: u32, began: Instant, stop: &AtomicBool) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut conn: Option<(TcpStream, u32)> = None;
    for round in 0.. {
        let due = EVERY * round + EVERY * number / CLIENTS;
        crate::sleep((began + due).saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            // What was due and was not even asked, for all that went before, has failed.
            let now = began.elapsed();
            let missed = (round..).map(|round| EVERY * round + EVERY * number / CLIENTS);
            let missed = missed.take_while(|due| *due + EVERY < now);
            asked.extend(missed.map(|due| Asked { due, took: None }));
            break;
        }
        let took = match ask(addr, &mut conn) {
            Ok(()) => Some((began + due).elapsed()).filter(|took| *took < PATIENCE),
            Err(_) => None,
        };
        if took.is_none() {
            conn = None;
        }
        asked.push(Asked { due, took });
    }
    asked
}

fn ask(addr: SocketAddr, conn: &mut Option<(TcpStream, u32)>) -> io::Result<()> {
    let kept = conn.take().filter(|(_, asked)| *asked < REQUESTS_MAX);
    let (mut stream, asked) = if let Some(kept) = kept {
        kept
    } else {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        (stream, 0)
    };
    stream.write_all(REQUEST)?;
    let mut answer = Vec::with_capacity(1024);
    let end = loop {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..count]);
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        match head {
            Some(head) if answer.len() >= head + 4 + CONTENT.len() => break head + 4,
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    };
    if !answer.starts_with(b"HTTP/1.1 200 ") || &answer[end..] != CONTENT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    *conn = Some((stream, asked + 1));
    Ok(())
}

impl Asks {
    /// What was due from `from` on for so long.
    pub(crate) fn window(&self, from: Instant, length: Duration) -> Window {
        let from = from - self.began;
        let of = |from: Duration, to: Duration| {
            self.asked.iter().filter(move |asked| (from..to).contains(&asked.due))
        };
        let all = of(from, from + length);
        let slices = (0..length.as_secs() as u32).map(|slice| {
            let from = from + SLICE * slice;
            // One that failed took longer than any.
            let took = of(from, from + SLICE).map(|asked| asked.took.unwrap_or(PATIENCE));
            crate::quantile(took.collect(), 0.99)
        });
        Window {
            requests: all.clone().count(),
            failed: all.filter(|asked| asked.took.is_none()).count(),
            p99: crate::quantile(slices.collect(), 0.5),
        }
    }
}
