//! From a node to a connection: name, socket, TLS, with the sentence for each way it can fail.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::{Endpoint, NodeAddr};
use crate::net::descriptors::spare_last;
use crate::net::proxy_protocol::Origin;
use crate::net::{HostPort, Socket, Stream};
use crate::timer::Timer;
use crate::tls::ClientTls;
use crate::{Code, Error};

/// How long a resolved name is taken for true. The system's resolver does not tell the record's
/// own time to live.
const FRESH: Duration = Duration::from_secs(30);
/// Names remembered on one worker; above, all are forgotten at once.
const NAMES_MAX: usize = 1024;

/// Names and their addresses, per worker.
#[derive(Debug, Default)]
pub struct Resolver {
    names: RefCell<HashMap<HostPort, Resolved, foldhash::fast::RandomState>>,
}

#[derive(Debug, Clone)]
struct Resolved {
    addrs: Rc<[SocketAddr]>,
    at: Instant,
}

/// Opens a connection to a node, TLS included, within `limit`, for the client at `origin`.
/// `exclusive` asks for a connection that carries one exchange at a time.
///
/// # Errors
/// [`Code::UpstreamUnresolved`], [`Code::UpstreamRefused`], [`Code::UpstreamConnectTimeout`] or
/// [`Code::UpstreamTls`], all unsent.
pub async fn connect(
    endpoint: &Endpoint,
    origin: &Origin,
    exclusive: bool,
    limit: Duration,
    resolver: &Resolver,
    timer: &Timer,
) -> Result<Stream, Error> {
    let tls = if exclusive { endpoint.tls_exclusive.as_ref() } else { None };
    let tls = tls.or(endpoint.tls.as_ref());
    let connecting = async {
        let mut socket = match &endpoint.addr {
            NodeAddr::Unix(path) => match UnixStream::connect(path).await {
                Ok(unix) => {
                    spare_last(&unix).map_err(|error| refused(&endpoint.addr, error))?;
                    Socket::Unix(unix)
                }
                Err(error) => return Err(refused(&endpoint.addr, error)),
            },
            NodeAddr::Tcp(at) => {
                let addrs = resolver.resolve(at).await?;
                Socket::Tcp(dial(&addrs).await.map_err(|error| refused(&endpoint.addr, error))?)
            }
        };
        let introduced = endpoint.introduce(&mut socket, origin).await;
        introduced.map_err(|error| refused(&endpoint.addr, error))?;
        secure(socket, tls.map(|tls| &**tls), &endpoint.addr).await
    };
    timer.deadline().within(limit, connecting).await.unwrap_or_else(|| {
        let sentence = format!("{} took no connection within {limit:?}", endpoint.addr);
        Err(Error::new(Code::UpstreamConnectTimeout, sentence).unsent())
    })
}

/// Connects to the first of `addrs` that takes the connection.
///
/// # Errors
/// What the last one said.
pub async fn dial(addrs: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in addrs {
        match TcpStream::connect(addr).await {
            Ok(tcp) => {
                spare_last(&tcp)?;
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Resolver {
    /// The addresses of a host, from memory for 30 s, else from the system. When the system
    /// fails, what it said last holds: a name server's bad minute is not the node's.
    ///
    /// # Errors
    /// [`Code::UpstreamUnresolved`].
    pub async fn resolve(&self, at: &HostPort) -> Result<Rc<[SocketAddr]>, Error> {
        if let Some(ip) = at.ip() {
            return Ok([SocketAddr::new(ip, at.port)].into());
        }
        let known = self.names.borrow().get(at).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < FRESH) {
            return Ok(Rc::clone(&known.addrs));
        }
        match tokio::net::lookup_host((&*at.host, at.port)).await.map(Iterator::collect) {
            Ok(addrs) => {
                let addrs: Rc<[SocketAddr]> = addrs;
                if addrs.is_empty() {
                    return Err(unresolved(at, None));
                }
                let mut names = self.names.borrow_mut();
                if names.len() >= NAMES_MAX {
                    names.clear();
                }
                let resolved = Resolved { addrs: Rc::clone(&addrs), at: Instant::now() };
                names.insert(at.clone(), resolved);
                Ok(addrs)
            }
            Err(error) => match known {
                Some(known) => {
                    let code = Code::UpstreamUnresolved.as_str();
                    tracing::warn!(code, host = %at.host, %error, "name lookup failed; using the last addresses");
                    Ok(known.addrs)
                }
                None => Err(unresolved(at, Some(error))),
            },
        }
    }
}

async fn secure(socket: Socket, tls: Option<&ClientTls>, addr: &NodeAddr) -> Result<Stream, Error> {
    let Some(tls) = tls else { return Ok(Stream::Plain(socket)) };
    tls.connect(socket).await.map_err(|error| {
        Error::new(Code::UpstreamTls, format!("{addr}: {error}")).because(error).unsent()
    })
}

/// `EMFILE` and `ENFILE`: this process, or the machine, has no descriptor left.
const NO_DESCRIPTORS: [i32; 2] = [24, 23];

fn refused(addr: &NodeAddr, error: io::Error) -> Error {
    if error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code)) {
        // The node is not to blame.
        let sentence = format!(
            "no descriptor is left for a connection to {addr}; raise the limit (`ulimit -n`) or \
             lower --max-connections"
        );
        return Error::new(Code::Overloaded, sentence).because(error).unsent();
    }
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        _ => error.to_string(),
    };
    Error::new(Code::UpstreamRefused, format!("{addr} refused the connection: {why}"))
        .because(error)
        .unsent()
}

fn unresolved(at: &HostPort, error: Option<io::Error>) -> Error {
    let unresolved = Error::new(
        Code::UpstreamUnresolved,
        format!("the name `{}` does not resolve to an address", at.host),
    )
    .unsent();
    match error {
        Some(error) => unresolved.because(error),
        None => unresolved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T30.
    #[test]
    fn want_of_descriptors_is_not_the_nodes_fault() {
        let addr: NodeAddr = "127.0.0.1:1".parse().unwrap();
        let error = refused(&addr, io::Error::from_raw_os_error(24));
        assert_eq!(error.code(), Code::Overloaded);
        assert!(error.is_unsent());
    }

    fn node(addr: &str) -> Endpoint {
        Endpoint::new("n", "tcp", addr.parse().unwrap(), None, 1)
    }

    async fn open(addr: &str) -> Result<Stream, Error> {
        let timer = Timer::new();
        let limit = Duration::from_secs(2);
        connect(&node(addr), &Origin::Local, false, limit, &Resolver::default(), &timer).await
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_unsent() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = open(&free.to_string()).await.unwrap_err();
        assert_eq!(error.code(), Code::UpstreamRefused);
        assert!(error.is_unsent());
        assert!(error.to_string().contains(&free.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_unresolved() {
        let error = open("no-such-host.invalid:80").await.unwrap_err();
        assert_eq!(error.code(), Code::UpstreamUnresolved);
    }

    #[tokio::test]
    async fn localhost_is_tried_at_all_its_addresses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        open(&format!("localhost:{port}")).await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_unix_socket_is_refused() {
        let error = open("unix:/no/such/socket").await.unwrap_err();
        assert!(error.to_string().contains("no such socket"), "{error}");
    }
}
