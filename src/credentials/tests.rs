use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Params, Version};
use futures_util::FutureExt;

use super::*;

/// Cheap hashes of the real kinds.
fn argon2id(password: &str) -> String {
    let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    hasher.hash_password(password.as_bytes()).unwrap().to_string()
}

fn bcrypt_2y(password: &str) -> String {
    bcrypt::hash_with_result(password, 4).unwrap().format_for_version(bcrypt::Version::TwoY)
}

fn users(list: &[(&str, String)]) -> Arc<Users> {
    let user = |(name, hash): &(&str, String)| format!("{name}:{hash}").parse().unwrap();
    let list: Vec<User> = list.iter().map(user).collect();
    Users::new(&list).unwrap().unwrap()
}

async fn asks(verifier: &Rc<Verifier>, user: &str, password: &str) -> Result<bool, Error> {
    Rc::clone(verifier).verify(user.into(), password.into()).await
}

#[tokio::test]
async fn both_kinds_of_hashes_are_checked() {
    let verifier = Verifier::new(users(&[
        ("ann", argon2id("open sesame")),
        ("bob", bcrypt_2y("pässword")),
        // A vector of crypt_blowfish.
        ("cid", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".into()),
        // A vector of the reference implementation of Argon2.
        (
            "dan",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
                .into(),
        ),
    ]));
    for (user, password) in
        [("ann", "open sesame"), ("bob", "pässword"), ("cid", "U*U"), ("dan", "password")]
    {
        assert!(asks(&verifier, user, password).await.unwrap(), "{user}");
        assert!(asks(&verifier, user, password).await.unwrap(), "{user}, remembered");
        for wrong in ["", "open", "open sesame ", "Password"] {
            assert!(!asks(&verifier, user, wrong).await.unwrap(), "{user} {wrong}");
        }
    }
    // The decoy is a real user's hash; its password opens nothing for a stranger.
    assert!(!asks(&verifier, "nobody", "open sesame").await.unwrap());
    assert!(!asks(&verifier, "bob", "open sesame").await.unwrap());
    assert!(!asks(&verifier, "an", "nopen sesame").await.unwrap());
    assert!(verifier.running.borrow().is_empty());
}

#[tokio::test]
async fn a_stranger_costs_a_check_like_a_user() {
    let users = users(&[("ann", argon2id("x"))]);
    let verifier = Verifier::new(Arc::clone(&users));
    let all = users.checks.available_permits() as u32;
    let turns = users.checks.acquire_many(all).await.unwrap();
    let mut known = Box::pin(asks(&verifier, "ann", "wrong"));
    let mut unknown = Box::pin(asks(&verifier, "nobody", "wrong"));
    assert!(known.as_mut().now_or_never().is_none());
    assert!(unknown.as_mut().now_or_never().is_none());
    assert_eq!(users.waiting.load(Ordering::Relaxed), 2);
    drop(turns);
    assert!(!known.await.unwrap() && !unknown.await.unwrap());
}

#[tokio::test]
async fn what_passed_is_remembered_for_a_minute_and_what_failed_is_not() {
    let users = users(&[("ann", argon2id("right"))]);
    let verifier = Verifier::new(Arc::clone(&users));
    let before = Instant::now();
    assert!(asks(&verifier, "ann", "right").await.unwrap());
    assert!(!asks(&verifier, "ann", "wrong").await.unwrap());
    let all = users.checks.available_permits() as u32;
    let _turns = users.checks.acquire_many(all).await.unwrap();
    let now = |password| asks(&verifier, "ann", password).now_or_never();
    assert!(now("right").unwrap().unwrap(), "no check was needed");
    assert!(now("wrong").is_none(), "waits for a check");
    let tag = users.tag("ann", "right");
    assert!(verifier.has_passed(&tag, before + Duration::from_secs(59)));
    assert!(!verifier.has_passed(&tag, Instant::now() + REMEMBERED));
}

#[tokio::test]
async fn one_check_answers_all_who_ask_at_once() {
    let users = users(&[("ann", argon2id("right"))]);
    let verifier = Verifier::new(Arc::clone(&users));
    let all = users.checks.available_permits() as u32;
    let turns = users.checks.acquire_many(all).await.unwrap();
    let mut asking: Vec<_> = (0..200).map(|_| Box::pin(asks(&verifier, "ann", "right"))).collect();
    for each in &mut asking {
        assert!(each.as_mut().now_or_never().is_none());
    }
    assert_eq!(users.waiting.load(Ordering::Relaxed), 1);
    // The one who checks goes away; another one takes over.
    drop(asking.remove(0));
    drop(turns);
    for each in asking {
        assert!(each.await.unwrap());
    }
    assert!(verifier.running.borrow().is_empty());
    assert_eq!(users.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn guessing_is_bounded_and_leaves_nothing_behind() {
    let users = users(&[("ann", argon2id("right"))]);
    let verifier = Verifier::new(Arc::clone(&users));
    assert!(asks(&verifier, "ann", "right").await.unwrap());
    let all = users.checks.available_permits() as u32;
    let _turns = users.checks.acquire_many(all).await.unwrap();
    let mut guesses = Vec::new();
    for guess in 0..WAITING_MAX {
        let password = guess.to_string();
        let mut asking = Rc::clone(&verifier).verify("ann".into(), password);
        assert!(asking.as_mut().now_or_never().is_none());
        guesses.push(asking);
    }
    let refused = asks(&verifier, "ann", "one more").now_or_never().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Overloaded);
    assert!(asks(&verifier, "ann", "right").now_or_never().unwrap().unwrap(), "still let in");
    assert_eq!(verifier.running.borrow().len(), WAITING_MAX);
    drop(guesses);
    assert!(verifier.running.borrow().is_empty());
    assert_eq!(users.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(verifier.passed.borrow().len(), 1);
}

#[test]
fn the_memory_is_bounded_and_forgets_the_oldest() {
    let verifier = Verifier::new(users(&[("ann", argon2id("right"))]));
    let tag = |number: usize| verifier.users.tag("ann", &number.to_string());
    let start = Instant::now();
    for number in 0..=REMEMBERED_MAX {
        verifier.remember(tag(number), start + Duration::from_millis(number as u64));
    }
    assert_eq!(verifier.passed.borrow().len(), REMEMBERED_MAX);
    let now = start + Duration::from_secs(2);
    assert!(!verifier.has_passed(&tag(0), now));
    assert!(verifier.has_passed(&tag(1), now) && verifier.has_passed(&tag(REMEMBERED_MAX), now));
}

#[test]
fn a_hash_that_nothing_can_match_is_refused_at_start() {
    assert!(Users::new(&[]).unwrap().is_none());
    for bad in [
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$!!!",
        "$argon2id$v=19$m=0,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$2y$99$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
    ] {
        let user: User = format!("ann:{bad}").parse().unwrap();
        let sentence = Users::new(&[user]).unwrap_err();
        assert!(sentence.contains("`ann`"), "{sentence}");
        assert!(!sentence.contains(bad), "{sentence}");
    }
}

/// T61.
#[test]
fn no_hash_is_shown() {
    let hash = argon2id("x");
    let users = users(&[("ann", hash.clone())]);
    let shown = format!("{users:?} {:?}", Verifier::new(Arc::clone(&users)));
    assert!(!shown.contains(&hash) && !shown.contains("argon2"), "{shown}");
}
