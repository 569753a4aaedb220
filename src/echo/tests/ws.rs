//! The WebSocket echo, with tungstenite's client.

use ::http::{HeaderValue, StatusCode};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;

type Client = WebSocketStream<TcpStream>;

async fn open(server: &Server, path: &str) -> Client {
    let uri = format!("ws://{}{path}", server.addr);
    client_async(uri, server.connect().await).await.unwrap().0
}

async fn refused(server: &Server, path: &str) -> StatusCode {
    let uri = format!("ws://{}{path}", server.addr);
    match client_async(uri, server.connect().await).await {
        Err(Error::Http(response)) => response.status(),
        other => panic!("{path}: {other:?}"),
    }
}

async fn next(client: &mut Client) -> Message {
    client.next().await.unwrap().unwrap()
}

/// Reads the server's Close and the end after it.
async fn closed(mut client: Client) -> (CloseCode, String) {
    let Message::Close(Some(frame)) = next(&mut client).await else { panic!("no Close") };
    assert!(client.next().await.is_none_or(|end| end.is_err()));
    (frame.code, frame.reason.to_string())
}

#[tokio::test]
async fn messages_come_back_as_they_are() {
    for kind in [Kind::Ws, Kind::Http] {
        let server = Server::start(kind);
        let mut client = open(&server, "/any").await;
        let large = Message::binary(body::filler_bytes(1 << 20));
        for message in
            [Message::text("hi é"), Message::binary(&b"\0\xff"[..]), Message::text(""), large]
        {
            client.send(message.clone()).await.unwrap();
            assert!(next(&mut client).await == message);
        }
        client.send(Message::Ping("p".into())).await.unwrap();
        assert_eq!(next(&mut client).await, Message::Pong("p".into()));
        client.close(None).await.unwrap();
        while client.next().await.transpose().unwrap().is_some() {}
        server.stop().await;
    }
}

#[tokio::test]
async fn the_report_tells_the_handshake() {
    let server = Server::start(Kind::Ws);
    let mut request = format!("ws://{}/report?a=1", server.addr).into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", HeaderValue::from_static("chat.v2, chat"));
    let (mut client, response) = client_async(request, server.connect().await).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat.v2");
    assert_eq!(response.headers()["x-echo-node"], "node-1");
    let report = json(next(&mut client).await.into_text().unwrap().as_bytes());
    assert_eq!(report["path"], "/report");
    assert_eq!(report["query"], "a=1");
    assert_eq!(report["subprotocol"], "chat.v2");
    assert!(report["raw_headers"].is_array());
    assert_eq!(report["peer"], client.get_ref().local_addr().unwrap().to_string());
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("x"));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn paths_ask_for_more() {
    for (kind, root) in [(Kind::Ws, ""), (Kind::Http, "/ws"), (Kind::Http, "/delay/1ms/ws")] {
        let server = Server::start(kind);
        let mut client = open(&server, &format!("{root}/push?count=3&interval=1ms")).await;
        for index in 0..3 {
            assert_eq!(next(&mut client).await, Message::text(format!("push {index}")));
        }
        client.send(Message::text("x")).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text("x"));
        drop(client);
        let mut client = open(&server, &format!("{root}/bytes/70000")).await;
        assert_eq!(next(&mut client).await.len(), 70_000);
        drop(client);
        let client = open(&server, &format!("{root}/close/4001?reason=so%20it%20is")).await;
        assert_eq!(closed(client).await, (CloseCode::Library(4001), "so it is".to_owned()));
        let mut client = open(&server, &format!("{root}/close/1013?after=1")).await;
        client.send(Message::text("x")).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text("x"));
        assert_eq!(closed(client).await.0, CloseCode::Again);
        let mut client = open(&server, &format!("{root}/reset")).await;
        let Err(Error::Io(error)) = client.next().await.unwrap() else { panic!("no reset") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(refused(&server, "/status/503").await, 503);
        for wrong in ["/close/1005", "/close/999", "/close/x", "/close", "/bytes/99999999"] {
            assert_eq!(refused(&server, &format!("{root}{wrong}")).await, 400, "{wrong}");
        }
        let long = "x".repeat(124);
        assert_eq!(refused(&server, &format!("{root}/close/4001?reason={long}")).await, 400);
        server.stop().await;
    }
}

#[tokio::test]
async fn bad_handshakes_are_refused() {
    const GOOD: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let server = Server::start(Kind::Ws);
    for (from, to, status) in [
        ("", "", "101 "),
        ("GET", "POST", "405 "),
        ("Version: 13", "Version: 8", "426 "),
        ("Sec-WebSocket-Key", "X-Key", "400 "),
        ("bXBsZSBub25jZQ==", "bXBsZQ==", "400 "),
        ("Connection: Upgrade", "Connection: keep-alive", "400 "),
        ("Upgrade: websocket", "Upgrade: h2c", "426 "),
    ] {
        let mut tcp = server.connect().await;
        let request = if from.is_empty() { GOOD.to_owned() } else { GOOD.replace(from, to) };
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{from} → {to}: {head}");
        if status == "101 " {
            // RFC 6455 §1.3
            assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        }
        if to == "Version: 8" {
            assert!(head.contains("sec-websocket-version: 13\r\n"), "{head}");
        }
    }
    let (response, _) = server.http1(get("/")).await;
    assert_eq!(response.status(), 426);
    assert_eq!(response.headers()["upgrade"], "websocket");
    server.stop().await;
}

#[tokio::test]
async fn protocol_errors_are_told_by_close_code() {
    let server = Server::start(Kind::Ws);
    for (frame, code) in [
        // Not masked.
        (&b"\x81\x01x"[..], 1002_u16),
        // Longer than 16 MiB.
        (b"\x82\xff\0\0\0\0\x7f\0\0\0\0\0\0\0", 1009),
        // No UTF-8.
        (b"\x81\x81\0\0\0\0\xff", 1007),
    ] {
        let mut client = open(&server, "/").await;
        client.get_mut().write_all(frame).await.unwrap();
        assert_eq!(u16::from(closed(client).await.0), code);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_drain_closes_with_1001() {
    let server = Server::start(Kind::Http);
    let mut client = open(&server, "/ws").await;
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("x"));
    server.shutdown.send_replace(true);
    assert_eq!(closed(client).await.0, CloseCode::Away);
    server.task.await.unwrap().unwrap();
}

/// RFC 8441.
#[tokio::test]
async fn a_websocket_on_http_2() {
    let server = Server::start(Kind::Ws);
    let mut h2 = server.http2().await;
    // The peer's SETTINGS, which allow extended CONNECT, have come when a response has.
    whole(h2.send_request(get("http://x/")).await.unwrap()).await;
    let request = Request::builder()
        .method("CONNECT")
        .uri("http://x/close/4002?after=1")
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(Full::default())
        .unwrap();
    let mut response = h2.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    let mut client = WebSocketStream::from_raw_socket(io, role, None).await;
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("x"));
    let Message::Close(Some(frame)) = client.next().await.unwrap().unwrap() else {
        panic!("no Close")
    };
    assert_eq!(u16::from(frame.code), 4002);
    drop((client, h2));
    server.stop().await;
}
