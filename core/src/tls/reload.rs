//! Certificates that change while they are in use.
//!
//! Files are looked at, not subscribed to: this works the same for a rename over the old file, a
//! swapped symbolic link (Kubernetes) and network file systems. A change counts once two looks in
//! a row saw the same bytes, so a pair that is being written is not taken half.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls_pki_types::UnixTime;

use super::certs::Certificates;
use super::files::{self, Role};
use super::settings::MinVersion;
use super::{ClientAuth, ServerSettings, ServerTls};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// A file changed more recently than this may change again without its stamp showing it: clocks
/// of file systems tick as coarsely as 2 s (FAT).
const RACY: Duration = Duration::from_secs(3);

/// What a look at the files found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// What is on disk has been dealt with.
    Unchanged,
    /// Something changed; the next look acts if it sees the same.
    Settling,
    /// The new files serve new connections; open ones keep what they have.
    Swapped,
    /// The new files cannot be used, in one sentence; the old ones serve on. Said once per change.
    Refused(String),
}

/// The files behind a listener's TLS and what has been made of them.
#[derive(Debug)]
pub(super) struct Watched {
    settings: ServerSettings,
    alpn: Vec<Vec<u8>>,
    last: Snapshot,
    /// The bytes last acted on, for better or worse.
    judged: Digest,
    policy: Policy,
    ticketer: Arc<dyn ProducesTickets>,
}

type Digest = [u8; 32];

/// Whom a listener lets in: tickets are only good under the policy they were given out under.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    client_auth: Option<ClientAuth>,
    authorities: Option<Digest>,
}

/// Every file at one moment.
#[derive(Debug)]
struct Snapshot {
    stamps: Vec<Option<Stamp>>,
    /// Whether a later change would show in the stamps.
    quiet: bool,
    digest: Digest,
    contents: Vec<(PathBuf, Result<Vec<u8>, String>)>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ServerTls {
    /// Looks at the files every second and takes changes into use, until the listener is gone.
    /// For the control runtime.
    pub fn watch(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let listener = Arc::downgrade(self);
        async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(tls) = listener.upgrade() else { return };
                // A network file system may take its time; the runtime has other things to do.
                if tokio::task::spawn_blocking(move || tls.check_files()).await.is_err() {
                    tracing::error!("looking at the TLS files failed; trying again");
                }
            }
        }
    }

    /// One look at the files. Blocks for as long as reading takes.
    pub fn check_files(&self) -> Reload {
        let Some(watched) = &self.watched else { return Reload::Unchanged };
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        match watched.look(SystemTime::now()) {
            Ok(None) => Reload::Unchanged,
            Ok(Some(Look::Settling)) => Reload::Settling,
            Ok(Some(Look::Built(config))) => {
                self.config.store(config);
                let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::info!(generation, files = ?watched.paths(), "TLS files taken into use");
                Reload::Swapped
            }
            Err(sentence) => {
                tracing::error!(
                    files = ?watched.paths(),
                    "the changed TLS files are refused, the old ones serve on: {sentence}"
                );
                Reload::Refused(sentence)
            }
        }
    }
}

/// A change.
enum Look {
    Settling,
    Built(Arc<ServerConfig>),
}

impl Watched {
    /// Reads the files for the first time.
    pub(super) fn start(
        settings: ServerSettings,
        alpn: &[&[u8]],
        before: Option<&Mutex<Self>>,
    ) -> Result<(Self, Arc<ServerConfig>), String> {
        settings.check()?;
        let last = Snapshot::take(&settings, SystemTime::now());
        let policy = Policy::of(&settings, &last)?;
        let inherited = before.and_then(|before| {
            let before = before.lock().unwrap_or_else(PoisonError::into_inner);
            (before.policy == policy).then(|| Arc::clone(&before.ticketer))
        });
        let ticketer = inherited.map_or_else(new_ticketer, Ok)?;
        let judged = last.digest;
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let mut watched = Self { settings, alpn, last, judged, policy, ticketer };
        let config = watched.build(&watched.ticketer)?;
        watched.last.contents.clear(); // keys stay in memory once
        Ok((watched, config))
    }

    fn look(&mut self, now: SystemTime) -> Result<Option<Look>, String> {
        if self.last.quiet && self.last.stamps == Snapshot::stamps(&self.settings) {
            // The stamps tell that nothing changed since the last look; if that look saw a
            // change, this one confirms it, and needs the bytes.
            if self.last.digest == self.judged {
                return Ok(None);
            }
        }
        let seen = std::mem::replace(&mut self.last, Snapshot::take(&self.settings, now)).digest;
        let result = if self.last.digest == self.judged {
            Ok(None)
        } else if self.last.digest != seen {
            Ok(Some(Look::Settling))
        } else {
            self.judged = self.last.digest;
            self.rebuild().map(|config| Some(Look::Built(config)))
        };
        self.last.contents.clear();
        result
    }

    fn rebuild(&mut self) -> Result<Arc<ServerConfig>, String> {
        let policy = Policy::of(&self.settings, &self.last)?;
        let ticketer =
            if policy == self.policy { Arc::clone(&self.ticketer) } else { new_ticketer()? };
        let config = self.build(&ticketer)?;
        (self.policy, self.ticketer) = (policy, ticketer);
        Ok(config)
    }

    fn build(&self, ticketer: &Arc<dyn ProducesTickets>) -> Result<Arc<ServerConfig>, String> {
        let now = UnixTime::now();
        let mut pairs = self.settings.certificates.iter().map(|pair| {
            let cert = (&*pair.cert, self.last.bytes(&pair.cert)?);
            let key = (&*pair.key, self.last.bytes(&pair.key)?);
            files::pair(cert, key, now)
        });
        let first = pairs.next().unwrap_or_else(|| Err("TLS needs a certificate".into()))?;
        let certificates = Certificates::new(first, pairs.collect::<Result<_, _>>()?);

        let provider = super::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(MinVersion::versions(self.settings.min_version))
            .map_err(|error| error.to_string())?;
        let builder = match (&self.settings.client_ca, self.settings.client_auth()) {
            (Some(path), Some(auth)) => {
                let roots = files::authorities(path, Role::ClientCa, self.last.bytes(path)?)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                    format!("the client CA file `{}` is of no use: {error}", path.display())
                })?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols.clone_from(&self.alpn);
        config.ticketer = Arc::clone(ticketer);
        // Tickets carry the session; a table of sessions would be a lock that all workers share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    fn paths(&self) -> Vec<&Path> {
        paths(&self.settings).map(|(path, _)| path).collect()
    }
}

impl Policy {
    fn of(settings: &ServerSettings, files: &Snapshot) -> Result<Self, String> {
        let authorities =
            settings.client_ca.as_deref().map(|path| files.bytes(path)).transpose()?;
        Ok(Self { client_auth: settings.client_auth(), authorities: authorities.map(sha256) })
    }
}

impl Snapshot {
    fn take(settings: &ServerSettings, now: SystemTime) -> Self {
        // Stamps first: a change during the reading shows in the stamps of the next look.
        let stamps = Self::stamps(settings);
        let contents: Vec<_> = paths(settings)
            .map(|(path, role)| (path.to_path_buf(), files::read(path, role)))
            .collect();
        let mut digest = digest::Context::new(&digest::SHA256);
        for (_, content) in &contents {
            // The hash of each part keeps the boundaries: bytes cannot move between files unseen.
            let (tag, part) = match content {
                Ok(bytes) => (b'+', sha256(bytes)),
                Err(sentence) => (b'-', sha256(sentence.as_bytes())),
            };
            digest.update(&[tag]);
            digest.update(&part);
        }
        let quiet = stamps.iter().flatten().all(|stamp| stamp.is_older_than(RACY, now));
        Self { stamps, quiet, digest: to_array(digest.finish()), contents }
    }

    fn stamps(settings: &ServerSettings) -> Vec<Option<Stamp>> {
        paths(settings).map(|(path, _)| Stamp::of(path).ok()).collect()
    }

    fn bytes(&self, path: &Path) -> Result<&[u8], String> {
        match self.contents.iter().find(|(known, _)| known == path) {
            Some((_, Ok(bytes))) => Ok(bytes),
            Some((_, Err(sentence))) => Err(sentence.clone()),
            None => Err(format!("`{}` has not been read", path.display())),
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit = i64::try_from(now.saturating_sub(age).as_secs()).unwrap_or(i64::MAX);
        self.modified.0 < limit && self.changed.0 < limit
    }
}

fn paths(settings: &ServerSettings) -> impl Iterator<Item = (&Path, Role)> {
    let pairs = settings.certificates.iter();
    pairs
        .flat_map(|pair| [(&*pair.cert, Role::Certificate), (&*pair.key, Role::Key)])
        .chain(settings.client_ca.as_deref().map(|path| (path, Role::ClientCa)))
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, String> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|error| format!("the system gives no random numbers for session keys: {error}"))
}

fn sha256(bytes: &[u8]) -> Digest {
    to_array(digest::digest(&digest::SHA256, bytes))
}

fn to_array(digest: digest::Digest) -> Digest {
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref()); // SHA-256 is 32 bytes long
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::support::{Ca, serving};

    #[test]
    fn once_the_clock_has_moved_on_stamps_alone_tell_a_change() {
        let ca = Ca::new();
        let settings = serving(ca.pair("server", &["a.test"]));
        let (mut watched, _) = Watched::start(settings, &[], None).unwrap();
        assert!(!watched.last.quiet, "the files are new");
        let later = SystemTime::now() + Duration::from_secs(10);
        assert!(watched.look(later).unwrap().is_none());
        assert!(watched.last.quiet);
        ca.pair("server", &["a.test"]);
        assert!(matches!(watched.look(later), Ok(Some(Look::Settling))));
        assert!(watched.last.quiet, "the second look relies on the stamps");
        assert!(matches!(watched.look(later), Ok(Some(Look::Built(_)))));
        assert!(matches!(watched.look(later), Ok(None)));
    }

    #[test]
    fn bytes_that_move_between_files_are_a_change() {
        let ca = Ca::new();
        let pair = ca.pair("server", &["a.test"]);
        let now = SystemTime::now();
        let digest = |cert: &str, key: &str| {
            std::fs::write(&pair.cert, cert).unwrap();
            std::fs::write(&pair.key, key).unwrap();
            Snapshot::take(&serving(pair.clone()), now).digest
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }
}
