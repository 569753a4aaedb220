//! From an accepted connection to requests: which HTTP it speaks, and who answers.

use std::cell::{OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use gwproxy_core::net::accept::{Held, Serve};
use gwproxy_core::net::{Peer, Stream};
use gwproxy_core::telemetry::Refused;
use gwproxy_core::worker::{LocalFuture, Worker};
use http::uri::Scheme;
use serde::{Deserialize, Serialize};
use tokio_util::io::poll_read_buf;

use crate::h1::head::{Limits, Reject};
use crate::h2::PREFACE;
use crate::interim::{Interim, Way};
use crate::private::Private;
use crate::wire::forwarded::Said;
use crate::{Request, Response, h1, h2, rescue};

/// Answers requests. `Rc<Self>` and `'static` because an HTTP/2 connection runs several at once.
pub trait Handle: 'static {
    /// The response, always: errors are turned into one inside ([`rescue`]).
    fn handle(
        self: Rc<Self>,
        request: Box<Request>,
        client: Rc<Client>,
    ) -> impl Future<Output = Response> + 'static;

    /// The answer to a head that was refused before it became a request.
    fn reject(&self, reject: &Reject, _client: &Client) -> Response {
        rescue::rejected(reject)
    }
}

/// Who is on the other end of the connection that a request came on.
#[derive(Debug)]
pub struct Client {
    /// Addresses and TLS.
    pub peer: Peer,
    /// `http` or `https`, by the connection's TLS.
    pub scheme: Scheme,
    held: RefCell<Rc<Held>>,
    /// What nodes are told of it.
    pub(crate) said: Said,
    /// How far nodes may be ahead of it (HTTP/2).
    pub(crate) ahead: h2::Ahead,
    /// The connections to nodes that are its own.
    pub(crate) private: Private,
    interim: OnceCell<Weak<dyn Interim>>,
}

/// How long a client may take for each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A request head, from its first byte (from the accept for the first). Default 10 s.
    pub head: Duration,
    /// Silence within a body, either way. Default 30 s.
    pub body: Duration,
    /// Silence between requests. Default 60 s.
    pub keep_alive: Duration,
    /// How old a connection may be, plus or minus a tenth, when it takes its last request. Default
    /// 1 h (D08); [`Duration::MAX`]: of any age.
    pub age: Duration,
}

/// What it means when an HTTP/1 client ends its sending direction (FIN) while a request of its
/// that came whole is under way. It may wait for the answer, as `nc -N` does, or be gone: a
/// process that is killed leaves the same FIN behind, and nothing tells the two apart before the
/// answer is written. A reset, and over TLS an end without `close_notify`, is always the end.
///
/// This is for requests after which another could follow. One that says it is the last, by
/// HTTP/1.0 or `Connection: close`, is answered either way: nothing more can come, so its client
/// may well end its direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HalfClose {
    /// The client is gone; the request is cancelled at the node too, as nginx does. The default:
    /// clients that give up are many, those that half-close before the last request are few.
    #[default]
    Abort,
    /// The client waits for its answer, as HAProxy has it without
    /// `option abortonclose`. Its node works to the end of the
    /// answer's head even when nobody is left to take it.
    Allow,
}

/// What a listener's connections are held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bounds of heads.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// What an HTTP/1 client means by ending its sending direction.
    pub half_close: HalfClose,
}

/// An HTTP listener's half on one worker.
#[derive(Debug)]
pub struct Server<H> {
    handler: Rc<H>,
    worker: Rc<Worker>,
    settings: Rc<Settings>,
}

impl HalfClose {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Abort, Self::Allow];

    /// The name in flags and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Allow => "allow",
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            keep_alive: Duration::from_mins(1),
            age: Duration::from_hours(1),
        }
    }
}

impl Client {
    /// A client that holds its place in the listener's count for as long as this lives.
    pub fn new(peer: Peer, held: Held) -> Self {
        let scheme = if peer.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let (held, said) = (RefCell::new(Rc::new(held)), Said::default());
        let (ahead, private) = (h2::Ahead::default(), Private::default());
        Self { peer, scheme, held, said, ahead, private, interim: OnceCell::new() }
    }

    /// Where interim responses to this `request` of the client go; none: it is not told them.
    pub fn interim(&self, request: &Request) -> Option<Way> {
        let to = self.interim.get()?.upgrade()?;
        Some(Way::new(to, request.body().stream()))
    }

    /// Offers a way for interim responses; the first one stays.
    pub(crate) fn offer_interim(&self, interim: Weak<dyn Interim>) {
        let _ = self.interim.set(interim);
    }

    /// The client's place in the listener's count, for what outlives the connection's task.
    pub fn held(&self) -> Rc<Held> {
        Rc::clone(&self.held.borrow())
    }
}

impl<H: Handle> Server<H> {
    /// A server that gives every request to `handler`.
    pub fn new(handler: Rc<H>, worker: Rc<Worker>, settings: Settings) -> Self {
        Self { handler, worker, settings: Rc::new(settings) }
    }
}

impl<H: Handle> Serve for Server<H> {
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()> {
        let alpn = peer.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
        let known = match alpn {
            Some(b"h2") => Some(Wire::H2),
            Some(_) => Some(Wire::H1),
            None => None,
        };
        let client = Rc::new(Client::new(peer, held));
        Box::pin(async move {
            let mut stream = stream;
            let mut early = BytesMut::new();
            let wire = match known {
                Some(wire) => wire,
                None => match self.sniff(&mut stream, &mut early).await {
                    Some(wire) => wire,
                    None => return,
                },
            };
            let Self { handler, worker, settings } = &*self;
            let (handler, worker) = (Rc::clone(handler), Rc::clone(worker));
            let settings = Rc::clone(settings);
            match wire {
                Wire::H1 => {
                    h1::server::serve(stream, early, client, handler, worker, settings).await;
                }
                Wire::H2 => {
                    h2::server::serve(stream, early, client, handler, worker, settings).await;
                }
            }
        })
    }
}

/// The two wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    H1,
    H2,
}

impl<H: Handle> Server<H> {
    /// Without ALPN the first bytes tell: HTTP/2 with prior knowledge begins with its preface
    /// (RFC 9113 §3.3), which is no valid HTTP/1.1 request.
    async fn sniff(&self, stream: &mut Stream, early: &mut BytesMut) -> Option<Wire> {
        let deadline = self.worker.timer().deadline();
        deadline.arm(self.settings.timeouts.head);
        poll_fn(|cx| {
            loop {
                let known = early.len().min(PREFACE.len());
                if early.get(..known) != PREFACE.get(..known) {
                    return Poll::Ready(Some(Wire::H1));
                }
                if known == PREFACE.len() {
                    return Poll::Ready(Some(Wire::H2));
                }
                match poll_read_buf(Pin::new(&mut *stream), cx, early) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        if self.worker.is_draining() {
                            return Poll::Ready(None);
                        }
                        ready!(deadline.poll_expired(cx));
                        Refused::Silence.count();
                        return Poll::Ready(None);
                    }
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests;
