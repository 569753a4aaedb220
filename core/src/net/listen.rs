//! Binding: one `SO_REUSEPORT` socket per worker, and the sentence a user needs when it fails.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::ListenAddr;

/// Connections the kernel queues per worker before it refuses. The kernel caps it at
/// `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// A bound address: one socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// The address as bound; port 0 is resolved.
    pub addr: ListenAddr,
    /// One listening socket per worker.
    pub sockets: Vec<BoundSocket>,
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
/// One sentence that says what failed, where, and how to mend it.
pub fn bind(addr: &ListenAddr, workers: usize) -> Result<Bound, String> {
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
    bound.map_err(|error| explain(addr, &error))
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
    Ok(Bound { addr, sockets })
}

fn tcp_socket(at: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if at.is_ipv6() && at.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let addr = socket.local_addr()?;
    addr.as_socket().map(|addr| addr.port()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Nobody answers there: a file left by a process that was killed. Only ever a socket is
    // removed, never a file someone keeps at that path.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| is_socket(&meta)) {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(socket);
    let sockets = (0..workers)
        .map(|_| listener.try_clone().map(BoundSocket::Unix))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(Bound { addr: ListenAddr::Unix(path.into()), sockets })
}

fn is_socket(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_socket()
}

fn explain(addr: &ListenAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another address with --listen"
        }
        io::ErrorKind::PermissionDenied => match addr {
            ListenAddr::Unix(_) => "this user may not create a socket there; choose another path",
            _ => {
                "this user may not use ports below 1024; choose a port from 1024 up, or give the \
                 binary the right with `setcap cap_net_bind_service=+ep`"
            }
        },
        io::ErrorKind::AddrNotAvailable => {
            "no network interface of this machine has that address; use one that it has, or `:PORT` for all"
        }
        io::ErrorKind::NotFound => "the directory does not exist; create it first",
        _ => return format!("cannot listen on {addr}: {error}"),
    };
    format!("cannot listen on {addr}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let sentence = bind(&first.addr, 2).unwrap_err();
        assert!(sentence.contains("another process listens there"), "{sentence}");
        assert!(sentence.contains(&first.addr.to_string()), "{sentence}");
    }

    #[test]
    fn an_address_of_another_machine_is_said() {
        let sentence = bind(&"192.0.2.1:0".parse().unwrap(), 1).unwrap_err();
        assert!(sentence.contains("no network interface"), "{sentence}");
    }
}
