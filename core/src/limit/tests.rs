use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), NonZeroU32::new(burst).unwrap())
}

fn table(keys: u32) -> Table {
    Table::new(NonZeroU32::new(keys).unwrap())
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn settings_parse_and_print() {
    let parse = |text: &str| text.parse::<LimitSettings>();
    for (text, canonical) in [
        ("100/s", "100/s,by=ip"),
        ("100/s,burst=50,by=ip", "100/s,burst=50,by=ip"),
        ("5/min, by=header:X-Api-Key", "5/min,by=header:x-api-key"),
        ("1/h,by=global,max_keys=7", "1/h,by=global,max_keys=7"),
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
        ("100/s,by=user", "`by=user`: `user` is not a key"),
        ("100/s,by", "is not `key=value`"),
    ] {
        let sentence = parse(text).unwrap_err().to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn settings_read_as_text_and_as_map() {
    let read = |json| serde_json::from_str::<LimitSettings>(json);
    let settings = read(r#""100/s,burst=50""#).unwrap();
    assert_eq!(read(r#"{"rate": "100/s", "burst": 50, "by": "ip"}"#).unwrap(), settings);
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(json, r#"{"rate":"100/s","burst":50}"#);
    assert_eq!(read(&json).unwrap(), settings);
    let sentence = |json| read(json).unwrap_err().to_string();
    assert!(sentence(r#"{"rate": "100/s", "bye": "ip"}"#).contains("unknown field `bye`"));
    assert!(sentence(r#"{"rate": "100"}"#).contains("write for example `100/s`"));
    assert!(sentence("7").contains("a limit as `100/s,burst=50,by=ip`"));
}

#[test]
fn a_burst_then_the_rate() {
    let bucket = TokenBucket::new(quota("10/s", 3));
    let start = Instant::now();
    for remaining in [2, 1, 0] {
        let reset = millis(u64::from(3 - remaining) * 100);
        assert_eq!(bucket.check(start), Decision::Admitted { limit: 3, remaining, reset });
    }
    let refused = Decision::Refused { limit: 3, retry_after: millis(100), reset: millis(300) };
    assert_eq!(bucket.check(start), refused);
    // Refusals consumed nothing: after exactly what was announced, one more passes.
    (0..10).for_each(|_| assert_eq!(bucket.check(start), refused));
    assert!(!bucket.check(start + millis(99)).is_admitted());
    assert!(bucket.check(start + millis(100)).is_admitted());
    assert!(!bucket.check(start + millis(100)).is_admitted());
    // A pause never saves up more than the burst.
    let later = start + Duration::from_hours(1);
    assert_eq!((0..10).filter(|_| bucket.check(later).is_admitted()).count(), 3);
}

#[test]
fn absurd_quotas_neither_panic_nor_pass_everything() {
    let bucket = TokenBucket::new(quota("1/3650d", u32::MAX));
    assert!(bucket.check(Instant::now()).is_admitted());
    let bucket = TokenBucket::new(quota("4294967295/1us", 1));
    assert!(bucket.check(Instant::now()).is_admitted());
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
    let bucket = TokenBucket::new(quota("1000/s", 50));
    let admitted = hammer(|_, now| bucket.check(now));
    assert!(admitted <= 50 + 1000 + 1, "{admitted}");
    // Threads run apart in simulated time, but whoever comes last finds what is left by then.
    assert!(admitted >= 1000, "{admitted}");
}

#[test]
fn four_threads_get_the_rate_of_one_per_key() {
    let (table, quota) = (table(64), quota("1000/s", 50));
    let admitted = hammer(|_, now| table.check(7, &quota, now));
    assert!((1000..=1051).contains(&admitted), "{admitted}");
    let admitted = hammer(|thread, now| table.check(100 + thread, &quota, now));
    assert!((4000..=4204).contains(&admitted), "{admitted}");
}

#[test]
fn keys_do_not_share() {
    let (table, quota) = (table(1000), quota("1/min", 1));
    let now = Instant::now();
    for key in 0..100 {
        assert!(table.check(key, &quota, now).is_admitted(), "{key}");
        assert!(!table.check(key, &quota, now).is_admitted(), "{key}");
    }
}

/// T63.
#[test]
fn a_flood_of_keys_frees_nobody_and_memory_is_bounded() {
    let (table, quota) = (table(256), quota("1/min", 1));
    let now = Instant::now();
    assert!(table.check(u64::MAX, &quota, now).is_admitted());
    // Far more keys than room: those that find none share buckets instead of passing freely.
    let admitted = (0..100_000).filter(|&key| table.check(key, &quota, now).is_admitted()).count();
    assert!(admitted <= 512 + 32, "512 slots and 32 spare buckets admitted {admitted}");
    assert!(!table.check(u64::MAX, &quota, now).is_admitted(), "the flood freed a key that owes");
    // Once nothing is owed any more, there is room again for all.
    let later = now + Duration::from_mins(2);
    let admitted = (0..200).filter(|&key| table.check(key, &quota, later).is_admitted()).count();
    assert!(admitted >= 180, "{admitted}");
}

#[test]
fn threads_racing_for_new_keys_get_one_bucket_each() {
    let (table, quota) = (table(4096), quota("1/h", 1));
    let now = Instant::now();
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let count = (0..2_000).filter(|&k| table.check(k, &quota, now).is_admitted());
                admitted.fetch_add(count.count() as u64, Ordering::Relaxed);
            });
        }
    });
    let admitted = admitted.into_inner();
    assert!((1_990..=2_000).contains(&admitted), "{admitted}");
}

#[test]
fn slots_change_hands_under_charges() {
    // 1024 keys want 128 slots, and each asks four times as often as it may: slots go from key to
    // key all the time while others charge them. Whoever has it, a slot (or one of the 8 spare
    // buckets) admits one at once and one an interval after that; a charge lost in a race, or a
    // slot given away twice, would show as one more.
    let (table, quota) = (table(1), quota("2500/s", 1));
    let (start, clock, admitted) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let (steps, step) = (400_000, Duration::from_nanos(100));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let at = clock.fetch_add(1, Ordering::Relaxed);
                    if at >= steps {
                        break;
                    }
                    let key = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
                    let now = start + step * u32::try_from(at).unwrap();
                    if table.check(key, &quota, now).is_admitted() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = (128 + 8) * (1 + 40_000 / 400);
    let admitted = admitted.into_inner();
    assert!(admitted <= most, "{admitted} of at most {most}");
    assert!(admitted >= most / 2, "{admitted} of at most {most}");
}

#[test]
fn a_global_limit_ignores_keys() {
    let limiter = Limiter::new("2/s,by=global".parse().unwrap());
    let now = Instant::now();
    let admitted = (0..10).filter(|&key| limiter.check(key, now).is_admitted()).count();
    assert_eq!(admitted, 2);
    let limiter = Limiter::new("2/s".parse().unwrap());
    let admitted = (0..10).filter(|&key| limiter.check(key, now).is_admitted()).count();
    assert_eq!((admitted, limiter.by()), (10, &By::Ip));
}

proptest! {
    #[test]
    fn never_more_than_burst_and_rate(
        count in 1_u32..5_000,
        burst in 1_u32..100,
        gaps in prop::collection::vec(0_u64..3_000_000, 1..300),
    ) {
        let bucket = TokenBucket::new(quota(&format!("{count}/s"), burst));
        let start = Instant::now();
        let mut elapsed = Duration::ZERO;
        let mut admitted = 0_u64;
        let mut promised = None;
        for gap in gaps {
            elapsed += Duration::from_nanos(gap);
            match bucket.check(start + elapsed) {
                Decision::Admitted { limit, remaining, reset } => {
                    admitted += 1;
                    prop_assert!(remaining < limit && limit == burst && !reset.is_zero());
                }
                Decision::Refused { retry_after, reset, .. } => {
                    prop_assert!(!retry_after.is_zero() && reset >= retry_after);
                    prop_assert!(promised.is_none_or(|at| elapsed < at), "a promise was broken");
                    promised = Some(elapsed + retry_after);
                    continue;
                }
            }
            promised = None;
            let most = f64::from(burst) + f64::from(count) * elapsed.as_secs_f64() + 1.0;
            prop_assert!(admitted as f64 <= most);
        }
    }
}
