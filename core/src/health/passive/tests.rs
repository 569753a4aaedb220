use super::*;
use crate::units::{Factor, Few, Percent};
use crate::upstream::{ClusterSettings, Tried};

fn settings(text: &str) -> OutlierSettings {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// A service of so many nodes.
fn service(nodes: usize, text: &str) -> (Arc<Cluster>, Instant) {
    let node = |n| {
        let addr = "127.0.0.1:1".parse().unwrap();
        Endpoint::new(format!("n{n}"), "http", addr, None, 1)
    };
    let settings =
        ClusterSettings { outliers: Some(settings(text)), ..ClusterSettings::new("orders") };
    (Cluster::new(settings, (0..nodes).map(node).collect()), Instant::now())
}

/// One exchange that ends at a node of this number.
fn end(cluster: &Arc<Cluster>, node: usize, outcome: Outcome, now: Instant) {
    let mut tried = Tried::new();
    let id = cluster.endpoints()[node].id;
    // Round robin: nodes are refused until the one comes.
    loop {
        let mut lease = cluster.acquire(now, None, &tried).unwrap();
        if lease.endpoint().id == id {
            lease.settle(outcome, now);
            return;
        }
        tried.insert(lease.endpoint().id);
    }
}

fn out(cluster: &Arc<Cluster>, now: Instant) -> Vec<usize> {
    let nodes = cluster.endpoints();
    (0..nodes.len()).filter(|&n| nodes[n].is_ejected(now)).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn settings_parse_and_print() {
    for (text, canonical) in [
        ("5", "5"),
        ("0,gateway=3", "0,gateway=3"),
        (
            "7,stdev=0,failures=85,latency=2.5,latency_floor=1s",
            "7,stdev=0,failures=85%,latency=2.5,latency_floor=1s",
        ),
        (
            "5,eject=10s,max_eject=1m,share=50%,interval=1s,min_nodes=3,min_calls=20",
            "5,interval=1s,eject=10s,max_eject=1m,share=50%,min_nodes=3,min_calls=20",
        ),
    ] {
        assert_eq!(settings(text).to_string(), canonical);
        assert_eq!(settings(canonical), settings(text));
        let json = serde_json::to_string(&settings(text)).unwrap();
        assert_eq!(serde_json::from_str::<OutlierSettings>(&json).unwrap(), settings(text));
    }
    for (text, part) in [
        ("", "`` is not a number of failures in a row"),
        ("+5", "not a number"),
        ("5,gateway=x", "`gateway=x` is not a number"),
        ("5,stdev=101", "not a factor"),
        ("5,ejekt=1s", "did you mean `eject`?"),
        ("5,interval=0s", "longer than 0"),
    ] {
        let sentence = text.parse::<OutlierSettings>().unwrap_err().to_string();
        assert!(sentence.contains(part), "{text}: {sentence}");
    }
    let envoy = r#"{"consecutive_5xx": 3, "consecutive_gateway_failure": 2, "max_ejection_percent": 50,
        "success_rate_minimum_hosts": 4, "success_rate_request_volume": 10}"#;
    let read: OutlierSettings = serde_json::from_str(envoy).unwrap();
    assert_eq!(read, settings("3,gateway=2,share=50%,min_nodes=4,min_calls=10"));
    let usual = OutlierSettings::default();
    assert_eq!(
        (usual.success_rate_stdev_factor, usual.min_nodes),
        (Factor::hundredths(190), Few::new(5))
    );
    assert_eq!(usual.max_ejection_percent, Percent::whole(10));
}

#[test]
fn failures_in_a_row_eject_for_a_time_that_grows() {
    let (cluster, mut now) = service(3, "3,eject=10s,max_eject=25s,interval=1h");
    (0..2).for_each(|_| end(&cluster, 1, Outcome::Failure, now));
    end(&cluster, 1, Outcome::Success, now);
    (0..2).for_each(|_| end(&cluster, 1, Outcome::Failure, now));
    assert_eq!(out(&cluster, now), [0; 0], "a success between them");
    end(&cluster, 1, Outcome::Failure, now);
    for time in [10, 20, 25, 25] {
        assert_eq!(out(&cluster, now + secs(time).saturating_sub(Duration::from_nanos(1))), [1]);
        now += secs(time);
        assert_eq!(out(&cluster, now), [0; 0]);
        (0..3).for_each(|_| end(&cluster, 1, Outcome::Failure, now));
    }
    assert_eq!(cluster.endpoints()[1].ejections(), 5);
    // Good intervals pay it back.
    now += secs(25);
    (0..10).for_each(|_| cluster.compare_nodes(now));
    (0..3).for_each(|_| end(&cluster, 1, Outcome::Failure, now));
    assert_eq!(out(&cluster, now + secs(9)), [1]);
    assert_eq!(out(&cluster, now + secs(10)), [0; 0]);
}

#[test]
fn an_ejected_node_gets_nothing_while_there_are_others() {
    let (cluster, now) = service(3, "1,eject=10s");
    end(&cluster, 2, Outcome::Failure, now);
    for _ in 0..100 {
        let lease = cluster.acquire(now, None, &Tried::new()).unwrap();
        assert_ne!(&*lease.endpoint().name, "n2");
    }
    // A late success of a call that began before does not bring it back.
    let mut tried = Tried::new();
    (0..2).for_each(|n| tried.insert(cluster.endpoints()[n].id));
    let mut last = cluster.acquire(now, None, &tried).expect("better than nothing");
    last.settle(Outcome::Success, now);
    assert_eq!(out(&cluster, now), [2]);
}

#[test]
fn gateway_failures_have_a_count_of_their_own() {
    let (cluster, now) = service(2, "0,gateway=3");
    (0..50).for_each(|_| end(&cluster, 0, Outcome::Failure, now));
    (0..2).for_each(|_| end(&cluster, 0, Outcome::GatewayFailure, now));
    end(&cluster, 0, Outcome::Failure, now);
    (0..2).for_each(|_| end(&cluster, 0, Outcome::GatewayFailure, now));
    assert_eq!(out(&cluster, now), [0; 0]);
    end(&cluster, 0, Outcome::ConnectFailed, now);
    assert_eq!(out(&cluster, now), [0]);
}

#[test]
fn refusals_for_asking_too_often_are_neither_good_nor_bad() {
    let (cluster, now) = service(2, "3");
    (0..100).for_each(|_| end(&cluster, 0, Outcome::Limited, now));
    (0..100).for_each(|_| end(&cluster, 0, Outcome::Cancelled, now));
    assert_eq!(out(&cluster, now), [0; 0]);
    (0..2).for_each(|_| end(&cluster, 0, Outcome::Failure, now));
    end(&cluster, 0, Outcome::Limited, now);
    end(&cluster, 0, Outcome::Failure, now);
    assert_eq!(out(&cluster, now), [0], "nor do they break a row");
}

#[test]
fn only_the_share_is_out_and_the_last_never() {
    for (nodes, share, want) in
        [(1, "100%", 0), (2, "100%", 1), (3, "10%", 1), (10, "50%", 5), (10, "100%", 9)]
    {
        let (cluster, now) = service(nodes, &format!("2,share={share}"));
        for node in 0..nodes {
            (0..4).for_each(|_| end(&cluster, node, Outcome::GatewayFailure, now));
        }
        assert_eq!(out(&cluster, now).len(), want, "{nodes} nodes, {share}");
    }
}

#[test]
fn the_share_is_exact_under_threads() {
    let (cluster, now) = service(20, "1,share=25%");
    let nodes = cluster.endpoints();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (cluster, nodes) = (&cluster, &nodes);
            scope.spawn(move || {
                for round in 0..200 {
                    let node = &nodes[(round * 4 + thread) % nodes.len()];
                    cluster.note(node, Outcome::Failure, None, now);
                }
            });
        }
    });
    assert_eq!(out(&cluster, now).len(), 5);
}

/// Envoy's example: four at 100 %, one below the mean by more than 1.9 standard deviations.
#[test]
fn a_node_far_below_the_others_is_ejected_and_equals_are_not() {
    let rates = |failed: [u64; 5]| {
        let (cluster, now) = service(5, "0,min_calls=100");
        let nodes = cluster.endpoints();
        for (node, failed) in nodes.iter().zip(failed) {
            for call in 0..100 {
                let outcome = if call < failed { Outcome::Failure } else { Outcome::Success };
                cluster.note(node, outcome, None, now);
            }
        }
        cluster.compare_nodes(now);
        out(&cluster, now)
    };
    assert_eq!(rates([0, 0, 30, 0, 0]), [2]);
    assert_eq!(rates([30, 30, 30, 30, 30]), [0; 0], "all are equally bad");
    assert_eq!(rates([0, 0, 0, 0, 0]), [0; 0]);
    assert_eq!(rates([1, 2, 3, 4, 5]), [0; 0], "a usual spread");
}

#[test]
fn few_calls_or_few_nodes_prove_nothing() {
    let judged = |nodes: usize, calls: u64| {
        let (cluster, now) = service(nodes, "0,failures=50%,stdev=0,min_nodes=3,min_calls=10");
        for (n, node) in cluster.endpoints().iter().enumerate() {
            let outcome = if n == 0 { Outcome::Failure } else { Outcome::Success };
            (0..calls).for_each(|_| cluster.note(node, outcome, None, now));
        }
        cluster.compare_nodes(now);
        out(&cluster, now)
    };
    assert_eq!(judged(3, 10), [0]);
    assert_eq!(judged(3, 9), [0; 0]);
    assert_eq!(judged(2, 10), [0; 0]);
}

#[test]
fn an_interval_forgets_the_one_before() {
    let (cluster, now) = service(3, "0,failures=50%,stdev=0,min_nodes=3,min_calls=10");
    let each = |outcome: Outcome| {
        for (n, node) in cluster.endpoints().iter().enumerate() {
            let outcome = if n == 0 { outcome } else { Outcome::Success };
            (0..6).for_each(|_| cluster.note(node, outcome, None, now));
        }
    };
    each(Outcome::Failure);
    cluster.compare_nodes(now);
    each(Outcome::Failure);
    cluster.compare_nodes(now);
    assert_eq!(out(&cluster, now), [0; 0], "six calls and six are not twelve");
}

#[test]
fn a_slow_node_is_ejected_unless_it_is_fast_enough() {
    let judged = |slow: u64, floor: &str| {
        let text = format!("0,latency=3,latency_floor={floor},min_nodes=3,min_calls=10");
        let (cluster, now) = service(3, &text);
        for (n, node) in cluster.endpoints().iter().enumerate() {
            let took = Duration::from_millis(if n == 1 { slow } else { 20 });
            (0..10).for_each(|_| cluster.note(node, Outcome::Success, Some(took), now));
        }
        cluster.compare_nodes(now);
        out(&cluster, now)
    };
    assert_eq!(judged(61, "10ms"), [1]);
    assert_eq!(judged(59, "10ms"), [0; 0]);
    assert_eq!(judged(61, "100ms"), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn nodes_are_compared_every_interval_until_the_service_goes() {
    let (cluster, _) = service(3, "0,failures=50%,stdev=0,min_nodes=3,min_calls=10,interval=5s");
    let watching = tokio::spawn(watch(Arc::downgrade(&cluster)));
    tokio::task::yield_now().await;
    for (n, node) in cluster.endpoints().iter().enumerate() {
        let outcome = if n == 0 { Outcome::Failure } else { Outcome::Success };
        (0..10).for_each(|_| cluster.note(node, outcome, None, Instant::now()));
    }
    tokio::time::sleep(Duration::from_millis(4_990)).await;
    assert_eq!(out(&cluster, Instant::now()), [0; 0]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(out(&cluster, Instant::now()), [0]);
    drop(cluster);
    watching.await.unwrap();
}
