//! The server's side of an HTTP/2 connection.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use gwproxy_core::net::Stream;
use gwproxy_core::worker::Worker;
use http::header::{CONTENT_LENGTH, DATE, EXPECT};
use http::{HeaderValue, Method, StatusCode};

use super::conn::{Accepted, Bounds, Conn, Role, State};
use super::drive::{Driver, Patience};
use super::handle::{Handle as Share, Recv, Send, StreamIo};
use super::pump::{Pump, Stopped};
use super::{Reason, reset_code};
use crate::body::Body;
use crate::fields::{Known, Seen, Several};
use crate::h1::head::{Reject, is_authority};
use crate::interim::Interim;
use crate::serve::{Client, Handle, Settings};
use crate::tunnel::{Upgraded, UpgradedIo};
use crate::wire::{hop, websocket};
use crate::{Fields, Request, Response, date};

/// Serves one connection to its end. `early` are bytes already read from it.
pub(crate) async fn serve<H: Handle>(
    stream: Stream,
    early: BytesMut,
    client: Rc<Client>,
    handler: Rc<H>,
    worker: Rc<Worker>,
    settings: Rc<Settings>,
) {
    let bounds = Bounds { section: settings.limits.head_bytes, fields: settings.limits.fields };
    let conn = Conn::new(Role::Server, bounds);
    let patience = Patience {
        head: settings.timeouts.head,
        write: settings.timeouts.body,
        idle: Some(settings.timeouts.keep_alive),
    };
    client.offer_interim(Rc::<Conn>::downgrade(&conn));
    let driver = Driver::new(Rc::clone(&conn), stream, early, worker.timer(), patience);
    let fresh = RefCell::new(Vec::new());
    let accept = |accepted| match accepted {
        Accepted::Request { key, request, is_too_large } => {
            let handle = Share::first(Rc::clone(&conn), key);
            let exchange = Exchange {
                send: Send::new(handle),
                client: Rc::clone(&client),
                handler: Rc::clone(&handler),
                worker: Rc::clone(&worker),
                settings: Rc::clone(&settings),
            };
            fresh.borrow_mut().push(Box::pin(exchange.run(request, is_too_large)));
        }
        Accepted::Malformed(reason) => {
            // Its stream was reset; the record remains to be made.
            drop(handler.reject(&bad(reason), &client));
        }
    };
    let mut driving = pin!(driver.run(accept));
    let mut draining = pin!(worker.draining());
    let (mut is_draining, mut is_over) = (false, false);
    let (timer, age) = (worker.timer().deadline(), settings.timeouts.age);
    let retires = worker.timer().about(age);
    // The requests run within the connection's task: one wake-up serves all that are ready, and
    // what they answer leaves in one write.
    let mut requests = FuturesUnordered::new();
    poll_fn(|cx| {
        if !is_draining && (timer.is_past(retires) || draining.as_mut().poll(cx).is_ready()) {
            is_draining = true;
            conn.with(State::announce_farewell);
        }
        is_over = is_over || driving.as_mut().poll(cx).is_ready();
        // A panic ends the request that it happened in and nothing else; its stream is reset.
        for run in fresh.borrow_mut().drain(..) {
            requests.push(AssertUnwindSafe(run).catch_unwind());
        }
        while let Poll::Ready(Some(_)) = requests.poll_next_unpin(cx) {}
        if is_over && requests.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Interim for Conn {
    fn send(&self, stream: u32, status: StatusCode, headers: &Fields) {
        self.with(|state| state.send_interim(stream, status, headers));
    }
}

/// One request and its answer.
struct Exchange<H> {
    send: Send,
    client: Rc<Client>,
    handler: Rc<H>,
    worker: Rc<Worker>,
    settings: Rc<Settings>,
}

impl<H: Handle> Exchange<H> {
    async fn run(self, mut request: Box<Request>, is_too_large: bool) {
        let method = request.method().clone();
        let tunnel = match self.attach(&mut request, is_too_large) {
            Ok(tunnel) => tunnel,
            Err(reject) => {
                let response = self.handler.reject(&reject, &self.client);
                self.answer(response, &method).await;
                return;
            }
        };
        let Some(mut response) = self.handled(request).await else { return };
        if let Some((carry, guard)) = response.body_mut().take_tunnel() {
            let Some(recv) = tunnel else {
                // A tunnel in answer to something else than CONNECT has no meaning in HTTP/2.
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                return self.answer(response, &method).await;
            };
            let _ends_with_it = self.client.held();
            response.headers_mut().remove(CONTENT_LENGTH);
            let (mut parts, _) = fit(response).into_parts();
            let is_upgrade = parts.status == StatusCode::SWITCHING_PROTOCOLS;
            if is_upgrade {
                websocket::to_200(&mut parts.status, &mut parts.headers);
            }
            self.send.head(&parts, None, false);
            // RFC 9113 §8.5, RFC 8441 §5.
            let cut = if is_upgrade { Reason::CANCEL } else { Reason::CONNECT_ERROR };
            let io = UpgradedIo::H2(Box::new(StreamIo::new(recv, self.send, cut)));
            carry.run(Upgraded { io, early: Bytes::new() }, guard).await;
            return;
        }
        if tunnel.is_some() && response.status().is_success() {
            // The client would take for a tunnel what is none.
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        self.answer(response, &method).await;
    }

    /// The handler's answer; none if the client left before.
    async fn handled(&self, request: Box<Request>) -> Option<Response> {
        // Pinned as it is made: a future that is moved first has room for two of it.
        let mut handling = pin!(Rc::clone(&self.handler).handle(request, Rc::clone(&self.client)));
        poll_fn(|cx| {
            if self.send.poll_broken(cx).is_ready() {
                return Poll::Ready(None);
            }
            handling.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Gives the request its content; the stream's other end, if it asks for a tunnel.
    fn attach(&self, request: &mut Request, is_too_large: bool) -> Result<Option<Recv>, Reject> {
        if is_too_large {
            return Err(Reject {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "the head is larger than the limit",
            });
        }
        check(request, &self.settings)?;
        let is_tunnel =
            *request.method() == Method::CONNECT || request.headers().seen().has(Seen::UPGRADE);
        if !is_tunnel && let Some(stream) = self.send.recv_ended() {
            *request.body_mut() = Body::none_on(stream);
            return Ok(None);
        }
        let (timer, silence) = (self.worker.timer().clone(), self.settings.timeouts.body);
        let owes_continue = !is_tunnel && request.headers().seen().has(Seen::EXPECT);
        let recv = Recv::new(self.send.share(), timer, silence, owes_continue);
        if is_tunnel {
            *request.body_mut() = Body::none_on(recv.stream());
            return Ok(Some(recv));
        }
        *request.body_mut() = Body::h2(recv);
        Ok(None)
    }

    async fn answer(&self, mut response: Response, method: &Method) {
        let is_head = *method == Method::HEAD;
        let length = response.body().length().filter(|&length| {
            let status = response.status();
            let has_none = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
            length > 0 && !is_head && !has_none
        });
        if is_head {
            std::mem::take(response.body_mut()).leave_out();
        }
        let (parts, mut body) = fit(response).into_parts();
        let ends = body.is_empty();
        self.send.head(&parts, length, ends);
        drop(parts);
        if ends {
            return;
        }
        body.read_by(&self.client);
        let silence = self.settings.timeouts.body;
        let sent = Pump::new(body).run(&self.send, self.worker.timer(), || silence).await;
        if let Err(Stopped::Body(error)) = sent {
            // The client must see that this is not all (RFC 9113 §8.1).
            let reason = reset_code(&error).map_or(Reason::INTERNAL_ERROR, Reason);
            self.send.reset(reason);
        }
    }
}

fn bad(reason: &'static str) -> Reject {
    Reject { status: StatusCode::BAD_REQUEST, reason }
}

/// What is not malformed and refused all the same (RFC 9113 §8.3, §8.5).
fn check(request: &Request, settings: &Settings) -> Result<(), Reject> {
    let uri = request.uri();
    if *request.method() == Method::CONNECT && uri.path_and_query().is_some() {
        // As RFC 9220 §3 has it.
        return Err(Reject {
            status: StatusCode::NOT_IMPLEMENTED,
            reason: "a :protocol other than websocket (RFC 8441 §4)",
        });
    }
    if uri.path() == "*" && *request.method() != Method::OPTIONS {
        return Err(bad("the request target is not valid (RFC 9112 §3.2)"));
    }
    if uri.path_and_query().is_some_and(|path| path.as_str().len() > settings.limits.target_bytes) {
        return Err(Reject {
            status: StatusCode::URI_TOO_LONG,
            reason: "the request target is too long",
        });
    }
    if uri.authority().is_none() {
        match request.headers().sole(Known::HOST) {
            Ok(None) => return Err(bad("neither :authority nor Host names a host")),
            Err(Several) => return Err(bad("more than one Host field")),
            Ok(Some(host)) if !is_authority(host.as_bytes()) => {
                return Err(bad("the Host field is not a host"));
            }
            Ok(Some(_)) => {}
        }
    }
    if request
        .headers()
        .get(EXPECT)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Reject {
            status: StatusCode::EXPECTATION_FAILED,
            reason: "an expectation other than 100-continue",
        });
    }
    Ok(())
}

/// A response as HTTP/2 has it: with a date, and without what only HTTP/1.1 knows.
fn fit(mut response: Response) -> Response {
    if response.headers().seen().has(Seen::CONNECTION) {
        hop::strip(response.headers_mut());
    }
    if !response.headers().seen().has(Seen::DATE) {
        let date = date::with_now(HeaderValue::from_bytes);
        if let Ok(date) = date {
            response.headers_mut().append(DATE, date);
        }
    }
    response
}
