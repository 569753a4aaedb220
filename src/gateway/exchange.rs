//! What one request carries through the gateway, and the record it leaves behind.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gwproxy_core::error::Blame;
use gwproxy_core::limit::{Decision, Headers, Limiter, Permit};
use gwproxy_core::net::PeerAddr;
use gwproxy_core::telemetry::access_log::LINE_BYTES_MAX;
use gwproxy_core::telemetry::json;
use gwproxy_core::{Code, Error};
use gwproxy_http::body::{Ended, OnEnd, left};
use gwproxy_http::fields::Value;
use gwproxy_http::rescue::status_of;
use gwproxy_http::tunnel::Traffic;
use gwproxy_http::{Client, Request, Response};
use http::header::{HeaderName, REFERER, USER_AGENT};
use http::{HeaderValue, Method, StatusCode, Version};

use super::Shared;
use super::fallback::Fallback;
use super::router::host_of;
use crate::plan::AccessLogFormat;

/// Bytes of one field of a log line that holds a client's text: four of them, with what is ours,
/// stay below [`LINE_BYTES_MAX`].
const FIELD_BYTES_MAX: usize = 1536;
/// Bytes of a method in a log line; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;
/// Bytes of a user's name in a log line.
const USER_BYTES_MAX: usize = 128;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const IETF: HeaderName = HeaderName::from_static("ratelimit");
const IETF_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// One request on its way.
#[derive(Debug)]
pub struct Exchange {
    /// When the request was there.
    pub started: Instant,
    /// The other end of the connection.
    pub remote: PeerAddr,
    /// Whom limits and lists count for.
    pub client_ip: Option<IpAddr>,
    /// Whether it is a gRPC call.
    pub is_grpc: bool,
    /// The route that took it.
    pub route: Option<Arc<str>>,
    /// The number of its service, once known.
    pub service: usize,
    /// The name of its service, once known.
    pub service_id: Option<Arc<str>>,
    /// The route's own time to the first byte.
    pub timeout: Option<Duration>,
    /// Who asked, by their credentials.
    pub user: Option<Box<str>>,
    /// What answers when nobody else does, once the service is known.
    pub fallback: Option<Arc<Fallback>>,
    /// How long it waits for its turn.
    pub wait: Duration,
    /// What counts it among those under way.
    pub permits: Vec<Permit>,
    limit: Option<(Decision, Told)>,
    record: Option<Box<Record>>,
}

/// How clients are told of a limit.
#[derive(Debug, Clone)]
struct Told {
    headers: Headers,
    /// Its name.
    id: Option<String>,
    /// The time in which a used-up limit is whole again, or its window.
    per: Duration,
}

/// What is counted and logged when the last byte is out.
#[derive(Debug)]
struct Record {
    shared: Rc<Shared>,
    started: Instant,
    remote: PeerAddr,
    client_ip: Option<IpAddr>,
    listener: Arc<str>,
    tls: bool,
    asked: Option<Asked>,
    route: Option<Arc<str>>,
    service: usize,
    service_id: Option<Arc<str>>,
    node: Option<Arc<str>>,
    user: Option<Box<str>>,
    status: StatusCode,
    is_grpc: bool,
    /// `grpc-status` of the response's head; that of its trailers comes with the end.
    grpc_status: Option<u32>,
    error: Option<Code>,
    /// The sentence of the error, for a log that tells it.
    reason: Option<Box<str>>,
    /// Given back with the last byte.
    permits: Vec<Permit>,
}

/// What the log tells of the request; taken only when there is a log.
#[derive(Debug)]
struct Asked {
    method: Method,
    host: String,
    target: String,
    version: Version,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Exchange {
    /// Starts the clock and notes what is asked.
    pub fn begin(
        request: &Request,
        client: &Client,
        client_ip: Option<IpAddr>,
        listener: Arc<str>,
        shared: &Rc<Shared>,
    ) -> Self {
        let mut exchange = Self::of_rejected(client, listener, shared);
        exchange.client_ip = client_ip;
        exchange.is_grpc = gwproxy_grpc::is_grpc(request.headers());
        if let Some(record) = exchange.record.as_mut() {
            record.client_ip = client_ip;
            record.is_grpc = exchange.is_grpc;
            record.asked = shared.log.is_some().then(|| Asked::of(request));
        }
        exchange
    }

    /// The exchange of a head that never became a request.
    pub fn of_rejected(client: &Client, listener: Arc<str>, shared: &Rc<Shared>) -> Self {
        let started = Instant::now();
        let record = Record {
            shared: Rc::clone(shared),
            started,
            remote: client.peer.remote,
            client_ip: client.peer.remote.ip(),
            listener,
            tls: client.peer.tls.is_some(),
            asked: None,
            route: None,
            service: usize::MAX,
            service_id: None,
            node: None,
            user: None,
            status: StatusCode::OK,
            is_grpc: false,
            grpc_status: None,
            error: None,
            reason: None,
            permits: Vec::new(),
        };
        Self {
            started,
            remote: client.peer.remote,
            wait: Duration::ZERO,
            permits: Vec::new(),
            client_ip: None,
            is_grpc: false,
            route: None,
            service: usize::MAX,
            service_id: None,
            timeout: None,
            user: None,
            fallback: None,
            limit: None,
            record: Some(Box::new(record)),
        }
    }

    /// Notes what a limit said; of several, the one that leaves least is told to the client.
    pub fn note_limit(&mut self, decision: Decision, limiter: &Limiter) {
        let left = |decision: &Decision| (decision.is_admitted(), decision.remaining());
        if self.limit.as_ref().is_none_or(|(known, _)| left(&decision) <= left(known)) {
            self.limit = Some((decision, Told::of(limiter)));
        }
    }

    /// Finishes the response's head and lets the record wait for its last byte.
    pub fn finish_on(mut self, response: &mut Response, error: Option<&Error>) {
        if let Some((decision, told)) = &self.limit {
            told.tell(response, *decision);
        }
        let Some(mut record) = self.take_record() else { return };
        record.status = response.status();
        record.error = error.map(Error::code);
        let node = response.body().node();
        record.node = node.or_else(|| error.and_then(Error::node)).cloned();
        if record.is_grpc {
            let status = gwproxy_grpc::Status::of_fields(response.headers());
            record.grpc_status = status.map(|status| status as u32);
        }
        if let Some(error) = error {
            record.say(error);
            record.reason = record.logs_json().then(|| cut(error.sentence()).into());
        }
        response.body_mut().on_end(record);
    }

    fn take_record(&mut self) -> Option<Box<Record>> {
        let mut record = self.record.take()?;
        record.route = self.route.take();
        record.service = self.service;
        record.service_id = self.service_id.take();
        record.user = self.user.take();
        record.permits = std::mem::take(&mut self.permits);
        Some(record)
    }
}

impl Drop for Exchange {
    /// A handler that is dropped before it answered: the client went away, or the proxy stops.
    fn drop(&mut self) {
        if let Some(mut record) = self.take_record() {
            let error = left();
            record.status = status_of_cut(error);
            let ended = Ended { error: Some(error), ..Ended::default() };
            record.end(&ended, Instant::now());
        }
    }
}

impl Asked {
    fn of(request: &Request) -> Self {
        let uri = request.uri();
        let target = match (uri.path_and_query(), uri.authority()) {
            (Some(target), _) => target.as_str(),
            // CONNECT: the host and port of the tunnel (RFC 9112 §3.2.3).
            (None, Some(authority)) => authority.as_str(),
            (None, None) => uri.path(),
        };
        Self {
            method: request.method().clone(),
            host: cut(host_of(request)).to_owned(),
            target: cut(target).to_owned(),
            version: request.version(),
            referer: request.headers().get(REFERER).map(Value::to_value),
            user_agent: request.headers().get(USER_AGENT).map(Value::to_value),
        }
    }

    fn method(&self) -> &str {
        let method = self.method.as_str();
        method.get(..METHOD_BYTES_MAX).unwrap_or(method)
    }
}

impl OnEnd for Record {
    fn end(self: Box<Self>, ended: &Ended<'_>, now: Instant) {
        let ended = Ended {
            error: self.error.or(ended.error),
            status: self.grpc_status.or(ended.status),
            ..*ended
        };
        let Ended { bytes, error, .. } = ended;
        let took = now.saturating_duration_since(self.started);
        self.shared.metrics.record(self.service, self.status.as_u16(), error, bytes, took);
        match &self.shared.log {
            None => {}
            Some((log, AccessLogFormat::Json)) => {
                log.add(|out| self.write_json(out, &ended, took));
            }
            Some((log, AccessLogFormat::Combined)) => {
                log.add(|out| self.write_combined(out, bytes));
            }
        }
    }
}

impl Record {
    fn logs_json(&self) -> bool {
        matches!(self.shared.log, Some((_, AccessLogFormat::Json)))
    }

    /// The error log: what a human needs to mend it.
    fn say(&self, error: &Error) {
        let cause = cause_of(error);
        let (code, sentence) = (error.code().as_str(), error.sentence());
        let (route, service) = (self.route.as_deref(), self.service_id.as_deref());
        let (listener, client) = (&*self.listener, self.remote);
        match error.code().blame() {
            Blame::Downstream => tracing::debug!(
                code, route, service, listener, %client, cause, "{sentence}"
            ),
            Blame::Proxy | Blame::Upstream => tracing::warn!(
                code, route, service, listener, %client, cause, "{sentence}"
            ),
        }
    }

    /// The combined format of Apache and nginx.
    fn write_combined(&self, out: &mut Vec<u8>, bytes: u64) {
        use std::io::Write as _;
        let _ = match self.client_ip {
            Some(ip) => write!(out, "{ip} - "),
            None => write!(out, "{} - ", self.remote),
        };
        push_word(out, self.user.as_deref().unwrap_or_default(), USER_BYTES_MAX);
        let _ = write!(out, " [{}] ", jiff::Zoned::now().strftime("%d/%b/%Y:%H:%M:%S %z"));
        match &self.asked {
            Some(asked) => {
                let method = asked.method();
                let line = format!("{method} {} {:?}", asked.target, asked.version);
                json::push_str_within(out, line.as_bytes(), FIELD_BYTES_MAX + METHOD_BYTES_MAX);
            }
            None => out.extend_from_slice(b"\"-\""),
        }
        let _ = write!(out, " {} {bytes} ", self.status.as_u16());
        let asked = self.asked.as_ref();
        for field in
            [asked.and_then(|a| a.referer.as_ref()), asked.and_then(|a| a.user_agent.as_ref())]
        {
            let text = field.map_or(&b"-"[..], HeaderValue::as_bytes);
            json::push_str_within(out, text, FIELD_BYTES_MAX);
            out.push(b' ');
        }
        out.pop();
    }

    /// One JSON object.
    fn write_json(&self, out: &mut Vec<u8>, ended: &Ended<'_>, took: Duration) {
        use std::io::Write as _;
        let from = out.len();
        let _ = write!(out, "{{\"time\":\"{:.3}\"", jiff::Timestamp::now());
        let _ = write!(out, ",\"listener\":");
        json::push_str(out, self.listener.as_bytes());
        let _ = match self.client_ip {
            Some(ip) => write!(out, ",\"client\":\"{ip}\""),
            None => write!(out, ",\"client\":\"{}\"", self.remote),
        };
        if let Some(user) = &self.user {
            out.extend_from_slice(b",\"user\":");
            json::push_str_within(out, user.as_bytes(), USER_BYTES_MAX);
        }
        if let Some(asked) = &self.asked {
            let _ = write!(out, ",\"method\":\"{}\",\"host\":", asked.method());
            json::push_str_within(out, asked.host.as_bytes(), FIELD_BYTES_MAX);
            out.extend_from_slice(b",\"path\":");
            json::push_str_within(out, asked.target.as_bytes(), FIELD_BYTES_MAX);
            let _ = write!(out, ",\"protocol\":\"{:?}\",\"tls\":{}", asked.version, self.tls);
            if let Some(agent) = &asked.user_agent {
                out.extend_from_slice(b",\"user_agent\":");
                json::push_str_within(out, agent.as_bytes(), FIELD_BYTES_MAX);
            }
        }
        let _ = write!(out, ",\"status\":{}", self.status.as_u16());
        if let Some(status) = ended.status {
            let _ = write!(out, ",\"grpc_status\":{status}");
        }
        if let Some(traffic) = ended.traffic {
            write_traffic(out, traffic);
        }
        let _ = write!(out, ",\"bytes_sent\":{}", ended.bytes);
        let _ = write!(out, ",\"duration_ms\":{:.3}", took.as_secs_f64() * 1e3);
        for (name, value) in
            [("route", &self.route), ("service", &self.service_id), ("node", &self.node)]
        {
            if let Some(value) = value {
                let _ = write!(out, ",\"{name}\":");
                json::push_str(out, value.as_bytes());
            }
        }
        if let Some(error) = ended.error {
            let _ = write!(out, ",\"error\":\"{error}\"");
        }
        if let Some(reason) = &self.reason {
            out.extend_from_slice(b",\"reason\":");
            json::push_str_within(out, reason.as_bytes(), FIELD_BYTES_MAX);
        }
        out.push(b'}');
        debug_assert!(out.len() - from <= 2 * LINE_BYTES_MAX);
    }
}

/// The nearest cause that says what the sentence does not.
fn cause_of(error: &Error) -> Option<String> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source())
        .map(ToString::to_string)
        .find(|cause| !error.sentence().contains(cause.as_str()))
}

/// What only a tunnel has: what the client sent through it, and WebSocket's Close codes.
fn write_traffic(out: &mut Vec<u8>, traffic: &Traffic) {
    use std::io::Write as _;
    for (name, code) in
        [("client_close", &traffic.client_close), ("upstream_close", &traffic.upstream_close)]
    {
        if let Some(code) = code.get() {
            let _ = write!(out, ",\"{name}\":{code}");
        }
    }
    if let Some((ending, _)) = traffic.ending.get() {
        let _ = write!(out, ",\"ending\":\"{ending}\"");
    }
    let _ = write!(out, ",\"bytes_received\":{}", traffic.carried.client_to_upstream.get());
}

/// The status of a request that was cut off before its answer. Nobody saw it.
pub(super) fn status_of_cut(error: Code) -> StatusCode {
    match error {
        // nginx's status for it.
        Code::ClientClosed => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        error => status_of(error),
    }
}

/// One field between spaces, as the combined format wants it; `-` for nothing.
fn push_word(out: &mut Vec<u8>, text: &str, bytes_max: usize) {
    if text.is_empty() {
        out.push(b'-');
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    out.extend(text.bytes().take(bytes_max).map(|byte| if is_plain(byte) { byte } else { b'_' }));
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(FIELD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

impl Told {
    fn of(limiter: &Limiter) -> Self {
        let settings = limiter.settings();
        let id = match settings.headers {
            Headers::Both | Headers::Ietf => settings.id.clone(),
            Headers::Legacy | Headers::None => None,
        };
        Self { headers: settings.headers, id, per: settings.rate.per() }
    }

    fn tell(&self, response: &mut Response, decision: Decision) {
        let (limit, remaining, reset) = match decision {
            Decision::Admitted { limit, remaining, reset, .. } => (limit, remaining, reset),
            Decision::Refused { limit, reset, .. } => (limit, 0, reset),
        };
        let reset = whole_seconds(reset);
        let headers = response.headers_mut();
        if matches!(self.headers, Headers::Legacy | Headers::Both) {
            headers.insert(LIMIT, HeaderValue::from(limit));
            headers.insert(REMAINING, HeaderValue::from(remaining));
            headers.insert(RESET, HeaderValue::from(reset));
        }
        if matches!(self.headers, Headers::Ietf | Headers::Both) {
            let id = self.id.as_deref().unwrap_or("default");
            let per = whole_seconds(self.per).max(1);
            for (name, value) in [
                (IETF_POLICY, format!("\"{id}\";q={limit};w={per}")),
                (IETF, format!("\"{id}\";r={remaining};t={reset}")),
            ] {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(name, value);
                }
            }
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
