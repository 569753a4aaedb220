//! The frame-aware pump between a client and an upstream (RFC 6455 §5–7).
//!
//! Both directions run at once, with back-pressure: a side is read only as fast as the other one
//! takes it. On top of carrying bytes, the pair keeps the two ends honest: it watches for silent
//! sides, carries the close handshake to its end, and says why in a Close frame wherever one can
//! still be sent. `LIFECYCLE.md` draws the states and lists the codes.

mod direction;
mod liveness;
mod own;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gwproxy_core::Code;
use gwproxy_core::limit::Meters;
use gwproxy_core::net::relay::BUFFER_BYTES;
use gwproxy_core::timer::Deadline;
use gwproxy_core::worker::Worker;
use gwproxy_http::tunnel::Traffic;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::close::{self, Nonce};
use crate::frames::{Frames, Sender, Violation};
use crate::settings::Settings;
use direction::{Direction, Sink, Source};
use liveness::Watch;

/// What the handshake left behind.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Bytes of the client that were read with its request.
    pub early_from_client: Bytes,
    /// Bytes of the upstream that were read with its response.
    pub early_from_upstream: Bytes,
    /// Whether the handshake agreed on extensions, which makes RSV bits legal (§5.2).
    pub extensions: bool,
    /// Bytes that may be held, each way, for a side that does not take them. Default
    /// [`BUFFER_BYTES`], which is also the most; a kilobyte is the least.
    pub ahead: usize,
    /// What limits the client's messages. Default nothing.
    pub meters: Meters,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            early_from_client: Bytes::new(),
            early_from_upstream: Bytes::new(),
            extensions: false,
            ahead: BUFFER_BYTES,
            meters: Meters::default(),
        }
    }
}

/// An end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Upstream,
}

/// How a WebSocket connection went.
#[derive(Debug)]
pub struct Report {
    /// From the client to the upstream.
    pub client_to_upstream: Carried,
    /// From the upstream to the client.
    pub upstream_to_client: Carried,
    /// The code of the client's Close frame; 1005 when it had none; `None` without Close frame.
    pub client_close: Option<u16>,
    /// The code of the upstream's Close frame, likewise.
    pub upstream_close: Option<u16>,
    /// What began the end.
    pub end: End,
    /// Whether each side got and sent a Close frame.
    pub clean: bool,
}

/// What one direction carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Bytes of frames, headers included.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

/// What began the end of a connection.
#[derive(Debug)]
pub enum End {
    /// A side sent Close.
    Closed(Side),
    /// The worker drains.
    Drained,
    /// No byte moved for the idle time.
    Idle,
    /// A side was cut off without Close; the error, or end of stream.
    Lost(Side, Option<io::Error>),
    /// A side did not answer a ping.
    Silent(Side),
    /// A side broke the protocol or a limit.
    Violated(Side, Violation),
}

impl End {
    /// Why it was no orderly end.
    pub fn code(&self) -> Option<Code> {
        Some(match self {
            Self::Closed(_) | Self::Drained | Self::Idle => return None,
            Self::Lost(Side::Client, _) => Code::ClientClosed,
            Self::Lost(Side::Upstream, _) => Code::UpstreamReset,
            Self::Silent(Side::Client) => Code::ClientTimeout,
            Self::Silent(Side::Upstream) => Code::UpstreamTimeout,
            Self::Violated(_, Violation::MessagesExceeded | Violation::TryAgainLater) => {
                Code::RateLimited
            }
            Self::Violated(Side::Client, _) => Code::ClientMalformed,
            Self::Violated(Side::Upstream, _) => Code::UpstreamMalformed,
        })
    }

    /// A stable name for logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Drained => "drained",
            Self::Idle => "idle",
            Self::Lost(Side::Client, _) => "client_lost",
            Self::Lost(Side::Upstream, _) => "upstream_lost",
            Self::Silent(Side::Client) => "client_silent",
            Self::Silent(Side::Upstream) => "upstream_silent",
            Self::Violated(Side::Client, _) => "client_violation",
            Self::Violated(Side::Upstream, _) => "upstream_violation",
        }
    }
}

/// Carries frames both ways until both sides are closed.
///
/// Both connections are closed when it resolves. It must run on `worker`, whose timer keeps its
/// deadlines and whose drain closes it with code 1001.
pub async fn relay<C, U>(
    client: C,
    upstream: U,
    opening: Opening,
    worker: &Rc<Worker>,
    settings: &Settings,
) -> Report
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    relay_counted(client, upstream, opening, worker, settings, &Traffic::default()).await
}

/// [`relay`] that keeps `traffic` up to date as it goes.
pub async fn relay_counted<C, U>(
    mut client: C,
    mut upstream: U,
    opening: Opening,
    worker: &Rc<Worker>,
    settings: &Settings,
    traffic: &Traffic,
) -> Report
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut pair = Pair::new(opening, worker, settings, traffic);
    let end = poll_fn(|cx| pair.poll(cx, &mut client, &mut upstream)).await;
    pair.report(end)
}

struct Pair<'a> {
    /// From the client to the upstream.
    up: Direction<'a>,
    /// From the upstream to the client.
    down: Direction<'a>,
    client: Watch,
    upstream: Watch,
    /// When a byte last moved, in either direction.
    moved: Instant,
    nonce: Option<Nonce>,
    /// Set once the end has begun; from then on `deadline` bounds it.
    end: Option<End>,
    closing_since: Instant,
    deadline: Deadline,
    worker: &'a Worker,
    settings: &'a Settings,
}

impl<'a> Pair<'a> {
    fn new(
        opening: Opening,
        worker: &'a Worker,
        settings: &'a Settings,
        traffic: &'a Traffic,
    ) -> Self {
        let now = Instant::now();
        let Opening { early_from_client, early_from_upstream, extensions, ahead, meters } = opening;
        let direction = |sender, early, carried, received| {
            let frames = Frames::new(sender, extensions, settings.limits);
            Direction::new(sender, frames, early, ahead, carried, received)
        };
        let Traffic { carried, client_close, upstream_close, .. } = traffic;
        let (up, down) = (&carried.client_to_upstream, &carried.upstream_to_client);
        let mut pair = Self {
            up: direction(Sender::Client, early_from_client, up, client_close),
            down: direction(Sender::Server, early_from_upstream, down, upstream_close),
            client: Watch::alive(now),
            upstream: Watch::alive(now),
            moved: now,
            nonce: None,
            end: None,
            closing_since: now,
            deadline: worker.timer().deadline(),
            worker,
            settings,
        };
        pair.up.meters = meters;
        pair.check_liveness(now);
        pair
    }

    fn poll<C, U>(&mut self, cx: &mut Context<'_>, client: &mut C, upstream: &mut U) -> Poll<End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            self.up.poll(cx, client, upstream);
            self.down.poll(cx, upstream, client);
            self.note_movement();
            if self.react() {
                continue;
            }
            if self.is_over()
                && let Some(end) = self.end.take()
            {
                return Poll::Ready(end);
            }
            if self.deadline.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(end) = self.on_deadline() {
                // Best effort: what is still buffered below us, TLS's goodbye, FIN.
                let _ = Pin::new(&mut *client).poll_shutdown(cx);
                let _ = Pin::new(&mut *upstream).poll_shutdown(cx);
                return Poll::Ready(end);
            }
        }
    }

    /// Draws the consequences of what the directions met. True when they must be polled again.
    fn react(&mut self) -> bool {
        let mut acted = false;
        if self.end.is_none() && self.worker.is_draining() {
            acted |= self.begin(End::Drained);
            acted |= self.close(Side::Client, close::GOING_AWAY, "proxy is going away");
            acted |= self.close(Side::Upstream, close::GOING_AWAY, "proxy is going away");
        }
        acted |= self.react_to(Side::Client);
        acted |= self.react_to(Side::Upstream);

        // RFC 6455 §7.1.1: the server ends TCP first. Towards the client that is us; the upstream
        // does it itself, unless it broke the protocol.
        if self.down.sink() == Sink::Closed && self.up.source() != Source::Open {
            acted |= self.down.finish();
        }
        let upstream_done = self.down.source() == Source::Ended || self.down.violation.is_some();
        if self.up.sink() == Sink::Closed && upstream_done {
            acted |= self.up.finish();
        }
        acted
    }

    fn react_to(&mut self, side: Side) -> bool {
        let peer = side.peer();
        let from = self.from(side);
        match from.source() {
            // The peer takes nothing any more. Its own bytes will say why; do not wait for ever.
            Source::Open if from.sink() == Sink::Gone => self.begin(End::Lost(peer, None)),
            Source::Open => false,
            Source::Closed => self.begin(End::Closed(side)),
            Source::Refused | Source::Ended => {
                if let Some(violation) = from.violation {
                    let (code, reason) = (violation.close_code(), violation.reason());
                    self.begin(End::Violated(side, violation))
                        | self.close(side, code, reason)
                        | self.close(peer, code, reason)
                } else if from.received.get().is_some() {
                    self.begin(End::Closed(side))
                } else {
                    let error = from.read_error.take();
                    let (code, reason) = match side {
                        Side::Client => (close::GOING_AWAY, "client is gone"),
                        Side::Upstream => (close::BAD_GATEWAY, "upstream is gone"),
                    };
                    self.begin(End::Lost(side, error))
                        | self.to(side).abandon()
                        | self.close(peer, code, reason)
                }
            }
        }
    }

    /// Both connections are at their end, or nobody can be told anything any more.
    fn is_over(&self) -> bool {
        match (self.up.sink(), self.down.sink()) {
            (Sink::Gone, Sink::Gone) => true,
            (Sink::Gone | Sink::Shut, Sink::Gone | Sink::Shut) => {
                self.is_client_done() && self.down.source() == Source::Ended
            }
            _ => false,
        }
    }

    /// Whether the client's connection needs us no more: it hung up, or both Close frames were
    /// exchanged and we, its server, ended TCP (RFC 6455 §7.1.1). What it sent by then was read,
    /// so that the end of the socket is FIN and not a reset that overtakes the Close frame.
    fn is_client_done(&self) -> bool {
        let closed = self.up.received.get().is_some() && self.down.sink() == Sink::Shut;
        closed || self.up.source() == Source::Ended
    }

    /// The end begins, unless it has: the first cause is the one reported.
    fn begin(&mut self, end: End) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = Some(end);
        self.closing_since = Instant::now();
        self.deadline.arm(self.settings.close_timeout.get());
        true
    }

    /// Sends Close to a side, unless it got one. A side that sent Close itself gets its own code
    /// back (§5.5.1): towards it, the handshake it began ends as it should.
    fn close(&mut self, side: Side, code: u16, reason: &str) -> bool {
        let (code, reason) = match self.from(side).received.get() {
            Some(close::NO_STATUS) => (None, ""),
            Some(own) => (Some(own), ""),
            None => (Some(code), reason),
        };
        self.to(side).close(code, reason)
    }

    /// The end when time is up for good.
    fn on_deadline(&mut self) -> Option<End> {
        let now = Instant::now();
        match self.end {
            None => {
                self.check_liveness(now);
                None
            }
            // A drain waits for the end of the frame under way as long as its bytes move; the
            // grace period of the process bounds that.
            Some(End::Drained) if self.moved > self.closing_since && self.owes_close() => {
                self.closing_since = now;
                self.deadline.arm(self.settings.close_timeout.get());
                None
            }
            Some(_) => self.end.take(),
        }
    }

    /// A side has not got its Close yet.
    fn owes_close(&self) -> bool {
        self.up.sink() == Sink::Open || self.down.sink() == Sink::Open
    }

    fn from(&mut self, side: Side) -> &mut Direction<'a> {
        match side {
            Side::Client => &mut self.up,
            Side::Upstream => &mut self.down,
        }
    }

    fn to(&mut self, side: Side) -> &mut Direction<'a> {
        self.from(side.peer())
    }

    fn report(self, end: End) -> Report {
        let carried =
            |d: &Direction<'_>| Carried { bytes: d.carried.get(), messages: d.messages() };
        let closed = |d: &Direction<'_>| {
            d.received.get().is_some() && matches!(d.sink(), Sink::Closed | Sink::Shut)
        };
        Report {
            client_to_upstream: carried(&self.up),
            upstream_to_client: carried(&self.down),
            client_close: self.up.received.get(),
            upstream_close: self.down.received.get(),
            clean: closed(&self.up) && closed(&self.down),
            end,
        }
    }
}

impl Side {
    /// The other end.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

#[cfg(test)]
mod tests;
