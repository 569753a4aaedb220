//! Which addresses the public Internet reaches, and which belong to this machine, its networks or
//! its cloud (RFC 6890 and the IANA special-purpose registries as of 2026).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// IPv4 networks that are not globally reachable.
const SPECIAL_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),          // this network; Linux takes 0.0.0.0 for this machine
    v4(10, 0, 0, 0, 8),         // private (RFC 1918)
    v4(100, 64, 0, 0, 10),      // carrier NAT (RFC 6598); Alibaba's metadata is 100.100.100.200
    v4(127, 0, 0, 0, 8),        // loopback
    v4(168, 63, 129, 16, 32),   // a public address, but inside Azure it is the host agent
    v4(169, 254, 0, 0, 16),     // link-local; the metadata services of most clouds
    v4(172, 16, 0, 0, 12),      // private
    v4(192, 0, 0, 0, 24),       // protocol assignments (RFC 6890); Oracle's metadata is in it
    v4(192, 0, 2, 0, 24),       // documentation
    v4(192, 88, 99, 0, 24),     // 6to4 relays, withdrawn (RFC 7526)
    v4(192, 168, 0, 0, 16),     // private
    v4(198, 18, 0, 0, 15),      // benchmarking
    v4(198, 51, 100, 0, 24),    // documentation
    v4(203, 0, 113, 0, 24),     // documentation
    v4(224, 0, 0, 0, 4),        // multicast
    v4(240, 0, 0, 0, 4),        // reserved
    v4(255, 255, 255, 255, 32), // broadcast
];

/// IPv6 networks that are not globally reachable. Only `2000::/3` is handed out for global unicast
/// (RFC 4291 §2.4), so everything outside is listed by its top bits: that covers `::`, `::1`,
/// `fc00::/7` (with `fd00:ec2::254`), `fe80::/10`, `ff00::/8`, `64:ff9b:1::/48` (RFC 8215: local,
/// and so is the place of the IPv4 address in it), and whatever is assigned there next.
const SPECIAL_V6: [Ipv6Net; 6] = [
    v6(0, 0, 0, 0, 3),
    v6(0x2001, 0, 0, 0, 23),     // protocol assignments, Teredo
    v6(0x2001, 0xdb8, 0, 0, 32), // documentation
    v6(0x3fff, 0, 0, 0, 20),     // documentation (RFC 9637)
    v6(0x4000, 0, 0, 0, 2),
    v6(0x8000, 0, 0, 0, 1),
];

/// The well-known prefix of IPv4/IPv6 translation (RFC 6052): a DNS64 network puts every public
/// IPv4 address behind it, so it is as good as the address in it.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 0, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 0, 16);

/// Whether everyone's packets to `ip` go to the same place on the public Internet.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) if NAT64.contains(&ip) || SIX_TO_FOUR.contains(&ip) => {
            embedded_v4(ip).is_some_and(is_global_v4)
        }
        IpAddr::V6(ip) => !SPECIAL_V6.iter().any(|net| net.contains(&ip)),
    }
}

/// The IPv4 address that a packet to this IPv6 address ends up at, where there is one: translated
/// (RFC 6052), 6to4 (RFC 3056), or IPv4-compatible (RFC 4291 §2.5.5.1). IPv4-mapped addresses are
/// made IPv4 before.
pub(super) fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = ip.to_bits();
    let is_compatible = bits >> 32 == 0 && bits > 1;
    if NAT64.contains(&ip) || is_compatible {
        Some(Ipv4Addr::from_bits(bits as u32))
    } else if SIX_TO_FOUR.contains(&ip) {
        Some(Ipv4Addr::from_bits((bits >> 80) as u32))
    } else {
        None
    }
}

/// Whether a rule that allows `net` means private addresses: it names a single one, or a network
/// that has no other. Somebody who allows `0.0.0.0/0` means the Internet, not the metadata
/// service.
pub(super) fn names_private(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
        || match net {
            IpNet::V4(net) => SPECIAL_V4.iter().any(|special| special.contains(net)),
            IpNet::V6(net) => SPECIAL_V6.iter().any(|special| special.contains(net)),
        }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|net| net.contains(&ip))
}
