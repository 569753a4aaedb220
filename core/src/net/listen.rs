//! Binding: one `SO_REUSEPORT` socket per worker, and the sentence a user needs when it fails.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::ListenAddr;

/// Connections the kernel queues per worker before it refuses. The kernel caps it at
/// `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Bytes for a client that the kernel takes before it can send them (`TCP_NOTSENT_LOWAT`), beside
/// those on their way. Without a bound it takes megabytes for each client that does not read, out
/// of what all connections of the machine share; and a client that reads slowly looks silent for
/// as long as it takes to read them.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// A bound address: one socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// The address as bound; port 0 is resolved.
    pub addr: ListenAddr,
    /// One listening socket per worker.
    pub sockets: Vec<BoundSocket>,
    /// The file of a Unix socket.
    pub file: Option<SocketFile>,
}

/// The file of a Unix socket; it is removed when this is dropped, unless another has taken its
/// place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    made: Made,
}

/// What tells one file from its successor at the same path: the inode alone may be used again at
/// once. A change of owner or mode leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    addr: ListenAddr,
    cause: io::Error,
}

/// A listening socket, not yet registered with a runtime.
#[derive(Debug)]
pub enum BoundSocket {
    /// TCP.
    Tcp(TcpListener),
    /// Unix domain socket.
    Unix(UnixListener),
}

/// Binds `addr` for `workers` workers.
///
/// # Errors
/// What [`BindError::tell`] makes one sentence of.
pub fn bind(addr: &ListenAddr, workers: usize) -> Result<Bound, BindError> {
    let bound = match addr {
        ListenAddr::Unix(path) => bind_unix(path, workers),
        ListenAddr::Tcp(at) => bind_tcp(*at, workers, addr),
        ListenAddr::Any(port) => {
            let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
            bind_tcp(v6, workers, addr).or_else(|error| {
                // A machine without IPv6 still has every IPv4 address.
                if matches!(error.raw_os_error(), Some(97 | 99)) {
                    bind_tcp((Ipv4Addr::UNSPECIFIED, *port).into(), workers, addr)
                } else {
                    Err(error)
                }
            })
        }
    };
    bound.map_err(|cause| BindError { addr: addr.clone(), cause })
}

fn bind_tcp(at: SocketAddr, workers: usize, asked: &ListenAddr) -> io::Result<Bound> {
    // With SO_REUSEPORT a second process of the same user would share the port in silence and
    // take half the connections; a bind without it fails when anyone listens there. Where the
    // kernel chooses the port, it chooses one that nobody shares.
    if at.port() != 0 {
        drop(tcp_socket(at, false)?);
    }
    let mut at = at;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = tcp_socket(at, true)?;
        at.set_port(local_port(&socket)?);
        socket.listen(BACKLOG)?;
        sockets.push(BoundSocket::Tcp(socket.into()));
    }
    let addr = match asked {
        ListenAddr::Any(_) => ListenAddr::Any(at.port()),
        _ => ListenAddr::Tcp(at),
    };
    Ok(Bound { addr, sockets, file: None })
}

fn tcp_socket(at: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if at.is_ipv6() && at.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // Accepted sockets inherit it.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let addr = socket.local_addr()?;
    addr.as_socket().map(|addr| addr.port()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    make_way(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = Some(SocketFile { path: path.into(), made: Made::of(path)? });
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(socket);
    let sockets = (0..workers)
        .map(|_| listener.try_clone().map(BoundSocket::Unix))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(Bound { addr: ListenAddr::Unix(path.into()), sockets, file })
}

/// Takes away the file of a process that was killed. Only ever a socket that refuses is removed,
/// never one that somebody listens on, nor a file someone keeps at that path.
fn make_way(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !is_socket(&meta) => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue would let a blocking connect wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
            io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            // Its owner was quicker.
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        },
    }
}

fn is_socket(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_socket()
}

impl Made {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::symlink_metadata(path)?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Ok(Self { device: meta.dev(), inode: meta.ino(), modified })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Made::of(&self.path).is_ok_and(|there| there == self.made) {
            // A directory that does not let us is no reason to fail at the end: the next start
            // takes the file over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl BindError {
    /// One sentence that says what failed, where, and how to mend it. `setting` is what the
    /// address was written in, as `` `--listen` ``.
    pub fn tell(&self, setting: &str) -> String {
        let Self { addr, cause } = self;
        let hint = match cause.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another process listens there; stop it, or choose another address with {setting}"
            ),
            io::ErrorKind::AlreadyExists => {
                format!("a file that is no socket is there; choose another path with {setting}")
            }
            io::ErrorKind::PermissionDenied => match addr {
                ListenAddr::Unix(_) => {
                    format!(
                        "this user may not use a socket there; choose another path with {setting}"
                    )
                }
                _ => format!(
                    "this user may not use ports below 1024; choose a port from 1024 up with \
                     {setting}, or give the binary the right to them: \
                     sudo setcap cap_net_bind_service=+ep {}",
                    binary()
                ),
            },
            io::ErrorKind::AddrNotAvailable => format!(
                "no network interface of this machine has that address; choose one that it has, \
                 or `:PORT` for all, with {setting}"
            ),
            io::ErrorKind::NotFound => "the directory does not exist; create it first".to_owned(),
            _ => cause.to_string(),
        };
        format!("cannot listen on {addr}: {hint}")
    }
}

/// The path of this program, as a shell takes it.
fn binary() -> String {
    let path =
        std::env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    let path = path.unwrap_or_else(|| "\"$(command -v gwproxy)\"".into());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+$()\" ".contains(c);
    if path.contains(' ') && !path.starts_with('"') || !path.chars().all(plain) {
        return format!("'{}'", path.replace('\'', "'\\''"));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R13.
    #[cfg(target_os = "linux")]
    #[test]
    fn accepted_sockets_keep_little_unsent() {
        let at = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = bind(&at, 1).unwrap();
        let ListenAddr::Tcp(addr) = bound.addr else { panic!("{:?}", bound.addr) };
        let BoundSocket::Tcp(listener) = &bound.sockets[0] else { panic!("a TCP socket") };
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(addr).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let unsent = socket2::SockRef::from(&accepted).tcp_notsent_lowat();
        assert_eq!(unsent.unwrap(), UNSENT_BYTES_MAX);
    }

    #[test]
    fn every_worker_gets_a_socket_on_one_port() {
        let bound = bind(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(bound.sockets.len(), 3);
        let ListenAddr::Tcp(addr) = bound.addr else { panic!("not TCP: {:?}", bound.addr) };
        assert_ne!(addr.port(), 0);
        std::net::TcpStream::connect(addr).unwrap();
    }

    #[test]
    fn a_port_in_use_is_said_in_one_sentence() {
        let first = bind(&"127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let sentence = bind(&first.addr, 2).unwrap_err().tell("`--listen`");
        assert!(sentence.contains("another process listens there"), "{sentence}");
        assert!(sentence.contains("another address with `--listen`"), "{sentence}");
        assert!(sentence.contains(&first.addr.to_string()), "{sentence}");
    }

    #[test]
    fn an_address_of_another_machine_is_said() {
        let sentence = bind(&"192.0.2.1:0".parse().unwrap(), 1).unwrap_err().tell("`bind`");
        assert!(sentence.contains("no network interface"), "{sentence}");
    }

    /// The file goes with the socket, a stale one is taken over, and nobody else's is touched.
    #[test]
    fn a_unix_socket_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let addr = ListenAddr::Unix(path.clone());
        let first = bind(&addr, 2).unwrap();
        let sentence = bind(&addr, 1).unwrap_err().tell("`--admin`");
        assert!(sentence.contains("another process listens there"), "{sentence}");
        assert!(sentence.contains("with `--admin`"), "{sentence}");
        drop(first);
        assert!(!path.exists());

        // Killed: the file stays, and nobody listens.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let ours = bind(&addr, 1).unwrap();
        // Another took the place meanwhile.
        std::fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        let sentence = bind(&addr, 1).unwrap_err().tell("`--listen`");
        assert!(sentence.contains("a file that is no socket"), "{sentence}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
