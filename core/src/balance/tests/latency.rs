//! `peak_ewma` in a small world: nodes that take so long, one request after the other.

use std::time::Duration;

use super::*;

/// What each node got of `rounds` requests, one every millisecond, each over before the next.
fn served(balancer: &Picker, start: Instant, rounds: u32, took: &[u64]) -> Vec<u32> {
    let mut counts = vec![0; took.len()];
    for round in 0..rounds {
        let now = start + Duration::from_millis(u64::from(round));
        let field = Field { nodes: &balancer.nodes, usable: |_: &Endpoint| true, ramp: None, now };
        let index = balancer.kernel.pick(&field, None).unwrap();
        // Give or take a quarter: with no spread at all the smallest difference would decide.
        let spread = Duration::from_micros(took[index] * (750 + rng::below(500)));
        balancer.nodes[index].cost().note(spread, false, now);
        counts[index] += 1;
    }
    counts
}

/// B.7: the slow node gets little, and never nothing; once it is fast it has its share again.
#[test]
fn b_7_a_slow_node_gets_little_and_is_never_forgotten() {
    rng::seed(5);
    let balancer = balancer(Algorithm::PeakEwma, &[1, 1, 1]);
    let start = Instant::now();
    let slow = served(&balancer, start, 30_000, &[10, 10, 200]);
    let floor = 30_000 / (3 * peak_ewma::PROBE_EVERY as u32);
    assert!(slow[2] >= floor * 3 / 4 && slow[2] <= floor * 4, "{slow:?}, floor {floor}");
    assert!(slow[0] > 12_000 && slow[1] > 12_000, "{slow:?}");
    let later = start + Duration::from_secs(30);
    served(&balancer, later, 60_000, &[10, 10, 10]);
    let even = served(&balancer, later + Duration::from_mins(1), 30_000, &[10, 10, 10]);
    assert!(even.iter().all(|&n| n > 8_000), "{even:?}");
}

/// The trap of others: of 1,500 requests the slower of two nodes got 5 and was never seen to be
/// well again.
#[test]
fn b_7_even_a_thousand_times_slower_is_asked() {
    rng::seed(6);
    let balancer = balancer(Algorithm::PeakEwma, &[1, 1]);
    let counts = served(&balancer, Instant::now(), 6_000, &[1, 1_000]);
    assert!(counts[1] >= 30, "{counts:?}");
}

/// Load counts as well as latency, and by weight.
#[test]
fn exchanges_under_way_count() {
    rng::seed(7);
    let balancer = balancer(Algorithm::PeakEwma, &[1, 1]);
    let now = Instant::now();
    balancer.nodes.iter().for_each(|node| node.cost().note(Duration::from_millis(5), false, now));
    (0..5).for_each(|_| balancer.nodes[0].enter());
    let picks = counts(&balancer, 1_000, |_| None);
    assert!(picks[1] > 950, "{picks:?}");
}

/// A node that never answered gets one exchange at a time until it does.
#[test]
fn an_unknown_node_is_tried_with_care() {
    rng::seed(8);
    let balancer = balancer(Algorithm::PeakEwma, &[1, 1]);
    balancer.nodes[0].cost().note(Duration::from_secs(1), false, Instant::now());
    let first = counts(&balancer, 200, |_| None);
    assert!(first[1] > 190, "{first:?}");
    balancer.nodes[1].enter();
    let then = counts(&balancer, 200, |_| None);
    assert!(then[0] > 190, "{then:?}");
}
