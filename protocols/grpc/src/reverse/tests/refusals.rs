//! What is no gRPC call.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::*;

async fn untouchable() -> Proxy {
    Proxy::to(node(|_, _| async { panic!("the node must not be asked") }).await)
}

#[tokio::test]
async fn p70_other_content_types_are_415() {
    let proxy = untouchable().await;
    for content_type in [Some("application/json"), Some("application/grpc-web+proto"), None] {
        let mut request = call("/s/M");
        match content_type {
            Some(other) => request.headers_mut().insert("content-type", other.parse().unwrap()),
            None => request.headers_mut().remove("content-type"),
        };
        let answer = proxy.unary(request, b"{}").await;
        assert_eq!(answer.http, 415, "{content_type:?}");
        assert_eq!(answer.head["content-type"], "application/problem+json");
        assert!(!answer.head.contains_key("grpc-status"));
    }
}

#[tokio::test]
async fn p70_other_methods_are_405() {
    let proxy = untouchable().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let mut request = call("/s/M");
        *request.method_mut() = method.parse().unwrap();
        let answer = proxy.unary(request, b"").await;
        assert_eq!((answer.http.as_u16(), &answer.head["allow"]), (405, &"POST".parse().unwrap()));
    }
}

#[tokio::test]
async fn p70_other_versions_are_505() {
    let proxy = untouchable().await;
    let mut tcp = TcpStream::connect(proxy.addr).await.unwrap();
    let request = b"POST /s/M HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\
        content-length: 0\r\n\r\n";
    tcp.write_all(request).await.unwrap();
    let mut answer = [0; 12];
    tcp.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 505");
}

// P46, grpc-go CVE-2026-33186: a path that is read in two ways passes the rules for one of them.
#[tokio::test]
async fn t48_paths_that_are_no_methods_are_unimplemented() {
    let proxy = untouchable().await;
    for path in ["/", "/svc", "//svc/M", "/svc//M", "/svc/M/", "/svc/", "//"] {
        proxy.unary(call(path), b"").await.is_trailers_only("12");
    }
}

#[tokio::test]
async fn t58_metadata_beyond_the_limit_is_refused_by_the_stream() {
    let proxy = untouchable().await;
    let huge = "x".repeat(64 * 1024);
    let mut client = proxy.connect().await;
    let request = with(call("/s/M"), &[("x-huge", &huge)]);
    let (response, _) = client.send_request(request, true).unwrap();
    // h2 answers before anyone of ours sees the head (RFC 6585 §5).
    match response.await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    // Another call on a fresh connection is none the worse.
    proxy.unary(call("/"), b"").await.is_trailers_only("12");
}
