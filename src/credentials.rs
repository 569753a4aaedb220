//! Users of a forward proxy: their password hashes, checked off the workers and remembered for a
//! minute.
//!
//! A password hash is slow and hungry on purpose (Argon2id: tens of milliseconds, 19 MiB), and a
//! client sends its password with every request. So a check runs on the blocking pool, few run at
//! a time over the whole process, a bounded number waits, and what passed is remembered by a
//! keyed hash of the credentials. A user that does not exist costs the same check as one that
//! does, so time tells nothing about names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use gwproxy_core::worker::LocalFuture;
use gwproxy_core::{Code, Error};
use gwproxy_http::forward::Credentials;
use tokio::sync::{OnceCell, Semaphore};

use crate::plan::{PasswordHash, User};

/// How long credentials that passed are taken for good.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Credentials remembered on one worker; above, the oldest is forgotten.
const REMEMBERED_MAX: usize = 1024;
/// Checks at a time over all workers: hashing must leave cores for traffic, and each takes
/// megabytes.
const CHECKS_MAX: usize = 4;
/// Checks that wait for their turn over all workers; more are refused as overload.
const WAITING_MAX: usize = 64;

/// Every user of one forward proxy, shared by all workers.
pub struct Users {
    hashes: HashMap<Arc<str>, PasswordHash>,
    /// Checked for users that do not exist.
    decoy: PasswordHash,
    key: hmac::Key,
    checks: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The users as one worker asks for them.
#[derive(Debug)]
struct Verifier {
    users: Arc<Users>,
    passed: RefCell<HashMap<Tag, Instant>>,
    /// Checks under way: a client opens several connections at once with the same credentials,
    /// and one check answers all.
    running: RefCell<HashMap<Tag, Weak<OnceCell<bool>>>>,
}

/// A user and a password, under a key that dies with the process.
type Tag = [u8; 32];

impl Users {
    /// The users of a forward proxy; none: nobody has to log in.
    ///
    /// # Errors
    /// A sentence that names the user whose hash cannot be read.
    pub fn new(users: &[User]) -> Result<Option<Arc<Self>>, String> {
        let Some(first) = users.first() else { return Ok(None) };
        let mut hashes = HashMap::with_capacity(users.len());
        for user in users {
            readable(user.hash.expose()).map_err(|why| {
                format!(
                    "the password hash of the user `{}` cannot be read ({why}); make one with \
                     `gwproxy hash-password`",
                    user.name
                )
            })?;
            hashes.insert(Arc::clone(&user.name), user.hash.clone());
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system gives no random bytes".to_owned())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Some(Arc::new(Self {
            hashes,
            decoy: first.hash.clone(),
            key,
            checks: Arc::new(Semaphore::new((cores / 2).clamp(1, CHECKS_MAX))),
            waiting: AtomicUsize::new(0),
        })))
    }

    /// What a worker asks.
    pub fn on_worker(self: &Arc<Self>) -> Rc<dyn Credentials> {
        Verifier::new(Arc::clone(self))
    }

    fn tag(&self, user: &str, password: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // The length keeps `a` + `bc` apart from `ab` + `c`.
        context.update(&(user.len() as u64).to_le_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        let mut tag = Tag::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Checks a password on the blocking pool.
    async fn check(&self, user: &str, password: String) -> Result<bool, Error> {
        let (hash, exists) = match self.hashes.get(user) {
            Some(hash) => (hash.clone(), true),
            None => (self.decoy.clone(), false),
        };
        let turn = {
            let _waiting = Waiting::enter(&self.waiting)?;
            Arc::clone(&self.checks).acquire_owned().await
        };
        let checking = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, even if nobody waits for it any more.
            let _turn = turn;
            matches(hash.expose(), &password)
        });
        match checking.await {
            Ok(matches) => Ok(matches && exists),
            Err(error) => {
                Err(Error::new(Code::Internal, "checking a password failed").because(error))
            }
        }
    }
}

impl Verifier {
    fn new(users: Arc<Users>) -> Rc<Self> {
        Rc::new(Self { users, passed: RefCell::default(), running: RefCell::default() })
    }

    fn has_passed(&self, tag: &Tag, now: Instant) -> bool {
        self.passed.borrow().get(tag).is_some_and(|at| now.duration_since(*at) < REMEMBERED)
    }

    fn remember(&self, tag: Tag, now: Instant) {
        let mut passed = self.passed.borrow_mut();
        if passed.len() >= REMEMBERED_MAX && !passed.contains_key(&tag) {
            let oldest = passed.iter().min_by_key(|(_, at)| **at).map(|(tag, _)| *tag);
            oldest.map(|oldest| passed.remove(&oldest));
        }
        passed.insert(tag, now);
    }

    /// The check of these credentials that is under way, or a new one.
    fn join(self: &Rc<Self>, tag: Tag) -> Running {
        let mut running = self.running.borrow_mut();
        let outcome = running.get(&tag).and_then(Weak::upgrade).unwrap_or_else(|| {
            let outcome = Rc::new(OnceCell::new());
            running.insert(tag, Rc::downgrade(&outcome));
            outcome
        });
        Running { verifier: Rc::clone(self), tag, outcome }
    }
}

impl Credentials for Verifier {
    fn verify(self: Rc<Self>, user: String, password: String) -> LocalFuture<Result<bool, Error>> {
        let tag = self.users.tag(&user, &password);
        if self.has_passed(&tag, Instant::now()) {
            return Box::pin(std::future::ready(Ok(true)));
        }
        Box::pin(async move {
            let running = self.join(tag);
            // If the one who checks goes away, the next one who waits checks.
            let check = || self.users.check(&user, password);
            let matches = *running.outcome.get_or_try_init(check).await?;
            if matches {
                self.remember(tag, Instant::now());
            }
            Ok(matches)
        })
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("count", &self.hashes.len()).finish_non_exhaustive()
    }
}

/// A part in a check under way; the last one to leave forgets it.
struct Running {
    verifier: Rc<Verifier>,
    tag: Tag,
    outcome: Rc<OnceCell<bool>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if Rc::strong_count(&self.outcome) == 1 {
            self.verifier.running.borrow_mut().remove(&self.tag);
        }
    }
}

/// A place in the queue for a check.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, Error> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            return Ok(waiting);
        }
        let sentence = format!("{WAITING_MAX} password checks are waiting already");
        Err(Error::new(Code::Overloaded, sentence).unsent().retry_in(Duration::from_secs(1)))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the password is the one that was hashed: Argon2 (PHC string) or bcrypt, which looks at
/// the first 72 bytes as `htpasswd` does.
fn matches(hash: &str, password: &str) -> bool {
    if hash.starts_with("$argon2") {
        phc::PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    } else {
        bcrypt::verify(password, hash).unwrap_or(false)
    }
}

/// Refuses a hash that no password could ever match.
fn readable(hash: &str) -> Result<(), String> {
    if !hash.starts_with("$argon2") {
        let parts: bcrypt::HashParts =
            hash.parse().map_err(|error: bcrypt::BcryptError| error.to_string())?;
        // The range of bcrypt itself; its parser does not look.
        return match parts.get_cost() {
            4..=31 => Ok(()),
            cost => Err(format!("its cost {cost} is not 4 to 31")),
        };
    }
    let parsed = phc::PasswordHash::new(hash).map_err(|error| error.to_string())?;
    argon2::Params::try_from(&parsed).map_err(|error| error.to_string())?;
    match (parsed.salt, parsed.hash) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err("it has no salt or no hash".to_owned()),
    }
}

#[cfg(test)]
mod tests;
