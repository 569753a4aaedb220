//! WebSocket handshakes through the proxy, and the proxy that takes nothing else.

use tokio::io::AsyncReadExt;

use super::support::*;

const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";

async fn switches(config: Config) {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(config);
    let at = origin.at;
    let mut client = Client::to(&proxy).await;
    client.send(&format!("GET http://{at}/chat HTTP/1.1\r\nHost: a\r\n{HANDSHAKE}\r\n")).await;
    let mut far = origin.accept().await;
    let head = read_head(&mut far).await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    let lower = head.to_lowercase();
    assert!(lower.contains("upgrade: websocket\r\n"), "{head}");
    assert!(lower.contains("connection: upgrade\r\n"), "{head}");
    assert!(lower.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n"), "{head}");
    write(&mut far, SWITCHED).await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("upgrade")), (101, Some("websocket")));
    assert_eq!(response.field("via"), Some("1.1 gwproxy"));
    let mut hello = [0; 5];
    client.0.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    client.send("frames").await;
    let mut frames = [0; 6];
    far.read_exact(&mut frames).await.unwrap();
    assert_eq!(&frames, b"frames");
    drop(far);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_handshake_in_absolute_form_becomes_a_tunnel() {
    switches(Config::loopback()).await;
}

/// P13, T09: nothing is switched that was not asked for.
#[tokio::test]
async fn p13_a_101_that_nobody_asked_for_is_a_bad_gateway() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let _served = origin.serve_one(SWITCHED);
    let mut client = Client::to(&proxy).await;
    client.send(&format!("GET http://{at}/ HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 502);
}

#[tokio::test]
async fn a_proxy_for_websockets_takes_handshakes_and_connect_alone() {
    let websocket_only = || {
        let mut config = Config::loopback();
        config.settings.websocket_only = true;
        config
    };
    switches(websocket_only()).await;

    let origin = Origin::bind().await;
    let proxy = Proxy::start(websocket_only());
    let at = origin.at;
    let mut client = Client::to(&proxy).await;
    client.send(&format!("GET http://{at}/ HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("upgrade")), (426, Some("websocket")));

    let mut client = Client::to(&proxy).await;
    client.send(&format!("CONNECT {at} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);
    drop(origin.accept().await);
}
