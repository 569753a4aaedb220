//! Subset, level, zone and panic, through a cluster as a request sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::units::Percent;
use crate::upstream::{Cluster, ClusterSettings, Outcome};

/// `NAME weight=2 priority=1 zone=a version=v2`: what is not weight or priority is metadata.
fn node(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let mut node = Endpoint::new(name, "http", "127.0.0.1:9".parse().unwrap(), None, 1);
    for (word, value) in words.map(|word| word.split_once('=').unwrap()) {
        match word {
            "weight" => node.set_weight(value.parse().unwrap()),
            "priority" => node.set_priority(value.parse().unwrap()),
            _ => drop(node.metadata.insert(word.into(), value.into())),
        }
    }
    node
}

fn cluster(balance: BalanceSettings, nodes: &[&str]) -> Arc<Cluster> {
    let settings = ClusterSettings { balance, ..ClusterSettings::new("orders") };
    Cluster::new(settings, nodes.iter().map(|text| node(text)).collect())
}

fn in_zone(text: &str) -> BalanceSettings {
    BalanceSettings { zone: Some(text.parse().unwrap()), ..BalanceSettings::default() }
}

/// The node of this name.
fn of(cluster: &Cluster, name: &str) -> Arc<Endpoint> {
    Arc::clone(cluster.endpoints().iter().find(|node| &*node.name == name).unwrap())
}

fn set_healthy(cluster: &Cluster, names: &[&str], healthy: bool) {
    for name in names {
        of(cluster, name).set_healthy(healthy);
    }
}

/// Who got how many of 10,000 exchanges, each over at once; percents.
fn shares(cluster: &Arc<Cluster>) -> BTreeMap<String, u32> {
    rng::seed(11);
    let now = Instant::now();
    let mut shares = BTreeMap::new();
    for key in 0..10_000_u64 {
        let key = Some(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if let Ok(lease) = cluster.acquire(now, key, &Tried::new()) {
            *shares.entry(lease.endpoint().name.to_string()).or_insert(0) += 1;
        }
    }
    for count in shares.values_mut() {
        *count = (*count + 50) / 100;
    }
    shares
}

#[track_caller]
fn assert_shares(cluster: &Arc<Cluster>, want: &[(&str, u32)]) {
    let shares = shares(cluster);
    let names: Vec<_> = shares.keys().map(String::as_str).collect();
    assert_eq!(names, want.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{shares:?}");
    for (name, want) in want {
        assert!(shares[*name].abs_diff(*want) <= 3, "{name}: {shares:?}, wanted {want}");
    }
}

/// Row 4.11: spares stand by while the main nodes can take all of it, fill in by degrees as these
/// go, and leave when they are back.
#[test]
fn row_4_11_spares_fill_in_by_degrees() {
    for (_, algorithm) in Algorithm::NAMES {
        if algorithm == Algorithm::First {
            continue;
        }
        let names = ["a", "b", "c", "d", "x priority=1", "y priority=2"];
        let cluster = cluster(algorithm.into(), &names);
        let total = |shares: &BTreeMap<String, u32>, names: &[&str]| {
            names.iter().filter_map(|name| shares.get(*name)).sum::<u32>()
        };
        let all = shares(&cluster);
        assert_eq!(total(&all, &["x", "y"]), 0, "{algorithm}: {all:?}");
        // Three of four and the factor of 1.4 still take it all.
        set_healthy(&cluster, &["a"], false);
        assert_eq!(total(&shares(&cluster), &["a", "x", "y"]), 0, "{algorithm}");
        // Half of them take 70 %.
        set_healthy(&cluster, &["b"], false);
        let half = shares(&cluster);
        assert!(total(&half, &["x"]).abs_diff(30) <= 3, "{algorithm}: {half:?}");
        assert_eq!(total(&half, &["a", "b", "y"]), 0, "{algorithm}");
        set_healthy(&cluster, &["c", "d"], false);
        assert_shares(&cluster, &[("x", 100)]);
        set_healthy(&cluster, &["x"], false);
        assert_shares(&cluster, &[("y", 100)]);
        set_healthy(&cluster, &["a", "b", "c", "d"], true);
        assert_eq!(total(&shares(&cluster), &["x", "y"]), 0, "{algorithm}");
    }
}

/// A level whose nodes refuse connections is left as one that is unhealthy, and taken up again
/// when their time is over, whoever noticed.
#[test]
fn refused_connects_lead_to_the_spares_and_back() {
    let cluster = cluster(Algorithm::RoundRobin.into(), &["a", "x priority=1"]);
    let now = Instant::now();
    let name = |now| cluster.acquire(now, None, &Tried::new()).unwrap().endpoint().name.to_string();
    assert_eq!(name(now), "a");
    let mut lease = cluster.acquire(now, None, &Tried::new()).unwrap();
    lease.settle(Outcome::ConnectFailed, now);
    drop(lease);
    assert_eq!(name(now), "x");
    assert_eq!(name(now + Duration::from_millis(999)), "x");
    assert_eq!(name(now + Duration::from_secs(1)), "a");
    of(&cluster, "a").note_connect_failure(now + Duration::from_secs(2));
    assert_eq!(name(now + Duration::from_secs(2)), "x");
    of(&cluster, "a").note_reachable();
    assert_eq!(name(now + Duration::from_secs(2)), "a");
}

/// A retry goes through the levels: no healthy node is left untried.
#[test]
fn a_retry_finds_every_level() {
    let names = ["a", "b zone=a", "x priority=1", "y priority=1 zone=a"];
    let cluster = cluster(in_zone("a"), &names);
    let (now, mut tried, mut seen) = (Instant::now(), Tried::new(), Vec::new());
    while let Ok(lease) = cluster.acquire(now, None, &tried) {
        tried.insert(lease.endpoint().id);
        seen.push(lease.endpoint().name.to_string());
    }
    assert_eq!(seen, ["b", "a", "y", "x"]);
}

/// Row 4.21: near nodes take everything while they can, the others the rest.
#[test]
fn row_4_21_near_nodes_come_first_and_spill_over() {
    let names = ["a1 zone=a", "a2 zone=a", "b1 zone=b", "c1"];
    let cluster = cluster(in_zone("a"), &names);
    assert_shares(&cluster, &[("a1", 50), ("a2", 50)]);
    set_healthy(&cluster, &["a1"], false);
    assert_shares(&cluster, &[("a2", 70), ("b1", 15), ("c1", 15)]);
    set_healthy(&cluster, &["a2"], false);
    assert_shares(&cluster, &[("b1", 50), ("c1", 50)]);
    set_healthy(&cluster, &["a1", "a2"], true);
    set_healthy(&cluster, &["b1", "c1"], false);
    set_healthy(&cluster, &["a1"], false);
    // Nobody is left to spill over to.
    assert_shares(&cluster, &[("a2", 100)]);
}

/// Row 4.21: a full near node passes on; if all are full they share.
#[test]
fn row_4_21_a_full_zone_spills_over() {
    let names = ["a1 zone=a weight=2", "b1 zone=b"];
    let cluster = cluster(in_zone("a,full_at=3"), &names);
    let now = Instant::now();
    let acquire = || cluster.acquire(now, None, &Tried::new()).unwrap();
    let leases: Vec<_> = (0..8).map(|_| acquire()).collect();
    let names: Vec<_> = leases.iter().map(|lease| &*lease.endpoint().name).collect();
    assert_eq!(names, ["a1", "a1", "a1", "a1", "a1", "a1", "b1", "b1"]);
    set_healthy(&cluster, &["b1"], false);
    assert_eq!(&*acquire().endpoint().name, "a1");
    drop(leases);
    set_healthy(&cluster, &["b1"], true);
    assert_eq!(&*acquire().endpoint().name, "a1");
}

/// A key stays in its group while parts do not change, and few keys change it when they do.
#[test]
fn a_key_changes_its_level_only_with_the_parts() {
    let names = ["a", "b", "c", "d", "x priority=1", "y priority=1"];
    let cluster = cluster(Algorithm::Maglev.into(), &names);
    let now = Instant::now();
    let place = |key| cluster.acquire(now, Some(key), &Tried::new()).unwrap().endpoint().id;
    set_healthy(&cluster, &["a"], false);
    let before: Vec<u64> = (0..2_000).map(place).collect();
    let lost = of(&cluster, "b");
    lost.set_healthy(false);
    let moved = (0..2_000).zip(&before).filter(|(key, was)| place(*key) != **was).count();
    let after: Vec<u64> = (0..2_000).map(place).collect();
    assert_eq!(after, (0..2_000).map(place).collect::<Vec<u64>>());
    // A third was on the lost node, and of the rest 30 % go to the spares.
    assert!((900..1_200).contains(&moved), "{moved}");
}

/// Rows 4.11 and 4.21: only the nodes that were asked for, in each subset by the same algorithm.
#[test]
fn a_subset_is_never_left() {
    let subset = |text: &str| -> Subset {
        text.split(',').filter_map(|pair| pair.split_once('=')).fold(
            Subset::new(),
            |mut all, one| {
                all.insert(one.0.into(), one.1.into());
                all
            },
        )
    };
    let settings = ClusterSettings {
        subsets: ["", "version=v2", "version=v2,zone=b", "version=v3"].map(subset).into(),
        ..ClusterSettings::new("orders")
    };
    let nodes = ["a version=v1", "b version=v2 zone=a", "c version=v2 zone=b", "d"];
    let cluster = Cluster::new(settings, nodes.iter().map(|text| node(text)).collect());
    let now = Instant::now();
    let tried = Tried::new();
    let ask = |subset: usize| Ask { subset, ..Ask::new(&tried) };
    let names = |subset: usize| {
        let one = || cluster.acquire_for(now, &ask(subset)).unwrap().endpoint().name.to_string();
        let mut names: Vec<_> = (0..8).map(|_| one()).collect();
        names.sort();
        names.dedup();
        names.concat()
    };
    assert_eq!([names(0), names(1), names(2)], ["abcd", "bc", "c"]);
    let sentence = |subset| cluster.acquire_for(now, &ask(subset)).unwrap_err().to_string();
    assert!(sentence(3).contains("the service `orders` has no nodes with version=v3"));
    set_healthy(&cluster, &["b", "c"], false);
    assert!(sentence(1).contains("no node of the service `orders` with version=v2 can be used"));
    assert_eq!(names(0), "ad");
}

/// Below the threshold all nodes are tried, above it only the healthy ones; with a threshold of 0
/// never.
#[test]
fn below_the_panic_threshold_all_nodes_are_tried() {
    let settings = |percent| BalanceSettings {
        panic_threshold: Percent::whole(percent),
        ..BalanceSettings::default()
    };
    let names = ["a", "b", "c", "d"];
    let cautious = cluster(settings(50), &names);
    let now = Instant::now();
    set_healthy(&cautious, &["a", "b"], false);
    assert_shares(&cautious, &[("c", 50), ("d", 50)]);
    assert!(!cautious.is_panic(now));
    set_healthy(&cautious, &["c"], false);
    assert_shares(&cautious, &[("a", 25), ("b", 25), ("c", 25), ("d", 25)]);
    assert!(cautious.is_panic(now));
    set_healthy(&cautious, &["d"], false);
    assert_eq!(shares(&cautious).len(), 4);
    set_healthy(&cautious, &["c", "d"], true);
    assert_shares(&cautious, &[("c", 50), ("d", 50)]);
    assert!(!cautious.is_panic(now));
    let never = cluster(settings(0), &names);
    set_healthy(&never, &names, false);
    assert!(never.acquire(now, None, &Tried::new()).is_err() && !never.is_panic(now));
}

/// Spares that can take it all are no reason to panic.
#[test]
fn healthy_spares_keep_panic_away() {
    let settings =
        BalanceSettings { panic_threshold: Percent::whole(60), ..BalanceSettings::default() };
    let cluster = cluster(settings, &["a", "b", "x priority=1", "y priority=1"]);
    set_healthy(&cluster, &["a", "b"], false);
    assert_shares(&cluster, &[("x", 50), ("y", 50)]);
    set_healthy(&cluster, &["x"], false);
    assert_shares(&cluster, &[("a", 25), ("b", 25), ("x", 25), ("y", 25)]);
}

/// A mark leads to its node from any level; without the node the algorithm decides.
#[test]
fn a_mark_leads_back_to_its_node() {
    let settings = ClusterSettings {
        marks: Some(crate::upstream::MarkKey::new(b"secret")),
        ..ClusterSettings::new("orders")
    };
    let names = ["a", "b weight=0", "x priority=1"];
    let cluster = Cluster::new(settings, names.iter().map(|text| node(text)).collect());
    let (now, tried) = (Instant::now(), Tried::new());
    let by = |mark: u64| {
        let ask = Ask { mark: Some(mark), ..Ask::new(&tried) };
        cluster.acquire_for(now, &ask).unwrap().endpoint().name.to_string()
    };
    let mark = |name: &str| of(&cluster, name).mark();
    assert_eq!((by(mark("a")), by(mark("x"))), ("a".into(), "x".into()));
    assert_eq!((by(mark("b")), by(0), by(u64::MAX)), ("a".into(), "a".into(), "a".into()));
    of(&cluster, "x").note_connect_failure(now);
    assert_eq!(by(mark("x")), "a");
    of(&cluster, "x").note_reachable();
    let mark_of_x = mark("x");
    cluster.update(vec![node("a"), node("x priority=1 weight=3"), node("y")]);
    assert_eq!(by(mark_of_x), "x");
    cluster.update(vec![node("a")]);
    assert_eq!(by(mark_of_x), "a");
    assert_ne!(mark("a"), 0);
}

/// Row 4.11: weights and levels change under way, and the node keeps what is known of it.
#[test]
fn row_4_11_weights_change_live() {
    let cluster = cluster(Algorithm::WeightedRoundRobin.into(), &["a", "b"]);
    let (now, a) = (Instant::now(), of(&cluster, "a"));
    let lease = cluster.acquire(now, None, &Tried::new()).unwrap();
    assert_shares(&cluster, &[("a", 50), ("b", 50)]);
    cluster.update(vec![node("a weight=4"), node("b")]);
    assert_shares(&cluster, &[("a", 80), ("b", 20)]);
    cluster.update(vec![node("a weight=0"), node("b")]);
    assert_shares(&cluster, &[("b", 100)]);
    cluster.update(vec![node("a"), node("b priority=1")]);
    assert_shares(&cluster, &[("a", 100)]);
    assert!(Arc::ptr_eq(&a, &of(&cluster, "a")));
    assert_eq!(a.in_flight(), 1);
    assert!(a.picks() > 10_000);
    drop(lease);
    assert_eq!(a.in_flight(), 0);
}

/// A node that is added starts slowly; those of the first list do not.
#[test]
fn an_added_node_starts_slowly() {
    let settings =
        BalanceSettings { slow_start: crate::units::Span::secs(60), ..Algorithm::Random.into() };
    let cluster = cluster(settings, &["a", "b"]);
    assert!(cluster.endpoints().iter().all(|node| !node.is_growing()));
    cluster.update(vec![node("a"), node("b"), node("c")]);
    assert_shares(&cluster, &[("a", 48), ("b", 48), ("c", 4)]);
    set_healthy(&cluster, &["a"], false);
    set_healthy(&cluster, &["a"], true);
    assert!(of(&cluster, "a").is_growing() && !of(&cluster, "b").is_growing());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the settings: no node that is ejected, drained, tried or of another subset, and
    /// one if there is one.
    #[test]
    fn no_ejected_node_is_ever_chosen(
        algorithm in algorithms(),
        plan in prop::collection::vec(
            (0_u32..3, 0_u32..3, 0_u8..3, any::<bool>(), any::<bool>(), 0_u32..4),
            0..10,
        ),
        (zone, full_at, panic, slow) in (any::<bool>(), 0_u32..3, 0_u16..3, any::<bool>()),
        (subset, tried) in (any::<bool>(), prop::collection::vec(0_usize..10, 0..3)),
        key: Option<u64>,
    ) {
        let full_at = if full_at == 0 { String::new() } else { format!(",full_at={full_at}") };
        let balance = BalanceSettings {
            zone: zone.then(|| format!("z0{full_at}").parse().unwrap()),
            panic_threshold: Percent::whole(panic * 40),
            slow_start: crate::units::Span::secs(u32::from(slow) * 9),
            ..algorithm.into()
        };
        let v2 = Subset::from([("zone".to_owned(), "z1".to_owned())]);
        let subsets = vec![Subset::new(), v2];
        let settings = ClusterSettings { balance, subsets, ..ClusterSettings::new("orders") };
        let make = |(index, one): (usize, &(u32, u32, u8, bool, bool, u32))| {
            node(&format!("n{index} weight={} priority={} zone=z{}", one.0, one.1, one.2))
        };
        let cluster = Cluster::new(settings, plan.iter().enumerate().map(make).collect());
        let now = Instant::now();
        for (node, (.., healthy, refused, busy)) in cluster.endpoints().iter().zip(&plan) {
            node.set_healthy(*healthy);
            if *refused {
                node.note_connect_failure(now);
            }
            (0..*busy).for_each(|_| node.enter());
        }
        let nodes = cluster.endpoints();
        let mut seen = Tried::new();
        tried.iter().filter_map(|index| nodes.get(*index)).for_each(|node| seen.insert(node.id));
        let ask = Ask { key, subset: usize::from(subset), ..Ask::new(&seen) };
        let panics = cluster.is_panic(now);
        let may = |node: &Endpoint, healthy: bool| {
            node.weight() > 0
                && (healthy || node.is_healthy())
                && !seen.contains(node.id)
                && (!subset || node.metadata["zone"] == "z1")
        };
        for _ in 0..10 {
            match cluster.acquire_for(now, &ask) {
                Ok(lease) => prop_assert!(may(lease.endpoint(), panics)),
                Err(_) => prop_assert!(!nodes.iter().any(|node| may(node, false))),
            }
        }
    }
}
