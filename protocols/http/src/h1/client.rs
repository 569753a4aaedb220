//! The client's side of HTTP/1.1: one exchange at a time on a connection to a node.

mod body;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gwproxy_core::net::Stream;
use gwproxy_core::timer::{Deadline, Moment, Timer};
use gwproxy_core::{Code, Error};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};

use super::body::Decoder;
use super::encode;
use super::head::{self, Framing, Limits, ResponseHead, Scan};
use super::read::{LARGE_BYTES, Reader};
use super::write::Writer;
use crate::body::{Body, Frame};
use crate::fields::Seen;
use crate::h2;
use crate::interim::{INTERIM_MAX, Way};
use crate::pool::{AGE_MAX, SERVED_MAX};
use crate::private::Return;
use crate::tunnel::{Upgraded, UpgradedIo};
use crate::wire::hop;
use crate::{Fields, Request, Response};
pub use body::ResponseBody;

/// How long an upload waits for `100 Continue` before it starts anyway (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Bounds of a node's response head: a node may set larger cookies than a client may send.
const RESPONSE_LIMITS: Limits =
    Limits { head_bytes: 64 * 1024, fields: 128, field_bytes: 32 * 1024, target_bytes: 8 * 1024 };

/// A connection to a node, between exchanges or in one.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    reader: Reader,
    writer: Writer,
    deadline: Deadline,
    /// From when on it is not used again.
    retires: Moment,
    /// Exchanges it has served.
    pub(crate) served: u32,
}

/// How long a node may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// From the request's head to the response's.
    pub(crate) first_byte: Duration,
    /// Silence within a body, either way.
    pub(crate) body: Duration,
    /// What time it is, for who knows.
    pub(crate) now: Option<Instant>,
}

/// A request body on its way to a node.
#[derive(Debug)]
struct Upload {
    body: Body,
    chunked: bool,
    state: UploadState,
    /// Frames taken from the client.
    frames: u64,
    /// Everything taken is sent; the next byte is the client's to bring.
    waits_for_client: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum UploadState {
    /// The client asked to be told to go on; the node has not said so yet.
    WaitsForContinue,
    Sending,
    Flushing,
    Done,
    /// The node no longer reads; its answer may still be good.
    Refused,
}

/// How far an upload was at the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Frames {
    taken: u64,
    ended: bool,
}

impl Connection {
    pub(crate) fn new(stream: Stream, timer: &Timer) -> Self {
        Self {
            stream,
            reader: Reader::default(),
            writer: Writer::default(),
            deadline: timer.deadline(),
            retires: timer.about(AGE_MAX),
            served: 0,
        }
    }

    /// Whether it has served for long enough.
    pub(crate) fn is_old(&self) -> bool {
        self.served >= SERVED_MAX || self.deadline.is_past(self.retires)
    }

    /// Whether an idle connection can still be used: a node that closed it or sent bytes nobody
    /// asked for (RFC 9112 §9.2) is found out here.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let silent = self.reader.poll_fill(&mut cx, &mut self.stream, None).is_pending();
        silent && self.reader.buf.is_empty()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        scan: &mut Scan,
        limits: &Limits,
        asked: &Method,
    ) -> Poll<Result<ResponseHead, Error>> {
        loop {
            let parsed = match &mut self.reader.buf {
                buf if buf.is_empty() => Ok(None),
                buf => head::parse_response(buf, scan, limits, asked),
            };
            match parsed {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(reject) => {
                    return Poll::Ready(Err(Error::new(
                        Code::UpstreamMalformed,
                        format!("the node's response is not valid HTTP: {}", reject.reason),
                    )));
                }
            }
            match ready!(self.reader.poll_fill(cx, &mut self.stream, None)) {
                Ok(0) => return Poll::Ready(Err(self.closed_early())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.closed_early().because(error))),
            }
        }
    }

    fn closed_early(&self) -> Error {
        let sentence = if self.reader.buf.is_empty() {
            "the node closed the connection without a response"
        } else {
            "the node closed the connection within the response head"
        };
        Error::new(Code::UpstreamReset, sentence)
    }
}

/// Sends a request and waits for the head of the response. Hop-by-hop fields must be gone from
/// `request`, except that an upgrade request still has `Upgrade`.
///
/// # Errors
/// With the connection dropped: what went wrong. The request's body is lost.
pub(crate) async fn exchange(
    mut conn: Box<Connection>,
    request: &Request,
    body: Body,
    limit: Limit,
    interim: Option<&Way>,
    way_back: Return<'_>,
) -> Result<Response, SendError> {
    // A client of HTTP/2 may have asked for a hundred, and read none of them.
    let is_one_of_many = request.version() == Version::HTTP_2;
    conn.reader.read_at_most(if is_one_of_many { h2::BODY_BYTES } else { LARGE_BYTES });
    let framing = match body.length() {
        _ if body.is_empty() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    queue_head(&mut conn.writer.gathered, request, framing);
    let waits = framing != Framing::None && expects_continue(request);
    let mut upload = Upload::new(body, framing, waits);
    conn.served += 1;
    let wait = match upload.state {
        UploadState::WaitsForContinue => CONTINUE_WAIT,
        _ => limit.first_byte,
    };
    match limit.now {
        Some(now) => conn.deadline.arm_from(now, wait),
        None => conn.deadline.arm(wait),
    }
    let mut awaited = Awaited {
        scan: Scan::default(),
        interim_count: 0,
        interim,
        frames: Frames::default(),
        limit,
    };
    let head = poll_fn(|cx| awaited.poll(cx, &mut conn, &mut upload, request.method())).await;
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            let was_silent = error.code() == Code::UpstreamReset
                && awaited.interim_count == 0
                && conn.reader.buf.is_empty();
            return Err(SendError { error, was_silent });
        }
    };
    conn.deadline.disarm();
    finish_head(conn, head, upload, request, limit, way_back)
        .map_err(|error| SendError { error, was_silent: false })
}

/// The head of a response, until it is there.
struct Awaited<'a> {
    scan: Scan,
    /// Interim responses so far.
    interim_count: u32,
    interim: Option<&'a Way>,
    frames: Frames,
    limit: Limit,
}

impl Awaited<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Connection,
        upload: &mut Upload,
        asked: &Method,
    ) -> Poll<Result<ResponseHead, Error>> {
        loop {
            ready_error(upload.poll(cx, conn))?;
            match conn.poll_head(cx, &mut self.scan, &RESPONSE_LIMITS, asked) {
                Poll::Ready(Ok(head)) if is_interim(head.parts.status) => {
                    self.interim_count += 1;
                    if self.interim_count > INTERIM_MAX {
                        return Poll::Ready(Err(Error::new(
                            Code::UpstreamMalformed,
                            "the node sent more than ten interim responses",
                        )));
                    }
                    if head.parts.status == StatusCode::CONTINUE {
                        upload.go_on();
                        conn.deadline.arm(self.limit.first_byte);
                    } else if let Some(client) = self.interim {
                        client.send(head.parts.status, head.parts.headers, Version::HTTP_11);
                    }
                }
                Poll::Ready(Ok(head)) => {
                    // A node that answers well before it has the content still wants it; one that
                    // refuses does not (RFC 9110 §10.1.1).
                    if head.parts.status.as_u16() < 400 {
                        upload.go_on();
                    }
                    return Poll::Ready(Ok(head));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => ready!(self.poll_time(cx, conn, upload))?,
            }
        }
    }

    /// Ready when the wait for `100 Continue` is over, an error when the node's time is.
    fn poll_time(
        &mut self,
        cx: &mut Context<'_>,
        conn: &Connection,
        upload: &mut Upload,
    ) -> Poll<Result<(), Error>> {
        if upload.moved(&mut self.frames) {
            // The node's time begins when it has the request; until then it only has to keep
            // reading.
            conn.deadline.arm(self.limit.first_byte);
        } else if upload.waits_for_client {
            conn.deadline.disarm();
        }
        ready!(conn.deadline.poll_expired(cx));
        if upload.state != UploadState::WaitsForContinue {
            let sentence = format!("the node sent no response within {:?}", self.limit.first_byte);
            return Poll::Ready(Err(Error::new(Code::UpstreamTimeout, sentence)));
        }
        upload.go_on();
        conn.deadline.arm(self.limit.first_byte);
        Poll::Ready(Ok(()))
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) error: Error,
    /// The node closed the connection and had not sent a byte.
    pub(crate) was_silent: bool,
}

/// Makes the response out of its head and the connection its body comes from.
fn finish_head(
    mut conn: Box<Connection>,
    head: ResponseHead,
    upload: Upload,
    request: &Request,
    limit: Limit,
    way_back: Return<'_>,
) -> Result<Response, Error> {
    let ResponseHead { parts, framing, keep_alive, authenticates_connection } = head;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        if !request.headers().seen().has(Seen::UPGRADE) {
            return Err(Error::new(
                Code::UpstreamMalformed,
                "the node switched protocols without being asked (RFC 9110 §7.8)",
            ));
        }
        let early = std::mem::take(&mut conn.reader.buf).freeze();
        let io = UpgradedIo::Stream(Box::new(conn.stream));
        return Ok(Response::from_parts(parts, Body::upgraded(Upgraded { io, early })));
    }
    let mut body = ResponseBody {
        conn: Some(conn),
        decoder: Decoder::of_message(framing, &parts.headers),
        upload,
        home: if keep_alive { way_back.after(request, authenticates_connection) } else { None },
        limit: limit.body,
        is_waiting: false,
        loan: None,
    };
    if body.decoder.is_done() {
        body.finish();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    Ok(Response::from_parts(parts, Body::h1_response(body)))
}

impl Upload {
    fn new(body: Body, framing: Framing, expects_continue: bool) -> Self {
        let state = match framing {
            Framing::None => UploadState::Flushing,
            _ if expects_continue => UploadState::WaitsForContinue,
            _ => UploadState::Sending,
        };
        Self {
            body,
            chunked: framing == Framing::Chunked,
            state,
            frames: 0,
            waits_for_client: false,
        }
    }

    /// Whether it got on since the last look: a frame more, or its end.
    fn moved(&self, last: &mut Frames) -> bool {
        let now = Frames { taken: self.frames, ended: self.state == UploadState::Done };
        std::mem::replace(last, now) != now && !self.waits_for_client
    }

    fn go_on(&mut self) {
        if self.state == UploadState::WaitsForContinue {
            self.state = UploadState::Sending;
        }
    }

    /// Sends what can be sent. An error is the client's; a node that stops reading is not one,
    /// because its answer may explain it (RFC 9112 §9.5).
    fn poll(&mut self, cx: &mut Context<'_>, conn: &mut Connection) -> Poll<Result<(), Error>> {
        loop {
            match self.state {
                UploadState::Done | UploadState::Refused => return Poll::Ready(Ok(())),
                UploadState::WaitsForContinue => {
                    return match conn.writer.poll_flush(cx, &mut conn.stream) {
                        Poll::Ready(Err(_)) => self.refuse(),
                        _ => Poll::Pending,
                    };
                }
                UploadState::Flushing => {
                    match ready!(conn.writer.poll_flush(cx, &mut conn.stream)) {
                        Ok(()) => {
                            // The node may take long to answer, and longer for the client to read.
                            conn.writer.release();
                            self.state = UploadState::Done;
                        }
                        Err(_) => return self.refuse(),
                    }
                }
                UploadState::Sending => {
                    if !conn.writer.has_room()
                        && ready!(conn.writer.poll_flush(cx, &mut conn.stream)).is_err()
                    {
                        return self.refuse();
                    }
                    match self.body.poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            self.frames += 1;
                            self.queue(frame, &mut conn.writer);
                        }
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        Poll::Ready(None) => self.end(&mut conn.writer, None),
                        Poll::Pending => {
                            let flushed = conn.writer.poll_flush(cx, &mut conn.stream);
                            self.waits_for_client = flushed.is_ready();
                            return match flushed {
                                Poll::Ready(Err(_)) => self.refuse(),
                                _ => Poll::Pending,
                            };
                        }
                    }
                }
            }
        }
    }

    fn queue(&mut self, frame: Frame, writer: &mut Writer) {
        self.waits_for_client = false;
        match frame {
            Frame::Data(data) if data.is_empty() => {}
            Frame::Data(data) if self.chunked => {
                encode::chunk_size(&mut writer.gathered, data.len());
                writer.push(data, b"\r\n");
            }
            Frame::Data(data) => writer.push(data, b""),
            Frame::Trailers(mut trailers) => {
                // HTTP/2 trailers have met no decoder of ours.
                hop::strip_trailers(&mut trailers, &[]);
                self.end(writer, Some(&trailers));
            }
        }
    }

    fn end(&mut self, writer: &mut Writer, trailers: Option<&Fields>) {
        self.waits_for_client = false;
        if self.chunked {
            encode::last_chunk(&mut writer.gathered, trailers);
        }
        self.state = UploadState::Flushing;
    }

    fn refuse(&mut self) -> Poll<Result<(), Error>> {
        self.state = UploadState::Refused;
        self.body = Body::empty();
        Poll::Ready(Ok(()))
    }
}

/// Passes an error on; readiness and waiting are both "go on".
fn ready_error(poll: Poll<Result<(), Error>>) -> Result<(), Error> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn expects_continue(request: &Request) -> bool {
    request.headers().seen().has(Seen::EXPECT)
}

fn queue_head(out: &mut BytesMut, request: &Request, framing: Framing) {
    let (uri, headers) = (request.uri(), request.headers());
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes();
    let authority = uri.authority().map_or("", http::uri::Authority::as_str).as_bytes();
    encode::request_head(out, request.method(), target, authority, headers, framing);
    if headers.seen().has(Seen::UPGRADE) {
        out.truncate(out.len() - 2);
        out.extend_from_slice(b"connection: upgrade\r\n\r\n");
    }
}
