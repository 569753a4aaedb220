//! How many connections one client may have, by its address: an IPv4 address, or the /64 of an IPv6
//! address, which is what one customer gets (D16).

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::key;

/// Parts of the map, so that workers that accept at once seldom meet. A lock is held for one look
/// at one part, when a connection begins and when it ends, beside a dozen system calls; nothing of
/// a request takes it.
const PARTS: usize = 16;

/// Connections unless told otherwise.
const USUAL: NonZeroUsize = NonZeroUsize::new(512).expect("it is no zero");

/// What one address may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerIp {
    /// Connections at a time over all workers of a listener.
    pub max: NonZeroUsize,
    /// Whether this machine's own addresses (127.0.0.0/8, `::1`) are held to it too.
    pub counts_loopback: bool,
    /// Proxies in front: each carries many clients.
    pub exempt: Vec<IpNet>,
}

/// The connections of each address that has some: never more entries than connections.
#[derive(Debug)]
pub(super) struct Places {
    rule: PerIp,
    parts: [Mutex<HashMap<u64, usize>>; PARTS],
}

/// One connection of an address.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    key: u64,
}

impl Default for PerIp {
    /// 512, and this machine may have more: what connects from here is a proxy in front or a test.
    fn default() -> Self {
        Self { max: USUAL, counts_loopback: false, exempt: Vec::new() }
    }
}

impl Places {
    pub(super) fn new(rule: PerIp) -> Arc<Self> {
        Arc::new(Self { rule, parts: Default::default() })
    }

    pub(super) fn max(&self) -> usize {
        self.rule.max.get()
    }

    /// A place for a connection from there, and whether it may be: without a place, it need not be
    /// counted.
    pub(super) fn take(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<Option<Place>, Full> {
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return Ok(None) };
        let PerIp { max, counts_loopback, exempt } = &self.rule;
        if (ip.is_loopback() && !counts_loopback) || exempt.iter().any(|net| net.contains(&ip)) {
            return Ok(None);
        }
        let key = key::of_ip(ip);
        let mut part = self.part(key);
        let count = part.entry(key).or_default();
        if *count >= max.get() {
            return Err(Full);
        }
        *count += 1;
        drop(part);
        Ok(Some(Place { places: Arc::clone(self), key }))
    }

    fn part(&self, key: u64) -> MutexGuard<'_, HashMap<u64, usize>> {
        // Neighbours are in different parts, IPv4 by their last bits and IPv6 by their network's.
        let [first, ..] = &self.parts;
        let part = self.parts.get(key as usize % PARTS).unwrap_or(first);
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address has all the connections it may have.
#[derive(Debug)]
pub(super) struct Full;

impl Drop for Place {
    fn drop(&mut self) {
        let mut part = self.places.part(self.key);
        if let Some(count) = part.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                part.remove(&self.key);
            }
        }
        // After a flood of addresses the room goes too.
        if part.capacity() > 1024 && part.len() < part.capacity() / 8 {
            part.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize, counts_loopback: bool, exempt: &[&str]) -> Arc<Places> {
        let exempt = exempt.iter().map(|net| net.parse().unwrap()).collect();
        let max = NonZeroUsize::new(max).unwrap();
        Places::new(PerIp { max, counts_loopback, exempt })
    }

    fn take(places: &Arc<Places>, ip: &str) -> Result<Option<Place>, Full> {
        places.take(Some(ip.parse().unwrap()))
    }

    /// D16: at, below and above, and what closing frees.
    #[test]
    fn d16_an_address_has_as_many_as_it_may_and_no_more() {
        let places = places(2, false, &[]);
        let one = take(&places, "192.0.2.1").unwrap();
        let _two = take(&places, "192.0.2.1").unwrap();
        take(&places, "192.0.2.1").unwrap_err();
        // Written as IPv6 it is the same client, and its neighbour is another.
        take(&places, "::ffff:192.0.2.1").unwrap_err();
        assert!(take(&places, "192.0.2.2").unwrap().is_some());
        drop(one);
        let _again = take(&places, "192.0.2.1").unwrap();
        take(&places, "192.0.2.1").unwrap_err();
    }

    #[test]
    fn d16_of_ipv6_a_network_is_one_client() {
        let places = places(1, false, &[]);
        let _one = take(&places, "2001:db8:0:1::1").unwrap();
        take(&places, "2001:db8:0:1:ffff::2").unwrap_err();
        assert!(take(&places, "2001:db8:0:2::1").unwrap().is_some());
    }

    #[test]
    fn proxies_in_front_and_sockets_of_the_machine_are_not_counted() {
        let free = places(1, false, &["10.0.0.0/8"]);
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3"] {
            assert!(take(&free, ip).unwrap().is_none(), "{ip}");
        }
        assert!(free.take(None).unwrap().is_none());
        let strict = places(1, true, &[]);
        let _one = take(&strict, "127.0.0.1").unwrap().unwrap();
        take(&strict, "127.0.0.1").unwrap_err();
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let places = places(3, false, &[]);
        let ips = (0..20_000u32).map(|n| IpAddr::from((0x0800_0000 + n).to_be_bytes()));
        let held: Vec<_> = ips.map(|ip| places.take(Some(ip)).unwrap()).collect();
        let count =
            || -> usize { places.parts.iter().map(|part| part.lock().unwrap().len()).sum() };
        assert_eq!(count(), 20_000);
        drop(held);
        assert_eq!(count(), 0);
        let room: usize = places.parts.iter().map(|part| part.lock().unwrap().capacity()).sum();
        assert!(room < 20_000, "{room}");
    }
}
