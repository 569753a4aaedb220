//! One node of a service: where it is, and how it has been doing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::net::HostPort;
use crate::net::addr::AddrError;
use crate::tls::ClientTls;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddr {
    /// A host and a port.
    Tcp(HostPort),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// One node of a service. Shared by all workers; its numbers are process-wide truths.
#[derive(Debug)]
pub struct Endpoint {
    /// Unique in the process, never reused: the key of connection pools.
    pub id: u64,
    /// The name in logs, metrics and configuration.
    pub name: Arc<str>,
    /// How to speak to it: `http`, `https`, `h2c`, `ws`, `wss`, `tcp`, `tls`, `grpc`, `grpcs`.
    /// Only a label here; protocols give it a meaning.
    pub scheme: Arc<str>,
    /// Where it is.
    pub addr: NodeAddr,
    /// TLS towards it, if any.
    pub tls: Option<Arc<ClientTls>>,
    /// Free words about it (zone, version).
    pub metadata: BTreeMap<String, String>,
    weight: AtomicU32,
    in_flight: AtomicU32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Endpoint {
    /// A new node with a fresh id. `weight` 0 means that it gets no new work.
    pub fn new(
        name: impl Into<Arc<str>>,
        scheme: impl Into<Arc<str>>,
        addr: NodeAddr,
        tls: Option<Arc<ClientTls>>,
        weight: u32,
    ) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            scheme: scheme.into(),
            addr,
            tls,
            metadata: BTreeMap::new(),
            weight: AtomicU32::new(weight),
            in_flight: AtomicU32::new(0),
        }
    }

    /// Its share of the traffic in relation to the others'.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Exchanges under way over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl FromStr for NodeAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
