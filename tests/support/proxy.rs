//! The built binary as a process.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use super::eventually;
use super::tools::{Finished, Heard, run, start, tool, wait};

/// A running gwproxy: a proxy, a gateway or an echo server. Ended when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    stdout: Arc<Heard>,
    stderr: Arc<Heard>,
    /// In order of the announcements: the listeners as in the plan, then the admin address.
    listening: Vec<Listening>,
    /// Its data directory, and the file it runs.
    home: Arc<TempDir>,
    ended: Option<ExitStatus>,
}

#[derive(Debug, Clone)]
struct Listening {
    /// As announced, for example `http`, `forward proxy`, `admin`.
    kind: String,
    /// None for a Unix domain socket.
    addr: Option<SocketAddr>,
}

impl Proxy {
    /// `gwproxy ARGUMENTS`, once it has announced its listener and, with `--admin`, its admin
    /// address. Listen on `127.0.0.1:0`.
    #[track_caller]
    pub(crate) fn start<S: AsRef<str>>(arguments: &[S]) -> Self {
        let has_admin = arguments.iter().any(|each| each.as_ref() == "--admin");
        let home = home();
        let mut command = binary(&home);
        command.args(arguments.iter().map(AsRef::as_ref));
        Self::launch(&mut command, home, 1 + usize::from(has_admin))
    }

    /// `gwproxy http --listen 127.0.0.1:0 --to TO ARGUMENTS`.
    #[track_caller]
    pub(crate) fn http<S: AsRef<str>>(to: &str, arguments: &[S]) -> Self {
        let mut all = vec!["http", "--listen", "127.0.0.1:0", "--to", to];
        all.extend(arguments.iter().map(AsRef::as_ref));
        Self::start(&all)
    }

    /// `gwproxy run FILE` with this content, once each `bind:` in it is announced, and the short
    /// form of `admin:` if there is one.
    #[track_caller]
    pub(crate) fn run_file(yaml: &str) -> Self {
        let home = home();
        let file = home.path().join("gateway.yaml");
        std::fs::write(&file, yaml).expect("a file can be written");
        let is_short = |line: &str| line.starts_with("admin: ") && !line.contains("bind:");
        let admin = usize::from(yaml.lines().any(is_short));
        let mut command = binary(&home);
        command.arg("run").arg(file);
        Self::launch(&mut command, home, yaml.matches("bind:").count() + admin)
    }

    /// Starts `command`, in which `gwproxy` may be wrapped into something else, and waits for
    /// `count` announcements.
    #[track_caller]
    pub(crate) fn launch(command: &mut Command, home: Arc<TempDir>, count: usize) -> Self {
        let (child, stdout, stderr) = start(command);
        let mut proxy = Self { child, stdout, stderr, listening: Vec::new(), home, ended: None };
        proxy.listening = eventually("the listeners are announced", || {
            let said = proxy.stderr.text();
            let listening = announced(&said);
            if listening.len() >= count {
                return Some(listening);
            }
            if let Some(status) = proxy.child.try_wait().expect("a child can be waited for") {
                panic!("{command:?} ended at once, {status}: {said}");
            }
            None
        });
        proxy
    }

    /// Where the listener with this number listens.
    #[track_caller]
    pub(crate) fn addr(&self, number: usize) -> SocketAddr {
        let listener = self.listening.get(number).expect("there is such a listener");
        listener.addr.expect("it listens on TCP")
    }

    /// Where the admin address listens.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        let admin = self.listening.iter().find(|each| each.kind == "admin");
        admin.and_then(|admin| admin.addr).expect("it has an admin address")
    }

    /// `SCHEME://ADDR/PATH` on the first listener.
    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.addr(0))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory, where the development certificate lies.
    pub(crate) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    /// Standard output until now: the access log, unless it goes elsewhere.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error until now: announcements and the program's own log.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until `needle` stands in standard error.
    #[track_caller]
    pub(crate) fn wait_stderr(&self, needle: &str) {
        eventually(&format!("the log says {needle:?}"), || {
            self.stderr().contains(needle).then_some(())
        });
    }

    /// Waits until the access log on standard output has `count` lines, and gives them.
    #[track_caller]
    pub(crate) fn wait_lines(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines in the access log"), || {
            let text = self.stdout();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let lines: Vec<String> = whole.lines().map(String::from).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a process id"), signal).expect("it can be signalled");
    }

    /// [`Self::signal`] to a process that may have ended; it has not been waited for, so its number
    /// is still its own.
    pub(crate) fn try_signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended; gives its exit code, `None` after a signal.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let stderr = Arc::clone(&self.stderr);
        let status = wait(&mut self.child, || stderr.text());
        self.ended = Some(status);
        // What it said last may still be in the pipes.
        self.stdout.all();
        self.stderr.all();
        status.code()
    }

    /// A value in kB of `/proc/PID/status`, for example `VmHWM`.
    #[track_caller]
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {key} in {status}"))
    }

    /// File descriptors it has open.
    #[track_caller]
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).expect("it runs").count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            // What it said is the first thing to look at.
            let name = self.listening.first().map_or("gwproxy", |first| &first.kind);
            eprintln!("--- {name} said:\n{}{}", self.stderr(), self.stdout());
        }
    }
}

/// `gwproxy echo KIND` on a free port.
#[track_caller]
pub(crate) fn echo(kind: &str, arguments: &[&str]) -> Proxy {
    let mut all = vec!["echo", kind, "--listen", "127.0.0.1:0"];
    all.extend(arguments);
    Proxy::start(&all)
}

/// Runs `gwproxy ARGUMENTS` to its end.
#[track_caller]
pub(crate) fn gwproxy<S: AsRef<str>>(arguments: &[S]) -> Finished {
    gwproxy_with(arguments, &[])
}

/// Runs `gwproxy ARGUMENTS` with these environment variables to its end.
#[track_caller]
pub(crate) fn gwproxy_with<S: AsRef<str>>(
    arguments: &[S],
    environment: &[(&str, &str)],
) -> Finished {
    let mut command = binary(&home());
    command.args(arguments.iter().map(AsRef::as_ref)).envs(environment.iter().copied());
    run(&mut command, b"")
}

/// The binary, with a data directory of its own.
fn binary(home: &TempDir) -> Command {
    wrapped(&[], home)
}

/// The binary behind a command that runs another, as `setpriv`.
pub(crate) fn wrapped(before: &[&str], home: &TempDir) -> Command {
    let mut line = before.to_vec();
    line.push(env!("CARGO_BIN_EXE_gwproxy"));
    let mut command = tool(line[0]);
    command.args(&line[1..]).env("GWPROXY_DATA_DIR", home.path());
    command
}

/// A fresh data directory.
pub(crate) fn home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a directory can be made"))
}

/// `KIND on SCHEME://HOST:PORT   try: …`, for each listener; only whole lines count.
fn announced(stderr: &str) -> Vec<Listening> {
    let whole = stderr.rfind('\n').map_or("", |end| &stderr[..end]);
    whole.lines().filter_map(announcement).collect()
}

fn announcement(line: &str) -> Option<Listening> {
    let (kind, rest) = line.split_once(" on ")?;
    let known = ["http", "ws", "tcp", "grpc", "forward proxy", "admin"].contains(&kind);
    if !known && !kind.starts_with("echo ") {
        return None;
    }
    let at = rest.split_whitespace().next()?;
    let at = at.split_once("://").map_or(at, |(_, at)| at);
    // `localhost:PORT` stands for every address of the machine.
    let addr = if at.starts_with("unix:") {
        None
    } else {
        Some(at.replace("localhost:", "127.0.0.1:").parse().ok()?)
    };
    Some(Listening { kind: kind.to_owned(), addr })
}
