use std::net::{IpAddr, Ipv4Addr};

use ppp::HeaderResult;
use proptest::prelude::*;

use super::*;

fn header(bytes: &[u8]) -> (Header, usize) {
    match parse(bytes) {
        Ok(Parsed::Header { header, bytes }) => (*header, bytes),
        other => panic!("{other:?} of {bytes:?}"),
    }
}

fn why(bytes: &[u8]) -> String {
    parse(bytes).expect_err("it is malformed").to_string()
}

/// A header of version 2 with this command, family and body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = v2::SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn proxied(source: &str, destination: &str) -> Origin {
    Origin::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// §2.1, and its examples.
#[test]
fn version_1_is_read() {
    let origin = |line: &str| header(line.as_bytes()).0.origin;
    assert_eq!(
        origin("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
        proxied("192.168.0.1:56324", "192.168.0.11:443")
    );
    assert_eq!(
        origin("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n"),
        proxied("[2001:db8::1]:65535", "[::1]:0")
    );
    assert_eq!(origin("PROXY UNKNOWN\r\n"), Origin::Unknown);
    assert_eq!(
        origin("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"),
        Origin::Unknown
    );
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(header(longest.as_bytes()).1, 107);
}

/// P65.
#[test]
fn t38_version_1_is_strict() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 ::1 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 +1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UNKNOWNS\r\n",
    ] {
        assert!(why(line.as_bytes()).contains("the line is not"), "{line:?}");
    }
    assert!(why(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n").contains("CRLF"));
    assert!(why(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rX").contains("CRLF"));
    let long = format!("PROXY UNKNOWN {}", "x".repeat(107 - 15));
    assert!(why(long.as_bytes()).contains("107"));
    assert!(why(format!("{long}\r\n").as_bytes()).contains("107"));
}

#[test]
fn what_is_no_header_is_absent_at_once() {
    for bytes in
        ["G", "POST / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "PROXY\t", "\r\n\r\nX", "\x16\x03\x01"]
    {
        assert_eq!(parse(bytes.as_bytes()), Ok(Parsed::Absent), "{bytes:?}");
    }
    for bytes in ["", "P", "PROXY", "PROXY ", "\r", "\r\n\r\n\0\r\nQUIT"] {
        assert_eq!(parse(bytes.as_bytes()), Ok(Parsed::Partial), "{bytes:?}");
    }
}

/// §2.2.
#[test]
fn version_2_is_read() {
    let v4 = [10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0, 80];
    let wanted = proxied("10.0.0.1:8080", "10.0.0.2:80");
    assert_eq!(header(&v2(0x21, 0x11, &v4)).0.origin, wanted);
    assert_eq!(header(&v2(0x21, 0x12, &v4)).0.origin, wanted);
    assert_eq!(header(&v2(0x21, 0x00, &[])).0.origin, Origin::Unknown);
    assert_eq!(header(&v2(0x21, 0x31, &[b'x'; 216])).0.origin, Origin::Unknown);
    // Extensions of no known kind, and padding (PP2_TYPE_NOOP), are skipped.
    let more = [&v4[..], &[0x04, 0, 2, 0, 0], &[0xe0, 0, 1, 7], &[0x05, 0, 2, 8, 9]].concat();
    let (read, bytes) = header(&v2(0x21, 0x11, &more));
    assert_eq!((read.origin, bytes), (wanted, 16 + more.len()));
    assert_eq!(read.tlvs.unique_id.as_deref(), Some(&[8, 9][..]));
}

/// With addresses, without (CVE-2024-23327), with a family of no meaning: nothing of it counts.
#[test]
fn t38_local_is_local_whatever_it_says() {
    for (family, body) in [(0x00, &[][..]), (0x11, &[]), (0x11, &[1; 12]), (0xff, &[0xff; 40])] {
        let (read, bytes) = header(&v2(0x20, family, body));
        assert_eq!((read.origin, bytes), (Origin::Local, 16 + body.len()));
    }
}

/// P65.
#[test]
fn t38_version_2_is_strict() {
    let v4 = [0; 12];
    let with = |tlv: &[u8]| v2(0x21, 0x11, &[&v4, tlv].concat());
    for (bytes, reason) in [
        (v2(0x11, 0x11, &v4), "version"),
        (v2(0x31, 0x11, &v4), "version"),
        (v2(0x22, 0x11, &v4), "command"),
        (v2(0x21, 0x13, &v4), "family"),
        (v2(0x21, 0x41, &v4), "family"),
        (v2(0x21, 0x10, &v4), "family"),
        (v2(0x21, 0x01, &v4), "family"),
        (v2(0x21, 0x11, &v4[1..]), "addresses"),
        (v2(0x21, 0x21, &v4), "addresses"),
        (v2(0x21, 0x31, &[0; 215]), "addresses"),
        (with(&[0x01]), "longer than the header"),
        (with(&[0x01, 0]), "longer than the header"),
        (with(&[0x01, 0, 1]), "longer than the header"),
        (with(&[0x01, 0xff, 0xff, 1]), "longer than the header"),
        (with(&[0x02, 0, 1, 0xff]), "UTF-8"),
        (with(&[0x03, 0, 4, 1, 2, 3, 4]), "checksum"),
        (with(&[0x03, 0, 3, 1, 2, 3]), "checksum"),
        (with(&[&[0x05, 0, 129][..], &[1; 129]].concat()), "unique id"),
        (with(&[0x20, 0, 4, 1, 0, 0, 0]), "longer than the header"),
        (with(&[0x20, 0, 7, 1, 0, 0, 0, 0, 0x21, 0]), "longer than the header"),
    ] {
        assert!(why(&bytes).contains(reason), "{reason}: {}", why(&bytes));
    }
    // Told by the length alone: nothing more is waited for.
    let mut long = v2(0x20, 0, &[]);
    long[14..].copy_from_slice(&4081_u16.to_be_bytes());
    assert!(why(&long).contains("4096"));
    long[14..].copy_from_slice(&4080_u16.to_be_bytes());
    assert_eq!(parse(&long), Ok(Parsed::Partial));
    // And a wrong version before there is a length.
    assert!(why(&v2(0x51, 0, &[])[..13]).contains("version"));
}

/// The check value of the polynomial, and a wrong bit anywhere in a header.
#[test]
fn t38_a_checksum_covers_the_whole_header() {
    let tlvs = Tlvs { checksum: true, authority: Some("example.com".into()), ..Tlvs::default() };
    let origin = proxied("10.0.0.1:1", "10.0.0.2:2");
    let bytes = Header { version: Version::V2, origin, tlvs }.encode();
    assert!(header(&bytes).0.tlvs.checksum);
    for bit in 16 * 8..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let read = parse(&wrong);
        let sum_is_gone =
            matches!(&read, Ok(Parsed::Header { header, .. }) if !header.tlvs.checksum);
        assert!(read.is_err() || sum_is_gone, "bit {bit}");
    }
}

#[test]
fn both_families_become_one() {
    let ip = |text: &str| PeerAddr::Ip(text.parse().unwrap());
    let origin = Origin::between(ip("10.0.0.1:1"), ip("[::1]:2"));
    assert_eq!(origin, proxied("[::ffff:10.0.0.1]:1", "[::1]:2"));
    assert_eq!(Origin::between(PeerAddr::Unix, ip("[::1]:2")), Origin::Unknown);
    let line = Header::new(Version::V1, Origin::Local).encode();
    assert_eq!(line, b"PROXY UNKNOWN\r\n");
}

fn any_origin() -> impl Strategy<Value = Origin> {
    let v4 = any::<(u32, u16, u32, u16)>().prop_map(|(from, at, to, port)| Origin::Proxied {
        source: (Ipv4Addr::from(from), at).into(),
        destination: (Ipv4Addr::from(to), port).into(),
    });
    let v6 = any::<(u128, u16, u128, u16)>().prop_map(|(from, at, to, port)| Origin::Proxied {
        source: (Ipv6Addr::from(from), at).into(),
        destination: (Ipv6Addr::from(to), port).into(),
    });
    prop_oneof![v4, v6, Just(Origin::Unknown), Just(Origin::Local)]
}

fn any_tlvs() -> impl Strategy<Value = Tlvs> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let name = || proptest::option::of("[a-z.é]{0,20}");
    let ssl = proptest::option::of((any::<u8>(), any::<u32>(), name(), name()));
    (bytes(), name(), bytes(), ssl, any::<bool>()).prop_map(
        |(alpn, authority, id, ssl, checksum)| Tlvs {
            alpn: alpn.map(Into::into),
            authority: authority.map(Into::into),
            unique_id: id.map(Into::into),
            ssl: ssl.map(|(client, verify, version, name)| Ssl {
                client,
                verify,
                version: version.map(Into::into),
                common_name: name.map(Into::into),
            }),
            checksum,
        },
    )
}

fn any_header() -> impl Strategy<Value = Header> {
    (any_origin(), proptest::option::of(any_tlvs())).prop_map(|(origin, tlvs)| {
        match (tlvs, origin) {
            (Some(tlvs), origin) if origin != Origin::Local => {
                Header { version: Version::V2, origin, tlvs }
            }
            (Some(_), origin) => Header::new(Version::V2, origin),
            (None, Origin::Local) => Header::new(Version::V1, Origin::Unknown),
            (None, origin) => Header::new(Version::V1, origin),
        }
    })
}

/// Bytes that are nearly a header.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let edits =
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..4);
    (any_header(), edits).prop_map(|(header, edits)| {
        let mut bytes = header.encode();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// What the other implementation makes of it: the addresses, or none; an error if it is no header.
fn oracle(bytes: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, String> {
    let pair = |from: IpAddr, at: u16, to: IpAddr, port: u16| {
        Some((SocketAddr::new(from, at), SocketAddr::new(to, port)))
    };
    let v4 = |ip: ppp::v2::IPv4| {
        let (from, to) = (ip.source_address.into(), ip.destination_address.into());
        pair(from, ip.source_port, to, ip.destination_port)
    };
    let v6 = |ip: ppp::v2::IPv6| {
        let (from, to) = (ip.source_address.into(), ip.destination_address.into());
        pair(from, ip.source_port, to, ip.destination_port)
    };
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            ppp::v1::Addresses::Tcp4(ip) => v4(ip),
            ppp::v1::Addresses::Tcp6(ip) => v6(ip),
            ppp::v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv4(ip)) => v4(ip),
            (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv6(ip)) => v6(ip),
            _ => None,
        }),
        other => Err(format!("{other:?}")),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(wanted in any_header(), rest in proptest::collection::vec(any::<u8>(), 0..20)) {
        let bytes = wanted.encode();
        prop_assert!(bytes.len() <= HEADER_BYTES_MAX);
        prop_assert_eq!(header(&[&bytes[..], &rest].concat()), (wanted, bytes.len()));
    }

    /// However it is cut, a part is a part, and never something else.
    #[test]
    fn every_beginning_of_a_header_is_partial(header in any_header()) {
        let bytes = header.encode();
        for cut in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Partial), "{}", cut);
        }
    }

    #[test]
    fn t38_no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), v2 in any::<bool>()) {
        let magic = if v2 { v2::SIGNATURE } else { v1::PREFIX };
        for bytes in [&bytes[..], &[magic, &bytes].concat()] {
            if let Ok(Parsed::Header { bytes: length, .. }) = parse(bytes) {
                prop_assert!((15..=bytes.len()).contains(&length));
            }
        }
    }

    /// P65: what is neither absent nor wrong is decided within the bound.
    #[test]
    fn t38_nothing_is_partial_for_ever(bytes in almost(), fill in any::<u8>()) {
        let mut bytes = bytes;
        bytes.resize(HEADER_BYTES_MAX, fill);
        prop_assert_ne!(parse(&bytes), Ok(Parsed::Partial));
    }

    /// P65: what is a header here is one for another implementation, and says the same there.
    #[test]
    fn another_implementation_agrees(bytes in almost()) {
        if let Ok(Parsed::Header { header, bytes: length }) = parse(&bytes) {
            let ours = match header.origin {
                Origin::Proxied { source, destination } => Some((source, destination)),
                Origin::Local | Origin::Unknown => None,
            };
            // It refuses a LOCAL that has a family and no addresses; the specification discards
            // both.
            let theirs = oracle(&bytes[..length]);
            prop_assert!(theirs == Ok(ours) || header.origin == Origin::Local, "{:?}", theirs);
        } else if bytes.starts_with(v1::PREFIX) {
            prop_assert!(oracle(&bytes).is_err());
        }
    }
}
