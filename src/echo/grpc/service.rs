//! The four kinds of calls: what was received goes back, as the request asks.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::time::Instant;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Code, Request, Response, Status, Streaming};

use super::proto::{self, EchoReply, EchoRequest, Metadata};
use super::{MAX_MESSAGE, Origin};
use crate::echo::body;
use crate::echo::report::text;

/// The most filler in a reply: what a message holds, less room for the rest of it.
const MAX_PAYLOAD: usize = MAX_MESSAGE - 64 * 1024;

/// What a client stream's reply repeats of its messages.
const MAX_JOINED: usize = 64 * 1024;

type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

/// The service.
pub(super) struct Echo {
    node: Arc<str>,
}

impl Echo {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.into() }
    }
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
