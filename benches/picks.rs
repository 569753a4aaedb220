//! What the choice of a node costs: `cargo bench -p gwproxy-core --bench picks`.
//!
//! Each line is one algorithm with 3 and with 1,000 nodes, all well and of equal weight: one
//! `Cluster::acquire` with a key and the drop of its lease, on one thread. Printed is the median of
//! the rounds; the machine should have nothing else to do.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gwproxy_core::balance::{Algorithm, Ask, BalanceSettings};
use gwproxy_core::units::{Percent, Span};
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint, MarkKey, Tried};

const ROUNDS: usize = 9;
/// How long a round takes, about.
const ROUND: Duration = Duration::from_millis(30);

fn main() {
    println!("{:<28} {:>10} {:>10}", "ns per pick", "3 nodes", "1000 nodes");
    for (name, algorithm) in Algorithm::NAMES {
        line(name, &algorithm.into(), 1, false);
    }
    println!("\nround_robin and what may come before it");
    let plain = BalanceSettings::default;
    line("three levels", &plain(), 3, false);
    let panic_threshold = Percent::whole(50);
    line("panic threshold", &BalanceSettings { panic_threshold, ..plain() }, 1, false);
    let zone = "a".parse().ok();
    line("zone", &BalanceSettings { zone, ..plain() }, 1, false);
    let slow_start = Span::secs(30);
    line("slow start, grown", &BalanceSettings { slow_start, ..plain() }, 1, false);
    line("sticky, marked", &plain(), 1, true);
}

fn line(name: &str, settings: &BalanceSettings, levels: usize, marked: bool) {
    let cost = |nodes| measure(&cluster(settings, nodes, levels, marked), marked);
    println!("{name:<28} {:>10.1} {:>10.1}", cost(3), cost(1_000));
}

fn cluster(settings: &BalanceSettings, nodes: usize, levels: usize, marked: bool) -> Arc<Cluster> {
    let settings = ClusterSettings {
        balance: settings.clone(),
        marks: marked.then(|| MarkKey::new(b"a secret of 16 bytes")),
        ..ClusterSettings::new("bench")
    };
    let node = |number: usize| {
        let addr = format!("10.0.{}.{}:80", number / 250, number % 250 + 1);
        let addr = addr.parse().expect("an address");
        let mut node = Endpoint::new(format!("node-{number}"), "http", addr, None, 1);
        node.set_priority((number % levels) as u32);
        let zone = if number.is_multiple_of(3) { "a" } else { "b" };
        node.metadata.insert("zone".into(), zone.into());
        node
    };
    Cluster::new(settings, (0..nodes).map(node).collect())
}

/// Nanoseconds for one choice, the median of the rounds.
fn measure(cluster: &Arc<Cluster>, marked: bool) -> f64 {
    let (tried, now) = (Tried::new(), Instant::now());
    let mark = cluster.endpoints().last().filter(|_| marked).map(|node| node.mark());
    let pick = |key: u64| {
        let ask = Ask { key: Some(key), mark, ..Ask::new(&tried) };
        black_box(cluster.acquire_for(black_box(now), &ask).is_ok())
    };
    let mut picks = 1_000_u64;
    loop {
        let took = time(picks, pick);
        if took >= ROUND {
            break;
        }
        picks *= 2;
    }
    let mut rounds: Vec<f64> =
        (0..ROUNDS).map(|_| time(picks, pick).as_nanos() as f64 / picks as f64).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn time(picks: u64, pick: impl Fn(u64) -> bool) -> Duration {
    let began = Instant::now();
    for number in 0..picks {
        // Keys that lie anywhere.
        pick(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    began.elapsed()
}
