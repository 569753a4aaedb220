//! The gRPC echo: `gwproxy.echo.v1.Echo` with its four kinds of calls, health and reflection.

mod service;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response as HttpResponse, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::Status;
use tonic::codegen::Service as TowerService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use self::proto::echo_server::EchoServer;
use self::service::Echo;
use super::body::{self, Body};
use super::connection::Connection;
use super::report::{field_value, sentence};

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

type Answer = Pin<Box<dyn Future<Output = HttpResponse<Body>> + Send>>;
type Route = Box<dyn Fn(http::Request<Incoming>) -> Answer + Send + Sync>;

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
        let trailer = field_value(&node);
        let echo = EchoServer::new(Echo::new(&node))
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
