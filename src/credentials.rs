//! Users of a forward proxy: password hashes, checked off the workers.
//!
//! A check costs tens of milliseconds of CPU on purpose, and a browser sends its credentials with
//! every request; so a success is remembered for a minute, by a keyed hash and never by the
//! password, and only a few checks run at a time.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordVerifier as _;
use argon2::{Argon2, PasswordHash};
use foldhash::quality::RandomState;
use gwproxy_core::worker::LocalFuture;
use gwproxy_core::{Code, Error};
use gwproxy_http::forward::Credentials;
use tokio::sync::Semaphore;

use crate::plan::User;

/// How long a success is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Successes remembered at a time; above, all are forgotten at once.
const REMEMBERED_MAX: usize = 1024;
/// Checks at a time; a check keeps one core busy.
const CHECKS_MAX: usize = 2;
/// Checks that wait for their turn; more are turned away, or a flood of wrong passwords would
/// keep everyone waiting.
const WAITING_MAX: usize = 64;

/// The users of one listener, shared by all workers.
#[derive(Debug)]
pub struct Users {
    hashes: HashMap<Arc<str>, Arc<str>>,
    /// Checked in place of an unknown user's, so that the time tells nothing.
    decoy: Arc<str>,
    turns: Semaphore,
    places: Semaphore,
    seed: [RandomState; 2],
    // Off the workers' common path: a plain lock, held for a look-up.
    known: Mutex<HashMap<[u64; 2], Instant>>,
}

/// The users, seen from a worker.
#[derive(Debug)]
struct OnWorker(Arc<Users>);

impl Users {
    /// The users of a plan; none when there are none.
    pub fn new(users: &[User]) -> Option<Arc<Self>> {
        let decoy = users.first()?.hash.expose().into();
        let hash = |user: &User| (Arc::clone(&user.name), user.hash.expose().into());
        Some(Arc::new(Self {
            hashes: users.iter().map(hash).collect(),
            decoy,
            turns: Semaphore::new(CHECKS_MAX),
            places: Semaphore::new(CHECKS_MAX + WAITING_MAX),
            seed: [RandomState::default(), RandomState::default()],
            known: Mutex::default(),
        }))
    }

    /// What a worker asks.
    pub fn on_worker(self: &Arc<Self>) -> Rc<dyn Credentials> {
        Rc::new(OnWorker(Arc::clone(self)))
    }

    async fn verify(&self, user: String, password: String) -> Result<bool, Error> {
        // Two independent 64-bit keyed hashes: nobody finds a second pair for a remembered one
        // without knowing the seeds, which never leave the process.
        let key = self.seed.each_ref().map(|seed| seed.hash_one((&user, &password)));
        if self.remembers(key, Instant::now()) {
            return Ok(true);
        }
        let crowded = || Error::new(Code::Overloaded, "too many password checks at once").unsent();
        let _place = self.places.try_acquire().map_err(|_| crowded())?;
        let _turn = self.turns.acquire().await.map_err(|_| crowded())?;
        let hash = self.hashes.get(user.as_str());
        let (is_known, hash) = (hash.is_some(), Arc::clone(hash.unwrap_or(&self.decoy)));
        let checked = tokio::task::spawn_blocking(move || matches(&hash, &password)).await;
        let is_good = is_known && checked.unwrap_or(false);
        if is_good {
            self.remember(key, Instant::now());
        }
        Ok(is_good)
    }

    fn remembers(&self, key: [u64; 2], now: Instant) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).is_some_and(|&at| now.saturating_duration_since(at) < REMEMBERED)
    }

    fn remember(&self, key: [u64; 2], now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, now);
    }
}

impl Credentials for OnWorker {
    fn verify(self: Rc<Self>, user: String, password: String) -> LocalFuture<Result<bool, Error>> {
        Box::pin(async move { self.0.verify(user, password).await })
    }
}

/// Whether the password is the one of the hash: Argon2 in the PHC form, or bcrypt.
fn matches(hash: &str, password: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher as _;

    fn users() -> Arc<Users> {
        let argon = Argon2::default().hash_password(b"swordfish").unwrap().to_string();
        let bcrypt = bcrypt::hash("swordfish", 4).unwrap();
        let users = [format!("ann:{argon}"), format!("bob:{bcrypt}")];
        Users::new(&users.map(|user| user.parse().unwrap())).unwrap()
    }

    #[tokio::test]
    async fn argon2_and_bcrypt_users_are_told_from_strangers() {
        let users = users();
        for (user, password, good) in [
            ("ann", "swordfish", true),
            ("bob", "swordfish", true),
            ("ann", "Swordfish", false),
            ("bob", "", false),
            ("eve", "swordfish", false),
            ("", "", false),
        ] {
            let verdict = users.verify(user.into(), password.into()).await.unwrap();
            assert_eq!(verdict, good, "{user}:{password}");
        }
    }

    #[tokio::test]
    async fn only_a_success_is_remembered_and_only_for_a_while() {
        let users = users();
        users.verify("ann".into(), "wrong".into()).await.unwrap();
        assert!(users.known.lock().unwrap().is_empty());
        users.verify("ann".into(), "swordfish".into()).await.unwrap();
        let (key, at) = users.known.lock().unwrap().iter().map(|(k, at)| (*k, *at)).next().unwrap();
        assert!(users.remembers(key, at + REMEMBERED - Duration::from_millis(1)));
        assert!(!users.remembers(key, at + REMEMBERED));
    }

    #[tokio::test]
    async fn a_crowd_is_turned_away() {
        let users = users();
        let places = u32::try_from(CHECKS_MAX + WAITING_MAX).unwrap();
        let _all = users.places.acquire_many(places).await.unwrap();
        let error = users.verify("ann".into(), "swordfish".into()).await.unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
    }
}
