//! What is told of a connection when it is over.

use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::net::Peer;
use gwproxy_core::net::relay::End;
use gwproxy_core::{Code, Error};

/// A connection that is over: what an access log wants to know.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub peer: Peer,
    /// The node that was spoken to, or the last one that refused; none if none was tried.
    pub node: Option<Arc<str>>,
    /// Nodes that were dialled.
    pub attempts: u32,
    /// Bytes from the client to the node.
    pub client_to_upstream: u64,
    /// Bytes from the node to the client.
    pub upstream_to_client: u64,
    /// From the accept (with TLS: from the end of its handshake) until a node took the
    /// connection, or all refused it.
    pub connect: Duration,
    /// From the same moment to the end.
    pub took: Duration,
    /// What ended it.
    pub ending: Ending,
}

/// What ended a connection.
#[derive(Debug)]
pub enum Ending {
    /// The proxy stopped before the connection was over.
    CutOff,
    /// No node was ever spoken to: a limit said no, or every node refused.
    Refused(Error),
    /// Both sides were spoken to.
    Relayed(End),
}

impl Session {
    /// A session that has not got anywhere yet: what it is if nothing else becomes of it.
    pub(crate) fn cut_off(peer: Peer) -> Self {
        Self {
            peer,
            node: None,
            attempts: 0,
            client_to_upstream: 0,
            upstream_to_client: 0,
            connect: Duration::ZERO,
            took: Duration::ZERO,
            ending: Ending::CutOff,
        }
    }
}

impl Ending {
    /// Why it was no orderly end, in the words of logs and metrics.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::CutOff => Some(Code::Draining),
            Self::Refused(error) => Some(error.code()),
            Self::Relayed(end) => end.code(),
        }
    }

    /// A stable name for logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::CutOff => "cut_off",
            Self::Refused(_) => "refused",
            Self::Relayed(end) => end.as_str(),
        }
    }
}
