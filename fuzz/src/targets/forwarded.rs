//! Forwarding fields: a stranger's word counts nothing, and both notations say the same.

use gwproxy_http::Fields;
use std::net::IpAddr;

use gwproxy_core::net::PeerAddr;
use gwproxy_http::wire::forwarded::{self, Said, Trusted, X_FORWARDED_FOR};
use http::HeaderName;
use http::header::{FORWARDED, HOST};
use http::uri::Scheme;

use super::fields_of;

fn peer(ip: [u8; 4]) -> PeerAddr {
    PeerAddr::from_socket((ip, 4711).into())
}

/// The client as a node reads it that trusts this proxy and those behind it, by one notation.
fn read_by(fields: &Fields, name: &HeaderName, trusted: &Trusted) -> Option<IpAddr> {
    let mut alone = Fields::new();
    for value in fields.get_all(name) {
        alone.append(name, value);
    }
    forwarded::client_ip(&alone, peer([10, 0, 0, 2]), trusted)
}

fn lines(fields: &Fields, name: &HeaderName) -> usize {
    fields.get_all(name).count()
}

/// Nothing a stranger says gets through; what a trusted proxy says is told the same in both
/// notations, however many hops are believed.
pub(super) fn forwarded(data: &[u8]) {
    let mut given = fields_of(data);
    if lines(&given, &HOST) > 1 {
        given.remove(HOST);
    }
    let tens = |hops| Trusted { networks: "10.0.0.0/8".parse().into_iter().collect(), hops };

    let mut from_stranger = given.clone();
    let stranger = peer([192, 0, 2, 7]);
    assert_eq!(forwarded::client_ip(&given, stranger, &tens(0)), stranger.ip());
    forwarded::set(&mut from_stranger, stranger, &Scheme::HTTPS, &tens(0), &Said::default());
    for name in ["x-real-ip", "x-forwarded-port", "x-forwarded-server", "x-client-ip"] {
        assert!(!from_stranger.contains_key(name), "a stranger's {name}");
    }
    assert_eq!(from_stranger.get_all(X_FORWARDED_FOR).collect::<Vec<_>>(), ["192.0.2.7"]);
    assert_eq!(from_stranger.get("x-forwarded-host"), given.get(HOST));
    for name in [&X_FORWARDED_FOR, &FORWARDED] {
        assert_eq!(lines(&from_stranger, name), 1);
        assert_eq!(read_by(&from_stranger, name, &tens(0)), stranger.ip(), "{name}");
    }

    for hops in [0, 1, 2, 9] {
        let mut fields = given.clone();
        let proxy = peer([10, 0, 0, 1]);
        let client = forwarded::client_ip(&given, proxy, &tens(hops));
        assert!(client.is_some());
        forwarded::set(&mut fields, proxy, &Scheme::HTTP, &tens(hops), &Said::default());
        assert_eq!((lines(&fields, &X_FORWARDED_FOR), lines(&fields, &FORWARDED)), (1, 1));
        // A reader one hop further in believes one hop more.
        let inner = tens(if hops == 0 { 0 } else { hops + 1 });
        let (listed, told) =
            (read_by(&fields, &X_FORWARDED_FOR, &inner), read_by(&fields, &FORWARDED, &inner));
        assert_eq!(listed, told, "the notations differ: {fields:?}");
        assert_eq!(listed, client, "the next hop sees another client: {fields:?}");
    }
}
