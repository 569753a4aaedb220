//! CONNECT, on both wires.

use bytes::Bytes;
use gwproxy_core::net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::*;

/// P10, P28, RFC 9110 §9.3.6: a 2xx has neither Content-Length nor Transfer-Encoding, and the end
/// of one direction does not end the other.
#[tokio::test]
async fn p10_a_tunnel_keeps_what_comes_after_a_half_close() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let mut client = Client::to(&proxy).await;
    client.send(&format!("CONNECT {} HTTP/1.1\r\nHost: {}\r\n\r\n", origin.at, origin.at)).await;
    let response = client.response().await;
    assert_eq!(response.status, 200);
    for framing in ["content-length", "transfer-encoding"] {
        assert_eq!(response.field(framing), None, "{}", response.head);
    }
    let mut far = origin.accept().await;
    client.send("ask").await;
    client.0.shutdown().await.unwrap();
    let mut asked = String::new();
    far.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "ask");
    write(&mut far, b"an answer after the end").await;
    drop(far);
    assert_eq!(client.rest().await, "an answer after the end");
}

/// P10, RFC 9110 §9.3.6.
#[tokio::test]
async fn p10_a_target_without_a_valid_port_is_refused() {
    let proxy = Proxy::start(Config::loopback());
    for target in
        ["127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65979", ":443", "/", "a b:443"]
    {
        let mut client = Client::to(&proxy).await;
        client.send(&format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.field("connection")), (400, Some("close")));
        assert_eq!(client.rest().await, "", "{target}");
    }
}

#[tokio::test]
async fn a_connect_with_content_is_refused() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    for framing in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let mut client = Client::to(&proxy).await;
        client.send(&format!("CONNECT {} HTTP/1.1\r\nHost: a\r\n{framing}", origin.at)).await;
        let response = client.response().await;
        assert_eq!((response.status, response.field("connection")), (400, Some("close")));
        assert_eq!(client.rest().await, "", "{framing}");
    }
    assert_untouched(origin.listener);
}

/// T11, RFC 9931: data sent before the answer reaches the destination once there is a tunnel, and
/// nothing else takes it for a request.
#[tokio::test]
async fn t11_early_data_belongs_to_the_tunnel() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let mut client = Client::to(&proxy).await;
    let early = "GET http://never.example/ HTTP/1.1\r\nHost: never.example\r\n\r\n";
    client.send(&format!("CONNECT {} HTTP/1.1\r\nHost: a\r\n\r\n{early}", origin.at)).await;
    let mut far = origin.accept().await;
    assert_eq!(client.response().await.status, 200);
    let mut got = vec![0; early.len()];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(got, early.as_bytes());
    write(&mut far, b"raw").await;
    drop(far);
    assert_eq!(client.rest().await, "raw");
}

/// T11 and P36, RFC 9931: a refused CONNECT closes the connection and what followed it is not
/// parsed.
#[tokio::test]
async fn t11_p36_a_refused_connect_closes_and_parses_nothing_more() {
    let origin = Origin::bind().await;
    let reachable = Origin::bind().await;
    let mut config = Config::loopback();
    let denied = origin.at.to_string();
    config.settings.policy.deny = vec![denied.parse().unwrap()];
    let proxy = Proxy::start(config);
    let mut client = Client::to(&proxy).await;
    let next = format!("GET http://{}/ HTTP/1.1\r\nHost: a\r\n\r\n", reachable.at);
    client.send(&format!("CONNECT {denied} HTTP/1.1\r\nHost: a\r\n\r\n\r\n{next}")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("connection")), (403, Some("close")));
    let status = response.field("proxy-status");
    assert_eq!(status, Some("gwproxy; error=destination_ip_prohibited"));
    assert_eq!(client.rest().await, "", "no second response");
    assert_untouched(origin.listener);
    assert_untouched(reachable.listener);
}

/// P48, RFC 9113 §8.5: CONNECT on one stream of a connection; `END_STREAM` is the half-close, and a
/// refused CONNECT ends its stream alone.
#[tokio::test]
async fn p48_connect_and_absolute_form_over_http2() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let socket = TcpStream::connect(proxy.at).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    let driver = tokio::spawn(connection);
    let connect = |to: &str| http::Request::builder().method("CONNECT").uri(to).body(()).unwrap();

    let (refused, _) = sender.send_request(connect("10.0.0.1:443"), true).unwrap();
    let refused = refused.await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(!refused.headers().contains_key("connection"));

    let (response, mut up) = sender.send_request(connect(&at.to_string()), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let mut far = origin.accept().await;
    up.send_data(Bytes::from_static(b"ask"), true).unwrap();
    let mut asked = String::new();
    far.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "ask");
    write(&mut far, b"answer").await;
    drop(far);
    let mut down = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = down.data().await {
        answer.extend_from_slice(&data.unwrap());
    }
    assert_eq!(answer, b"answer");

    let served = origin.serve_one(b"HTTP/1.1 204 No Content\r\n\r\n");
    let get = http::Request::get(format!("http://{at}/over/h2")).body(()).unwrap();
    let (response, _) = sender.send_request(get, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["via"], "1.1 gwproxy");
    let head = served.await.unwrap();
    assert!(head.starts_with("GET /over/h2 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("via: 2 gwproxy\r\n"), "{head}");
    driver.abort();
}

/// P48, RFC 9113 §8.5: what was cut off on one side does not look ended on the other.
#[tokio::test]
async fn p48_a_broken_side_breaks_the_other_over_http2() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at.to_string();
    let socket = TcpStream::connect(proxy.at).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    let driver = tokio::spawn(connection);
    let connect = || http::Request::builder().method("CONNECT").uri(&at).body(()).unwrap();

    // The client resets its stream.
    let (response, mut up) = sender.send_request(connect(), false).unwrap();
    let response = response.await.unwrap();
    let mut far = origin.accept().await;
    up.send_reset(h2::Reason::CANCEL);
    let error = far.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    drop(response);

    // The destination resets its connection.
    let (response, _up): (_, h2::SendStream<Bytes>) =
        sender.send_request(connect(), false).unwrap();
    let mut down = response.await.unwrap().into_body();
    let far = origin.accept().await;
    Stream::from(far).abort_on_close();
    let error = down.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CONNECT_ERROR));
    driver.abort();
}

/// P48: and over HTTP/1.1 likewise.
#[tokio::test]
async fn p48_a_broken_side_breaks_the_other_over_http1() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    for breaks in ["client", "destination"] {
        let mut client = Client::to(&proxy).await;
        client.send(&format!("CONNECT {} HTTP/1.1\r\nHost: a\r\n\r\n", origin.at)).await;
        assert_eq!(client.response().await.status, 200);
        let mut far = origin.accept().await;
        let mut near = client.0;
        if breaks == "destination" {
            std::mem::swap(&mut near, &mut far);
        }
        Stream::from(near).abort_on_close();
        let error = far.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{breaks}");
    }
}
