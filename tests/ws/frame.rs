//! Frames as they are on the wire (RFC 6455 §5.2), and the handshake before them.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;

use crate::support::{Conn, Message, Origin, Peer};

pub(super) const TEXT: u8 = 1;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The key of RFC 6455 §1.2, and its answer.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) opcode: u8,
    /// Unmasked.
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, opcode, payload: payload.into() }
    }

    /// Close with this code.
    pub(super) fn close(code: u16, reason: &str) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
    }

    /// As a client sends it, which masks, or as a server does.
    pub(super) fn bytes(&self, masked: bool) -> Vec<u8> {
        let mask: [u8; 4] = if masked { [0x37, 0xfa, 0x21, 0x3d] } else { [0; 4] };
        let bit = u8::from(masked) << 7;
        let mut bytes = vec![u8::from(self.fin) << 7 | self.opcode];
        match self.payload.len() {
            short @ 0..=125 => bytes.push(bit | u8::try_from(short).expect("short")),
            length => {
                if let Ok(length) = u16::try_from(length) {
                    bytes.push(bit | 0x7e);
                    bytes.extend(length.to_be_bytes());
                } else {
                    bytes.push(bit | 0x7f);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
        }
        if masked {
            bytes.extend(mask);
        }
        bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// The next frame; `None` when the connection ended before it. It must be masked exactly if
    /// it comes from a client (§5.1).
    #[track_caller]
    pub(super) fn read(stream: &mut impl Read, masked: bool) -> Option<Self> {
        let mut head = [0; 2];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("no frame: {error}"),
        }
        assert_eq!(head[1] & 0x80 != 0, masked, "masked: {head:x?}");
        let mut more = |count: usize| {
            let mut bytes = vec![0; count];
            stream.read_exact(&mut bytes).expect("the rest of a frame");
            bytes
        };
        let length = match head[1] & 0x7f {
            126 => more(2).iter().fold(0, |all, &byte| all << 8 | usize::from(byte)),
            127 => more(8).iter().fold(0, |all, &byte| all << 8 | usize::from(byte)),
            short => usize::from(short),
        };
        let mask = if masked { more(4) } else { vec![0] };
        let mut payload = more(length);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Some(Self { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, payload })
    }
}

/// The handshake of RFC 6455 §1.2 for this path, with more fields.
pub(crate) fn handshake(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// Its answer, with more fields.
pub(super) fn switching(fields: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{fields}\r\n"
    )
}

/// A client that is past its handshake.
#[track_caller]
pub(super) fn open(addr: SocketAddr, path: &str) -> Conn {
    let mut conn = Conn::open(addr);
    let answer = conn.ask(handshake(path, ""));
    assert_eq!(answer.status(), 101, "{answer:?}");
    assert_eq!(answer.fields.get("sec-websocket-accept"), Some(ACCEPT));
    conn
}

/// A node that is past its handshake when `script` begins.
pub(super) fn node(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Origin {
    Origin::start(move |peer| {
        let Some(Message { start, .. }) = peer.head() else { return };
        assert!(start.starts_with("GET "), "{start}");
        peer.send(switching(""));
        script(peer);
    })
}
