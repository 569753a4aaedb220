//! The destinations a worker has lately sent requests to, as nodes of its pool.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gwproxy_core::balance::Algorithm;
use gwproxy_core::net::HostPort;
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint, NodeAddr};

/// Destinations remembered on one worker. Forgetting one costs its next request a new
/// connection, nothing else.
const DESTINATIONS_MAX: usize = 1024;

/// Destinations and their nodes. Every node is an address that the policy passed, never a name:
/// whatever connects to it resolves nothing.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: RefCell<HashMap<HostPort, Known, foldhash::fast::RandomState>>,
}

#[derive(Debug)]
struct Known {
    cluster: Arc<Cluster>,
    addrs: Rc<[SocketAddr]>,
    used: Instant,
}

impl Nodes {
    /// The nodes of a destination whose vetted addresses are `addrs`. Two names on one address
    /// share no connection.
    pub(super) fn of(
        &self,
        at: &HostPort,
        addrs: &Rc<[SocketAddr]>,
        connect_timeout: Duration,
        now: Instant,
    ) -> Arc<Cluster> {
        let mut known = self.known.borrow_mut();
        if let Some(destination) = known.get_mut(at) {
            destination.used = now;
            if destination.addrs != *addrs {
                destination.addrs = Rc::clone(addrs);
                destination.cluster.update(endpoints(addrs));
            }
            return Arc::clone(&destination.cluster);
        }
        if known.len() >= DESTINATIONS_MAX {
            let oldest = known.iter().min_by_key(|(_, known)| known.used).map(|(at, _)| at.clone());
            oldest.map(|oldest| known.remove(&oldest));
        }
        let mut settings = ClusterSettings::new(at.to_string());
        // The resolver's order is the system's preference (RFC 6724); the others are spares.
        settings.balance = Algorithm::First.into();
        settings.connect_timeout = connect_timeout;
        let cluster = Cluster::new(settings, endpoints(addrs));
        let addrs = Rc::clone(addrs);
        known.insert(at.clone(), Known { cluster: Arc::clone(&cluster), addrs, used: now });
        cluster
    }
}

fn endpoints(addrs: &[SocketAddr]) -> Vec<Endpoint> {
    let endpoint = |addr: &SocketAddr| {
        let host = addr.ip().to_canonical().to_string().into();
        let at = NodeAddr::Tcp(HostPort { host, port: addr.port() });
        Endpoint::new(addr.to_string(), "http", at, None, 1)
    };
    addrs.iter().map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    fn addrs(list: &[&str]) -> Rc<[SocketAddr]> {
        list.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    fn ids(cluster: &Cluster) -> Vec<u64> {
        cluster.endpoints().iter().map(|endpoint| endpoint.id).collect()
    }

    #[test]
    fn a_destination_keeps_its_nodes_and_names_do_not_share_them() {
        let (nodes, now) = (Nodes::default(), Instant::now());
        let of = |host: &str, list: &[&str]| {
            nodes.of(&at(host), &addrs(list), Duration::from_secs(2), now)
        };
        let first = ids(&of("a:80", &["192.0.2.1:80", "192.0.2.2:80"]));
        assert_eq!(ids(&of("a:80", &["192.0.2.1:80", "192.0.2.2:80"])), first);
        assert_eq!(ids(&of("a:80", &["192.0.2.2:80"])), first[1..]);
        assert_ne!(ids(&of("b:80", &["192.0.2.2:80"])), first[1..]);
    }

    /// T33: what is dialled is an address, so nothing is resolved again.
    #[test]
    fn every_node_is_an_address() {
        let nodes = Nodes::default();
        let list = addrs(&["[2606:4700::1]:80", "192.0.2.1:80", "[::ffff:192.0.2.2]:80"]);
        let cluster = nodes.of(&at("a:80"), &list, Duration::from_secs(2), Instant::now());
        assert_eq!(cluster.endpoints().len(), 3);
        for endpoint in cluster.endpoints().iter() {
            let NodeAddr::Tcp(at) = &endpoint.addr else { panic!("{endpoint:?}") };
            assert!(at.ip().is_some(), "{at}");
        }
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let (nodes, start) = (Nodes::default(), Instant::now());
        let list = addrs(&["192.0.2.1:80"]);
        let ask = |host: &str, second: u64| {
            let now = start + Duration::from_secs(second);
            ids(&nodes.of(&at(host), &list, Duration::from_secs(2), now))
        };
        let (first, second) = (ask("first:80", 0), ask("second:80", 1));
        for i in 0..DESTINATIONS_MAX as u64 - 2 {
            ask(&format!("h{i}:80"), 2);
        }
        assert_eq!(ask("first:80", 3), first);
        ask("more:80", 4);
        assert_eq!(nodes.known.borrow().len(), DESTINATIONS_MAX);
        assert_eq!(ask("first:80", 5), first);
        assert_ne!(ask("second:80", 5), second);
    }
}
