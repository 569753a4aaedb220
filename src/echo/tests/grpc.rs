//! The gRPC echo, with tonic's client on hyper's HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream;
use hyper::client::conn::http2::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::super::grpc::proto::echo_client::EchoClient;
use super::super::grpc::proto::{EchoReply, EchoRequest};
use super::*;

/// An HTTP/2 connection as tonic wants its transports.
#[derive(Clone)]
struct Transport {
    sender: SendRequest<tonic::body::Body>,
}

impl tonic::codegen::Service<Request<tonic::body::Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

async fn transport(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Transport {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
    tokio::spawn(connection);
    Transport { sender }
}

async fn client(server: &Server) -> EchoClient<Transport> {
    let origin = "http://echo.test:50051".parse().unwrap();
    EchoClient::with_origin(transport(server.connect().await).await, origin)
}

fn ask(message: &str) -> EchoRequest {
    EchoRequest { message: message.to_owned(), ..EchoRequest::default() }
}

fn values<'r>(reply: &'r EchoReply, key: &str) -> &'r [String] {
    reply.metadata.iter().find(|m| m.key == key).map_or(&[], |m| &m.values)
}

async fn collect(mut replies: tonic::Streaming<EchoReply>) -> (Vec<EchoReply>, Option<Status>) {
    let mut all = Vec::new();
    loop {
        match replies.message().await {
            Ok(Some(reply)) => all.push(reply),
            Ok(None) => return (all, None),
            Err(status) => return (all, Some(status)),
        }
    }
}

#[tokio::test]
async fn unary_reports_the_call() {
    let server = Server::start(Kind::Grpc);
    let mut client = client(&server).await;
    let mut request = tonic::Request::new(EchoRequest { payload_bytes: 3, ..ask("hi") });
    let metadata = request.metadata_mut();
    metadata.append("x-echo-a", "1".parse().unwrap());
    metadata.append("x-echo-a", "2".parse().unwrap());
    metadata.insert("other", "y".parse().unwrap());
    metadata.insert_bin("x-echo-b-bin", MetadataValue::from_bytes(b"\0\xff"));
    metadata.insert("grpc-timeout", "5000m".parse().unwrap());
    let response = client.unary(request).await.unwrap();
    let initial = response.metadata();
    assert_eq!(initial.get_all("x-echo-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    let binary = initial.get_bin("x-echo-b-bin").unwrap().to_bytes().unwrap();
    assert_eq!(binary, &b"\0\xff"[..]);
    assert!(initial.get("other").is_none());
    // tonic merges the trailers of a unary call into its metadata.
    assert_eq!(initial.get("x-echo-trailer").unwrap(), "node-1");
    let reply = response.into_inner();
    assert_eq!((reply.message.as_str(), reply.node.as_str()), ("hi", "node-1"));
    assert_eq!(values(&reply, "x-echo-a"), ["1", "2"]);
    assert_eq!(values(&reply, "other"), ["y"]);
    assert_eq!(values(&reply, "te"), ["trailers"]);
    let binary = reply.metadata.iter().find(|m| m.key == "x-echo-b-bin").unwrap();
    assert_eq!(binary.binary_values, [&b"\0\xff"[..]]);
    assert!(reply.metadata.is_sorted_by_key(|m| &m.key));
    assert_eq!(reply.deadline_ms, Some(5000));
    assert_eq!(reply.authority, "echo.test:50051");
    assert_eq!(reply.payload, "012");
    assert_eq!((reply.received_messages, reply.received_bytes), (1, 2));
    assert!(reply.peer.starts_with("127.0.0.1:"));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn all_kinds_of_streams() {
    let server = Server::start_tls(Kind::Grpc);
    let io = server.connect_tls(&[b"h2"]).await;
    let origin = "https://echo.test".parse().unwrap();
    let mut client = EchoClient::with_origin(transport(io).await, origin);

    let request = EchoRequest { repeat: 3, delay_ms: 1, ..ask("s") };
    let replies = client.server_stream(request).await.unwrap().into_inner();
    let (replies, status) = collect(replies).await;
    assert_eq!(replies.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(status.is_none() && replies.iter().all(|r| r.message == "s"));

    let requests = stream::iter(["a", "b", "c"].map(ask));
    let reply = client.client_stream(requests).await.unwrap().into_inner();
    assert_eq!((reply.message.as_str(), reply.received_messages), ("abc", 3));

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|request| (request, receiver))
    });
    let mut replies = client.bidi(requests).await.unwrap().into_inner();
    for (index, word) in ["x", "y"].into_iter().enumerate() {
        // The answer comes before the next question.
        sender.send(ask(word)).await.unwrap();
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!((reply.message.as_str(), reply.index), (word, index as u64));
    }
    drop(sender);
    assert!(replies.message().await.unwrap().is_none());
    let trailers = replies.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("x-echo-trailer").unwrap(), "node-1");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn failures_as_asked_for() {
    let server = Server::start(Kind::Grpc);
    let mut client = client(&server).await;
    for code in 1..=16 {
        let request =
            EchoRequest {
                fail_with_code: code, fail_with_message: "a b%é".to_owned(), ..ask("x")
            };
        let status = client.unary(request.clone()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::from_i32(code), "a b%é"));
        assert_eq!(status.metadata().get("x-echo-trailer").unwrap(), "node-1");
        let status = client.client_stream(stream::iter([request.clone()])).await.unwrap_err();
        assert_eq!(status.code(), Code::from_i32(code));
        let request = EchoRequest { repeat: 2, ..request };
        let replies = client.server_stream(request.clone()).await.unwrap().into_inner();
        let (replies, status) = collect(replies).await;
        assert_eq!((replies.len(), status.unwrap().code()), (2, Code::from_i32(code)));
        let replies = client.bidi(stream::iter([request])).await.unwrap().into_inner();
        let (replies, status) = collect(replies).await;
        assert_eq!((replies.len(), status.unwrap().code()), (2, Code::from_i32(code)));
    }
    for (wrong, code) in [
        (EchoRequest { fail_with_code: 17, ..ask("") }, Code::InvalidArgument),
        (EchoRequest { fail_with_code: -1, ..ask("") }, Code::InvalidArgument),
        (EchoRequest { payload_bytes: u32::MAX, ..ask("") }, Code::InvalidArgument),
        (ask(&"x".repeat(5 << 20)), Code::OutOfRange),
    ] {
        assert_eq!(client.unary(wrong).await.unwrap_err().code(), code);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn deadlines_are_kept_unless_the_client_says_not_to() {
    let server = Server::start(Kind::Grpc);
    let mut client = client(&server).await;
    let call = |request, timeout: &str| {
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        request
    };
    // An hour: only a deadline can end it.
    let slow = EchoRequest { delay_ms: 3_600_000, ..ask("x") };
    let status = client.unary(call(slow.clone(), "1m")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let replies = client.server_stream(call(slow, "1000u")).await.unwrap().into_inner();
    assert_eq!(collect(replies).await.1.unwrap().code(), Code::DeadlineExceeded);
    let patient = EchoRequest { delay_ms: 2, ignore_deadline: true, ..ask("x") };
    let reply = client.unary(call(patient, "1n")).await.unwrap().into_inner();
    assert_eq!(reply.deadline_ms, Some(0));
    for (wrong, deadline) in
        [("123456789S", None), ("-1S", None), ("5", None), ("S", None), ("2M", Some(120_000))]
    {
        let reply = client.unary(call(ask("x"), wrong)).await.unwrap().into_inner();
        assert_eq!(reply.deadline_ms, deadline, "{wrong}");
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_grpc_is_told_so() {
    let server = Server::start(Kind::Grpc);
    let (response, _) = server.http1(get("/")).await;
    assert_eq!(response.status(), 505);
    let mut h2 = server.http2().await;
    let (response, _) = whole(h2.send_request(get("http://x/")).await.unwrap()).await;
    assert_eq!(response.status(), 415);
    for path in ["/no.Service/M", "/gwproxy.echo.v1.Echo/None", "/", "//gwproxy.echo.v1.Echo/Unary"]
    {
        let mut call = request("POST", &format!("http://x{path}"), "");
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let (response, body) = whole(h2.send_request(call).await.unwrap()).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
        assert!(body.is_empty());
    }
    drop(h2);
    server.stop().await;
}

#[tokio::test]
async fn health_serves_until_the_drain() {
    let server = Server::start(Kind::Grpc);
    let transport = transport(server.connect().await).await;
    let mut client = HealthClient::with_origin(transport, "http://x".parse().unwrap());
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "gwproxy.echo.v1.Echo"] {
        let response = client.check(check(service)).await.unwrap().into_inner();
        assert_eq!(response.status, ServingStatus::Serving as i32);
    }
    assert_eq!(client.check(check("none")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = client.watch(check("")).await.unwrap().into_inner();
    let serving = watch.message().await.unwrap().unwrap();
    assert_eq!(serving.status, ServingStatus::Serving as i32);
    server.shutdown.send_replace(true);
    let leaving = watch.message().await.unwrap().unwrap();
    assert_eq!(leaving.status, ServingStatus::NotServing as i32);
    drop((watch, client));
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn reflection_lists_and_describes() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::{v1, v1alpha};
    let server = Server::start(Kind::Grpc);
    let origin: ::http::Uri = "http://x".parse().unwrap();
    let first = transport(server.connect().await).await;

    let mut client = v1::server_reflection_client::ServerReflectionClient::with_origin(
        first.clone(),
        origin.clone(),
    );
    let ask = |message_request| v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let asks = stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("gwproxy.echo.v1.Echo".to_owned())),
    ]);
    let mut answers = client.server_reflection_info(asks).await.unwrap().into_inner();
    let list = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = list else { panic!("{list:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["gwproxy.echo.v1.Echo", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let file = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(file)) = file else { panic!("{file:?}") };
    assert_eq!(file.file_descriptor_proto.len(), 1);

    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::with_origin(first, origin);
    let list = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers =
        client.server_reflection_info(stream::iter([list])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().message_response.is_some());
    drop((answers, client));
    server.stop().await;
}
