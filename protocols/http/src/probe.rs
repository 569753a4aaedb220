//! The health check that asks in HTTP. It runs on the control runtime, apart from the workers'
//! pools: a fresh connection each time is part of the question.

use gwproxy_core::health::{self, Check, HealthSettings, HttpCheck, Probe};
use gwproxy_core::net::Stream;
use gwproxy_core::upstream::{Endpoint, NodeAddr};
use http::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};

type NoBody = http_body_util::Empty<bytes::Bytes>;

/// Well is who answers a request with an expected status.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    settings: HealthSettings,
}

impl HttpProbe {
    /// Asks as `settings` say; they must be those of an HTTP check.
    pub fn new(settings: HealthSettings) -> Self {
        Self { settings }
    }

    async fn ask(&self, check: &HttpCheck<'_>, endpoint: &Endpoint) -> Result<StatusCode, String> {
        let socket = health::dial(endpoint).await?;
        let tls = endpoint.tls_exclusive.as_ref().or(endpoint.tls.as_ref());
        let stream = match tls {
            Some(tls) => tls.connect(socket).await.map_err(|error| error.to_string())?,
            None => Stream::Plain(socket),
        };
        let speaks_h2 =
            stream.alpn() == Some(b"h2") || matches!(&*endpoint.scheme, "h2c" | "grpc" | "grpcs");
        let request = request(check, endpoint, speaks_h2)?;
        if speaks_h2 { ask_h2(stream, request).await } else { ask_h1(stream, request).await }
    }
}

impl Probe for HttpProbe {
    async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        let Check::Http(check) = self.settings.check() else {
            return Err("the settings are not those of an HTTP check".to_owned());
        };
        let status = self.ask(&check, endpoint).await?;
        if check.accepts(status.as_u16()) {
            return Ok(());
        }
        Err(format!("{} {} answered {status}", check.method, check.path))
    }
}

fn request(
    check: &HttpCheck<'_>,
    endpoint: &Endpoint,
    absolute: bool,
) -> Result<Request<NoBody>, String> {
    let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
    let host = match &endpoint.addr {
        NodeAddr::Tcp(at) => at.to_string(),
        NodeAddr::Unix(_) => "localhost".to_owned(),
    };
    let target =
        if absolute { format!("{scheme}://{host}{}", check.path) } else { check.path.to_owned() };
    let uri: Uri = target.parse().map_err(|_| format!("`{}` is not a path", check.path))?;
    let builder = Request::builder().method(check.method).uri(uri);
    let builder = builder.header("user-agent", "gwproxy-health");
    let builder = if absolute { builder } else { builder.header("host", host) };
    builder.body(NoBody::new()).map_err(|error| error.to_string())
}

async fn ask_h1(stream: Stream, request: Request<NoBody>) -> Result<StatusCode, String> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    drive(connection, sender.send_request(request)).await
}

async fn ask_h2(stream: Stream, request: Request<NoBody>) -> Result<StatusCode, String> {
    let io = TokioIo::new(stream);
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) =
        builder.handshake(io).await.map_err(|error| error.to_string())?;
    drive(connection, sender.send_request(request)).await
}

/// Runs the connection only until the head of the response is there.
async fn drive<B>(
    connection: impl Future<Output = hyper::Result<()>>,
    asked: impl Future<Output = hyper::Result<http::Response<B>>>,
) -> Result<StatusCode, String> {
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        response = &mut asked => response.map(|r| r.status()).map_err(|error| error.to_string()),
        ended = &mut connection => match ended {
            Ok(()) => Err("the node closed the connection without a response".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}
