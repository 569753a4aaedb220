//! Interim responses (RFC 9110 §15.2, RFC 8297) between every pair of wires.

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{GET, OK, POST, Sent, data, headers};
use super::support::{House, Wire, listener, run};
use crate::h2::Reason;
use crate::h2::frame::Kind;
use crate::h2::hpack::{Decoder, Encoder, Field};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\
                    Content-Length: 9\r\n\r\n";

/// The status of a field block, and what it says besides.
fn read(decoder: &mut Decoder, block: &[u8]) -> (u16, HeaderMap) {
    let (mut status, mut fields) = (0, HeaderMap::new());
    let take = |field| match field {
        Field::Status(code) => status = code.as_u16(),
        Field::Header(name, value) => {
            fields.append(name, value);
        }
        _ => {}
    };
    decoder.decode(block, 65_536, take).unwrap();
    (status, fields)
}

fn hint(stream: u32) -> Vec<u8> {
    let mut block = bytes::BytesMut::new();
    let mut encoder = Encoder::default();
    encoder.begin(&mut block);
    Encoder::status(&mut block, http::StatusCode::EARLY_HINTS);
    encoder.header(&mut block, http::header::LINK, http::HeaderValue::from_static("</x>"));
    headers(stream, &block, false)
}

/// A node of either wire that has been asked and says each part when it is told to.
enum Node {
    H1(TcpStream),
    H2(Wire, u32),
}

impl Node {
    async fn say_hint(&mut self) {
        match self {
            Self::H1(tcp) => tcp.write_all(HINT.as_bytes()).await.unwrap(),
            Self::H2(wire, stream) => wire.say(&hint(*stream)).await,
        }
    }

    async fn say_answer(&mut self) {
        match self {
            Self::H1(tcp) => {
                tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
            Self::H2(wire, stream) => wire.say(&headers(*stream, OK, true)).await,
        }
    }
}

/// A client of either wire.
enum Asker {
    H1(TcpStream),
    H2(Box<(Wire, Decoder)>),
}

impl Asker {
    async fn head(&mut self) -> (u16, HeaderMap) {
        match self {
            Self::H1(tcp) => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let mut fields = HeaderMap::new();
                for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(": ").unwrap();
                    let name: http::HeaderName = name.parse().unwrap();
                    fields.append(name, value.parse().unwrap());
                }
                (head[9..12].parse().unwrap(), fields)
            }
            Self::H2(of) => {
                let Sent { flags, payload, .. } = of.0.hear_of(Kind::Headers).await;
                let (status, fields) = read(&mut of.1, &payload);
                assert_eq!(flags & 1 == 1, status == 200, "only the last one ends the stream");
                (status, fields)
            }
        }
    }
}

async fn pair(house: &House, client_h2: bool, node_h2: bool) -> (Asker, Node) {
    let (listener, addr) = listener().await;
    let proxy = house.proxy_to(if node_h2 { "h2c" } else { "http" }, &[addr]);
    let client = if client_h2 {
        let mut wire = Wire::connect(proxy, &[]).await;
        wire.say(&headers(1, GET, true)).await;
        Asker::H2(Box::new((wire, Decoder::default())))
    } else {
        let mut tcp = TcpStream::connect(proxy).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        Asker::H1(tcp)
    };
    let node = if node_h2 {
        let mut wire = Wire::accept(&listener, &[]).await;
        let stream = wire.hear_of(Kind::Headers).await.stream;
        Node::H2(wire, stream)
    } else {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        Node::H1(tcp)
    };
    (client, node)
}

/// P12, P56, RFC 8297 §2: each hint reaches the client before the node has its answer, whatever
/// both speak, without what is the connection's, and the answer has nothing of it.
#[test]
fn p12_hints_between_every_pair_of_wires() {
    for (client_h2, node_h2) in [(true, true), (true, false), (false, true), (false, false)] {
        run(async |house| {
            let (mut client, mut node) = pair(&house, client_h2, node_h2).await;
            for _ in 0..2 {
                node.say_hint().await;
                let (status, fields) = client.head().await;
                let names: Vec<&str> = fields.keys().map(http::HeaderName::as_str).collect();
                assert_eq!((status, &names[..]), (103, &["link"][..]), "{client_h2} {node_h2}");
                assert_eq!(fields["link"], "</x>");
            }
            node.say_answer().await;
            let (status, fields) = client.head().await;
            assert_eq!((status, fields.get("link")), (200, None));
        });
    }
}

/// P56: streams of one connection have their own.
#[test]
fn p56_hints_stay_with_their_stream() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let mut client = Wire::connect(house.proxy(&[addr]), &[]).await;
        client.say(&[headers(1, GET, true), headers(3, GET, true)].concat()).await;
        let mut node = Wire::accept(&listener, &[]).await;
        let first = node.hear_of(Kind::Headers).await.stream;
        let second = node.hear_of(Kind::Headers).await.stream;
        let mut decoder = Decoder::default();
        for (say, stream, status) in [
            (hint(second), 3, 103),
            (hint(first), 1, 103),
            (headers(second, OK, true), 3, 200),
            (headers(first, OK, true), 1, 200),
        ] {
            node.say(&say).await;
            let sent = client.hear_of(Kind::Headers).await;
            assert_eq!((sent.stream, read(&mut decoder, &sent.payload).0), (stream, status));
        }
    });
}

/// T13: more than ten for one request is an attack; the client hears of ten at most.
#[test]
fn t13_a_flood_of_hints_ends_its_stream() {
    for (count, status) in [(10, 200), (11, 502)] {
        run(async |house| {
            let (mut client, mut node) = pair(&house, true, true).await;
            let Node::H2(wire, stream) = &mut node else { unreachable!() };
            wire.say(&hint(*stream).repeat(count)).await;
            if count > 10 {
                assert_eq!(wire.hear_of(Kind::RstStream).await.reason(), Reason::PROTOCOL_ERROR);
            } else {
                wire.say(&headers(*stream, OK, true)).await;
            }
            let Asker::H2(of) = &mut client else { unreachable!() };
            let mut hints = 0;
            loop {
                let sent = of.0.hear_of(Kind::Headers).await;
                match read(&mut of.1, &sent.payload).0 {
                    103 => hints += 1,
                    last => break assert_eq!((last, hints), (status, 10)),
                }
            }
        });
    }
}

/// P11, RFC 9110 §10.1.1: who was answered is not told to go on, though its content is still read.
#[test]
fn p11_no_100_follows_the_answer() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let mut client = Wire::connect(house.proxy_to("http", &[addr]), &[]).await;
        // `expect: 100-continue`, by the static name.
        let block = [POST, &[0x0f, 20, 12], b"100-continue"].concat();
        client.say(&headers(1, &block, false)).await;
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            heard.push(tcp.read_u8().await.unwrap());
        }
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        let answer = client.hear_of(Kind::Headers).await;
        assert_eq!(read(&mut Decoder::default(), &answer.payload).0, 200);
        // Time enough to ask for the content.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        client.say(&data(1, 7, true)).await;
        heard.clear();
        while !heard.ends_with(b"0\r\n\r\n") {
            heard.push(tcp.read_u8().await.unwrap());
        }
        tcp.write_all(b"hello").await.unwrap();
        loop {
            let sent = client.hear().await.unwrap();
            assert_ne!(sent.kind, Kind::Headers, "{sent:?}");
            if sent.kind == Kind::Data {
                break assert_eq!(sent.payload, b"hello");
            }
        }
    });
}
