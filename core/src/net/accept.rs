//! Accepting: permits, hand-over between workers, and what happens when descriptors run out.
//!
//! A permit is taken before a client is accepted and given back in the same poll when none waits:
//! never more connections than the maximum are open, and no idle worker sits on a permit that
//! another one's client could have.
//!
//! When the process drains, what the kernel has queued is still accepted, since those clients were
//! told that they are connected; then the socket is closed, and new clients are refused or go to
//! another process on the port. Those the kernel completes between the last accept and the close
//! are reset: the window cannot be closed from user space (`net.ipv4.tcp_migrate_req` moves them
//! to another process's socket).

mod per_ip;
mod proxied;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::descriptors::probe;
use super::listen::{BACKLOG, BoundSocket};
use super::{Peer, PeerAddr, Socket, Stream};
use crate::telemetry::Refused;
use crate::tls::ServerTls;
use crate::worker::{Accepting, LocalFuture, Tracked, Worker};
use crate::{Code, Error, clock, memory};

use per_ip::{Full, Place, Places};

pub use per_ip::PerIp;
pub use proxied::{ProxyProtocol, Want, read_header};

/// A pause after `accept` failed for want of descriptors or memory, so that the loop does not
/// spin; connections wait in the kernel's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a worker says so while accepting keeps failing or the listener is full.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// What a listener does with a connection, once TLS is done.
pub trait Serve: 'static {
    /// Serves the connection to its end.
    /// `held` is the connection's place in the counts; it must live as long as the connection.
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()>;

    /// Hears of a connection that ended before there was anything to serve, for its PROXY header or
    /// because its address has too many. It was logged already.
    fn refused(&self, _peer: &Peer, _error: &Error) {}
}

/// What every worker's half of a listener shares.
#[derive(Debug)]
pub struct Listener {
    /// The name in logs and metrics.
    pub name: String,
    /// TLS termination, if any.
    pub tls: Option<Arc<ServerTls>>,
    /// How long a client may take for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Whose PROXY headers are believed, if any are.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Lets clients in whatever is short: how else would anybody see what is wrong. Default false.
    pub is_vital: bool,
    /// What one address may have of them; none: all.
    places: Option<Arc<Places>>,
    /// Connections at a time over all workers; more wait in the kernel's queue.
    max_connections: usize,
    /// Live connections over all workers.
    connections: AtomicUsize,
    /// Wakes a worker that waits for a permit.
    freed: Notify,
    /// Moment ([`clock::nanos`]) when a refusal was last told; 0: never.
    told: AtomicU64,
}

/// A fresh socket on its way to a less loaded worker. It counts as that one's from the start, so
/// that a drain waits for it.
#[derive(Debug)]
pub(crate) struct Handover {
    listener: usize,
    socket: std::net::TcpStream,
    remote: PeerAddr,
    held: Held,
}

/// The listeners of a worker, by the order in which they were added: the same on every worker.
#[derive(Default)]
pub(crate) struct Inbox {
    listeners: RefCell<Vec<Entry>>,
}

type Entry = (Arc<Listener>, Rc<dyn Serve>);

/// A live connection's place in its listener's and its worker's counts.
#[derive(Debug)]
pub struct Held {
    _permit: Permit,
    place: Option<Place>,
    _tracked: Tracked,
}

/// One connection of a listener's maximum.
#[derive(Debug)]
struct Permit {
    listener: Arc<Listener>,
}

impl Worker {
    /// Accepts connections on `socket` until the process drains, and serves them.
    ///
    /// Every worker must add the same listeners in the same order: a socket handed over finds its
    /// listener by that number.
    ///
    /// # Errors
    /// When the socket cannot be registered with the worker's runtime.
    pub fn listen(
        self: &Rc<Self>,
        socket: BoundSocket,
        listener: Arc<Listener>,
        serve: Rc<dyn Serve>,
    ) -> io::Result<()> {
        let number = {
            let mut listeners = self.inbox().listeners.borrow_mut();
            listeners.push((Arc::clone(&listener), Rc::clone(&serve)));
            listeners.len() - 1
        };
        let gate = Gate::open(socket)?;
        let acceptor = Acceptor {
            worker: Rc::clone(self),
            number,
            listener,
            serve,
            said: Said::default(),
            probes: false,
        };
        let accepting = self.accepting();
        self.spawn(async move { acceptor.run(gate, accepting).await });
        Ok(())
    }

    /// The worker that should take a fresh connection when this one has too many: more than the
    /// least loaded by the larger of 8 and 12.5 %.
    fn less_loaded(&self) -> Option<usize> {
        let loads = &self.shared().connections;
        let mine = loads.get(self.index)?.0.load(Ordering::Relaxed);
        let (least, load) = loads
            .iter()
            .map(|load| load.0.load(Ordering::Relaxed))
            .enumerate()
            .min_by_key(|&(_, load)| load)?;
        (mine > load + (load / 8).max(8)).then_some(least)
    }
}

impl Inbox {
    /// Lets go of the listeners: the worker ends.
    pub(crate) fn clear(&self) {
        let listeners = self.listeners.take();
        // Dropped outside the borrow, since a handler may hold the worker's last reference.
        drop(listeners);
    }

    pub(crate) fn take(&self, worker: &Rc<Worker>, handover: Handover) {
        let found = self.listeners.borrow().get(handover.listener).cloned();
        let Some((listener, serve)) = found else { return };
        match TcpStream::from_std(handover.socket) {
            Ok(tcp) => {
                let (socket, remote) = (Socket::Tcp(tcp), handover.remote);
                start(worker, socket, remote, handover.held, &listener, &serve);
            }
            Err(error) => tracing::warn!(%error, "a socket handed over could not be registered"),
        }
    }
}

impl Listener {
    /// A listener for `max_connections` connections at a time over all workers; more wait in the
    /// kernel's queue. A client may take `handshake_timeout` for the TLS handshake, if there is
    /// one.
    pub fn new(
        name: String,
        tls: Option<Arc<ServerTls>>,
        handshake_timeout: Duration,
        max_connections: usize,
    ) -> Self {
        let (connections, freed) = (AtomicUsize::new(0), Notify::new());
        let (proxy_protocol, told) = (None, AtomicU64::new(0));
        Self {
            name,
            tls,
            handshake_timeout,
            proxy_protocol,
            is_vital: false,
            places: None,
            max_connections,
            connections,
            freed,
            told,
        }
    }

    /// Holds each address to `rule`; those above are closed.
    #[must_use]
    pub fn per_ip(self, rule: PerIp) -> Self {
        Self { places: Some(Places::new(rule)), ..self }
    }

    /// A place for a connection of the client that `peer` is. For one above what its address may
    /// have there is none; it is told of.
    fn try_place(&self, peer: &Peer) -> Result<Option<Place>, Error> {
        let Some(places) = &self.places else { return Ok(None) };
        places.take(peer.remote.ip()).map_err(|Full| {
            let sentence = format!(
                "the address has {} connections already (`max_connections_per_ip`)",
                places.max()
            );
            let error = Error::new(Code::Overloaded, sentence);
            self.tell_refused(peer, Some(error.code().as_str()), &error, true);
            error
        })
    }

    /// Whether the socket's other end is the client, as far as is known before a PROXY header.
    fn is_direct(&self, remote: PeerAddr) -> bool {
        !self.proxy_protocol.as_ref().is_some_and(|rule| rule.concerns(remote))
    }

    /// Whether a trouble that clients can make at will is to be told, which is so at most every
    /// [`SAY_AGAIN`].
    fn may_tell(&self, now: std::time::Instant) -> bool {
        let (now, last) = (clock::nanos(now), self.told.load(Ordering::Relaxed));
        (last == 0 || now >= last.saturating_add(clock::span(SAY_AGAIN)))
            && self.told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Tells of a connection that ended before there was anything to serve. What a client or a
    /// proxy in front that is set up wrong runs into is worth a warning; a client that makes
    /// trouble is not worth many.
    fn tell_refused(
        &self,
        peer: &Peer,
        code: Option<&str>,
        why: &dyn fmt::Display,
        is_fault: bool,
    ) {
        let (listener, client) = (&self.name, peer.remote);
        if is_fault && self.may_tell(std::time::Instant::now()) {
            tracing::warn!(code, listener, %client, "{why}");
        } else {
            tracing::debug!(code, listener, %client, "{why}");
        }
    }

    fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        let below = |count| (count < self.max_connections).then_some(count + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Permit { listener: Arc::clone(self) })
    }
}

/// One worker's half of a listener, while it accepts.
struct Acceptor {
    worker: Rc<Worker>,
    number: usize,
    listener: Arc<Listener>,
    serve: Rc<dyn Serve>,
    said: Said,
    /// Many descriptors are in use: whether there is one for a client is looked at before it is
    /// accepted, so that it waits in the queue and is not turned away.
    probes: bool,
}

impl Acceptor {
    async fn run(mut self, gate: Gate, accepting: Accepting) {
        let worker = Rc::clone(&self.worker);
        let mut draining = pin!(worker.draining());
        loop {
            // Biased, so that no flood of clients puts off the drain.
            let (socket, remote, permit) = tokio::select! {
                biased;
                () = &mut draining => break,
                next = self.next(&gate) => next,
            };
            self.admit(socket, remote, permit);
        }
        // Not through the runtime, which knows of a client only some time after the kernel does.
        match gate.leave() {
            Ok(socket) => self.empty(&socket).await,
            Err(error) => tracing::warn!(%error, "waiting clients could not be accepted"),
        }
        drop(accepting);
    }

    /// The next client, and a permit for it. Cancelled, it loses neither.
    async fn next(&mut self, gate: &Gate) -> (Socket, PeerAddr, Permit) {
        let mut waited = false;
        loop {
            if self.probes
                && let Err(error) = gate.probe()
            {
                self.pause_after(&error).await;
                continue;
            }
            let accepted = poll_fn(|cx| {
                let Some(permit) = self.listener.try_permit() else { return Poll::Ready(None) };
                Poll::Ready(Some((ready!(gate.poll_accept(cx)), permit)))
            });
            match accepted.await {
                Some((Ok((socket, remote)), permit)) => {
                    // One that came past the probe stays, although it may be one of the last: a
                    // worker takes one too many at most, and nobody is cut off for it.
                    self.probes = !self.listener.is_vital && socket.is_half_used();
                    if waited {
                        // Places that came free together may have been told of only once.
                        self.listener.freed.notify_one();
                    }
                    return (socket, remote, permit);
                }
                Some((Err(error), permit)) => {
                    drop(permit);
                    if !is_passing(&error) {
                        self.pause_after(&error).await;
                    }
                }
                None => {
                    self.say_full();
                    waited = true;
                    // It remembers a place that came free since the look above.
                    self.listener.freed.notified().await;
                }
            }
        }
    }

    /// Takes what the kernel has queued for this socket, at most what fits in its queue. Beyond
    /// the maximum they are refused, as whoever comes later is.
    async fn empty(&self, socket: &BoundSocket) {
        for _ in 0..BACKLOG {
            let Some(permit) = self.listener.try_permit() else { return };
            match socket.accept() {
                Ok((socket, remote)) => self.admit(socket, remote, permit),
                Err(error) if is_passing(&error) => {}
                Err(_) => return,
            }
            consume_budget().await;
        }
    }

    fn admit(&self, socket: Socket, remote: PeerAddr, permit: Permit) {
        let Self { worker, number, listener, serve, .. } = self;
        if memory::is_out() && !listener.is_vital {
            memory::refused();
            Refused::Memory.count();
            return;
        }
        let mut place = None;
        if listener.is_direct(remote) {
            let peer = Peer { remote, local: socket.local(), proxied: None, tls: None };
            match listener.try_place(&peer) {
                Ok(taken) => place = taken,
                Err(error) => return serve.refused(&peer, &error),
            }
        }
        let inboxes = &worker.shared().inboxes;
        let slot = worker
            .less_loaded()
            .filter(|_| !worker.is_draining())
            .and_then(|other| Some((other, inboxes.get(other)?.try_reserve().ok()?)));
        let socket = match (socket, slot) {
            (Socket::Tcp(socket), Some((other, slot))) => {
                match socket.into_std() {
                    Ok(socket) => {
                        let tracked = worker.track_on(other);
                        let held = Held { _permit: permit, place, _tracked: tracked };
                        slot.send(Handover { listener: *number, socket, remote, held });
                    }
                    Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
                }
                return;
            }
            // The workers share the queue of a Unix socket: who has time takes from it.
            (socket, _) => socket,
        };
        let held = Held { _permit: permit, place, _tracked: worker.track() };
        start(worker, socket, remote, held, listener, serve);
    }

    fn say_full(&mut self) {
        Refused::Full.count();
        if self.said.again() {
            tracing::warn!(
                listener = self.listener.name,
                max_connections = self.listener.max_connections,
                "the listener is full; new connections wait"
            );
        }
    }

    /// Descriptors and memory come back, and the loop must survive their want. So must the log.
    async fn pause_after(&mut self, error: &io::Error) {
        Refused::Descriptors.count();
        if self.said.again() {
            tracing::warn!(
                listener = self.listener.name,
                %error,
                "accept failed; trying every {} ms",
                ACCEPT_PAUSE.as_millis()
            );
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// A client that went away before it was accepted is nobody's problem.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Keeps a trouble that lasts from filling the log.
#[derive(Debug, Default)]
struct Said(Option<Instant>);

impl Said {
    fn again(&mut self) -> bool {
        let is_due = self.0.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// A listening socket that is registered with the worker's runtime.
enum Gate {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Gate {
    fn open(socket: BoundSocket) -> io::Result<Self> {
        Ok(match socket {
            BoundSocket::Tcp(tcp) => Self::Tcp(TcpListener::from_std(tcp)?),
            BoundSocket::Unix(unix) => Self::Unix(UnixListener::from_std(unix)?),
        })
    }

    fn probe(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => probe(tcp),
            Self::Unix(unix) => probe(unix),
        }
    }

    fn leave(self) -> io::Result<BoundSocket> {
        Ok(match self {
            Self::Tcp(tcp) => BoundSocket::Tcp(tcp.into_std()?),
            Self::Unix(unix) => BoundSocket::Unix(unix.into_std()?),
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, PeerAddr)>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_accept(cx).map_ok(|(tcp, remote)| accepted(tcp, remote)),
            Self::Unix(unix) => {
                unix.poll_accept(cx).map_ok(|(unix, _)| (Socket::Unix(unix), PeerAddr::Unix))
            }
        }
    }
}

impl BoundSocket {
    /// Accepts a client that waits already, if there is one.
    fn accept(&self) -> io::Result<(Socket, PeerAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, remote) = listener.accept()?;
                tcp.set_nonblocking(true)?;
                Ok(accepted(TcpStream::from_std(tcp)?, remote))
            }
            Self::Unix(listener) => {
                let (unix, _) = listener.accept()?;
                unix.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(unix)?), PeerAddr::Unix))
            }
        }
    }
}

/// The address is not asked of the socket: that fails when the client has reset it already, and
/// whoever counts by address must know this one too.
fn accepted(tcp: TcpStream, remote: SocketAddr) -> (Socket, PeerAddr) {
    let _ = tcp.set_nodelay(true);
    (Socket::Tcp(tcp), PeerAddr::from_socket(remote))
}

fn start(
    worker: &Rc<Worker>,
    socket: Socket,
    remote: PeerAddr,
    held: Held,
    listener: &Arc<Listener>,
    serve: &Rc<dyn Serve>,
) {
    let mut peer = Peer { remote, local: socket.local(), proxied: None, tls: None };
    let (listener, serve) = (Arc::clone(listener), Rc::clone(serve));
    let timer = worker.timer().clone();
    worker.spawn(async move {
        let (mut socket, mut held) = (socket, held);
        if let Some(rule) = listener.proxy_protocol.as_ref().filter(|rule| rule.concerns(remote)) {
            // Boxed, so that listeners without it carry nothing of it.
            match Box::pin(rule.take(socket, &mut peer, &timer)).await {
                Ok(taken) => {
                    socket = taken;
                    match listener.try_place(&peer) {
                        Ok(place) => held.place = place,
                        Err(error) => return serve.refused(&peer, &error),
                    }
                }
                Err(error) => {
                    let is_fault = error.code() == Code::ProxyHeader;
                    let code = Some(error.code().as_str());
                    listener.tell_refused(&peer, code, &error, is_fault);
                    serve.refused(&peer, &error);
                    return;
                }
            }
        }
        let stream = match &listener.tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let deadline = timer.deadline();
                match deadline.within(listener.handshake_timeout, tls.accept(socket)).await {
                    Some(Ok((stream, info))) => {
                        peer.tls = Some(Arc::new(info));
                        stream
                    }
                    Some(Err(error)) => {
                        // Of this kind is what TLS says; the others are clients that went away.
                        let is_fault = error.kind() == io::ErrorKind::InvalidData;
                        Refused::Tls.count();
                        listener.tell_refused(&peer, None, &error, is_fault);
                        return;
                    }
                    None => {
                        Refused::Tls.count();
                        let why = &"the TLS handshake took too long";
                        listener.tell_refused(&peer, None, why, false);
                        return;
                    }
                }
            }
        };
        serve.serve(stream, peer, held).await;
    });
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.listener.connections.fetch_sub(1, Ordering::Relaxed);
        self.listener.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
