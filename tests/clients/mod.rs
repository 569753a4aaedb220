//! Real clients, driven by the suites: Python's `websockets` and `grpcio`, Chromium.
//!
//! The Python scripts beside this file play steps and tell what happened, as JSON; what is right
//! is decided by the tests.

pub(crate) mod site;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::support::{Finished, Heard, Pair, eventually, run, start, text, tool, wait};

/// A script of this directory, ready to run.
fn python(script: &str) -> Command {
    let path = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    // Debian's packages are for Debian's interpreter, whatever else comes first in PATH.
    let mut command = tool("/usr/bin/python3");
    // No `__pycache__` in the source tree.
    command.args(["-B", &path]);
    command
}

/// Plays a script. Panics, with what it said, when it did not get to its end.
#[track_caller]
fn play(script: &str, ask: &Value) -> Value {
    Playing::start(script, ask).finish()
}

/// A script that plays its steps while the test goes on.
#[derive(Debug)]
pub(crate) struct Playing {
    child: Child,
    stdin: ChildStdin,
    out: Arc<Heard>,
    err: Arc<Heard>,
}

impl Playing {
    #[track_caller]
    fn start(script: &str, ask: &Value) -> Self {
        let (mut child, out, err) = start(python(script).stdin(Stdio::piped()));
        let stdin = child.stdin.take().expect("piped");
        let mut playing = Self { child, stdin, out, err };
        playing.tell(&ask.to_string());
        playing
    }

    /// Waits until a step `say` says this.
    #[track_caller]
    pub(crate) fn wait_said(&mut self, what: &str) {
        eventually(&format!("the client says {what:?}"), || {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("it ended, {status}: {}{}", self.err.text(), self.out.text());
            }
            self.err.text().lines().any(|line| line == what).then_some(())
        });
    }

    /// Gives it a line, on which a step `wait` goes on.
    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap_or_else(|e| panic!("{e}: {}", self.err.text()));
    }

    /// Plays to the end; gives what happened.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Value {
        let status = wait(&mut self.child, || self.err.text());
        let (out, err) = (self.out.all(), text(&self.err.all()));
        Finished { code: status.code(), stdout: out, stderr: err }.json()
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A WebSocket connection by Python's `websockets`; see `ws_client.py`.
#[track_caller]
pub(crate) fn websocket(ask: &Value) -> Value {
    play("ws_client.py", ask)
}

/// The same, while the test goes on.
#[track_caller]
pub(crate) fn websocket_playing(ask: &Value) -> Playing {
    Playing::start("ws_client.py", ask)
}

/// Calls by Python's `grpcio`; see `grpc_client.py`.
#[track_caller]
pub(crate) fn grpc(ask: &Value) -> Value {
    play("grpc_client.py", ask)
}

/// The same, while the test goes on.
#[track_caller]
pub(crate) fn grpc_playing(ask: &Value) -> Playing {
    Playing::start("grpc_client.py", ask)
}

/// Loads a page in Chromium, headless, and gives the document as it is once everything in it has
/// loaded.
#[track_caller]
pub(crate) fn chromium(url: &str, options: &[&str]) -> String {
    let profile = tempfile::tempdir().expect("a directory can be made");
    let mut command = tool(chromium_name());
    command
        // The root of a container has no other sandbox.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        // Nothing but what the page asks for.
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--disable-default-apps", "--disable-extensions"])
        .args(["--disable-quic", "--disable-features=OptimizationHints,MediaRouter"])
        // It asks for its maker's hosts all the same; none is found.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(options)
        .args(["--dump-dom", url])
        .env("HOME", profile.path());
    run(&mut command, b"").ok().text()
}

fn chromium_name() -> &'static str {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let there = |name: &&&str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(name).exists())
    };
    names.iter().find(there).copied().unwrap_or("chromium")
}

/// A server in Python: `ws_server.py`, which agrees on permessage-deflate, or `grpc_server.py`,
/// whose calls last. Ended when it goes out of scope.
#[derive(Debug)]
pub(crate) struct PythonServer {
    child: Child,
    out: Arc<Heard>,
    pub(crate) addr: SocketAddr,
}

impl PythonServer {
    /// With TLS if there is a certificate for it.
    #[track_caller]
    pub(crate) fn websocket(pair: Option<&Pair>) -> Self {
        let mut command = python("ws_server.py");
        if let Some(pair) = pair {
            command.args([&pair.cert, &pair.key]);
        }
        Self::start(&mut command)
    }

    #[track_caller]
    pub(crate) fn grpc() -> Self {
        Self::start(&mut python("grpc_server.py"))
    }

    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let (child, out, err) = start(command.stdin(Stdio::piped()));
        let port = eventually("the server says its port", || {
            let said = out.text();
            assert!(err.text().is_empty(), "{}", err.text());
            said.strip_suffix('\n').map(|port| port.parse().expect("a port"))
        });
        Self { child, out, addr: (Ipv4Addr::LOCALHOST, port).into() }
    }

    /// Waits until it has said this line so many times.
    #[track_caller]
    pub(crate) fn wait_said(&self, what: &str, count: usize) {
        eventually(&format!("the server says {what:?} {count} times"), || {
            let said = self.out.text();
            (said.lines().filter(|line| *line == what).count() >= count).then_some(())
        });
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that refuses connections for as long as this value lives: bound, so that nobody
/// else gets it, and not listening.
#[derive(Debug)]
pub(crate) struct Refusing(socket2::Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
        Self(socket)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        let addr = self.0.local_addr().expect("a bound socket has an address");
        addr.as_socket().expect("it is an IP address")
    }
}
