use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::key::Keys;

mod store;

fn limiter(text: &str) -> Limiter {
    Limiter::new(text.parse().unwrap())
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const ALGORITHMS: [&str; 4] = ["token-bucket", "leaky-bucket", "sliding-window", "fixed-window"];

#[test]
fn settings_parse_and_print() {
    let parse = |text: &str| text.parse::<LimitSettings>();
    for (text, canonical) in [
        ("100/s", "100/s,by=ip"),
        ("100/s,burst=50,by=ip", "100/s,burst=50,by=ip"),
        ("5/min, by=header:X-Api-Key", "5/min,by=header:x-api-key"),
        ("1/h,by=global,max_keys=7", "1/h,by=global,max_keys=7"),
        ("1/h,by=ip+header:X-Key", "1/h,by=ip+header:x-key"),
        (
            "9/s,algorithm=sliding_window,shadow=true",
            "9/s,by=ip,algorithm=sliding-window,shadow=true",
        ),
        ("9/s,algorithm=leaky-bucket,wait=2s", "9/s,by=ip,algorithm=leaky-bucket,wait=2s"),
        ("5,algorithm=concurrency", "5,by=ip,algorithm=concurrency"),
        ("1MiB/s,of=bytes", "1048576/s,by=ip,of=bytes"),
        ("5/s,headers=both,id=a", "5/s,by=ip,headers=both,id=a"),
    ] {
        let settings = parse(text).unwrap();
        assert_eq!(settings.to_string(), canonical);
        assert_eq!(parse(canonical), Ok(settings));
    }
    for (text, part) in [
        ("", "`` is not a rate"),
        ("100", "write for example `100/s`"),
        ("100/s,burst=0", "`burst=0`"),
        ("100/s,brust=5", "did you mean `burst`?"),
        ("100/s,by=colour", "`by=colour`: `colour` is not a key"),
        ("100/s,by=ip+ip+ip+ip+ip", "1 to 4 parts"),
        ("100/s,by", "is not `key=value`"),
        ("1/s,algorithm=gcra", "token-bucket"),
        ("1/s,wait=1s", "`wait` means nothing for token-bucket"),
        ("1/s,algorithm=leaky-bucket,wait=1h", "at most 1m"),
        ("300000/s,algorithm=sliding-window", "up to 262143"),
        ("1/s,of=bytes,algorithm=fixed-window", "by a token bucket only"),
        ("1/s,of=messages,algorithm=leaky-bucket", "messages cannot be limited"),
    ] {
        let sentence = parse(text).unwrap_err().to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn settings_read_as_text_map_and_list() {
    let read = |json| serde_json::from_str::<LimitSettings>(json);
    let settings = read(r#""100/s,burst=50""#).unwrap();
    assert_eq!(read(r#"{"rate": "100/s", "burst": 50, "by": "ip"}"#).unwrap(), settings);
    assert_eq!(settings.by, Keys::default());
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(json, r#"{"rate":"100/s","burst":50}"#);
    assert_eq!(read(&json).unwrap(), settings);
    let sentence = |json| read(json).unwrap_err().to_string();
    assert!(sentence(r#"{"rate": "100/s", "bye": "ip"}"#).contains("unknown field `bye`"));
    assert!(sentence(r#"{"rate": "100"}"#).contains("write for example `100/s`"));
    assert!(sentence("7").contains("a limit as `100/s,burst=50,by=ip`"));
    let list = r#"["100/s,burst=50", {"rate": "5/s", "by": ["ip", "route"]}]"#;
    let limits = serde_json::from_str::<Limits>(list).unwrap();
    let texts: Vec<_> = limits.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["100/s,burst=50,by=ip", "5/s,by=ip+route"]);
    let again = serde_json::to_string(&limits).unwrap();
    assert_eq!(serde_json::from_str::<Limits>(&again).unwrap(), limits);
    assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), Limits::from(settings));
    assert!(serde_json::from_str::<Limits>("[]").unwrap_err().to_string().contains("1 to 16"));
}

/// The spellings of the gateway document.
#[test]
fn row_4_6_a_rate_may_be_a_number_with_a_window() {
    let read = |json: &str| serde_json::from_str::<LimitSettings>(json);
    let all = r#"{"id": "admin-limiter", "name": "限流", "algorithm": "fixed-window",
        "rate": 10, "burst": 5, "window_size": "1s"}"#;
    let settings = read(all).unwrap();
    assert_eq!(settings.algorithm, Algorithm::FixedWindow);
    assert_eq!(settings.rate.to_string(), "10/s");
    assert_eq!(read(r#"{"rate": 3, "window_size": "2s"}"#).unwrap().rate.to_string(), "3/2s");
    assert_eq!(read(r#"{"rate": 3}"#).unwrap().rate.to_string(), "3/s");
    let twice = read(r#"{"rate": "3/s", "window_size": "2s"}"#).unwrap_err().to_string();
    assert!(twice.contains("a rate that is a plain number"), "{twice}");
}

#[test]
fn a_burst_then_the_rate() {
    let bucket = limiter("10/s,burst=3,by=global");
    let check = |now| bucket.check(0, now);
    let start = Instant::now();
    for remaining in [2, 1, 0] {
        let reset = millis(u64::from(3 - remaining) * 100);
        let wait = Duration::ZERO;
        assert_eq!(check(start), Decision::Admitted { limit: 3, remaining, reset, wait });
    }
    let refused = Decision::Refused { limit: 3, retry_after: millis(100), reset: millis(300) };
    assert_eq!(check(start), refused);
    // Refusals consumed nothing: after exactly what was announced, one more passes.
    (0..10).for_each(|_| assert_eq!(check(start), refused));
    assert!(!check(start + millis(99)).is_admitted());
    assert!(check(start + millis(100)).is_admitted());
    assert!(!check(start + millis(100)).is_admitted());
    // A pause never saves up more than the burst.
    let later = start + Duration::from_hours(1);
    assert_eq!((0..10).filter(|_| check(later).is_admitted()).count(), 3);
    assert_eq!(bucket.refused(), 1 + 10 + 1 + 1 + 7);
}

/// Requests leave an interval apart; the queue has an end, and so has the wait.
#[test]
fn a_leaky_bucket_queues_and_refuses_what_would_wait_too_long() {
    let start = Instant::now();
    let waits = |text: &str| -> Vec<Option<u128>> {
        let bucket = limiter(text);
        let wait = |_| match bucket.check(0, start) {
            Decision::Admitted { wait, .. } => Some(wait.as_millis()),
            Decision::Refused { .. } => None,
        };
        (0..5).map(wait).collect()
    };
    let text = "10/s,by=global,algorithm=leaky-bucket";
    assert_eq!(waits(&format!("{text},burst=2")), [Some(0), Some(100), Some(200), None, None]);
    assert_eq!(waits(&format!("{text},wait=300ms"))[3..], [Some(300), None]);
    assert_eq!(waits(&format!("{text},wait=0s"))[..2], [Some(0), None]);
    let bucket = limiter(&format!("{text},burst=1"));
    assert!((0..2).all(|_| bucket.check(0, start).is_admitted()));
    let Decision::Refused { retry_after, limit: 2, .. } = bucket.check(0, start) else { panic!() };
    assert_eq!(retry_after, millis(100));
}

#[test]
fn a_fixed_window_begins_anew() {
    let window = limiter("3/s,by=global,algorithm=fixed-window");
    let mut now = Instant::now();
    // To the beginning of a window.
    if let Decision::Admitted { reset, .. } = window.check(0, now) {
        now += reset;
    }
    let admitted = |now| (0..10).filter(|_| window.check(0, now).is_admitted()).count();
    assert_eq!(admitted(now), 3);
    assert_eq!(admitted(now + millis(999)), 0);
    assert_eq!(admitted(now + millis(1000)), 3);
    assert_eq!(admitted(now + millis(5500)), 3);
}

#[test]
fn a_sliding_window_remembers_the_last_one() {
    let window = limiter("10/s,by=global,algorithm=sliding-window");
    let mut now = Instant::now();
    if let Decision::Admitted { reset, .. } = window.check(0, now) {
        now += reset;
    }
    let admitted = |now| (0..20).filter(|_| window.check(0, now).is_admitted()).count();
    assert_eq!(admitted(now + millis(900)), 10);
    // A tenth of the last window is over: a tenth of it may come.
    assert_eq!(admitted(now + millis(1100)), 1);
    assert_eq!(admitted(now + millis(1500)), 4);
    assert_eq!(admitted(now + millis(3000)), 10);
}

#[test]
fn permits_come_back() {
    for by in ["ip", "global"] {
        let limiter = Arc::new(limiter(&format!("2,by={by},algorithm=concurrency")));
        let now = Instant::now();
        let enter = |key| {
            let Charged { decision, place } = limiter.charge(key, now);
            decision.is_admitted().then(|| Permit::new(Arc::clone(&limiter), key, place))
        };
        let held = [enter(7), enter(7)];
        assert!(held.iter().all(Option::is_some) && enter(7).is_none());
        assert_eq!(enter(8).is_some(), by == "ip");
        drop(held);
        assert!(enter(7).is_some());
    }
}

#[test]
fn absurd_quotas_neither_panic_nor_pass_everything() {
    for algorithm in ALGORITHMS {
        for rate in ["1/3650d", "262143/1us", "1/1us"] {
            let limiter = limiter(&format!("{rate},burst=4294967295,algorithm={algorithm}"));
            assert!(limiter.check(0, Instant::now()).is_admitted(), "{rate} {algorithm}");
        }
    }
    let bucket = limiter("4294967295/1us,burst=1");
    assert!(bucket.check(0, Instant::now()).is_admitted());
}

/// Four threads hammer `check` over one simulated second; counts what was admitted.
fn hammer(check: impl Fn(u64, Instant) -> Decision + Sync) -> u64 {
    let start = Instant::now();
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (check, admitted) = (&check, &admitted);
            scope.spawn(move || {
                for us in 0..20_000 {
                    let now = start + Duration::from_micros(us * 50);
                    if check(thread, now).is_admitted() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    admitted.into_inner()
}

#[test]
fn four_threads_get_the_rate_of_one() {
    for algorithm in ["token-bucket", "leaky-bucket"] {
        let limiter = limiter(&format!("1000/s,burst=50,by=global,algorithm={algorithm}"));
        let admitted = hammer(|_, now| limiter.check(0, now));
        // Threads run apart in simulated time, but whoever comes last finds what is left by then.
        assert!((1000..=1052).contains(&admitted), "{algorithm}: {admitted}");
    }
}

#[test]
fn four_threads_get_the_rate_of_one_per_key() {
    let one = limiter("1000/s,burst=50,max_keys=64");
    let admitted = hammer(|_, now| one.check(7, now));
    assert!((1000..=1051).contains(&admitted), "{admitted}");
    let admitted = hammer(|thread, now| one.check(100 + thread, now));
    assert!((4000..=4204).contains(&admitted), "{admitted}");
}

#[test]
fn a_global_limit_ignores_keys() {
    let now = Instant::now();
    for (text, most) in [("2/s,by=global", 2), ("2/s", 10)] {
        let limiter = limiter(text);
        let admitted = (0..10).filter(|&key| limiter.check(key, now).is_admitted()).count();
        assert_eq!(admitted, most);
    }
}

/// Bandwidth: what was used is owed, and the pause brings it back to the rate.
#[test]
fn bytes_are_owed_and_paid_back() {
    let limiter = limiter("1000/s,burst=100,of=bytes");
    let start = Instant::now();
    assert_eq!(limiter.settle(1, 100, start), Duration::ZERO);
    assert_eq!(limiter.settle(1, 65_536, start), Duration::from_millis(65_536));
    assert_eq!(limiter.settle(2, 1, start), Duration::ZERO);
    assert_eq!(limiter.settle(1, 1, start + Duration::from_secs(70)), Duration::ZERO);
}

/// Moments of requests, in steps that make some windows full and some empty.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0_u64..1000, 0_u64..3_000_000, 0_u64..900_000_000], 1..300)
}

proptest! {
    /// What is promised, whatever the algorithm: never more than its own bound, refusals consume
    /// nothing and keep their promise, and the same history gets the same answers.
    #[test]
    fn never_more_than_the_quota(
        algorithm in prop::sample::select(&ALGORITHMS[..]),
        count in 1_u32..500,
        burst in 1_u32..100,
        gaps in gaps(),
    ) {
        let text = format!("{count}/s,burst={burst},by=global,algorithm={algorithm}");
        let (one, twin) = (limiter(&text), limiter(&text));
        let start = Instant::now();
        let mut elapsed = Duration::ZERO;
        let mut admitted: Vec<Duration> = Vec::new();
        let mut promised = None;
        for gap in gaps {
            elapsed += Duration::from_nanos(gap);
            let decision = one.check(0, start + elapsed);
            match decision {
                Decision::Admitted { limit, remaining, reset, wait } => {
                    prop_assert_eq!(twin.check(0, start + elapsed), decision);
                    admitted.push(elapsed + wait);
                    prop_assert!(remaining < limit && !reset.is_zero());
                    promised = None;
                }
                // The twin is not asked: that the other one was, changed nothing.
                Decision::Refused { retry_after, .. } => {
                    prop_assert!(!retry_after.is_zero());
                    prop_assert!(promised.is_none_or(|at| elapsed < at), "a promise was broken");
                    promised = Some(elapsed + retry_after);
                }
            }
        }
        let second = Duration::from_secs(1);
        for (at, &first) in admitted.iter().enumerate() {
            let within = admitted[at..].iter().take_while(|&&each| each < first + second).count();
            let most = match algorithm {
                "token-bucket" => burst + count + 1,
                "leaky-bucket" => count + 1,
                _ => 2 * count,
            };
            prop_assert!(within <= most as usize, "{} of {}", within, most);
        }
    }

    /// A charge that is taken back leaves what was there, as all that may come then shows.
    #[test]
    fn a_refund_restores(
        algorithm in prop::sample::select(&ALGORITHMS[..]),
        before in 0_u32..12,
        later in 0_u64..1_500_000_000,
    ) {
        let text = format!("9/s,burst=9,by=ip,algorithm={algorithm}");
        let (one, twin) = (limiter(&text), limiter(&text));
        let start = Instant::now();
        for _ in 0..before {
            one.check(1, start);
            twin.check(1, start);
        }
        let now = start + Duration::from_nanos(later);
        let Charged { decision, place } = one.charge(1, now);
        if decision.is_admitted() {
            one.refund(1, place, now);
        }
        let left = |one: &Limiter| (0..30).filter(|_| one.check(1, now).is_admitted()).count();
        prop_assert_eq!(left(&one), left(&twin));
    }
}

/// A message is charged to all its limits or to none.
#[test]
fn meters_charge_all_or_none() {
    let limits = ["5/h,by=global,of=messages", "2/h,of=messages"];
    let [all, each] = limits.map(|text| Arc::new(limiter(text)));
    let meters = |key: u64| {
        let mut meters = Meters::default();
        meters.add(Arc::clone(&all), 0);
        meters.add(Arc::clone(&each), key);
        meters
    };
    let now = Instant::now();
    let taken = |key: u64| (0..9).filter(|_| meters(key).take(now).is_ok()).count();
    // Seven refusals of the first key cost the others nothing.
    assert_eq!((taken(1), taken(2), taken(3)), (2, 2, 1));
    assert!(meters(4).take(now).unwrap_err().is_shared);
    assert!(!meters(1).take(now + Duration::from_mins(12)).unwrap_err().is_shared);
}
