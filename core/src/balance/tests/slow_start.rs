//! Slow start: what a node gets that is new or came back.

use std::time::Duration;

use super::ramp::Ramp;
use super::*;
use crate::units::Span;

/// What the last of four nodes gets of 8,000 choices at `now`.
fn share_of_last(picker: &Picker, now: Instant) -> f64 {
    let ramp = Ramp::new(Span::secs(100));
    let field = Field { nodes: &picker.nodes, usable: |_: &Endpoint| true, ramp, now };
    let is_last = |key: u64| {
        let key = Some(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        picker.kernel.pick(&field, key) == Some(3)
    };
    (0..8_000).filter(|key| is_last(*key)).count() as f64 / 8_000.0
}

/// A tenth of its weight at first, half of it at half the time, all of it in the end, for every
/// algorithm that goes by weight.
#[test]
fn row_4_11_a_share_grows_to_its_weight() {
    for (_, algorithm) in Algorithm::NAMES {
        if algorithm == Algorithm::First {
            continue;
        }
        rng::seed(9);
        let picker = balancer(algorithm, &[1, 1, 1, 1]);
        let start = Instant::now();
        picker.nodes[3].begin_growth();
        let at = |seconds: u64| share_of_last(&picker, start + Duration::from_secs(seconds));
        let (first, half, full) = (at(0), at(50), at(101));
        // With a weight of 0.1 beside three of 1 it would be 0.032; with 0.5, 0.143.
        assert!((0.01..0.09).contains(&first), "{algorithm}: {first}");
        assert!(first < half && half < full, "{algorithm}: {first}, {half}, {full}");
        assert!((0.17..0.33).contains(&full), "{algorithm}: {full}");
        assert!(!picker.nodes[3].is_growing(), "{algorithm}");
    }
}

/// Growing moves keys to the node and back to none of the others.
#[test]
fn a_key_moves_once_while_its_node_grows() {
    for algorithm in HASHES {
        let picker = balancer(algorithm, &[1, 1, 1, 1]);
        picker.nodes[3].begin_growth();
        let (start, ramp) = (Instant::now(), Ramp::new(Span::secs(100)));
        let place = |key: u64, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            let field = Field { nodes: &picker.nodes, usable: |_: &Endpoint| true, ramp, now };
            picker.kernel.pick(&field, Some(key)).unwrap()
        };
        place(0, 0);
        for key in 0..300 {
            let places: Vec<usize> = (0..10).map(|step| place(key, step * 10)).collect();
            let mut changes = places.windows(2).filter(|pair| pair[0] != pair[1]);
            assert!(changes.clone().count() <= 1, "{algorithm}: {places:?}");
            assert!(changes.all(|pair| pair[1] == 3), "{algorithm}: {places:?}");
        }
    }
}

/// When all nodes are new they are all as good as each other.
#[test]
fn new_nodes_alone_serve_everything() {
    for (_, algorithm) in Algorithm::NAMES {
        rng::seed(10);
        let picker = balancer(algorithm, &[1, 1, 1, 1]);
        picker.nodes.iter().for_each(|node| node.begin_growth());
        let share = share_of_last(&picker, Instant::now());
        let want = if algorithm == Algorithm::First { 0.0..0.01 } else { 0.1..0.4 };
        assert!(want.contains(&share), "{algorithm}: {share}");
    }
}
