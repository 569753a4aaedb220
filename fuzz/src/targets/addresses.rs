//! Lists of destinations, networks, and the keys of limits.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gwproxy_core::key::{self, By};
use gwproxy_core::limit::{LimitSettings, Limiter};
use gwproxy_core::net::HostPort;
use gwproxy_core::units::Rate;
use gwproxy_http::forward::{Destination, Form, Named, Policy};
use ipnet::IpNet;

use super::text_of;
use crate::mutate::Rng;

/// Networks of this machine and its neighbours, in IPv4.
const PRIVATE: [&str; 7] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];

/// One rule or address a line; a line that begins with `!` is a rule of what is denied. Rules are
/// printed as they are read; what a rule denies is denied whatever allows it; nothing private is
/// reached unless a rule names it.
pub(super) fn destinations(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    let mut policy = Policy::default();
    let mut asked: Vec<IpAddr> = Vec::new();
    for line in text.lines().take(20) {
        asked.extend(line.parse::<IpAddr>());
        let (denies, line) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let Ok(rule) = line.parse::<Destination>() else { continue };
        let printed = rule.to_string();
        assert_eq!(printed.parse::<Destination>().as_ref(), Ok(&rule), "{printed}");
        if let Some(net) = rule.net() {
            assert_eq!(net.trunc(), *net);
            asked.extend([net.addr(), net.broadcast()]);
        }
        if denies { &mut policy.deny } else { &mut policy.allow }.push(rule);
    }
    for ip in asked {
        for port in [443, 22] {
            judge(&policy, SocketAddr::new(ip, port));
        }
    }
}

fn judge(policy: &Policy, addr: SocketAddr) {
    let ip = addr.ip().to_canonical();
    let covers = |rules: &[Destination]| {
        let mut nets =
            rules.iter().filter(|rule| rule.port().is_none_or(|port| port == addr.port()));
        nets.any(|rule| rule.net().is_some_and(|net| net.contains(&ip)))
    };
    let at = HostPort { host: ip.to_string().into(), port: addr.port() };
    let named = policy.judge_name(Form::Connect, &at);
    for named in [Named::Open, Named::Listed, Named::ByAddress] {
        let passes = policy.judge_addr(Form::Connect, named, addr).is_ok();
        let mapped = match ip {
            IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
            ip @ IpAddr::V6(_) => ip,
        };
        let of_mapped =
            policy.judge_addr(Form::Connect, named, SocketAddr::new(mapped, addr.port()));
        assert_eq!(passes, of_mapped.is_ok(), "{ip} and {mapped} are one address");
        if !passes {
            continue;
        }
        assert!(!covers(&policy.deny), "{addr} is denied");
        let is_private = PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok());
        if is_private.into_iter().any(|net| net.contains(&ip)) {
            assert!(covers(&policy.allow), "{addr} is private and nobody named it");
        }
        assert!(named != Named::ByAddress || covers(&policy.allow));
    }
    if policy.allow.is_empty() && named.is_ok() {
        assert_eq!(addr.port(), 443, "CONNECT goes to 443 alone");
    }
}

/// One client has one key however its address is written; a table of any clients lets through no
/// more than their quotas, and forgets none that owes.
pub(super) fn limiter(data: &[u8]) {
    if let Some(by) = text_of(data).and_then(|text| text.parse::<By>().ok()) {
        assert_eq!(by.to_string().parse().as_ref(), Ok(&by));
    }
    let (addresses, _) = data.as_chunks::<16>();
    for bytes in addresses {
        let v6 = Ipv6Addr::from(*bytes);
        let mut neighbour = *bytes;
        neighbour[8..].fill(0x55);
        if v6.to_ipv4_mapped().is_none() {
            assert_eq!(
                key::of_ip(v6.into()),
                key::of_ip(Ipv6Addr::from(neighbour).into()),
                "one /64"
            );
        }
        let v4 = std::net::Ipv4Addr::from([bytes[0], bytes[1], bytes[2], bytes[3]]);
        assert_eq!(key::of_ip(v4.into()), key::of_ip(v4.to_ipv6_mapped().into()), "one address");
    }
    let mut rng = Rng::of(data);
    let burst = 1 + rng.below(5) as u32;
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let mut settings = LimitSettings::new(Rate::per_second(NonZeroU32::MIN));
    (settings.burst, settings.max_keys) = (Some(burst), NonZeroU32::MIN);
    let (limiter, start) = (Limiter::new(settings), Instant::now());
    let mut passed = [0u32; 256];
    // Seconds pass now and then; each gives every key one more.
    let mut seconds = 0;
    for &byte in data {
        if byte == 0xff {
            seconds += 1;
            continue;
        }
        let now = start + Duration::from_secs(seconds);
        if limiter.check(byte.into(), now).is_admitted() {
            let passed = &mut passed[usize::from(byte)];
            *passed += 1;
            // Twice: it may have been one of those that share the spare bucket before it had its own.
            let most = 2 * (u64::from(burst.get()) + seconds);
            assert!(u64::from(*passed) <= most, "key {byte}: {passed} of {most}");
        }
    }
}
