//! What one decision of a limiter costs: `cargo bench -p gwproxy-core --bench limits`.
//!
//! Goal: nanoseconds a decision by algorithm and store, alone and with two threads on one key, and
//! what ten million keys take. Method: a fixed number of decisions with a moving clock, best of
//! five; the best, because what disturbs only ever adds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gwproxy_core::limit::{LimitSettings, Limiter};

const DECISIONS: u32 = 2_000_000;

const ALGORITHMS: [&str; 4] = ["token-bucket", "leaky-bucket", "sliding-window", "fixed-window"];

fn limiter(text: &str) -> Limiter {
    Limiter::new(text.parse::<LimitSettings>().expect("a limit"))
}

/// Nanoseconds a call, best of five.
fn best(mut decide: impl FnMut(u32, Instant)) -> f64 {
    let rounds = (0..5).map(|_| {
        let start = Instant::now();
        for n in 0..DECISIONS {
            decide(n, start + Duration::from_nanos(u64::from(n) * 100));
        }
        start.elapsed().as_nanos() as f64 / f64::from(DECISIONS)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("{:34} {:>12}", "decision", "ns");
    for algorithm in ALGORITHMS {
        for (name, text) in [
            ("global, admitted", "262143/1ms,by=global"),
            ("global, refused", "1/d,by=global"),
            ("one key of many, admitted", "262143/1ms"),
            ("one key of many, refused", "1/d"),
        ] {
            let limiter = limiter(&format!("{text},algorithm={algorithm}"));
            (0..1000).for_each(|key| {
                limiter.check(key, Instant::now());
            });
            let ns = best(|_, now| {
                black_box(limiter.check(black_box(7), now));
            });
            println!("{:34} {ns:>12.1}", format!("{algorithm}: {name}"));
        }
    }
    let hundred = limiter("100/s");
    let ns = best(|n, now| {
        black_box(hundred.check(u64::from(n.wrapping_mul(2_654_435_761) % 100_000), now));
    });
    println!("{:34} {ns:>12.1}", "100,000 keys at random");
    two_threads();
    ten_million();
}

/// Two workers that charge one key for all they are worth.
fn two_threads() {
    let shared = limiter("262143/1ms,by=global");
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..DECISIONS {
                    let now = start + Duration::from_nanos(u64::from(n) * 100);
                    black_box(shared.check(0, now));
                }
            });
        }
    });
    let ns = start.elapsed().as_nanos() as f64 / f64::from(DECISIONS);
    println!("{:34} {ns:>12.1}", "two threads on one state");
}

/// T63: ten million keys that all owe, in the largest table there is.
fn ten_million() {
    let flood = limiter("1/h,burst=1,max_keys=10000000");
    let start = Instant::now();
    let own = (0..10_000_000).filter(|&key| flood.check(key, start).is_admitted()).count();
    let ns = start.elapsed().as_nanos() as f64 / 1e7;
    println!("{:34} {ns:>12.1}", "a new key, of ten million");
    let mib = flood.bytes() as f64 / f64::from(1 << 20);
    println!("ten million keys that all owe: {mib:.1} MiB, {own} of them admitted once");
}
