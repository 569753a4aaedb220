//! Extended CONNECT (RFC 8441, P54) on either side, frame by frame. What is carried then is the
//! tunnel's own affair.

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::frames::{OK, Sent, headers, settings};
use super::support::{House, Wire, listener, run};
use crate::h2::Reason;
use crate::h2::frame::{Kind, setting};
use crate::h2::hpack::{Decoder, Field};
use crate::h2::tests::frames::frame_of;
use crate::wire::websocket::accept;

/// The key of RFC 6455 §1.2.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ANNOUNCED: &[(u16, u32)] = &[(setting::ENABLE_CONNECT_PROTOCOL, 1)];
const ASKS: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":path", "/chat"),
    (":authority", "a.test"),
];

/// Fields as literals.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// What a field block says; pseudo-header fields by their names.
fn read(block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let take = |field| {
        let (name, value) = match field {
            Field::Method(method) => (":method".to_owned(), method.to_string()),
            Field::Scheme(scheme) => (":scheme".to_owned(), text(&scheme)),
            Field::Authority(authority, _) => (":authority".to_owned(), authority.to_string()),
            Field::Path(path) => (":path".to_owned(), path.to_string()),
            Field::Protocol(protocol) => (":protocol".to_owned(), text(&protocol)),
            Field::Status(status) => (":status".to_owned(), status.as_str().to_owned()),
            Field::Header(name, value) => (name.to_string(), text(value.as_bytes())),
            Field::NoAuthority | Field::Malformed(_) => panic!("{field:?}"),
        };
        fields.push((name, value));
    };
    Decoder::default().decode(block, 65_536, take).unwrap();
    fields
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}

/// A client that has asked for a WebSocket.
async fn asked(proxy: std::net::SocketAddr, more: &[(&str, &str)]) -> Wire {
    let mut client = Wire::connect(proxy, &[]).await;
    let version = [("sec-websocket-version", "13")];
    client.say(&headers(1, &block(&[&ASKS[..], &version, more].concat()), false)).await;
    client
}

/// The head of a message of HTTP/1.1.
async fn head(tcp: &mut TcpStream) -> (String, HeaderMap) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let head = text(&head);
    let (first, rest) = head.split_once("\r\n").unwrap();
    let mut fields = HeaderMap::new();
    for line in rest.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        fields.append(name, value.parse().unwrap());
    }
    (first.to_owned(), fields)
}

async fn switch(node: &mut TcpStream, fields: &HeaderMap) {
    let accept = accept(fields["sec-websocket-key"].as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    node.write_all(answer.as_bytes()).await.unwrap();
}

/// A client of HTTP/2 and a node of HTTP/1.1, joined.
async fn joined(house: &House) -> (Wire, TcpStream) {
    let (listener, addr) = listener().await;
    let proxy = house.proxy_to("http", &[addr]);
    let mut client = asked(proxy, &[("sec-websocket-protocol", "chat")]).await;
    let (mut node, _) = listener.accept().await.unwrap();
    let (line, fields) = head(&mut node).await;
    assert_eq!(line, "GET /chat HTTP/1.1");
    let expected = [
        ("host", "a.test"),
        ("via", "2 gwproxy"),
        ("upgrade", "websocket"),
        ("sec-websocket-protocol", "chat"),
    ];
    for (name, expected) in expected {
        assert_eq!(fields[name], expected);
    }
    let key = fields["sec-websocket-key"].to_str().unwrap();
    assert_eq!((key.len(), &key[22..]), (24, "=="), "16 bytes in base64: {key}");
    switch(&mut node, &fields).await;
    let answer = client.hear_of(Kind::Headers).await;
    let fields = read(&answer.payload);
    assert_eq!((answer.flags & 1, value(&fields, ":status")), (0, Some("200")), "{fields:?}");
    assert_eq!(value(&fields, "sec-websocket-protocol"), Some("chat"));
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(value(&fields, name), None);
    }
    (client, node)
}

/// A client of HTTP/1.1 and a node of HTTP/2 that was asked.
async fn asked_node(house: &House, said: &[(u16, u32)]) -> (TcpStream, Wire, Sent, TcpListener) {
    let (listener, addr) = listener().await;
    let proxy = house.proxy(&[addr]);
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let ask = format!(
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nOrigin: http://b.test\r\n\r\n"
    );
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut node = Wire::accept(&listener, said).await;
    let asked = node.hear_of(Kind::Headers).await;
    (client, node, asked, listener)
}

#[test]
fn p54_a_server_announces_it() {
    run(|house| async move {
        let proxy = house.proxy(&["127.0.0.1:9".parse().unwrap()]);
        let mut client = Wire::connect(proxy, &[]).await;
        let said = client.hear_of(Kind::Settings).await;
        let announced = settings(ANNOUNCED)[9..].to_vec();
        assert!(said.payload.chunks(6).any(|setting| setting == announced), "{said:?}");
    });
}

#[test]
fn p54_extended_connect_becomes_a_handshake_of_http1() {
    run(|house| async move {
        let (mut client, mut node) = joined(&house).await;
        client.say(&frame_of(Kind::Data, 0, 1, b"there")).await;
        let mut there = [0; 5];
        node.read_exact(&mut there).await.unwrap();
        assert_eq!(&there, b"there");
        node.write_all(b"back").await.unwrap();
        assert_eq!(client.hear_of(Kind::Data).await.payload, b"back");
        // An orderly end is END_STREAM here and FIN there.
        client.say(&frame_of(Kind::Data, 1, 1, b"")).await;
        assert_eq!(node.read(&mut there).await.unwrap(), 0);
        drop(node);
        let last = client.hear_of(Kind::Data).await;
        assert_eq!((last.flags & 1, last.payload.len()), (1, 0));
    });
}

/// RFC 8441 §5: what is cut off is reset with CANCEL, not with `CONNECT_ERROR`.
#[test]
fn p54_what_is_cut_off_is_cancelled() {
    run(|house| async move {
        let (mut client, node) = joined(&house).await;
        node.set_zero_linger().unwrap();
        drop(node);
        assert_eq!(client.hear_of(Kind::RstStream).await.reason(), Reason::CANCEL);

        let (client, mut node) = joined(&house).await;
        drop(client);
        let broken = node.read_u8().await.unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn p54_what_is_not_extended_connect_is_malformed() {
    run(|house| async move {
        let proxy = house.proxy(&["127.0.0.1:9".parse().unwrap()]);
        let without = |name: &str| ASKS.iter().copied().filter(|(n, _)| *n != name).collect();
        let with = |more| [&ASKS[..], &[more]].concat();
        let get: Vec<_> = without(":method");
        let cases: [Vec<(&str, &str)>; 7] = [
            without(":scheme"),
            without(":path"),
            without(":authority"),
            [&[(":method", "GET")], &get[..]].concat(),
            with(("upgrade", "websocket")),
            with(("connection", "upgrade")),
            with((":protocol", "websocket")),
        ];
        for fields in cases {
            let mut client = Wire::connect(proxy, &[]).await;
            client.say(&headers(1, &block(&fields), false)).await;
            let reset = client.hear_of(Kind::RstStream).await;
            assert_eq!((reset.stream, reset.reason()), (1, Reason::PROTOCOL_ERROR), "{fields:?}");
        }
    });
}

/// RFC 9220 §3, whose word it is for RFC 8441 as well.
#[test]
fn p54_another_protocol_is_not_implemented() {
    run(|house| async move {
        let proxy = house.proxy(&["127.0.0.1:9".parse().unwrap()]);
        let mut client = Wire::connect(proxy, &[]).await;
        let fields = ASKS.map(|(name, value)| match name {
            ":protocol" => (name, "connect-udp"),
            _ => (name, value),
        });
        client.say(&headers(1, &block(&fields), false)).await;
        let answer = client.hear_of(Kind::Headers).await;
        assert_eq!(value(&read(&answer.payload), ":status"), Some("501"));
    });
}

/// RFC 9113 §8.5 has 2xx mean a tunnel, whatever the node of HTTP/1.1 meant.
#[test]
fn p54_a_plain_answer_is_no_tunnel() {
    run(|house| async move {
        for (status, expected) in [("200 OK", "502"), ("204 No Content", "502"), ("403 No", "403")]
        {
            let (listener, addr) = listener().await;
            let mut client = asked(house.proxy_to("http", &[addr]), &[]).await;
            let (mut node, _) = listener.accept().await.unwrap();
            head(&mut node).await;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            node.write_all(answer.as_bytes()).await.unwrap();
            let answer = client.hear_of(Kind::Headers).await;
            assert_eq!(value(&read(&answer.payload), ":status"), Some(expected), "{status}");
        }
    });
}

#[test]
fn p54_a_node_that_announced_it_is_asked_by_extended_connect() {
    run(|house| async move {
        let (mut client, mut node, asked, _listener) = asked_node(&house, ANNOUNCED).await;
        let fields = read(&asked.payload);
        let expected = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/chat"),
            (":authority", "a.test"),
            ("sec-websocket-version", "13"),
            ("origin", "http://b.test"),
        ];
        for (name, expected) in expected {
            assert_eq!(value(&fields, name), Some(expected), "{name}: {fields:?}");
        }
        for name in ["upgrade", "connection", "sec-websocket-key", "host"] {
            assert_eq!(value(&fields, name), None);
        }
        assert_eq!(asked.flags & 1, 0, "more is to come");
        // A length has no meaning here (RFC 9110 §9.3.6).
        let answer = [(":status", "200"), ("content-length", "0")];
        node.say(&headers(asked.stream, &block(&answer), false)).await;
        let (line, fields) = head(&mut client).await;
        assert_eq!(line, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(fields["sec-websocket-accept"], accept(KEY.as_bytes()));
        assert_eq!(fields["upgrade"], "websocket");
        assert!(!fields.contains_key("content-length"));
        client.write_all(b"there").await.unwrap();
        assert_eq!(node.hear_of(Kind::Data).await.payload, b"there");
        node.say(&frame_of(Kind::Data, 1, asked.stream, b"back")).await;
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"back");
    });
}

#[test]
fn p54_a_client_that_is_gone_cancels_the_nodes_stream() {
    run(|house| async move {
        let (mut client, mut node, asked, _listener) = asked_node(&house, ANNOUNCED).await;
        node.say(&headers(asked.stream, OK, false)).await;
        head(&mut client).await;
        client.set_zero_linger().unwrap();
        drop(client);
        assert_eq!(node.hear_of(Kind::RstStream).await.reason(), Reason::CANCEL);
    });
}

#[test]
fn p54_a_nodes_refusal_passes() {
    run(|house| async move {
        let (mut client, mut node, asked, _listener) = asked_node(&house, ANNOUNCED).await;
        node.say(&headers(asked.stream, &block(&[(":status", "403")]), true)).await;
        assert_eq!(head(&mut client).await.0, "HTTP/1.1 403 Forbidden");
        let last = node.hear_of(Kind::Data).await;
        assert_eq!((last.stream, last.flags & 1, last.payload.len()), (asked.stream, 1, 0));
    });
}

#[test]
fn p54_a_node_that_did_not_announce_it_is_not_asked() {
    run(|house| async move {
        let (listener, addr) = listener().await;
        let proxy = house.proxy(&[addr]);
        let mut client = asked(proxy, &[]).await;
        let mut node = Wire::accept(&listener, &[]).await;
        let answer = client.hear_of(Kind::Headers).await;
        assert_eq!(value(&read(&answer.payload), ":status"), Some("502"));
        let problem = text(&client.hear_of(Kind::Data).await.payload);
        assert!(problem.contains("\"code\":\"upstream_unsupported\""), "{problem}");
        // The connection serves others.
        let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        client.say(&headers(3, &block(&get), true)).await;
        let asked = node.hear_of(Kind::Headers).await;
        assert_eq!((asked.stream, value(&read(&asked.payload), ":method")), (1, Some("GET")));
    });
}

#[test]
fn p54_a_node_cannot_take_it_back() {
    run(|house| async move {
        for then in [0, 2] {
            let (_client, mut node, _, _listener) = asked_node(&house, ANNOUNCED).await;
            node.say(&settings(&[(setting::ENABLE_CONNECT_PROTOCOL, then)])).await;
            assert_eq!(node.hear_of(Kind::GoAway).await.reason(), Reason::PROTOCOL_ERROR, "{then}");
        }
    });
}
