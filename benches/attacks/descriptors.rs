//! R16: more clients than descriptors.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::healthy::Healthy;
use crate::proxy::{Proxy, Wish};
use crate::report::Report;
use crate::{Options, quantile, sleep, until};

/// The most descriptors that the proxy may have.
const DESCRIPTORS: u32 = 512;
/// Clients, twice as many.
const CLIENTS: usize = 1_024;
/// How often the admin address is asked.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(node: SocketAddr, options: &Options, report: &mut Report) {
    let wish = Wish { descriptors: Some(DESCRIPTORS), ..Wish::default() };
    let mut proxy = Proxy::start(node, &wish);
    let to = proxy.plain;
    let crowd: Vec<TcpStream> = (0..CLIENTS).filter_map(|_| crowd(to)).collect();
    let used = until(Duration::from_secs(5), || proxy.descriptors() + 80 > DESCRIPTORS as usize);
    let row = ("R16", "no descriptors");
    let told = format!("{} of {DESCRIPTORS}", proxy.descriptors());
    report.tell(row, "descriptors used", "nearly all", told, used.is_some());
    let (began, cpu) = (Instant::now(), proxy.cpu());
    let mut answers = Vec::new();
    while began.elapsed() < options.length {
        answers.push(proxy.ask_admin("/readyz").map(|(_, took)| took));
        sleep(EVERY);
    }
    let share = proxy.cpu().saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let answered: Vec<Duration> = answers.iter().flatten().copied().collect();
    let told = format!("{} of {}", answered.len(), answers.len());
    report.tell(row, "admin answers", "all", told, answered.len() == answers.len());
    let p99 = quantile(answered, 0.99);
    let told = format!("p99 {:.1} ms", p99.as_secs_f64() * 1e3);
    report.tell(row, "admin answers", "≤ 1 s", told, p99 <= Duration::from_secs(1));
    report.tell(row, "CPU", "≤ 10 %", format!("{:.1} %", share * 100.0), share <= 0.1);
    drop(crowd);
    let recovered = until(Duration::from_secs(10), || is_served(to));
    let told =
        recovered.map_or_else(|| "never".into(), |took| format!("{:.2} s", took.as_secs_f64()));
    let is_met = recovered.is_some_and(|took| took <= Duration::from_secs(1));
    report.tell(row, "recovered", "≤ 1 s", told, is_met);
    let healthy = Healthy::start(to);
    let after = Instant::now();
    sleep(Duration::from_secs(2));
    let window = healthy.finish().window(after, Duration::from_secs(2));
    let told = format!("{} of {}", window.requests - window.failed, window.requests);
    report.tell(row, "healthy afterwards", "100 %", told, window.failed == 0 && proxy.is_alive());
}

/// A client with a request under way, whose answer it does not read.
fn crowd(to: SocketAddr) -> Option<TcpStream> {
    use std::io::Write as _;
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).ok()?;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n").ok()?;
    Some(stream)
}

fn is_served(to: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        (&answer == b"HTTP/1.1 200").then_some(())
    };
    ask().is_some()
}
