use super::*;
use crate::units::Percent;

fn settings(text: &str) -> BreakerSettings {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn breaker(text: &str) -> (Arc<Breaker>, Instant) {
    // Without chance, so that every moment is known.
    let steady = BreakerSettings { jitter: Percent::default(), ..settings(text) };
    (Breaker::new(Scope::Service, "orders", "the service `orders`", steady), Instant::now())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn call(breaker: &Arc<Breaker>, success: bool, now: Instant) {
    breaker.try_acquire(now).unwrap().report(success, None, now);
}

/// An open breaker and the moment it opened.
fn opened(text: &str) -> (Arc<Breaker>, Instant) {
    let (breaker, now) = breaker(text);
    while breaker.state() == State::Closed {
        call(&breaker, false, now);
    }
    (breaker, now)
}

#[test]
fn settings_parse_and_print() {
    for (text, canonical) in [
        ("50%", "50%,window=10s,min=20,open=5s"),
        ("50", "50%,window=10s,min=20,open=5s"),
        ("25%,min=5,open=30s,window=1m", "25%,window=1m,min=5,open=30s"),
        (
            "1%,probes=3,probe_timeout=1s,consecutive=5,buckets=20",
            "1%,window=10s,min=20,open=5s,probes=3,probe_timeout=1s,consecutive=5,buckets=20",
        ),
    ] {
        assert_eq!(settings(text).to_string(), canonical);
        assert_eq!(settings(canonical), settings(text));
    }
    let all = "50%,window=10s,min=20,open=5s,max_open=1m,backoff=3,jitter=5%,slow=1s,\
               slow_share=80%,timeout=2s,capacity=7,force=closed";
    assert_eq!(settings(all).to_string(), all);
    for (text, part) in [
        ("50%,force=shut", "`force=shut`: `shut` is neither `open` nor `closed`"),
        ("", "`` is not a percentage"),
        ("101%", "`101%` is not a percentage"),
        ("50%,min=0", "`min=0`"),
        ("50%,window=10", "add a unit: `10s`"),
        ("50%,open=0s", "`open=0s`: it must be longer than 0"),
        ("50%,probes=1001", "from 1 to 1000"),
        ("50%,widnow=1s", "did you mean `window`?"),
    ] {
        let sentence = text.parse::<BreakerSettings>().unwrap_err().to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn settings_read_as_text_and_as_map() {
    let read = |json| serde_json::from_str::<BreakerSettings>(json);
    assert_eq!(read("{}").unwrap(), BreakerSettings::default());
    assert_eq!(read(r#""50%""#).unwrap(), BreakerSettings::default());
    let map = r#"{"error_threshold_percentage": 25, "volume_threshold": 5,
        "rolling_count_timeout": "1m", "rolling_count_buckets": 6, "reset_timeout": "30s",
        "half_open_probes": 2, "consecutive_failures": 4}"#;
    let same = settings("25%,min=5,window=1m,buckets=6,open=30s,probes=2,consecutive=4");
    assert_eq!(read(map).unwrap(), same);
    let json = serde_json::to_string(&same).unwrap();
    assert_eq!(read(&json).unwrap(), same);
    let sentence = |json| read(json).unwrap_err().to_string();
    assert!(sentence(r#"{"reset_timeout": "0s"}"#).contains("longer than 0"));
    assert!(sentence(r#"{"half_open_probes": 0}"#).contains("from 1 to 1000"));
    assert!(sentence(r#"{"resettimeout": "1s"}"#).contains("unknown field"));
}

#[test]
fn opens_at_the_threshold_and_not_before_enough_calls() {
    let (breaker, now) = breaker("50%,min=4,open=5s");
    call(&breaker, false, now);
    call(&breaker, false, now);
    call(&breaker, true, now);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.counts(now), (3, 2));
    call(&breaker, false, now);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.try_acquire(now).unwrap_err(), Refusal::Open { retry_after: secs(5) });
    let late = now + Duration::from_millis(4_900);
    let open = Refusal::Open { retry_after: Duration::from_millis(100) };
    assert_eq!(breaker.try_acquire(late).unwrap_err(), open);
}

#[test]
fn below_the_threshold_it_stays_closed() {
    let (breaker, now) = breaker("50%,min=4");
    // 9 of 20 fail, and the good ones come first.
    for n in 0..1_000 {
        call(&breaker, n % 20 < 11, now);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_hundred_percent_can_open_it() {
    let (breaker, _) = opened("100%,min=3");
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn old_failures_leave_the_window() {
    let (breaker, now) = breaker("50%,min=4,window=10s");
    (0..3).for_each(|_| call(&breaker, false, now));
    call(&breaker, false, now + secs(11));
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.counts(now + secs(11)), (1, 1));
}

#[test]
fn failures_in_a_row_open_it_whatever_the_share() {
    let (breaker, now) = breaker("50%,min=1000,consecutive=3");
    (0..100).for_each(|_| call(&breaker, true, now));
    call(&breaker, false, now);
    call(&breaker, false, now);
    call(&breaker, true, now);
    call(&breaker, false, now);
    call(&breaker, false, now);
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, false, now);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn one_good_probe_closes_it_with_a_clean_window() {
    let (breaker, now) = opened("50%,min=4,open=1s,window=1m");
    let later = now + secs(1);
    let mut probe = breaker.try_acquire(later).unwrap();
    assert!(probe.is_probe());
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_acquire(later).is_err());
    probe.report(true, None, later);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.counts(later), (0, 0));
    (0..3).for_each(|_| call(&breaker, false, later));
    assert_eq!(breaker.state(), State::Closed, "old failures must not count after recovery");
}

#[test]
fn one_bad_probe_opens_it_for_the_full_time() {
    let (breaker, now) = opened("50%,min=4,open=1s,backoff=1");
    let later = now + secs(2);
    call(&breaker, false, later);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.try_acquire(later).unwrap_err(), Refusal::Open { retry_after: secs(1) });
    assert!(breaker.try_acquire(later + secs(1)).unwrap().is_probe());
}

#[test]
fn all_of_several_probes_must_succeed() {
    let (breaker, now) = opened("50%,min=4,open=1s,probes=3");
    let later = now + secs(1);
    let probes = [(); 3].map(|()| breaker.try_acquire(later).unwrap());
    assert!(breaker.try_acquire(later).is_err());
    let mut probes = probes.into_iter();
    for mut probe in probes.by_ref().take(2) {
        probe.report(true, None, later);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    assert!(breaker.try_acquire(later).is_err(), "a finished probe gives no place back");
    probes.next().unwrap().report(true, None, later);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_dropped_probe_gives_its_place_back() {
    let (breaker, now) = opened("50%,min=4,open=1s");
    let later = now + secs(1);
    for _ in 0..5 {
        drop(breaker.try_acquire(later).unwrap());
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    call(&breaker, true, later);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_probe_that_never_ends_is_replaced_and_has_no_say_any_more() {
    let (breaker, now) = opened("50%,min=4,open=1s,probe_timeout=10s");
    let later = now + secs(1);
    let mut stuck = breaker.try_acquire(later).unwrap();
    // Waiting for the probe, a client is told to come back after the open time, not its deadline.
    assert_eq!(breaker.try_acquire(later).unwrap_err(), Refusal::Open { retry_after: secs(1) });
    assert!(breaker.try_acquire(later + Duration::from_millis(9_999)).is_err());
    let mut second = breaker.try_acquire(later + secs(10)).unwrap();
    stuck.report(false, None, later + secs(10));
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_acquire(later + secs(10)).is_err());
    second.report(true, None, later + secs(10));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn calls_from_before_the_opening_have_no_say() {
    let (breaker, now) = breaker("50%,min=2,open=1s");
    let early = [(); 4].map(|()| breaker.try_acquire(now).unwrap());
    (0..2).for_each(|_| call(&breaker, false, now));
    assert_eq!(breaker.state(), State::Open);
    let mut early = early.into_iter();
    early.next().unwrap().report(true, None, now);
    assert_eq!(breaker.state(), State::Open, "opossum would close it here");
    let later = now + secs(1);
    let mut probe = breaker.try_acquire(later).unwrap();
    early.next().unwrap().report(false, None, later);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.report(true, None, later);
    early.for_each(|mut permit| permit.report(false, None, later));
    assert_eq!((breaker.state(), breaker.counts(later)), (State::Closed, (0, 0)));
}

#[test]
fn a_closed_permit_that_is_dropped_says_nothing() {
    let (breaker, now) = breaker("50%,min=1");
    drop(breaker.try_acquire(now).unwrap());
    assert_eq!((breaker.state(), breaker.counts(now)), (State::Closed, (0, 0)));
}

/// T65.
#[test]
fn exactly_the_probes_pass_under_thousands_of_calls() {
    for probes in [1_u16, 7] {
        let (breaker, now) = opened(&format!("50%,min=4,open=1s,probes={probes}"));
        let later = now + secs(1);
        for round in 0..50_u64 {
            let at = later + secs(60 * round); // each round after the probes' deadline
            let permits: Vec<_> = std::thread::scope(|scope| {
                let ask = || -> Vec<Permit> {
                    (0..500).filter_map(|_| breaker.try_acquire(at).ok()).collect()
                };
                let threads = [ask; 4].map(|ask| scope.spawn(ask));
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(permits.len(), usize::from(probes), "round {round}");
            std::mem::forget(permits); // probes that never end
        }
    }
}

#[test]
fn threads_that_open_and_close_it_leave_it_in_order() {
    // Four threads play clients for a simulated minute in which it opens and closes all the time
    // and probes are dropped, fail and succeed. A place given back twice or never would keep the
    // breaker from closing at the end (or overflow, which panics here).
    let (breaker, start) = breaker("50%,min=4,open=10ms,backoff=1,probes=2,probe_timeout=1h");
    let (clock, probes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let tick = clock.fetch_add(1, Ordering::Relaxed);
                    if tick >= 60_000 {
                        break;
                    }
                    let now = start + Duration::from_millis(tick);
                    let Ok(mut permit) = breaker.try_acquire(now) else { continue };
                    probes.fetch_add(u64::from(permit.is_probe()), Ordering::Relaxed);
                    match tick % 7 {
                        0 => drop(permit),
                        1..=3 => permit.report(false, None, now),
                        _ => permit.report(true, None, now),
                    }
                }
            });
        }
    });
    assert!(probes.into_inner() > 100);
    let later = start + secs(100_000);
    for _ in 0..2 {
        call(&breaker, true, later);
    }
    assert_eq!(breaker.state(), State::Closed);
}

/// The words and numbers of an opossum configuration, times in milliseconds.
#[test]
fn opossums_options_read_as_they_stand() {
    let read = |json| serde_json::from_str::<BreakerSettings>(json);
    let seed = r#"{"errorThresholdPercentage": 40, "timeout": 1000, "resetTimeout": 5000}"#;
    assert_eq!(read(seed).unwrap(), settings("40%,open=5s,timeout=1s"));
    let all = r#"{"timeout": false, "errorThresholdPercentage": 50, "resetTimeout": 30000,
        "rollingCountTimeout": 10000, "rollingCountBuckets": 10, "volumeThreshold": 0,
        "capacity": 10, "enabled": true}"#;
    assert_eq!(read(all).unwrap(), settings("50%,min=1,open=30s,capacity=10"));
    let off =
        Breaker::new(Scope::Route, "r", "the route `r`", read(r#"{"enabled": false}"#).unwrap());
    let now = Instant::now();
    (0..100).for_each(|_| call(&off, false, now));
    assert_eq!((off.state(), off.counts(now)), (State::Closed, (0, 0)));
    for (json, part) in [
        (r#"{"timeout": 0}"#, "longer than 0"),
        (r#"{"timeout": true}"#, "a duration"),
        (r#"{"resetTimeout": false}"#, "a duration"),
        (r#"{"volumeThreshold": -1}"#, "integer"),
        (r#"{"enabled": false, "force": "open"}"#, "keep one"),
        (r#"{"fallback": {"service": "b", "status": 503}}"#, "keep one"),
        (r#"{"fallback": {"status": 101}}"#, "from 200 to 599"),
    ] {
        let sentence = read(json).unwrap_err().to_string();
        assert!(sentence.contains(part), "{json}: {sentence}");
    }
    let fallback = r#"{"fallback": {"status": 503, "headers": {"a": "b"}, "body": "later"}}"#;
    let read_back = serde_json::to_string(&read(fallback).unwrap()).unwrap();
    assert_eq!(read(&read_back).unwrap(), read(fallback).unwrap());
}

#[test]
fn the_open_time_grows_with_each_failed_probe_up_to_its_bound() {
    let (breaker, mut now) = opened("50%,min=2,open=1s,max_open=6s");
    for open in [1, 2, 4, 6, 6] {
        assert_eq!(breaker.is_shut(now), Some(secs(open)));
        assert!(
            breaker.try_acquire(now + secs(open).saturating_sub(Duration::from_nanos(1))).is_err()
        );
        now += secs(open);
        call(&breaker, false, now);
    }
    now += secs(6);
    call(&breaker, true, now);
    assert_eq!(breaker.state(), State::Closed);
    (0..2).for_each(|_| call(&breaker, false, now));
    assert_eq!(breaker.is_shut(now), Some(secs(1)), "recovery begins anew");
}

#[test]
fn chance_makes_the_open_time_longer_by_the_jitter_at_most() {
    let mut waits = Vec::new();
    for _ in 0..200 {
        let settings = settings("50%,min=1,open=10s,jitter=20%");
        let breaker = Breaker::new(Scope::Service, "a", "a", settings);
        let now = Instant::now();
        call(&breaker, false, now);
        waits.push(breaker.is_shut(now).unwrap());
    }
    assert!(waits.iter().all(|wait| (secs(10)..=secs(12)).contains(wait)), "{waits:?}");
    assert!(waits.iter().max() > waits.iter().min(), "{waits:?}");
}

#[test]
fn slow_calls_open_it_though_they_succeed() {
    let (breaker, now) = breaker("50%,min=4,slow=1s,slow_share=75%");
    let call = |took| breaker.try_acquire(now).unwrap().report(true, Some(took), now);
    call(secs(1));
    (0..2).for_each(|_| call(secs(2)));
    assert_eq!(breaker.state(), State::Closed, "too few calls");
    call(secs(2));
    assert_eq!(breaker.state(), State::Open, "3 of 4");
}

#[test]
fn a_slow_probe_has_failed() {
    let (breaker, now) = opened("50%,min=4,open=1s,slow=1s");
    let later = now + secs(1);
    breaker.try_acquire(later).unwrap().report(true, Some(secs(3)), later);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn calls_beyond_the_capacity_are_refused_and_are_no_failures() {
    let (breaker, now) = breaker("50%,min=1,capacity=3");
    let mut under_way: Vec<_> = (0..3).map(|_| breaker.try_acquire(now).unwrap()).collect();
    for _ in 0..50 {
        assert_eq!(breaker.try_acquire(now).unwrap_err(), Refusal::Full);
        assert!(!breaker.may_pass(now));
    }
    assert_eq!((breaker.state(), breaker.told().refused), (State::Closed, 50));
    // A report does not give the place back: a tunnel reports when it begins.
    under_way[0].report(true, None, now);
    assert!(breaker.try_acquire(now).is_err());
    under_way.pop();
    assert!(breaker.try_acquire(now).is_ok() && breaker.may_pass(now));
}

#[test]
fn a_capacity_is_exact_under_threads() {
    let (breaker, now) = breaker("50%,capacity=5");
    let most = AtomicU64::new(0);
    let under_way = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let Ok(_permit) = breaker.try_acquire(now) else { continue };
                    most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    under_way.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!((1..=5).contains(&most.into_inner()));
    let _all = [(); 5].map(|()| breaker.try_acquire(now).unwrap());
    assert!(breaker.try_acquire(now).is_err());
}

#[test]
fn what_is_kept_open_or_closed_stays_so() {
    let (breaker, now) = breaker("50%,min=1,force=open");
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(
        breaker.try_acquire(now + secs(1_000)).unwrap_err(),
        Refusal::Open { retry_after: secs(5) }
    );
    breaker.force(Some(Forced::Closed));
    (0..20).for_each(|_| call(&breaker, false, now));
    assert_eq!((breaker.state(), breaker.counts(now)), (State::Closed, (0, 0)));
    breaker.force(None);
    call(&breaker, false, now);
    assert_eq!(breaker.state(), State::Open);
    breaker.force(Some(Forced::Closed));
    assert!(!breaker.try_acquire(now).unwrap().is_probe());
}

#[test]
fn events_are_counted() {
    let (breaker, now) = opened("50%,min=2,open=1s,backoff=1");
    assert!(breaker.try_acquire(now).is_err());
    call(&breaker, false, now + secs(1));
    call(&breaker, true, now + secs(2));
    let told = Told { opened: 2, half_opened: 2, closed: 1, refused: 1 };
    assert_eq!(breaker.told(), told);
}

#[test]
fn a_probe_that_abstains_gives_its_place_back_at_once() {
    let (breaker, now) = opened("50%,min=4,open=1s");
    let later = now + secs(1);
    let mut limited = breaker.try_acquire(later).unwrap();
    assert!(breaker.try_acquire(later).is_err());
    limited.abstain();
    let mut second = breaker.try_acquire(later).unwrap();
    limited.report(false, None, later);
    drop(limited);
    second.report(true, None, later);
    assert_eq!(breaker.state(), State::Closed);
}
