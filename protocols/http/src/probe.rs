//! The health checks that ask in HTTP, gRPC's among them. They run on the control runtime, apart from
//! the workers' pools: a fresh connection each time is part of the question.

use bytes::Bytes;
use gwproxy_core::health::{self, Check, HealthSettings, HttpCheck, Probe};
use gwproxy_core::net::Stream;
use gwproxy_core::upstream::{Endpoint, NodeAddr};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Bytes of an answer that are looked at.
const CONTENT_MAX: usize = 64 << 10;

/// Well is who answers a request with an expected status and content, or a call of the gRPC health
/// protocol with `SERVING`.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    settings: HealthSettings,
}

/// What a node answered.
struct Answer {
    response: Response<()>,
    /// Read only where it matters.
    content: Bytes,
    trailers: HeaderMap,
}

impl HttpProbe {
    /// Asks as `settings` say; they must be those of an HTTP or gRPC check.
    pub fn new(settings: HealthSettings) -> Self {
        Self { settings }
    }
}

impl Probe for HttpProbe {
    async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        match self.settings.check() {
            Check::Http(check) => ask(&check, endpoint).await,
            Check::Grpc(service) => call(service, endpoint).await,
            Check::Tcp | Check::Tls => Err("the settings are not those of an HTTP check".into()),
        }
    }
}

async fn ask(check: &HttpCheck<'_>, endpoint: &Endpoint) -> Result<(), String> {
    let stream = connect(endpoint).await?;
    let speaks_h2 =
        stream.alpn() == Some(b"h2") || matches!(&*endpoint.scheme, "h2c" | "grpc" | "grpcs");
    let mut builder =
        Request::builder().method(check.method).uri(uri(endpoint, check.path, speaks_h2));
    let is_named = |name: &str| check.headers.keys().any(|one| one.eq_ignore_ascii_case(name));
    if !is_named("user-agent") {
        builder = builder.header("user-agent", "gwproxy-health");
    }
    if !speaks_h2 && !is_named("host") {
        builder = builder.header("host", host(endpoint));
    }
    for (name, value) in check.headers {
        builder = builder.header(name, value);
    }
    let request = builder.body(Full::default()).map_err(|error| error.to_string())?;
    let answer = exchange(stream, speaks_h2, request, check.body.is_some()).await?;
    let HttpCheck { method, path, .. } = check;
    let status = answer.response.status();
    if !check.accepts(status.as_u16()) {
        return Err(format!("{method} {path} answered {status}"));
    }
    let found = check.body.is_none_or(|wanted| {
        let wanted = wanted.as_bytes();
        wanted.is_empty() || answer.content.windows(wanted.len()).any(|part| part == wanted)
    });
    if found { Ok(()) } else { Err(format!("{method} {path} answered without the expected body")) }
}

/// The gRPC health protocol: `Check` for `service`, answered by `SERVING`
/// (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
async fn call(service: &str, endpoint: &Endpoint) -> Result<(), String> {
    let stream = connect(endpoint).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri(endpoint, "/grpc.health.v1.Health/Check", true))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "gwproxy-health")
        .body(Full::new(question(service)?))
        .map_err(|error| error.to_string())?;
    let answer = exchange(stream, true, request, true).await?;
    let in_head = answer.response.headers().get("grpc-status");
    let status = answer.trailers.get("grpc-status").or(in_head);
    match status.and_then(|status| status.to_str().ok()) {
        Some("0") => {}
        Some("5") => return Err(format!("it does not know the service `{service}`")),
        Some(code) => return Err(format!("the health check ended with grpc-status {code}")),
        None => return Err(format!("no gRPC: it answered {}", answer.response.status())),
    }
    match serving(&answer.content) {
        Some(1) => Ok(()),
        Some(2) => Err("it says NOT_SERVING".into()),
        _ => Err("it does not say that it serves".into()),
    }
}

/// A `HealthCheckRequest` in its frame: field 1, the service, a string.
fn question(service: &str) -> Result<Bytes, String> {
    // One byte tells a length up to 127, in protobuf as in the frame.
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 126);
    let length = length.ok_or("the name of the service is longer than 125 bytes")?;
    let message = match length {
        0 => Vec::new(),
        _ => [&[0x0a, length], service.as_bytes()].concat(),
    };
    // The service's two bytes more stay below 128.
    let frame = [0, 0, 0, 0, message.len() as u8];
    Ok([&frame[..], &message].concat().into())
}

/// The status in a framed `HealthCheckResponse`: field 1, an enum; 0 (unknown) when left out.
fn serving(content: &[u8]) -> Option<u8> {
    let (frame, message) = content.split_at_checked(5)?;
    match (frame, message) {
        ([0, 0, 0, 0, 0], []) => Some(0),
        ([0, 0, 0, 0, 2], [0x08, status]) => Some(*status),
        _ => None,
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Stream, String> {
    let socket = health::dial(endpoint).await?;
    let tls = endpoint.tls_exclusive.as_ref().or(endpoint.tls.as_ref());
    match tls {
        Some(tls) => tls.connect(socket).await.map_err(|error| error.to_string()),
        None => Ok(Stream::Plain(socket)),
    }
}

fn host(endpoint: &Endpoint) -> String {
    match &endpoint.addr {
        NodeAddr::Tcp(at) => at.to_string(),
        NodeAddr::Unix(_) => "localhost".to_owned(),
    }
}

fn uri(endpoint: &Endpoint, path: &str, absolute: bool) -> String {
    let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
    if absolute { format!("{scheme}://{}{path}", host(endpoint)) } else { path.to_owned() }
}

async fn exchange(
    stream: Stream,
    speaks_h2: bool,
    request: Request<Full<Bytes>>,
    reads: bool,
) -> Result<Answer, String> {
    let io = TokioIo::new(stream);
    if speaks_h2 {
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) =
            builder.handshake(io).await.map_err(|error| error.to_string())?;
        drive(connection, read(sender.send_request(request), reads)).await
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
        drive(connection, read(sender.send_request(request), reads)).await
    }
}

async fn read(
    asked: impl Future<Output = hyper::Result<Response<Incoming>>>,
    reads: bool,
) -> Result<Answer, String> {
    let (parts, body) = asked.await.map_err(|error| error.to_string())?.into_parts();
    let response = Response::from_parts(parts, ());
    if !reads {
        return Ok(Answer { response, content: Bytes::new(), trailers: HeaderMap::new() });
    }
    let read = Limited::new(body, CONTENT_MAX).collect().await;
    let read = read.map_err(|error| format!("the body of its answer: {error}"))?;
    let trailers = read.trailers().cloned().unwrap_or_default();
    Ok(Answer { response, content: read.to_bytes(), trailers })
}

/// Runs the connection only until the answer is there.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    asked: impl Future<Output = Result<Answer, String>>,
) -> Result<Answer, String> {
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        // What has arrived before the end of the connection counts.
        biased;
        answer = &mut asked => answer,
        ended = &mut connection => match ended {
            Ok(()) => tokio::select! {
                biased;
                answer = &mut asked => answer,
                () = std::future::ready(()) => {
                    Err("the node closed the connection without a response".to_owned())
                }
            },
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_protocol_in_bytes() {
        assert_eq!(&*question("").unwrap(), [0, 0, 0, 0, 0]);
        assert_eq!(&*question("a.B").unwrap(), b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(question(&"x".repeat(125)).unwrap().len(), 5 + 127);
        assert!(question(&"x".repeat(126)).is_err());
        for (bytes, want) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 2, 8], None),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving(bytes), want, "{bytes:?}");
        }
    }
}
