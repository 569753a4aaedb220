//! Servers of somebody else's: nginx, `HAProxy`, Redis.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::tools::{Heard, start};
use super::{PATIENCE, eventually};

/// A server, ended when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stderr: Arc<Heard>,
    addr: SocketAddr,
    dir: TempDir,
    _held: Socket,
}

impl Server {
    /// Starts it on a port that it can have: `command` makes its command line from its directory
    /// and address, after it has written its configuration there.
    #[track_caller]
    pub(crate) fn start(command: impl Fn(&Path, SocketAddr) -> Command) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // None of them tells which port it was given. This holds one that may be listened on by
        // sockets with SO_REUSEADDR, or of this user with SO_REUSEPORT, as theirs are, and that
        // nobody gets who asks for any free one; it does not listen itself.
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        held.set_reuse_address(true).expect("it can be set");
        held.set_reuse_port(true).expect("it can be set");
        held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        let addr = held.local_addr().ok().and_then(|addr| addr.as_socket()).expect("an address");
        let (mut child, _, stderr) = start(&mut command(dir.path(), addr));
        eventually("the server listens", || {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("it ended at once, {status}: {}", stderr.text());
            }
            TcpStream::connect_timeout(&addr, PATIENCE).ok()
        });
        Self { child, stderr, addr, dir, _held: held }
    }

    /// `SCHEME://ADDR`, as a value for `--to`.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.addr)
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server said:\n{}", self.stderr.text());
        }
    }
}
