//! The proxy under test: a process of its own with one worker, seen from `/proc`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// It has started, or answered at its admin address, by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tick of `/proc/PID/stat` (`USER_HZ` is 100 everywhere).
const TICK: Duration = Duration::from_millis(10);

/// What a case wants to be otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Of the listeners, as in the file.
    pub(crate) timeouts: &'static str,
    /// Lines of the file at its top.
    pub(crate) top: &'static str,
    /// The most descriptors it may have.
    pub(crate) descriptors: Option<u32>,
}

/// A running proxy; ended when it goes out of scope.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) proxied: SocketAddr,
    pub(crate) admin: SocketAddr,
    _home: tempfile::TempDir,
}

/// The largest resident memory since it began to look.
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(node: SocketAddr, wish: &Wish) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        let Wish { timeouts, top, descriptors } = wish;
        let listener = |name: &str, more: &str| {
            format!("  - {{name: {name}, bind: '127.0.0.1:0', service: node, {timeouts} {more}}}\n")
        };
        let file = format!(
            "workers: 1\nlog: error\naccess_log: 'off'\nadmin: 127.0.0.1:0\n{top}listeners:\n{}{}{}\
             services:\n  - {{id: node, nodes: ['http://{node}']}}\n",
            listener("plain", ""),
            listener("tls", "tls: {dev: true}"),
            listener("proxied", "proxy_protocol: required"),
        );
        let path = home.path().join("gateway.yaml");
        std::fs::write(&path, file).expect("a file can be written");
        let mut command = match descriptors {
            Some(count) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={count}:{count}")).arg(BINARY);
                command
            }
            None => Command::new(BINARY),
        };
        command.arg("run").arg(path).env("GWPROXY_DATA_DIR", home.path());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the proxy starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut at = Vec::new();
        let mut line = String::new();
        while at.len() < 4 {
            line.clear();
            let count = said.read_line(&mut line).expect("it speaks UTF-8");
            assert!(count > 0, "the proxy ended before it listened");
            let Some((_, rest)) = line.split_once(" on ") else { continue };
            let place = rest.split_whitespace().next().unwrap_or_default();
            let place = place.split_once("://").map_or(place, |(_, place)| place);
            at.extend(place.replace("localhost:", "127.0.0.1:").parse::<SocketAddr>().ok());
        }
        // What it says later is of interest to nobody, and must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let proxy =
            Self { child, plain: at[0], tls: at[1], proxied: at[2], admin: at[3], _home: home };
        let began = Instant::now();
        while proxy.ask_admin("/readyz").is_none() {
            assert!(began.elapsed() < PATIENCE, "the proxy is not ready");
            crate::sleep(LOOK);
        }
        proxy
    }

    /// Whether it runs still.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time of the process until now.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.read("stat");
        // The name in parentheses may hold anything; `utime` and `stime` are 14 and 15.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2);
        TICK * ticks.filter_map(|ticks| ticks.parse::<u32>().ok()).sum()
    }

    /// Bytes resident now.
    pub(crate) fn resident(&self) -> u64 {
        resident(self.child.id()).unwrap_or_default()
    }

    /// Descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).map_or(0, Iterator::count)
    }

    pub(crate) fn watch(&self) -> Watch {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let pid = self.child.id();
        let (seen, ended) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(resident(pid).unwrap_or_default(), Ordering::Relaxed);
                crate::sleep(LOOK);
            }
        });
        Watch { peak, stop, thread: Some(thread) }
    }

    /// What the admin address answers, and after how long; none: it does not, or not with 200.
    pub(crate) fn ask_admin(&self, path: &str) -> Option<(String, Duration)> {
        let began = Instant::now();
        let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 ").then(|| (answer, began.elapsed()))
    }

    /// The value of this sample in `/metrics`.
    pub(crate) fn metric(&self, sample: &str) -> Option<f64> {
        let (answer, _) = self.ask_admin("/metrics")?;
        let of = |line: &str| line.strip_prefix(sample)?.trim().parse().ok();
        answer.lines().find_map(of)
    }

    fn read(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Watch {
    /// The peak in bytes.
    pub(crate) fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
        self.peak.load(Ordering::Relaxed)
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_gwproxy");

fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
