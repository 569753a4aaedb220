mod choice;
mod latency;
mod slow_start;

use std::collections::HashMap;

use proptest::prelude::*;

use super::field::Field;
use super::kernel::Kernel;
use super::turns::Turns;
use super::*;

/// The algorithms that keep a key on its node.
const HASHES: [Algorithm; 3] = [Algorithm::IpHash, Algorithm::ConsistentHash, Algorithm::Maglev];

/// Nodes `n0`, `n1` … with these weights.
fn nodes(weights: &[u32]) -> Arc<[Arc<Endpoint>]> {
    let node = |(index, weight): (usize, &u32)| {
        let addr = format!("10.0.0.{}:80", index % 250 + 1).parse().unwrap();
        Arc::new(Endpoint::new(format!("n{index}"), "http", addr, None, *weight))
    };
    weights.iter().enumerate().map(node).collect()
}

/// A kernel with its nodes.
struct Picker {
    nodes: Arc<[Arc<Endpoint>]>,
    kernel: Kernel,
}

impl Picker {
    fn new(algorithm: Algorithm, nodes: Arc<[Arc<Endpoint>]>) -> Self {
        Self { kernel: Kernel::new(algorithm, &nodes), nodes }
    }

    fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.nodes
    }

    fn pick(&self, key: Option<u64>, usable: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        let field = Field { nodes: &self.nodes, usable, ramp: None, now: Instant::now() };
        self.nodes.get(self.kernel.pick(&field, key)?)
    }
}

fn balancer(algorithm: Algorithm, weights: &[u32]) -> Picker {
    Picker::new(algorithm, nodes(weights))
}

fn pick(balancer: &Picker, key: Option<u64>) -> Option<usize> {
    pick_usable(balancer, key, |_| true)
}

fn pick_usable(
    balancer: &Picker,
    key: Option<u64>,
    usable: impl Fn(&Endpoint) -> bool,
) -> Option<usize> {
    let node = balancer.pick(key, usable)?;
    balancer.endpoints().iter().position(|other| other.id == node.id)
}

fn counts(balancer: &Picker, rounds: usize, key: impl Fn(u64) -> Option<u64>) -> Vec<usize> {
    let mut counts = vec![0; balancer.endpoints().len()];
    for round in 0..rounds {
        counts[pick(balancer, key(round as u64)).unwrap()] += 1;
    }
    counts
}

fn near(counts: &[usize], weights: &[u32], slack: f64) {
    let total: usize = counts.iter().sum();
    let weight: u32 = weights.iter().sum();
    for (count, w) in counts.iter().zip(weights) {
        let want = total as f64 * f64::from(*w) / f64::from(weight);
        assert!((*count as f64 - want).abs() <= want * slack, "{counts:?} for {weights:?}");
    }
}

#[test]
fn names_parse_and_print() {
    for (name, algorithm) in Algorithm::NAMES {
        assert_eq!(name.parse(), Ok(algorithm));
        assert_eq!(algorithm.to_string(), name);
        assert_eq!(name.replace('_', "-").parse(), Ok(algorithm));
    }
    let sentence = "round_robbin".parse::<Algorithm>().unwrap_err().to_string();
    assert!(sentence.contains("did you mean `round_robin`?"), "{sentence}");
    let sentence = "magic".parse::<Algorithm>().unwrap_err().to_string();
    assert!(!sentence.contains("did you mean"), "{sentence}");
    assert!(sentence.contains("power_of_two"), "{sentence}");
}

#[test]
fn smooth_weights_have_the_sequence_of_nginx() {
    let balancer = balancer(Algorithm::WeightedRoundRobin, &[5, 1, 1]);
    let picks: Vec<_> = (0..14).map(|_| pick(&balancer, None).unwrap()).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn a_dead_nodes_turns_are_shared_by_all_others() {
    let balancer = balancer(Algorithm::RoundRobin, &[1, 1, 1, 1]);
    let mut counts = [0; 4];
    for _ in 0..300 {
        counts[pick_usable(&balancer, None, |node| &*node.name != "n1").unwrap()] += 1;
    }
    assert_eq!(counts, [100, 0, 100, 100]);
}

#[test]
fn a_dead_giant_does_not_hide_the_others() {
    for (_, algorithm) in Algorithm::NAMES {
        let balancer = balancer(algorithm, &[65_535, 1, 1]);
        let found = pick_usable(&balancer, Some(1), |node| &*node.name == "n2");
        assert_eq!(found, Some(2), "{algorithm}");
    }
}

#[test]
fn huge_weights_are_scaled_and_nobody_starves() {
    let weights: Vec<u32> = (0..200).map(|n| 65_535 - n * 329).collect();
    let turns = Turns::smooth(&weights);
    let mut counts = vec![0; weights.len()];
    for _ in 0..1 << 16 {
        counts[turns.advance().unwrap()] += 1;
    }
    assert!(counts.iter().all(|&n| n > 0));
    near(&counts[..100], &weights[..100], 0.05);
}

#[test]
fn turns_are_exact_with_four_threads() {
    let balancer = balancer(Algorithm::WeightedRoundRobin, &[3, 2, 1]);
    let counts: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| counts(&balancer, 6_000, |_| None))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |node: usize| counts.iter().map(|counts| counts[node]).sum::<usize>();
    assert_eq!([sum(0), sum(1), sum(2)], [12_000, 8_000, 4_000]);
}

#[test]
fn random_follows_weights() {
    rng::seed(1);
    let weights = [1, 2, 5, 0];
    near(&counts(&balancer(Algorithm::Random, &weights), 80_000, |_| None), &weights, 0.05);
    near(&counts(&balancer(Algorithm::PowerOfTwo, &[2, 2]), 10_000, |_| None), &[2, 2], 0.05);
}

#[test]
fn random_without_luck_still_follows_weights() {
    rng::seed(2);
    // The giant is unusable, so nearly every choice ends in the walk over all nodes.
    let balancer = balancer(Algorithm::Random, &[60_000, 1, 3]);
    let mut counts = [0; 3];
    for _ in 0..40_000 {
        counts[pick_usable(&balancer, None, |node| &*node.name != "n0").unwrap()] += 1;
    }
    near(&counts[1..], &[1, 3], 0.05);
}

#[test]
fn power_of_two_avoids_the_busy_node() {
    rng::seed(3);
    let balancer = balancer(Algorithm::PowerOfTwo, &[1, 1]);
    balancer.endpoints()[0].enter();
    for _ in 0..100 {
        assert_eq!(pick(&balancer, None), Some(1));
    }
}

#[test]
fn least_connections_counts_what_is_under_way_for_the_weight() {
    let balancer = balancer(Algorithm::LeastConnections, &[4, 2, 1]);
    let mut counts = [0; 3];
    for _ in 0..70 {
        let index = pick(&balancer, None).unwrap();
        balancer.endpoints()[index].enter();
        counts[index] += 1;
    }
    assert_eq!(counts, [40, 20, 10]);
}

#[test]
fn least_connections_takes_turns_when_idle() {
    let balancer = balancer(Algorithm::LeastConnections, &[1, 1, 1]);
    assert_eq!(counts(&balancer, 30, |_| None), [10, 10, 10]);
}

#[test]
fn first_keeps_spares_for_later() {
    let balancer = balancer(Algorithm::First, &[0, 1, 1]);
    assert_eq!(pick(&balancer, None), Some(1));
    assert_eq!(pick_usable(&balancer, None, |node| &*node.name != "n1"), Some(2));
}

#[test]
fn hashes_follow_weights_and_keep_a_key_on_its_node() {
    let weights = [1, 2, 4];
    for (algorithm, slack) in
        [(Algorithm::IpHash, 0.05), (Algorithm::ConsistentHash, 0.25), (Algorithm::Maglev, 0.05)]
    {
        let balancer = balancer(algorithm, &weights);
        near(&counts(&balancer, 70_000, Some), &weights, slack);
        for key in 0..100 {
            assert_eq!(pick(&balancer, Some(key)), pick(&balancer, Some(key)));
        }
    }
}

#[test]
fn hashes_without_a_key_spread() {
    rng::seed(4);
    let balancer = balancer(Algorithm::IpHash, &[1, 1]);
    near(&counts(&balancer, 10_000, |_| None), &[1, 1], 0.1);
}

#[test]
fn hashes_are_the_same_in_every_proxy() {
    // Pinned: a change here moves every client of every user at an upgrade.
    let places = |algorithm| {
        let balancer = balancer(algorithm, &[1, 1, 1, 1]);
        (0..12).map(|key| pick(&balancer, Some(key)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(places(Algorithm::IpHash), [2, 2, 0, 3, 2, 3, 2, 1, 2, 0, 2, 0]);
    assert_eq!(places(Algorithm::ConsistentHash), [2, 0, 2, 2, 1, 2, 3, 3, 3, 1, 0, 1]);
    assert_eq!(places(Algorithm::Maglev), [1, 3, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1]);
}

#[test]
fn a_node_listed_twice_is_two_nodes() {
    let twin = || {
        let addr = "10.0.0.1:80".parse().unwrap();
        Arc::new(Endpoint::new("twin", "http", addr, None, 1))
    };
    for algorithm in HASHES {
        let balancer = Picker::new(algorithm, [twin(), twin()].into());
        near(&counts(&balancer, 10_000, Some), &[1, 1], 0.25);
    }
}

#[test]
fn bounded_load_spills_a_hot_key_over() {
    let balancer = balancer(Algorithm::ConsistentHash, &[1, 1, 1, 1]);
    let mut counts = [0; 4];
    for _ in 0..400 {
        let index = pick(&balancer, Some(42)).unwrap();
        balancer.endpoints()[index].enter();
        counts[index] += 1;
    }
    assert!(counts.iter().all(|&n| n <= 126), "{counts:?}");
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    (0..Algorithm::NAMES.len()).prop_map(|index| Algorithm::NAMES[index].1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_robin_counts_differ_by_one_at_most(n in 1_usize..20, rounds in 0_usize..200) {
        let counts = counts(&balancer(Algorithm::RoundRobin, &vec![1; n]), rounds, |_| None);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }

    #[test]
    fn weights_are_exact_over_a_cycle(weights in prop::collection::vec(0_u32..50, 1..10)) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total != 0);
        let balancer = balancer(Algorithm::WeightedRoundRobin, &weights);
        let counts = counts(&balancer, total as usize, |_| None);
        prop_assert_eq!(counts, weights.iter().map(|&w| w as usize).collect::<Vec<_>>());
    }

    #[test]
    fn only_usable_nodes_are_picked(
        algorithm in algorithms(),
        plan in prop::collection::vec((0_u32..4, any::<bool>(), 0_u32..5), 0..12),
        key: Option<u64>,
    ) {
        let weights: Vec<u32> = plan.iter().map(|(weight, ..)| *weight).collect();
        let balancer = balancer(algorithm, &weights);
        let mut excluded = HashMap::new();
        for (node, (_, usable, busy)) in balancer.endpoints().iter().zip(&plan) {
            excluded.insert(node.id, !usable);
            (0..*busy).for_each(|_| node.enter());
        }
        let any = plan.iter().any(|(weight, usable, _)| *weight != 0 && *usable);
        for _ in 0..20 {
            let picked = pick_usable(&balancer, key, |node| !excluded[&node.id]);
            prop_assert_eq!(picked.is_some(), any, "{}", algorithm);
            if let Some(index) = picked {
                prop_assert!(plan[index].1 && plan[index].0 != 0);
            }
        }
    }

    /// nginx's smooth weighted round robin: no node is a whole turn ahead of its share at any
    /// moment, nor `n - 1` turns behind.
    #[test]
    fn smooth_weights_are_fair_at_every_moment(weights in prop::collection::vec(1_u32..50, 1..10)) {
        let balancer = balancer(Algorithm::WeightedRoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0_u32; weights.len()];
        for round in 1..=2 * total {
            counts[pick(&balancer, None).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(round) * f64::from(*weight) / f64::from(total);
                let ahead = f64::from(*count) - share;
                prop_assert!(ahead < 1.0 && ahead > -(weights.len() as f64), "{ahead}");
            }
        }
    }

    /// The same numbers give the same nodes.
    #[test]
    fn a_seed_decides_every_choice(seed: u64, weights in prop::collection::vec(1_u32..9, 1..8)) {
        for (_, algorithm) in Algorithm::NAMES {
            let places = || {
                rng::seed(seed);
                let balancer = balancer(algorithm, &weights);
                (0..50).map(|_| pick(&balancer, None)).collect::<Vec<_>>()
            };
            prop_assert_eq!(places(), places(), "{}", algorithm);
        }
    }

    /// An ejected node's keys go elsewhere, and no other key moves.
    #[test]
    fn an_ejected_node_moves_only_its_own_keys(n in 2_usize..12, lost: prop::sample::Index) {
        for algorithm in HASHES {
            let balancer = balancer(algorithm, &vec![1; n]);
            let lost = balancer.endpoints()[lost.index(n)].id;
            for key in 0..500 {
                let was = balancer.pick(Some(key), |_| true).unwrap().id;
                let is = balancer.pick(Some(key), |node| node.id != lost).unwrap().id;
                prop_assert!(is != lost && (was == is || was == lost), "{}", algorithm);
            }
        }
    }

    /// Of a list that is one node longer or shorter: at most 1/n of the keys move, and for maglev
    /// 5 % more (NSDI 2016, §5.3).
    #[test]
    fn a_changed_list_moves_one_nth_of_the_keys(n in 3_usize..20, lost: prop::sample::Index) {
        let lost = lost.index(n);
        for algorithm in HASHES {
            let all = nodes(&vec![1; n]);
            let rest = all.iter().enumerate().filter(|(i, _)| *i != lost).map(|(_, e)| Arc::clone(e));
            let after = Picker::new(algorithm, rest.collect());
            let before = Picker::new(algorithm, Arc::clone(&all));
            let (mut moved, mut others) = (0, 0);
            for key in 0..2_000 {
                let was = before.pick(Some(key), |_| true).unwrap().id;
                let is = after.pick(Some(key), |_| true).unwrap().id;
                moved += u32::from(was != is);
                others += u32::from(was != is && was != all[lost].id);
            }
            let spared = if algorithm == Algorithm::Maglev { 0.05 } else { 0.0 };
            prop_assert!(f64::from(others) / 2_000.0 <= spared, "{algorithm}: {others} moved");
            // A ring's shares are within a quarter, and 2,000 keys are a sample.
            let share = 1.4 / n as f64 + spared;
            prop_assert!(f64::from(moved) / 2_000.0 <= share, "{algorithm}: {moved} moved");
        }
    }
}

/// Shares as even as the paper says, for 3 nodes and for as many as one table serves.
#[test]
fn maglev_is_even_and_does_not_depend_on_the_order() {
    for n in [3, 100, 700] {
        let balancer = balancer(Algorithm::Maglev, &vec![1; n]);
        let shares =
            counts(&balancer, 400 * n, |round| Some(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        near(&shares, &vec![1; n], 0.35);
    }
    let all = nodes(&[1, 1, 2, 1, 1, 1, 1, 1]);
    let back: Vec<_> = all.iter().rev().map(Arc::clone).collect();
    let (one, other) =
        (Picker::new(Algorithm::Maglev, all), Picker::new(Algorithm::Maglev, back.into()));
    for key in 0..30_000 {
        let of = |picker: &Picker| picker.pick(Some(key), |_| true).unwrap().id;
        assert_eq!(of(&one), of(&other));
    }
}

/// A new list of nodes goes on with the turn of the old one: a list that changes before every
/// request would send them all to its first node otherwise.
#[test]
fn turns_go_on_over_lists() {
    let all = nodes(&[1, 1, 1]);
    let mut balancer = Picker::new(Algorithm::RoundRobin, Arc::clone(&all));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(pick(&balancer, None).unwrap());
        let next = Picker::new(Algorithm::RoundRobin, Arc::clone(&all));
        next.kernel.continue_from(&balancer.kernel);
        balancer = next;
    }
    assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
}
