use super::*;
use crate::upstream::Outcome;

fn node(name: &str, weight: u32) -> Endpoint {
    Endpoint::new(name, "http", "127.0.0.1:9".parse().unwrap(), None, weight)
}

fn cluster(nodes: Vec<Endpoint>) -> Arc<Cluster> {
    Cluster::new(ClusterSettings::new("orders"), nodes)
}

fn name_of(lease: &Lease) -> String {
    lease.endpoint().name.to_string()
}

#[test]
fn every_node_gets_its_turn_and_in_flight_follows_the_lease() {
    let cluster = cluster(vec![node("a", 1), node("b", 1)]);
    let now = Instant::now();
    let first = cluster.acquire(now, None, &Tried::new()).unwrap();
    let second = cluster.acquire(now, None, &Tried::new()).unwrap();
    assert_ne!(name_of(&first), name_of(&second));
    let endpoint = Arc::clone(first.endpoint());
    assert_eq!(endpoint.in_flight(), 1);
    drop(first);
    assert_eq!(endpoint.in_flight(), 0);
}

#[test]
fn a_request_never_gets_a_node_twice() {
    let cluster = cluster(vec![node("a", 1), node("b", 1), node("off", 0)]);
    let now = Instant::now();
    let mut tried = Tried::new();
    for _ in 0..2 {
        let lease = cluster.acquire(now, None, &tried).unwrap();
        tried.insert(lease.endpoint().id);
    }
    let error = cluster.acquire(now, None, &tried).unwrap_err();
    assert_eq!(error.code(), Code::NoHealthyNode);
    assert!(error.is_unsent());
    assert_eq!(
        error.sentence(),
        "no node of the service `orders` can be used: of 3 nodes 0 unhealthy, 1 of weight 0, \
         2 already tried for this request"
    );
}

#[test]
fn an_empty_service_says_so() {
    let error = cluster(vec![]).acquire(Instant::now(), None, &Tried::new()).unwrap_err();
    assert_eq!(error.sentence(), "the service `orders` has no nodes");
}

#[test]
fn a_refused_connect_keeps_the_node_out_for_a_growing_while() {
    let cluster = cluster(vec![node("a", 1), node("b", 1)]);
    let bad = Arc::clone(cluster.endpoints().iter().find(|e| &*e.name == "a").unwrap());
    let mut now = Instant::now();
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        bad.note_connect_failure(now);
        bad.note_connect_failure(now); // a sibling of the same burst
        let last = now + Duration::from_millis(wait * 1000 - 1);
        for _ in 0..4 {
            let lease = cluster.acquire(last, None, &Tried::new()).unwrap();
            assert_eq!(name_of(&lease), "b");
        }
        now += Duration::from_secs(wait);
        assert!(!bad.is_avoided(now));
    }
    bad.note_connect_failure(now);
    bad.note_reachable();
    assert!(!bad.is_avoided(now));
}

#[test]
fn the_last_node_is_used_even_if_it_refused_a_moment_ago() {
    let cluster = cluster(vec![node("a", 1)]);
    let now = Instant::now();
    let mut lease = cluster.acquire(now, None, &Tried::new()).unwrap();
    lease.settle(Outcome::ConnectFailed, now);
    assert!(lease.endpoint().is_avoided(now));
    drop(lease);
    assert!(cluster.acquire(now, None, &Tried::new()).is_ok());
}

#[test]
fn an_unhealthy_node_is_not_used_even_if_it_is_the_last() {
    let cluster = cluster(vec![node("a", 1)]);
    cluster.endpoints().iter().for_each(|e| assert!(e.set_healthy(false)));
    assert!(cluster.acquire(Instant::now(), None, &Tried::new()).is_err());
}

#[test]
fn an_update_keeps_the_nodes_it_knows() {
    let cluster = cluster(vec![node("a", 1), node("b", 1)]);
    let now = Instant::now();
    let before = cluster.endpoints();
    let lease = cluster.acquire(now, None, &Tried::new()).unwrap();
    before.iter().for_each(|e| assert!(e.set_healthy(false)));
    cluster.update(vec![node("c", 1), node("a", 7)]);
    let after = cluster.endpoints();
    assert!(Arc::ptr_eq(&after[1], &before[0]));
    assert_eq!(after[1].weight(), 7);
    assert_eq!(name_of(&cluster.acquire(now, None, &Tried::new()).unwrap()), "c");
    drop(lease);
    assert_eq!(before[0].in_flight() + before[1].in_flight(), 0);
}

#[test]
fn hash_balancers_say_what_they_go_by() {
    let with = |algorithm| {
        let settings = ClusterSettings {
            balance: BalanceSettings {
                algorithm,
                hash_by: Some(By::Cookie("sid".into())),
                ..BalanceSettings::default()
            },
            ..ClusterSettings::new("orders")
        };
        Cluster::new(settings, vec![node("a", 1)]).needs_key().cloned()
    };
    assert_eq!(with(Algorithm::IpHash), Some(By::Ip));
    assert_eq!(with(Algorithm::ConsistentHash), Some(By::Cookie("sid".into())));
    assert_eq!(with(Algorithm::Maglev), Some(By::Cookie("sid".into())));
    assert_eq!(with(Algorithm::RoundRobin), None);
}

#[test]
fn an_update_keeps_twins_apart() {
    let cluster = cluster(vec![node("a", 1), node("a", 1)]);
    cluster.update(vec![node("a", 1), node("a", 1), node("a", 1)]);
    let mut ids: Vec<_> = cluster.endpoints().iter().map(|e| e.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// Whoever named no service is told of what was typed.
#[test]
fn sentences_have_the_title() {
    let settings = ClusterSettings { title: "`--to`".into(), ..ClusterSettings::new("upstream") };
    let error = Cluster::new(settings, Vec::new()).acquire(Instant::now(), None, &Tried::new());
    assert_eq!(error.unwrap_err().sentence(), "`--to` has no nodes");
}

fn with_breaker(text: &str, nodes: Vec<Endpoint>) -> Arc<Cluster> {
    let breaker = Some(text.parse().unwrap());
    Cluster::new(ClusterSettings { breaker, ..ClusterSettings::new("orders") }, nodes)
}

#[test]
fn failures_open_the_breaker_and_the_error_says_when_to_come_back() {
    let cluster = with_breaker("50%,min=4,open=5s,jitter=0%", vec![node("a", 1)]);
    let now = Instant::now();
    for outcome in [Outcome::Success, Outcome::Cancelled, Outcome::Failure, Outcome::Failure] {
        cluster.acquire(now, None, &Tried::new()).unwrap().settle(outcome, now);
    }
    // Dropped without a word: the client went away.
    drop(cluster.acquire(now, None, &Tried::new()).unwrap());
    cluster.acquire(now, None, &Tried::new()).unwrap().settle(Outcome::ConnectFailed, now);
    let error = cluster.acquire(now, None, &Tried::new()).unwrap_err();
    assert_eq!(error.code(), Code::BreakerOpen);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(5)));
    assert!(error.is_unsent());
    assert_eq!(
        error.sentence(),
        "the nodes of the service `orders` failed too often and the breaker is open; next try in 5.0s"
    );
    let later = now + Duration::from_secs(5);
    cluster.acquire(later, None, &Tried::new()).unwrap().settle(Outcome::Success, later);
    assert!(cluster.acquire(later, None, &Tried::new()).is_ok());
}

#[test]
fn a_probe_that_finds_no_node_or_no_client_gives_its_place_back() {
    let cluster = with_breaker("50%,min=1,open=1s,jitter=0%", vec![node("a", 1)]);
    let now = Instant::now();
    cluster.acquire(now, None, &Tried::new()).unwrap().settle(Outcome::Failure, now);
    let later = now + Duration::from_secs(1);
    cluster.endpoints()[0].set_healthy(false);
    for _ in 0..3 {
        let error = cluster.acquire(later, None, &Tried::new()).unwrap_err();
        assert_eq!(error.code(), Code::NoHealthyNode);
    }
    cluster.endpoints()[0].set_healthy(true);
    for _ in 0..3 {
        drop(cluster.acquire(later, None, &Tried::new()).unwrap());
    }
    let probe = cluster.acquire(later, None, &Tried::new()).unwrap();
    assert!(cluster.acquire(later, None, &Tried::new()).is_err());
    drop(probe);
}

#[test]
fn only_the_first_report_counts() {
    let cluster = with_breaker("50%,min=100,jitter=0%", vec![node("a", 1)]);
    let now = Instant::now();
    let mut lease = cluster.acquire(now, None, &Tried::new()).unwrap();
    lease.settle(Outcome::Failure, now);
    lease.settle(Outcome::Success, now);
    assert_eq!(cluster.breaker().unwrap().counts(now), (1, 1));
}

#[test]
fn first_tries_pay_for_retries() {
    let cluster = cluster(vec![node("a", 1), node("b", 1)]);
    let now = Instant::now();
    assert_eq!((0..1_000).filter(|_| cluster.may_retry(now)).count(), 100);
    let mut tried = Tried::new();
    tried.insert(cluster.endpoints()[0].id);
    for _ in 0..10 {
        drop(cluster.acquire(now, None, &Tried::new()).unwrap());
        drop(cluster.acquire(now, None, &tried).unwrap());
    }
    assert_eq!((0..1_000).filter(|_| cluster.may_retry(now)).count(), 2);
}

/// Whoever is told to wait is told by the node that is back first; full nodes are no failure.
#[test]
fn nodes_behind_their_own_breakers_tell_the_shortest_wait() {
    let with = |text: &str| {
        let node_breaker = Some(text.parse().unwrap());
        let settings = ClusterSettings { node_breaker, ..ClusterSettings::new("orders") };
        Cluster::new(settings, vec![node("a", 1), node("b", 1)])
    };
    let now = Instant::now();
    let cluster = with("50%,consecutive=1,min=99,open=9s,jitter=0%");
    let ask = |now| cluster.acquire(now, None, &Tried::new());
    let mut lease = ask(now).unwrap();
    let first = lease.endpoint().id;
    lease.settle(Outcome::Failure, now);
    let later = now + Duration::from_secs(4);
    let mut other = ask(later).unwrap();
    assert_ne!(other.endpoint().id, first);
    other.settle(Outcome::Failure, later);
    let error = ask(later).unwrap_err();
    assert_eq!(
        (error.code(), error.retry_after()),
        (Code::BreakerOpen, Some(Duration::from_secs(5)))
    );
    // One probe for each, and no more.
    let end = now + Duration::from_secs(20);
    let probes = [ask(end).unwrap(), ask(end).unwrap()];
    assert_ne!(probes[0].endpoint().id, probes[1].endpoint().id);
    assert!(ask(end).is_err());

    let cluster = with("50%,capacity=1");
    let held = [(); 2].map(|()| cluster.acquire(now, None, &Tried::new()).unwrap());
    assert_eq!(cluster.acquire(now, None, &Tried::new()).unwrap_err().code(), Code::Overloaded);
    drop(held);
    assert!(cluster.acquire(now, None, &Tried::new()).is_ok());
}
