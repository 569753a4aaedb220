//! The server's side of an HTTP/1.1 connection: one task, requests in order (RFC 9112 §9).

mod body;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use gwproxy_core::error::Blame;
use gwproxy_core::net::Stream;
use gwproxy_core::net::splice::Pipe;
use gwproxy_core::telemetry::Refused;
use gwproxy_core::timer::{Deadline, Moment};
use gwproxy_core::worker::Worker;
use gwproxy_core::{Code, Error};
use http::{Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::body::Decoder;
use super::encode::{self, ResponseFraming};
use super::head::{self, Framing, Reject, RequestHead, Scan};
use super::read::Reader;
use super::write::Writer;
use crate::body::{Body, Frame, Guard};
use crate::debt::Debt;
use crate::fields::{Known, Seen};
use crate::interim::Interim;
use crate::serve::{Client, HalfClose, Handle, Settings};
use crate::tunnel::{Tunnel, Upgraded, UpgradedIo};
use crate::{Fields, Response, date, rescue};
use body::EndTurn;
pub(crate) use body::RequestBody;

/// Bytes of an unread request body that are read away so that the connection can be used again.
const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// How long reading away may take, and how long a closing connection lingers (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of interim responses that wait for the client to read; those above are left out.
const INTERIM_BYTES_MAX: usize = 16 * 1024;
/// Bytes of further requests taken while one is under way.
const PIPELINE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
struct Conn {
    io: RefCell<Io>,
    /// For reads: idle, head, body.
    reading: Deadline,
    /// For writes that make no progress.
    writing: Deadline,
    settings: Rc<Settings>,
    /// From when on a request is the last one.
    retires: Moment,
    /// Counts exchanges. An upload may outlive its exchange in another task; by this number it
    /// finds that the bytes that come now are not its own.
    turn: Cell<u64>,
}

#[derive(Debug)]
struct Io {
    stream: Option<Stream>,
    reader: Reader,
    writer: Writer,
    scan: Scan,
    decoder: Decoder,
    expects_continue: bool,
    /// A read of the body failed: what follows on the connection means nothing.
    is_broken: bool,
    /// The end of the client's direction leaves the request under way as it is ([`HalfClose`]).
    answers_half_closed: bool,
    /// The client ended its direction while a request was under way.
    is_half_closed: bool,
    /// What a client owes that reads too slowly.
    reading_debt: Debt,
    /// The same of one that sends too slowly.
    sending_debt: Debt,
    /// Bytes of bodies received.
    received: u64,
    /// The next bytes of the body are waited for.
    waits_for_body: bool,
    /// The final response has begun: only its own task writes now.
    is_responding: bool,
    /// The client knows interim responses.
    takes_interim: bool,
    /// Who waits for more of the body.
    body_waker: Option<Waker>,
}

/// What the next read of a head brought.
enum Next {
    Head(RequestHead),
    Reject(Reject),
    Close,
}

/// What to do after a response.
enum After {
    Again,
    Close,
    Tunnel(Tunnel, Guard),
}

/// Serves one connection to its end. `early` are bytes already read from it.
pub(crate) async fn serve<H: Handle>(
    stream: Stream,
    early: BytesMut,
    client: Rc<Client>,
    handler: Rc<H>,
    worker: Rc<Worker>,
    settings: Rc<Settings>,
) {
    let conn = Rc::new(Conn {
        io: RefCell::new(Io {
            stream: Some(stream),
            reader: Reader::with(early),
            writer: Writer::default(),
            scan: Scan::default(),
            decoder: Decoder::new(Framing::None),
            expects_continue: false,
            is_broken: false,
            answers_half_closed: false,
            is_half_closed: false,
            reading_debt: Debt::default(),
            sending_debt: Debt::default(),
            received: 0,
            waits_for_body: false,
            is_responding: false,
            takes_interim: false,
            body_waker: None,
        }),
        reading: worker.timer().deadline(),
        writing: worker.timer().deadline(),
        retires: worker.timer().about(settings.timeouts.age),
        settings,
        turn: Cell::new(0),
    });
    let _ended_with_it = EndTurn(Rc::clone(&conn));
    client.offer_interim(Rc::<Conn>::downgrade(&conn));
    let mut is_first = true;
    loop {
        match conn.next_head(&worker, is_first).await {
            Next::Close => return,
            Next::Reject(reject) => {
                let response = handler.reject(&reject, &client);
                conn.answer_and_close(response).await;
                return;
            }
            Next::Head(head) => match conn.exchange(head, &client, &handler, &worker).await {
                After::Again => {}
                After::Close => return conn.linger().await,
                After::Tunnel(tunnel, guard) => {
                    if let Some(upgraded) = conn.leave() {
                        // The task of a tunnel should not carry this future's size for hours.
                        let held = client.held();
                        worker.spawn(async move {
                            let _ends_with_it = held;
                            tunnel.run(upgraded, guard).await;
                        });
                    }
                    return;
                }
            },
        }
        is_first = false;
    }
}

impl Conn {
    /// Waits for the next request. Between requests the connection may idle; once a byte of a
    /// head is there, the rest must follow in the head's time.
    async fn next_head(&self, worker: &Worker, is_first: bool) -> Next {
        let timeouts = &self.settings.timeouts;
        let wait = if is_first { timeouts.head } else { timeouts.keep_alive };
        self.reading.arm(wait);
        let mut in_head = is_first;
        // A head that comes in one piece, as nearly all do, needs no deadline.
        let next = poll_fn(|cx| {
            let io = &mut *self.io.borrow_mut();
            loop {
                if !io.reader.buf.is_empty() {
                    let limits = &self.settings.limits;
                    match head::parse_request(&mut io.reader.buf, &mut io.scan, limits) {
                        Ok(Some(head)) => return Poll::Ready(Next::Head(head)),
                        Ok(None) if in_head => {}
                        Ok(None) => {
                            in_head = true;
                            self.reading.arm(timeouts.head);
                        }
                        Err(reject) => return Poll::Ready(Next::Reject(reject)),
                    }
                }
                let Some(stream) = io.stream.as_mut() else { return Poll::Ready(Next::Close) };
                match io.reader.poll_fill(cx, stream, None) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Close),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        // Not before the read: a request that is here already is answered.
                        if io.reader.buf.is_empty() && worker.is_draining() {
                            return Poll::Ready(Next::Close);
                        }
                        ready!(self.reading.poll_expired(cx));
                        if is_first {
                            Refused::Silence.count();
                        }
                        return Poll::Ready(if io.reader.buf.is_empty() {
                            Next::Close
                        } else {
                            Next::Reject(Reject {
                                status: StatusCode::REQUEST_TIMEOUT,
                                reason: "the request head did not arrive in time",
                            })
                        });
                    }
                }
            }
        })
        .await;
        self.reading.disarm();
        next
    }

    async fn exchange<H: Handle>(
        self: &Rc<Self>,
        head: RequestHead,
        client: &Rc<Client>,
        handler: &Rc<H>,
        worker: &Rc<Worker>,
    ) -> After {
        let RequestHead { mut request, framing, keep_alive, expects_continue } = head;
        let (method, version) = (request.method().clone(), request.version());
        let asked = Asked { method, version, keep_alive };
        {
            let mut io = self.io.borrow_mut();
            io.decoder = Decoder::of_message(framing, request.headers());
            io.expects_continue = expects_continue;
            io.answers_half_closed = self.settings.half_close == HalfClose::Allow || !keep_alive;
            io.waits_for_body = false;
            io.sending_debt.forgive();
            io.is_responding = false;
            // RFC 9110 §15.2: never to a client of HTTP/1.0.
            io.takes_interim = version == Version::HTTP_11;
        }
        if framing != Framing::None {
            let body = RequestBody { conn: Rc::clone(self), turn: self.turn.get() };
            *request.body_mut() = Body::h1_request(body);
        }
        // Boxed so that an idle connection does not carry the handler's future.
        let handling: Pin<Box<dyn Future<Output = Response>>> =
            Box::pin(Rc::clone(handler).handle(request, Rc::clone(client)));
        let Some(response) = self.until_client_leaves(handling).await else { return After::Close };
        match self.respond(response, &asked, worker).await {
            Ok(after) => after,
            Err((error, framing)) => {
                tracing::debug!(client = %client.peer.remote, %error, "the response was cut off");
                self.break_off(&error, framing).await;
                After::Close
            }
        }
    }

    /// Runs the handler, but drops it when the client closes its connection: nobody is left to
    /// take the answer (RFC 9112 §9.5), and the node should hear of it.
    async fn until_client_leaves(
        &self,
        mut handling: Pin<Box<dyn Future<Output = Response>>>,
    ) -> Option<Response> {
        poll_fn(|cx| {
            // A panic ends its request, and its client is told as of any other error.
            match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
                Ok(Poll::Ready(response)) => return Poll::Ready(Some(response)),
                Ok(Poll::Pending) => {}
                Err(_) => return Poll::Ready(Some(rescue::failed())),
            }
            // Interim responses. What cannot leave now is for the final one to complain about.
            let _ = self.poll_flush(cx);
            self.poll_client_gone(cx).map(|()| None)
        })
        .await
    }

    fn poll_client_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let io = &mut *self.io.borrow_mut();
        // While a body is under way its reader sees the end of the stream. After a half-close a
        // reader has nothing more to see: if the client is gone after all, a write tells.
        if !io.decoder.is_done() || io.is_half_closed {
            return Poll::Pending;
        }
        while io.reader.buf.len() < PIPELINE_BYTES_MAX {
            let Some(stream) = io.stream.as_mut() else { return Poll::Ready(()) };
            match ready!(io.reader.poll_fill(cx, stream, None)) {
                Ok(0) if io.answers_half_closed => {
                    io.is_half_closed = true;
                    io.reader.release();
                    break;
                }
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    async fn respond(
        self: &Rc<Self>,
        mut response: Response,
        asked: &Asked,
        worker: &Worker,
    ) -> Result<After, (Error, ResponseFraming)> {
        if let Some((tunnel, guard)) = response.body_mut().take_tunnel() {
            let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let framing = ResponseFraming::AsGiven;
            self.queue_head(&response, framing, is_upgrade.then_some("upgrade"));
            self.flush().await.map_err(|error| (error, framing))?;
            return Ok(After::Tunnel(tunnel, guard));
        }
        let keep = {
            let io = self.io.borrow();
            // A half-closed client may have sent further requests before.
            let was_last = io.is_half_closed && io.reader.buf.is_empty();
            // A client that still waits for 100 may or may not send its body: no telling where
            // the next request would begin.
            asked.keep_alive
                // What follows a CONNECT was meant for the tunnel (RFC 9931).
                && asked.method != Method::CONNECT
                && !io.is_broken
                && !was_last
                && !io.expects_continue
                && !worker.is_draining()
                && !self.reading.is_past(self.retires)
                && !closes(&response)
                && io.decoder.remaining().is_none_or(|left| left <= DRAIN_BYTES_MAX)
        };
        let framing = framing_of(&response, asked);
        let keep = keep && framing != ResponseFraming::UntilClose;
        // RFC 9110 §7.8: who sends Upgrade (a 426) names it in Connection.
        let connection = match (keep, response.headers().seen().has(Seen::UPGRADE)) {
            (true, false) => None,
            (true, true) => Some("upgrade"),
            (false, false) => Some("close"),
            (false, true) => Some("close, upgrade"),
        };
        self.queue_head(&response, framing, connection);
        let has_body = framing != ResponseFraming::AsGiven;
        let mut body = response.into_body();
        if has_body {
            if let Err(error) = self.send_body(&mut body, framing == ResponseFraming::Chunked).await
            {
                body.cut_off(error.code());
                return Err((error, framing));
            }
        } else {
            body.leave_out();
            self.flush().await.map_err(|error| (error, framing))?;
        }
        self.io.borrow_mut().writer.release();
        self.end_turn();
        if keep && self.read_away().await { Ok(After::Again) } else { Ok(After::Close) }
    }

    fn queue_head(
        &self,
        response: &Response,
        framing: ResponseFraming,
        connection: Option<&'static str>,
    ) {
        let io = &mut *self.io.borrow_mut();
        // From here on nobody but this task writes, and a 100 would land within the response.
        io.is_responding = true;
        io.expects_continue = false;
        let out = &mut io.writer.gathered;
        date::with_now(|date| {
            let (status, headers) = (response.status(), response.headers());
            encode::response_head(out, status, headers, framing, connection, date);
        });
    }

    async fn send_body(&self, body: &mut Body, chunked: bool) -> Result<(), Error> {
        let mut ended = false;
        poll_fn(|cx| {
            loop {
                if ended || !self.io.borrow().writer.has_room() {
                    ready!(self.poll_flush(cx))?;
                    if ended {
                        return Poll::Ready(Ok(()));
                    }
                }
                match self.poll_queue(cx, body, chunked) {
                    Poll::Ready(Ok(is_last)) => ended = is_last,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        let _ = self.poll_flush(cx)?;
                        // A silent node gives no reason to write, and only a write would tell.
                        ready!(self.poll_client_gone(cx));
                        return Poll::Ready(Err(gone()));
                    }
                }
            }
        })
        .await
    }

    /// Queues the next piece of a body, for which there must be room; whether it was the last.
    fn poll_queue(
        &self,
        cx: &mut Context<'_>,
        body: &mut Body,
        chunked: bool,
    ) -> Poll<Result<bool, Error>> {
        if !chunked
            && body.can_splice()
            && self.io.borrow().stream.as_ref().is_some_and(|stream| stream.bare_tcp().is_some())
            && let Some(mut pipe) = Pipe::take()
        {
            if ready!(body.poll_splice(cx, &mut pipe))? > 0 {
                self.io.borrow_mut().writer.push_pipe(pipe);
            }
            return Poll::Ready(Ok(false));
        }
        if let Some(frame) = ready!(body.poll_frame(cx)).transpose()? {
            return Poll::Ready(Ok(self.queue_frame(frame, chunked)));
        }
        if chunked {
            encode::last_chunk(&mut self.io.borrow_mut().writer.gathered, None);
        }
        Poll::Ready(Ok(true))
    }

    /// Queues one frame; true when it ends the body.
    fn queue_frame(&self, frame: Frame, chunked: bool) -> bool {
        let writer = &mut self.io.borrow_mut().writer;
        match frame {
            Frame::Data(data) if data.is_empty() => false,
            Frame::Data(data) if chunked => {
                encode::chunk_size(&mut writer.gathered, data.len());
                writer.push(data, b"\r\n");
                false
            }
            Frame::Data(data) => {
                writer.push(data, b"");
                false
            }
            Frame::Trailers(trailers) => {
                if chunked {
                    encode::last_chunk(&mut writer.gathered, Some(&trailers));
                }
                true
            }
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let io = &mut *self.io.borrow_mut();
        if io.writer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = io.stream.as_mut() else { return Poll::Ready(Err(gone())) };
        match io.writer.poll_flush(cx, stream) {
            Poll::Ready(Ok(())) => {
                if io.reading_debt.forgive() {
                    self.writing.disarm();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(gone().because(error))),
            Poll::Pending => {
                let (silence, now) = (self.settings.timeouts.body, (io.writer.written, None));
                let held = || stream.unsent();
                ready!(io.reading_debt.poll_too_slow(cx, &self.writing, silence, now, held));
                Poll::Ready(Err(Error::new(
                    Code::ClientTimeout,
                    "the client stopped reading the response, or reads it too slowly",
                )))
            }
        }
    }

    async fn flush(&self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    async fn answer_and_close(&self, response: Response) {
        let framing = ResponseFraming::choose(response.body().length(), Version::HTTP_11);
        self.queue_head(&response, framing, Some("close"));
        let mut body = response.into_body();
        if self.send_body(&mut body, framing == ResponseFraming::Chunked).await.is_ok() {
            self.io.borrow_mut().is_broken = true;
            self.linger().await;
        }
    }

    /// Closes so that the client can read the answer: a reset would throw it away when bytes of
    /// the client are still unread (RFC 9112 §9.6).
    async fn linger(&self) {
        let (stream, clean) = {
            let mut io = self.io.borrow_mut();
            let clean = io.decoder.is_done() && io.reader.buf.is_empty() && !io.is_broken;
            (io.stream.take(), clean)
        };
        let Some(mut stream) = stream else { return };
        let closing = async {
            if stream.shutdown().await.is_err() || clean {
                return;
            }
            let mut left = DRAIN_BYTES_MAX as usize * 16;
            // Not an array, which every connection's future would have room for.
            let mut sink = vec![0u8; 2048];
            while let Ok(read) = read_some(&mut stream, &mut sink).await
                && read > 0
                && left > read
            {
                left -= read;
            }
        };
        self.reading.within(LINGER, closing).await;
    }

    /// Ends a response that is not whole so that the client can tell (RFC 9112 §8). Where the
    /// framing says so, what the node sent before it broke off still arrives; a reset would take
    /// it away, and is left for a body that only the end of the connection delimits.
    async fn break_off(&self, error: &Error, framing: ResponseFraming) {
        self.io.borrow_mut().is_broken = true;
        let is_told = framing != ResponseFraming::UntilClose;
        if is_told && error.code().blame() != Blame::Downstream {
            let _ = self.reading.within(LINGER, self.flush()).await;
            return;
        }
        if let Some(stream) = self.io.borrow_mut().stream.take() {
            stream.abort_on_close();
        }
    }

    /// Takes the connection out of HTTP.
    fn leave(&self) -> Option<Upgraded> {
        let mut io = self.io.borrow_mut();
        let early = std::mem::take(&mut io.reader.buf).freeze();
        io.stream.take().map(|stream| Upgraded { io: UpgradedIo::Stream(Box::new(stream)), early })
    }
}

impl Interim for Conn {
    fn send(&self, _stream: u32, status: StatusCode, headers: &Fields) {
        let io = &mut *self.io.borrow_mut();
        if !io.takes_interim || io.is_responding {
            return;
        }
        let mut head = BytesMut::new();
        encode::interim_head(&mut head, status, headers);
        if io.writer.gathered.len() + head.len() <= INTERIM_BYTES_MAX {
            io.writer.gathered.extend_from_slice(&head);
        }
    }
}

/// What of a request its response depends on.
struct Asked {
    method: Method,
    version: Version,
    keep_alive: bool,
}

fn framing_of(response: &Response, asked: &Asked) -> ResponseFraming {
    let status = response.status();
    let bodiless = asked.method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless {
        ResponseFraming::AsGiven
    } else {
        ResponseFraming::choose(response.body().length(), asked.version)
    }
}

fn closes(response: &Response) -> bool {
    crate::wire::hop::has_token(response.headers(), Known::CONNECTION, "close")
}

fn gone() -> Error {
    Error::new(Code::ClientClosed, "the client closed its connection")
}

async fn read_some(stream: &mut Stream, sink: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut buf = ReadBuf::new(sink);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    })
    .await
}

#[cfg(test)]
mod tests;
