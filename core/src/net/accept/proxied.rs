//! The PROXY header in front of a connection: from whom it is believed, how long it may take, and
//! what it changes. It comes before everything else, TLS included.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::net::proxy_protocol::{Header, Malformed, Origin, Parsed, parse};
use crate::net::{Peer, PeerAddr, Proxied, Socket};
use crate::timer::Timer;
use crate::{Code, Error};

/// How long a header may take, from the accept (D01; the specification wants at least 3 s, for a
/// packet that is lost on the way).
const WAIT: Duration = Duration::from_secs(5);

/// Most headers and what follows them come in one piece of less.
const READ_BYTES: usize = 512;

/// Whose PROXY headers a listener believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The networks of the proxies in front. From elsewhere connections come without a header,
    /// and what looks like one is the client's own bytes. Empty: every connection has one, and
    /// whoever can connect can claim any address.
    pub from: Vec<IpNet>,
    /// Whether those proxies must send one.
    pub want: Want,
}

/// Whether a header must come. In text `optional` or `required`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// A connection that begins otherwise, or on which nothing comes for 5 s, is the sender's own.
    Optional,
    /// A connection that begins otherwise is closed.
    #[default]
    Required,
}

impl ProxyProtocol {
    /// Whether a connection from there has something to say about its client.
    pub fn concerns(&self, remote: PeerAddr) -> bool {
        self.from.is_empty()
            || remote.ip().is_some_and(|ip| self.from.iter().any(|net| net.contains(&ip)))
    }

    /// Takes the header off the connection and puts what it says into `peer`. What follows the
    /// header is still to be read from the socket.
    ///
    /// # Errors
    /// [`Code::ProxyHeader`], or [`Code::ClientClosed`] when nothing came at all, as from a probe
    /// of the port. The connection was reset.
    pub(super) async fn take(
        &self,
        mut socket: Socket,
        peer: &mut Peer,
        timer: &Timer,
    ) -> Result<Socket, Error> {
        let mut bytes = BytesMut::new();
        let read = timer.deadline().within(WAIT, read(&mut socket, &mut bytes)).await;
        let header = match (read, self.want) {
            (Some(Ok(header)), _) => header,
            // Protocols in which the server speaks first.
            (None, Want::Optional) if bytes.is_empty() => None,
            (Some(Err(failed)), _) => return Err(refuse(&socket, failed)),
            (None, _) => return Err(refuse(&socket, Failed::Late)),
        };
        match header {
            None if self.want == Want::Required => return Err(refuse(&socket, Failed::Missing)),
            None => {}
            Some(header) => believe(*header, peer),
        }
        Ok(socket.with_early(bytes.freeze()))
    }
}

/// Takes the header off a connection, if it begins with one, for as long as that takes. What
/// follows is still to be read from the socket.
///
/// # Errors
/// When a header is malformed or breaks off, or the socket fails.
pub async fn read_header(mut socket: Socket) -> io::Result<(Socket, Option<Box<Header>>)> {
    let mut bytes = BytesMut::new();
    match read(&mut socket, &mut bytes).await {
        Ok(header) => Ok((socket.with_early(bytes.freeze()), header)),
        Err(Failed::Closed(Some(error))) => Err(error),
        Err(Failed::Closed(None)) => Ok((socket, None)),
        Err(failed) => Err(io::Error::new(io::ErrorKind::InvalidData, failed.to_string())),
    }
}

/// Reads until it is known whether there is a header, and leaves in `bytes` what follows it.
async fn read(socket: &mut Socket, bytes: &mut BytesMut) -> Result<Option<Box<Header>>, Failed> {
    loop {
        match parse(bytes) {
            Ok(Parsed::Header { header, bytes: length }) => {
                bytes.advance(length);
                return Ok(Some(header));
            }
            Ok(Parsed::Absent) => return Ok(None),
            Ok(Parsed::Partial) => {}
            Err(malformed) => return Err(Failed::Malformed(malformed)),
        }
        // The parser bounds it: no header is partial for ever.
        bytes.reserve(READ_BYTES);
        match socket.read_buf(bytes).await {
            Ok(0) if bytes.is_empty() => return Err(Failed::Closed(None)),
            Ok(0) => return Err(Failed::BrokenOff),
            Ok(_) => {}
            Err(error) => return Err(Failed::Closed(Some(error))),
        }
    }
}

fn believe(header: Header, peer: &mut Peer) {
    let Origin::Proxied { source, destination } = header.origin else { return };
    let sender = std::mem::replace(&mut peer.remote, PeerAddr::from_socket(source));
    let destination = PeerAddr::from_socket(destination);
    peer.proxied = Some(Arc::new(Proxied { sender, destination, tlvs: header.tlvs }));
}

/// Why there is no header.
enum Failed {
    BrokenOff,
    Closed(Option<io::Error>),
    Late,
    Malformed(Malformed),
    Missing,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenOff => f.write_str("the connection ended within its PROXY header"),
            Self::Closed(_) => f.write_str("the connection was closed before its PROXY header"),
            Self::Late => write!(f, "no whole PROXY header came within {WAIT:?}"),
            Self::Malformed(why) => write!(f, "the PROXY header is malformed: {why}"),
            Self::Missing => f.write_str(
                "the connection has no PROXY header, which the listener requires of its sender \
                 (`proxy_protocol`)",
            ),
        }
    }
}

/// An orderly close would look like a service with nothing to say.
fn refuse(socket: &Socket, failed: Failed) -> Error {
    socket.abort_on_close();
    let sentence = failed.to_string();
    match failed {
        Failed::Closed(Some(error)) => Error::new(Code::ClientClosed, sentence).because(error),
        Failed::Closed(None) => Error::new(Code::ClientClosed, sentence),
        _ => Error::new(Code::ProxyHeader, sentence),
    }
}

impl Want {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Optional, Self::Required];

    /// The name in flags and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

impl FromStr for Want {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|want| want.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is neither `required` nor `optional`"))
    }
}

#[cfg(test)]
mod tests;
