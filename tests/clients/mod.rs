//! Real clients, driven by the suites: Python's `websockets`, Chromium.
//!
//! The Python scripts beside this file play steps and tell what happened, as JSON; what is right
//! is decided by the tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Pair, eventually, run, start, tool};

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
    run(&mut python(script), ask.to_string().as_bytes()).json()
}

/// A WebSocket connection by Python's `websockets`; see `ws_client.py`.
#[track_caller]
pub(crate) fn websocket(ask: &Value) -> Value {
    play("ws_client.py", ask)
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

/// The WebSocket server `ws_server.py`, which agrees on permessage-deflate. Ended when it goes out
/// of scope.
#[derive(Debug)]
pub(crate) struct WebSocketServer {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl WebSocketServer {
    /// With TLS if there is a certificate for it.
    #[track_caller]
    pub(crate) fn start(pair: Option<&Pair>) -> Self {
        let mut command = python("ws_server.py");
        if let Some(pair) = pair {
            command.args([&pair.cert, &pair.key]);
        }
        let (child, out, err) = start(command.stdin(Stdio::piped()));
        let port = eventually("the WebSocket server says its port", || {
            let said = out.text();
            assert!(err.text().is_empty(), "{}", err.text());
            said.strip_suffix('\n').map(|port| port.parse().expect("a port"))
        });
        Self { child, addr: (Ipv4Addr::LOCALHOST, port).into() }
    }
}

impl Drop for WebSocketServer {
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
