//! Keys in bounded memory.

use super::*;

#[test]
fn keys_do_not_share() {
    let limiter = limiter("1/min,burst=1,max_keys=1000");
    let now = Instant::now();
    for key in 0..100 {
        assert!(limiter.check(key, now).is_admitted(), "{key}");
        assert!(!limiter.check(key, now).is_admitted(), "{key}");
    }
}

/// T63.
#[test]
fn a_flood_of_keys_frees_nobody_and_memory_is_bounded() {
    let limiter = limiter("1/min,burst=1,max_keys=224");
    let now = Instant::now();
    assert!(limiter.check(u64::MAX, now).is_admitted());
    // Far more keys than room: those that find none share states instead of passing freely.
    let admitted = (0..100_000).filter(|&key| limiter.check(key, now).is_admitted()).count();
    assert!(admitted <= 448 + 64, "448 words and 64 spare states admitted {admitted}");
    assert!(limiter.bytes() <= 4096 + 64, "{}", limiter.bytes());
    assert!(!limiter.check(u64::MAX, now).is_admitted(), "the flood freed a key that owes");
    // Once nothing is owed any more, there is room again for all.
    let later = now + Duration::from_mins(2);
    let admitted = (0..200).filter(|&key| limiter.check(key, later).is_admitted()).count();
    assert!(admitted >= 180, "{admitted}");
}

/// T63: ten million keys, all of which owe, and one that is asked for all the time.
#[test]
fn t63_ten_million_keys_fit_64_mib_and_a_hot_key_stays() {
    const KEYS: u64 = 10_000_000;
    let limiter = limiter("1/h,burst=1,max_keys=10000000");
    let now = Instant::now();
    let hot = u64::MAX;
    assert!(limiter.check(hot, now).is_admitted());
    let flood = |keys: std::ops::Range<u64>| {
        let mut admitted = 0_u64;
        for key in keys {
            admitted += u64::from(limiter.check(key, now).is_admitted());
            if key % 1000 == 0 {
                assert!(!limiter.check(hot, now).is_admitted(), "evicted after {key} keys");
            }
        }
        admitted
    };
    let admitted = std::thread::scope(|scope| {
        let half = scope.spawn(|| flood(0..KEYS / 2));
        flood(KEYS / 2..KEYS) + half.join().unwrap()
    });
    assert!(limiter.bytes() <= 64 * 1024 * 1024 + 512 * 1024, "{}", limiter.bytes());
    // 7.3 million words and a million spare states, nearly all of which found a key.
    assert!(admitted <= 7 * (1 << 20) + (1 << 20), "{admitted}");
    assert!(admitted >= 7_500_000, "{admitted}");
    assert!(!limiter.check(hot, now).is_admitted());
}

#[test]
fn threads_racing_for_new_keys_get_one_state_each() {
    let limiter = limiter("1/h,burst=1,max_keys=8192");
    let now = Instant::now();
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let count = (0..2_000).filter(|&key| limiter.check(key, now).is_admitted());
                admitted.fetch_add(count.count() as u64, Ordering::Relaxed);
            });
        }
    });
    let admitted = admitted.into_inner();
    assert!((1_980..=2_000).contains(&admitted), "{admitted}");
}

#[test]
fn words_change_hands_under_charges() {
    // 1024 keys want 448 words, and each asks four times as often as it may: words go from key to
    // key all the time while others charge them. Whoever has it, a word (or one of the 64 spare
    // states) admits one at once and one an interval after that; a charge lost in a race, or a
    // word given away twice, would show as one more.
    let limiter = limiter("2500/s,burst=1,max_keys=1");
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
                    if limiter.check(key, now).is_admitted() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = (448 + 64) * (1 + 40_000 / 400);
    let admitted = admitted.into_inner();
    assert!(admitted <= most, "{admitted} of at most {most}");
    assert!(admitted >= most / 2, "{admitted} of at most {most}");
}
