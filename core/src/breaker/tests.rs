use super::*;

fn settings(text: &str) -> BreakerSettings {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn breaker(text: &str) -> (Arc<Breaker>, Instant) {
    (Breaker::new("orders", settings(text)), Instant::now())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn call(breaker: &Arc<Breaker>, success: bool, now: Instant) {
    breaker.try_acquire(now).unwrap().report(success, now);
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
    for (text, part) in [
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
    assert_eq!(breaker.try_acquire(now).unwrap_err(), Open { retry_after: secs(5) });
    let late = now + Duration::from_millis(4_900);
    let open = Open { retry_after: Duration::from_millis(100) };
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
    let probe = breaker.try_acquire(later).unwrap();
    assert!(probe.is_probe());
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_acquire(later).is_err());
    probe.report(true, later);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.counts(later), (0, 0));
    (0..3).for_each(|_| call(&breaker, false, later));
    assert_eq!(breaker.state(), State::Closed, "old failures must not count after recovery");
}

#[test]
fn one_bad_probe_opens_it_for_the_full_time() {
    let (breaker, now) = opened("50%,min=4,open=1s");
    let later = now + secs(2);
    call(&breaker, false, later);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.try_acquire(later).unwrap_err(), Open { retry_after: secs(1) });
    assert!(breaker.try_acquire(later + secs(1)).unwrap().is_probe());
}

#[test]
fn all_of_several_probes_must_succeed() {
    let (breaker, now) = opened("50%,min=4,open=1s,probes=3");
    let later = now + secs(1);
    let probes = [(); 3].map(|()| breaker.try_acquire(later).unwrap());
    assert!(breaker.try_acquire(later).is_err());
    let mut probes = probes.into_iter();
    for probe in probes.by_ref().take(2) {
        probe.report(true, later);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    assert!(breaker.try_acquire(later).is_err(), "a finished probe gives no place back");
    probes.next().unwrap().report(true, later);
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
    let stuck = breaker.try_acquire(later).unwrap();
    // Waiting for the probe, a client is told to come back after the open time, not its deadline.
    assert_eq!(breaker.try_acquire(later).unwrap_err(), Open { retry_after: secs(1) });
    assert!(breaker.try_acquire(later + Duration::from_millis(9_999)).is_err());
    let second = breaker.try_acquire(later + secs(10)).unwrap();
    stuck.report(false, later + secs(10));
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_acquire(later + secs(10)).is_err());
    second.report(true, later + secs(10));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn calls_from_before_the_opening_have_no_say() {
    let (breaker, now) = breaker("50%,min=2,open=1s");
    let early = [(); 4].map(|()| breaker.try_acquire(now).unwrap());
    (0..2).for_each(|_| call(&breaker, false, now));
    assert_eq!(breaker.state(), State::Open);
    let mut early = early.into_iter();
    early.next().unwrap().report(true, now);
    assert_eq!(breaker.state(), State::Open, "opossum would close it here");
    let later = now + secs(1);
    let probe = breaker.try_acquire(later).unwrap();
    early.next().unwrap().report(false, later);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.report(true, later);
    early.for_each(|permit| permit.report(false, later));
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
    let (breaker, start) = breaker("50%,min=4,open=10ms,probes=2,probe_timeout=1h");
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
                    let Ok(permit) = breaker.try_acquire(now) else { continue };
                    probes.fetch_add(u64::from(permit.is_probe()), Ordering::Relaxed);
                    match tick % 7 {
                        0 => drop(permit),
                        1..=3 => permit.report(false, now),
                        _ => permit.report(true, now),
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
