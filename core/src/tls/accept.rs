//! TLS termination.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::reload::Watched;
use super::{ServerSettings, TlsInfo, sentence};
use crate::net::{Socket, Stream};

/// One listener's TLS, shared by all workers so that a session begun on one resumes on another.
///
/// **Invariant:** a session ticket is only good where the same clients would be let in: every
/// listener has ticket keys of its own, and they change with the authorities it trusts
/// (CVE-2025-23419).
#[derive(Debug)]
pub struct ServerTls {
    pub(super) config: ArcSwap<ServerConfig>,
    pub(super) generation: AtomicU64,
    /// Only the control runtime takes this lock. None if there are no files behind the
    /// configuration.
    pub(super) watched: Option<Mutex<Watched>>,
}

impl ServerTls {
    /// Reads what `settings` name. `alpn` lists the protocols spoken here, best first; with a
    /// list, a client whose ALPN shares none of it is refused (RFC 7301 §3.2).
    ///
    /// # Errors
    /// One sentence: which file or setting, what is wrong, how to mend it.
    pub fn new(settings: ServerSettings, alpn: &[&[u8]]) -> Result<Self, String> {
        Self::start(settings, alpn, None)
    }

    /// The same listener under new settings: sessions of this one resume there if clients are
    /// verified by the same rule.
    ///
    /// # Errors
    /// As of [`ServerTls::new`].
    pub fn succeeded_by(&self, settings: ServerSettings, alpn: &[&[u8]]) -> Result<Self, String> {
        Self::start(settings, alpn, self.watched.as_ref())
    }

    fn start(
        settings: ServerSettings,
        alpn: &[&[u8]],
        before: Option<&Mutex<Watched>>,
    ) -> Result<Self, String> {
        let (watched, config) = Watched::start(settings, alpn, before)?;
        Ok(Self {
            config: ArcSwap::new(config),
            generation: AtomicU64::new(1),
            watched: Some(Mutex::new(watched)),
        })
    }

    /// Wraps a finished configuration; there are no files to watch.
    pub fn from_config(config: Arc<ServerConfig>) -> Self {
        Self { config: ArcSwap::new(config), generation: AtomicU64::new(1), watched: None }
    }

    /// The configuration of new connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// 1 at the start, one more each time changed files were taken into use.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Performs the server's side of the handshake. No deadline of its own: the caller has the
    /// worker's timer.
    ///
    /// # Errors
    /// A sentence around what rustls ([`HandshakeError`](super::HandshakeError), kind
    /// `InvalidData`) or the socket (its own kind) said. The client was sent the alert.
    pub async fn accept(&self, socket: Socket) -> io::Result<(Stream, TlsInfo)> {
        let handshake = TlsAcceptor::from(self.config.load_full()).accept(socket);
        let tls = handshake.await.map_err(sentence::with_client)?;
        let info = TlsInfo::of(tls.get_ref().1);
        Ok((Stream::TlsServer(Box::new(tls)), info))
    }
}
