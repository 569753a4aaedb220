//! `openssl s_client`, played to its end or held open.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use crate::support::{Authority, Finished, Heard, Pair, eventually, run, start, text, tool, wait};

fn command(addr: SocketAddr, ca: &Authority, options: &[&str]) -> Command {
    let mut command = tool("openssl");
    command.args(["s_client", "-connect", &addr.to_string(), "-CAfile", &ca.ca()]);
    // No certificate is taken on trust: a test that passed with a wrong one would say nothing.
    command.arg("-verify_return_error").args(options);
    command
}

/// Connects, says `input`, and listens until the other side ends the connection. What was agreed
/// on stands in standard output, an alert in standard error.
#[track_caller]
pub(crate) fn s_client(
    addr: SocketAddr,
    ca: &Authority,
    options: &[&str],
    input: &str,
) -> Finished {
    run(command(addr, ca, options).arg("-ign_eof"), input.as_bytes())
}

/// The options that show this certificate.
pub(crate) fn showing(pair: &Pair) -> [&str; 4] {
    let [cert, key] = [&pair.cert, &pair.key].map(|path| path.to_str().expect("UTF-8"));
    ["-cert", cert, "-key", key]
}

/// A connection that stays open until it is finished.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Heard>,
    err: Arc<Heard>,
}

impl Session {
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr, ca: &Authority, options: &[&str]) -> Self {
        let mut command = command(addr, ca, options);
        let (mut child, out, err) = start(command.stdin(Stdio::piped()));
        let stdin = child.stdin.take();
        Self { child, stdin, out, err }
    }

    #[track_caller]
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(bytes.as_ref()).unwrap_or_else(|e| panic!("{e}: {}", self.err.text()));
    }

    /// Waits until it has told or received this.
    #[track_caller]
    pub(crate) fn wait(&self, needle: &str) {
        eventually(&format!("s_client says {needle:?}"), || {
            self.out.text().contains(needle).then_some(())
        });
    }

    /// Ends the connection in order; gives all that was told and received.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        self.wait_end()
    }

    /// Waits until the connection has ended without us; gives all that was told and received.
    #[track_caller]
    pub(crate) fn wait_end(mut self) -> Finished {
        let status = wait(&mut self.child, || self.err.text());
        Finished { code: status.code(), stdout: self.out.all(), stderr: text(&self.err.all()) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
