//! Accepting: permits, hand-over between workers, and what happens when descriptors run out.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::Instant;

use super::listen::BoundSocket;
use super::{Peer, PeerAddr, Socket, Stream};
use crate::tls::ServerTls;
use crate::worker::{LocalFuture, Tracked, Worker};

/// A pause after `accept` failed for want of descriptors or memory, so that the loop does not
/// spin; connections wait in the kernel's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a worker says so while accepting keeps failing.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// What a listener does with a connection, once TLS is done.
pub trait Serve: 'static {
    /// Serves the connection to its end.
    /// `held` is the connection's place in the counts; it must live as long as the connection.
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()>;
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
    /// Connections at a time over all workers; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Live connections over all workers.
    pub connections: AtomicUsize,
}

/// A fresh socket on its way to a less loaded worker.
#[derive(Debug)]
pub(crate) struct Handover {
    listener: usize,
    socket: std::net::TcpStream,
    remote: PeerAddr,
    permit: Permit,
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
        let worker = Rc::clone(self);
        match socket {
            BoundSocket::Tcp(tcp) => {
                let tcp = TcpListener::from_std(tcp)?;
                self.spawn(
                    async move { accept_tcp(&worker, number, &tcp, &listener, &serve).await },
                );
            }
            BoundSocket::Unix(unix) => {
                let unix = UnixListener::from_std(unix)?;
                self.spawn(async move { accept_unix(&worker, &unix, &listener, &serve).await });
            }
        }
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
                let tracked = worker.track();
                let held = Held { _permit: handover.permit, _tracked: tracked };
                start(worker, Socket::Tcp(tcp), handover.remote, held, &listener, &serve);
            }
            Err(error) => tracing::warn!(%error, "a socket handed over could not be registered"),
        }
    }
}

async fn accept_tcp(
    worker: &Rc<Worker>,
    number: usize,
    tcp: &TcpListener,
    listener: &Arc<Listener>,
    serve: &Rc<dyn Serve>,
) {
    let mut pauses = Pauses::default();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = tcp.accept() => accepted,
            // Biased order takes what the kernel has queued before the listener closes.
            () = worker.draining() => return,
        };
        match accepted {
            Ok((socket, remote)) => {
                // Not asked of the socket: that fails when the client has reset it already, and
                // whoever counts by address must know this one too.
                let remote = PeerAddr::from_socket(remote);
                let _ = socket.set_nodelay(true);
                // After the accept: a worker that waits for a connection must not sit on a permit
                // that another one's waiting client could have.
                let Some(permit) = permit(worker, listener).await else { return };
                if let Some(other) = worker.less_loaded().filter(|_| !worker.is_draining())
                    && let Some(inbox) = worker.shared().inboxes.get(other)
                    && let Ok(slot) = inbox.try_reserve()
                {
                    match socket.into_std() {
                        Ok(socket) => {
                            slot.send(Handover { listener: number, socket, remote, permit });
                        }
                        Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
                    }
                    continue;
                }
                let held = Held { _permit: permit, _tracked: worker.track() };
                start(worker, Socket::Tcp(socket), remote, held, listener, serve);
            }
            Err(error) => pauses.pause_after(&error, listener).await,
        }
    }
}

async fn accept_unix(
    worker: &Rc<Worker>,
    unix: &UnixListener,
    listener: &Arc<Listener>,
    serve: &Rc<dyn Serve>,
) {
    let mut pauses = Pauses::default();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = unix.accept() => accepted,
            () = worker.draining() => return,
        };
        match accepted {
            Ok((socket, _)) => {
                let Some(permit) = permit(worker, listener).await else { return };
                let held = Held { _permit: permit, _tracked: worker.track() };
                start(worker, Socket::Unix(socket), PeerAddr::Unix, held, listener, serve);
            }
            Err(error) => pauses.pause_after(&error, listener).await,
        }
    }
}

/// Waits until the listener is below its maximum; `None` when the process drains.
async fn permit(worker: &Rc<Worker>, listener: &Arc<Listener>) -> Option<Permit> {
    let mut said = false;
    loop {
        let taken = listener.connections.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { listener: Arc::clone(listener) };
        if taken < listener.max_connections {
            return Some(permit);
        }
        drop(permit);
        if !said {
            tracing::warn!(
                listener = listener.name,
                max_connections = listener.max_connections,
                "the listener is full; new connections wait"
            );
            said = true;
        }
        tokio::select! {
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            () = worker.draining() => return None,
        }
    }
}

/// What an accept loop does about errors.
#[derive(Debug, Default)]
struct Pauses {
    said: Option<Instant>,
}

impl Pauses {
    /// A client that went away before it was accepted is nobody's problem; want of descriptors or
    /// memory passes, and the loop must survive it. So must the log.
    async fn pause_after(&mut self, error: &io::Error, listener: &Listener) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!(
                listener = listener.name,
                %error,
                "accept failed; trying every {} ms",
                ACCEPT_PAUSE.as_millis()
            );
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn start(
    worker: &Rc<Worker>,
    socket: Socket,
    remote: PeerAddr,
    held: Held,
    listener: &Arc<Listener>,
    serve: &Rc<dyn Serve>,
) {
    let mut peer = Peer { remote, local: socket.local(), tls: None };
    let (listener, serve) = (Arc::clone(listener), Rc::clone(serve));
    let deadline = worker.timer().clone();
    worker.spawn(async move {
        let stream = match &listener.tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let deadline = deadline.deadline();
                match deadline.within(listener.handshake_timeout, tls.accept(socket)).await {
                    Some(Ok((stream, info))) => {
                        peer.tls = Some(Arc::new(info));
                        stream
                    }
                    Some(Err(error)) => {
                        tracing::debug!(client = %peer.remote, %error, "TLS handshake failed");
                        return;
                    }
                    None => {
                        tracing::debug!(client = %peer.remote, "TLS handshake took too long");
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
    }
}
