//! The gRPC echo: `gwproxy.echo.v1.Echo` with its four kinds of calls, health and reflection.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response as HttpResponse, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::codegen::Service as TowerService;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use self::proto::echo_server::EchoServer;
use self::proto::{EchoReply, EchoRequest, Metadata};
use super::body::{self, Body};
use super::connection::Connection;
use super::report::sentence;

/// The types of `proto/gwproxy/echo/v1/echo.proto`, as prost and tonic made them; the client is
/// generic over its transport.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("gwproxy.echo.v1");

    /// The encoded descriptor set, for reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo_descriptor.bin"));
}

pub(super) const HELP: &str = "\
Serves gwproxy.echo.v1.Echo { Unary, ServerStream, ClientStream, Bidi }, grpc.health.v1.Health and
reflection v1 and v1alpha, so that grpcurl needs no file:
  grpcurl -plaintext HOST:PORT describe gwproxy.echo.v1.Echo
A request says what to answer: {\"message\": \"hi\", \"repeat\": 3, \"delay_ms\": 100,
\"fail_with_code\": 14, \"fail_with_message\": \"why\", \"payload_bytes\": 1024,
\"ignore_deadline\": true}. Each reply carries the metadata received. Request metadata x-echo-*
comes back in the initial metadata; x-echo-trailer in the trailers names the node.";

/// The largest message taken or made; gRPC's usual default, here on purpose.
const MAX_MESSAGE: usize = 4 << 20;

/// The most filler in a reply: what a message holds, less room for the rest of it.
const MAX_PAYLOAD: usize = MAX_MESSAGE - 64 * 1024;

/// What a client stream's reply repeats of its messages.
const MAX_JOINED: usize = 64 * 1024;

type Answer = Pin<Box<dyn Future<Output = HttpResponse<Body>> + Send>>;
type Route = Box<dyn Fn(http::Request<Incoming>) -> Answer + Send + Sync>;
type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

/// The gRPC echo server's state.
pub(super) struct Grpc {
    /// By the path's prefix `/package.Service/`.
    routes: [(&'static str, Route); 4],
    health: HealthReporter,
    trailer: HeaderValue,
}

/// What a call's handler must know of where the call came from.
#[derive(Clone)]
struct Origin {
    connection: Arc<Connection>,
    authority: String,
}

impl Grpc {
    pub(super) async fn new(node: String) -> io::Result<Self> {
        let (health, health_server) = tonic_health::server::health_reporter();
        health.set_serving::<EchoServer<Echo>>().await;
        let descriptors = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let printable: String = node.chars().filter(|c| (' '..='~').contains(c)).collect();
        // Printable ASCII is always a field value.
        let trailer = HeaderValue::from_str(&printable).unwrap_or(HeaderValue::from_static("echo"));
        let echo = EchoServer::new(Echo { node: node.into() })
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let v1 = descriptors().build_v1().map_err(io::Error::other)?;
        let v1alpha = descriptors().build_v1alpha().map_err(io::Error::other)?;
        let routes = [
            ("/gwproxy.echo.v1.Echo/", route(echo)),
            ("/grpc.health.v1.Health/", route(health_server)),
            ("/grpc.reflection.v1.ServerReflection/", route(v1)),
            ("/grpc.reflection.v1alpha.ServerReflection/", route(v1alpha)),
        ];
        Ok(Self { routes, health, trailer })
    }

    /// Tells whoever watches the health that this server is going away.
    pub(super) async fn drain(&self) {
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.health.set_not_serving::<EchoServer<Echo>>().await;
    }

    /// Answers one call.
    pub(super) async fn answer(
        &self,
        connection: &Arc<Connection>,
        mut request: http::Request<Incoming>,
    ) -> HttpResponse<Body> {
        connection.count_request();
        if request.version() < Version::HTTP_2 {
            let text = "gRPC is spoken here, over HTTP/2";
            return sentence(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text);
        }
        let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !kind.starts_with(b"application/grpc") {
            let text = "gRPC is spoken here: content-type application/grpc";
            return sentence(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        }
        let path = request.uri().path();
        let Some((_, route)) = self.routes.iter().find(|(prefix, _)| path.starts_with(prefix))
        else {
            return trailers_only(Status::unimplemented(format!("no service has `{path}`")));
        };
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let connection = Arc::clone(connection);
        request.extensions_mut().insert(Origin { connection, authority });
        self.with_trailer(route(request).await)
    }

    /// tonic's handlers cannot add trailers to a call that succeeds, so they are added here.
    fn with_trailer(&self, mut response: HttpResponse<Body>) -> HttpResponse<Body> {
        let name = HeaderName::from_static("x-echo-trailer");
        let trailer = self.trailer.clone();
        if response.headers().contains_key("grpc-status") {
            response.headers_mut().insert(name, trailer);
            return response;
        }
        response.map(|body| {
            let add = move |mut frame: http_body::Frame<bytes::Bytes>| {
                if let Some(trailers) = frame.trailers_mut() {
                    trailers.insert(name.clone(), trailer.clone());
                }
                frame
            };
            body.map_frame(add).boxed_unsync()
        })
    }
}

/// Hides which service it is.
fn route<S>(service: S) -> Route
where
    S: TowerService<
            http::Request<Incoming>,
            Response = HttpResponse<tonic::body::Body>,
            Error = Infallible,
        > + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |request| {
        // Generated services are always ready: `poll_ready` need not be asked.
        let answer = service.clone().call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                Err(infallible) => match infallible {},
            }
        })
    })
}

/// A call that fails before it begins.
fn trailers_only(status: Status) -> HttpResponse<Body> {
    status.into_http::<()>().map(|()| body::empty())
}

/// The service.
struct Echo {
    node: Arc<str>,
}

/// One call in progress.
struct Call {
    node: Arc<str>,
    metadata: Vec<Metadata>,
    deadline: Option<Duration>,
    /// When the deadline is over; `None` without one, or when the client says to ignore it.
    until: Option<Instant>,
    origin: Option<Origin>,
    index: u64,
    messages: u64,
    bytes: u64,
}

impl Call {
    fn begin<T>(node: &Arc<str>, request: &Request<T>) -> Self {
        let deadline = deadline(request.metadata());
        Self {
            node: Arc::clone(node),
            metadata: metadata(request.metadata()),
            deadline,
            until: deadline.and_then(|deadline| Instant::now().checked_add(deadline)),
            origin: request.extensions().get::<Origin>().cloned(),
            index: 0,
            messages: 0,
            bytes: 0,
        }
    }

    fn receive(&mut self, request: &EchoRequest) {
        self.messages += 1;
        self.bytes += (request.message.len() + request.payload.len()) as u64;
        if request.ignore_deadline {
            self.until = None;
        }
    }

    /// Waits for `work`, but not beyond the deadline.
    async fn within<F: Future>(&self, work: F) -> Result<F::Output, Status> {
        match self.until {
            None => Ok(work.await),
            Some(until) => tokio::time::timeout_at(until, work)
                .await
                .map_err(|_| Status::deadline_exceeded("the deadline passed at the echo server")),
        }
    }

    async fn reply(&mut self, request: &EchoRequest) -> Result<EchoReply, Status> {
        let payload = usize::try_from(request.payload_bytes)
            .ok()
            .filter(|&bytes| bytes <= MAX_PAYLOAD)
            .ok_or_else(|| {
                Status::invalid_argument(format!("payload_bytes is at most {MAX_PAYLOAD}"))
            })?;
        if request.delay_ms != 0 {
            let delay = Duration::from_millis(request.delay_ms.into());
            self.within(tokio::time::sleep(delay)).await?;
        }
        let reply = EchoReply {
            message: request.message.clone(),
            node: self.node.to_string(),
            index: self.index,
            metadata: self.metadata.clone(),
            deadline_ms: self.deadline.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            peer: self.origin.as_ref().map(|o| o.connection.peer.to_string()).unwrap_or_default(),
            payload: body::filler_bytes(payload),
            received_messages: self.messages,
            received_bytes: self.bytes,
            authority: self.origin.as_ref().map(|o| o.authority.clone()).unwrap_or_default(),
        };
        self.index += 1;
        Ok(reply)
    }
}

/// Replies to make to a request.
fn replies(request: &EchoRequest) -> u32 {
    match (request.repeat, request.fail_with_code) {
        (0, 0) => 1,
        (repeat, _) => repeat,
    }
}

/// The failure a request asks for.
fn failure(request: &EchoRequest) -> Result<(), Status> {
    match request.fail_with_code {
        0 => Ok(()),
        code @ 1..=16 => Err(Status::new(Code::from_i32(code), request.fail_with_message.clone())),
        code => Err(Status::invalid_argument(format!("{code} is no gRPC status code"))),
    }
}

/// A response whose initial metadata repeats the request's `x-echo-*`.
fn respond<T>(reply: T, received: &MetadataMap) -> Response<T> {
    let mut response = Response::new(reply);
    for entry in received.iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with("x-echo-") => {
                response.metadata_mut().append(key.clone(), value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key.as_str().starts_with("x-echo-") => {
                response.metadata_mut().append_bin(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    response
}

#[tonic::async_trait]
impl proto::echo_server::Echo for Echo {
    type ServerStreamStream = Replies;
    type BidiStream = Replies;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        let mut call = Call::begin(&self.node, &request);
        let (metadata, _, request) = request.into_parts();
        call.receive(&request);
        let reply = call.reply(&request).await?;
        failure(&request)?;
        Ok(respond(reply, &metadata))
    }

    async fn server_stream(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<Replies>, Status> {
        let mut call = Call::begin(&self.node, &request);
        let (metadata, _, request) = request.into_parts();
        call.receive(&request);
        let left = replies(&request);
        let state = Talk { call, incoming: None, now: Some((request, left)) };
        Ok(respond(state.replies(), &metadata))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoReply>, Status> {
        let mut call = Call::begin(&self.node, &request);
        let (metadata, _, mut incoming) = request.into_parts();
        let mut last = EchoRequest::default();
        while let Some(request) = call.within(incoming.message()).await?? {
            call.receive(&request);
            let room = request.message.floor_char_boundary(MAX_JOINED - last.message.len());
            last.message.push_str(request.message.get(..room).unwrap_or_default());
            last.payload_bytes = or(request.payload_bytes, last.payload_bytes);
            last.delay_ms = or(request.delay_ms, last.delay_ms);
            if request.fail_with_code != 0 {
                last.fail_with_code = request.fail_with_code;
                last.fail_with_message = request.fail_with_message;
            }
        }
        let reply = call.reply(&last).await?;
        failure(&last)?;
        Ok(respond(reply, &metadata))
    }

    async fn bidi(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let call = Call::begin(&self.node, &request);
        let (metadata, _, incoming) = request.into_parts();
        let state = Talk { call, incoming: Some(incoming), now: None };
        Ok(respond(state.replies(), &metadata))
    }
}

/// The later value, if it is set.
fn or(later: u32, earlier: u32) -> u32 {
    if later == 0 { earlier } else { later }
}

/// A call whose replies are a stream.
struct Talk {
    call: Call,
    /// More requests to come, in a bidirectional call.
    incoming: Option<Streaming<EchoRequest>>,
    /// The request being answered, and replies still to make to it.
    now: Option<(EchoRequest, u32)>,
}

impl Talk {
    fn replies(self) -> Replies {
        Box::pin(stream::unfold(Some(self), |state| async {
            let mut talk = state?;
            match talk.next().await {
                Ok(Some(reply)) => Some((Ok(reply), Some(talk))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<EchoReply>, Status> {
        loop {
            if let Some((request, left)) = &mut self.now {
                if *left > 0 {
                    *left -= 1;
                    return self.call.reply(request).await.map(Some);
                }
                failure(request)?;
                self.now = None;
            }
            let Some(incoming) = &mut self.incoming else { return Ok(None) };
            let Some(request) = self.call.within(incoming.message()).await?? else {
                return Ok(None);
            };
            self.call.receive(&request);
            let left = replies(&request);
            self.now = Some((request, left));
        }
    }
}

/// The call's metadata by key. A `-bin` value that is no base64 is given as text.
fn metadata(received: &MetadataMap) -> Vec<Metadata> {
    let mut all: Vec<Metadata> = Vec::new();
    for entry in received.iter() {
        let key = match &entry {
            KeyAndValueRef::Ascii(key, _) => key.as_str(),
            KeyAndValueRef::Binary(key, _) => key.as_str(),
        };
        if all.last().is_none_or(|last| last.key != key) {
            all.push(Metadata { key: key.to_owned(), ..Metadata::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        let text = |bytes: &[u8]| super::report::text(bytes);
        match entry {
            KeyAndValueRef::Ascii(_, value) => last.values.push(text(value.as_encoded_bytes())),
            KeyAndValueRef::Binary(_, value) => match value.to_bytes() {
                Ok(bytes) => last.binary_values.push(bytes),
                Err(_) => last.values.push(text(value.as_encoded_bytes())),
            },
        }
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}
