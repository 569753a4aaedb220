//! R17: uploads to a node that reads slowly, under a cap of memory.
//!
//! The cap is the proxy's own setting (`limits: memory`), so that this runs where nobody may make a
//! cgroup. What a kernel would end the process for is measured instead: its resident memory must
//! stay below the cap, always.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Options;
use crate::frames::{DATA, END_HEADERS, HEADERS, POST_SLOW, frame, opening};
use crate::proxy::{Proxy, Wish};
use crate::report::{MIB, Report};
use crate::tally::{Attackers, Conn, Tally};
use crate::{sleep, until};

/// What the proxy may take.
const CAP_BYTES: f64 = 256.0 * MIB;
const LIMITS: &str = "limits: {memory: 256MiB}\n";

/// Uploads over HTTP/1, each on a connection of its own.
const UPLOADS_1: usize = 2_500;
/// Connections with uploads over HTTP/2, and how many each has: in all as many.
const CONNECTIONS_2: usize = 625;
const UPLOADS_2: u32 = 4;
/// Bytes of an upload.
const UPLOAD_BYTES: usize = 1024 * 1024;
/// Connections that are made together, and the pause before the next.
const TOGETHER: usize = 10;
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn run(node: SocketAddr, options: &Options, report: &mut Report) {
    let mut proxy = Proxy::start(node, &Wish { top: LIMITS, ..Wish::default() });
    let to = proxy.plain;
    let row = ("R17", "uploads");
    let watch = proxy.watch();
    let attackers = Attackers::start(move |tally| uploads(to, tally));
    let began = Instant::now();
    let (mut asked, mut answered, mut shed) = (0, 0, 0);
    while began.elapsed() < options.length.max(Duration::from_secs(15)) {
        asked += 1;
        answered += usize::from(proxy.ask_admin("/readyz").is_some());
        shed += usize::from(status_of(to).is_some_and(|(status, _)| status == 503));
        sleep(Duration::from_millis(100));
    }
    let refused = proxy.metric("gwproxy_memory_refused_total").unwrap_or_default();
    let tally = Arc::clone(&attackers.tally);
    attackers.finish();
    let peak = watch.finish() as f64;
    let told = format!("{:.0} MiB", peak / MIB);
    let is_met = proxy.is_alive() && peak < CAP_BYTES;
    report.tell(row, "resident, at most", "< 256 MiB, alive", told, is_met);
    let made = tally.connections.load(Ordering::Relaxed);
    let told = format!("{made} connections, {:.0} MiB sent", tally.sent() as f64 / MIB);
    report.tell(row, "clients", "(told)", told, true);
    let told = format!("{refused} refused, of {asked} probes {shed} by 503");
    report.tell(row, "shed", "at 90 %", told, refused > 0.0 && shed > 0);
    let told = format!("{answered} of {asked}");
    report.tell(row, "admin answers", "all", told, answered == asked);
    let recovered =
        until(Duration::from_mins(1), || status_of(to).is_some_and(|(status, _)| status == 200));
    let told =
        recovered.map_or_else(|| "never".into(), |took| format!("{:.1} s", took.as_secs_f64()));
    report.tell(row, "served again", "≤ 60 s", told, recovered.is_some());
}

/// Both kinds, until the tally is over.
async fn uploads(to: SocketAddr, tally: Arc<Tally>) {
    let mut clients = Vec::new();
    for number in 0..UPLOADS_1 + CONNECTIONS_2 {
        if number % TOGETHER == 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let tally = Arc::clone(&tally);
        clients.push(tokio::spawn(async move {
            let Some(conn) = Conn::open(to, number, &tally).await else { return };
            let is_two = number % (UPLOADS_1 / CONNECTIONS_2 + 1) == 0;
            let bytes = if is_two { over_http2() } else { over_http1() };
            let mut sent = 0;
            while !tally.is_over() && sent < bytes.len() {
                // A socket that takes no more for a second is asked again.
                sent += conn.send_some(&bytes[sent..]).await;
                if !conn.take() {
                    return;
                }
            }
            while !tally.is_over() && conn.take() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }));
    }
    for client in clients {
        client.await.expect("a client does not panic");
    }
}

fn over_http1() -> Vec<u8> {
    let head = format!("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n");
    [head.as_bytes(), &vec![b'u'; UPLOAD_BYTES]].concat()
}

/// As far as the windows go: 256 KiB each, and 1 MiB for all of a connection.
fn over_http2() -> Vec<u8> {
    let mut bytes = opening(&[]);
    let ids = || (0..UPLOADS_2).map(|number| 2 * number + 1);
    bytes.extend(ids().flat_map(|id| frame(HEADERS, END_HEADERS, id, POST_SLOW)));
    for _ in 0..16 {
        bytes.extend(ids().flat_map(|id| frame(DATA, 0, id, &[b'u'; 16 * 1024 - 64])));
    }
    bytes
}

/// The status of a request now, and how long it took.
fn status_of(to: SocketAddr) -> Option<(u16, Duration)> {
    use std::io::{Read as _, Write as _};
    let began = Instant::now();
    let mut stream = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    let status = std::str::from_utf8(&answer[9..]).ok()?.parse().ok()?;
    Some((status, began.elapsed()))
}
