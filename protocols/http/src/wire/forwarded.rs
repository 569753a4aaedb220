//! Who asked, told to the node: `Forwarded` (RFC 7239) and the `X-Forwarded-*` it replaced.
//!
//! A client can write anything into these fields, so they are set afresh; only what a trusted
//! proxy says is kept and extended.

use std::cell::{Ref, RefCell};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use bytes::BytesMut;
use gwproxy_core::net::PeerAddr;
use http::HeaderValue;
use http::header::{FORWARDED, HeaderName};
use http::uri::Scheme;
use ipnet::IpNet;

use crate::Fields;
use crate::fields::{Known, Seen, Value};
use crate::h1::head::is_authority;

/// The client's address, and the proxies' it came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The proxies in front of this one whose word counts. Default: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Networks they are in.
    pub networks: Vec<IpNet>,
    /// How many there are whatever their addresses, for load balancers that have ever new ones;
    /// the peer is the first. 0 to 255. Only for listeners that nobody reaches past them: whoever
    /// does is taken for one.
    pub hops: u8,
}

impl Trusted {
    /// Whether the peer's word on who the client is counts. A Unix socket's peer is on this
    /// machine, but that alone does not make it a proxy.
    pub fn trusts(&self, peer: PeerAddr) -> bool {
        self.hops > 0 || peer.ip().is_some_and(|ip| self.knows(ip))
    }

    fn knows(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&ip))
    }
}

/// Bytes of a host's name (RFC 1035 §2.3.4) and port.
const HOST_BYTES_MAX: usize = 255 + 6;

/// What is said of one client in request after request, kept with its connection.
#[derive(Debug, Default)]
pub struct Said {
    /// The last host, and what was said then.
    last: RefCell<(Option<HeaderValue>, Fields)>,
}

impl Said {
    /// The fields that say of a request for `host` whose it is.
    fn of(&self, remote: PeerAddr, scheme: &Scheme, host: Option<Value<'_>>) -> Told<'_> {
        // What no honest client asks for is not kept for as long as its connection.
        if host.is_some_and(|host| host.as_bytes().len() > HOST_BYTES_MAX) {
            return Told::Fresh(said_of(remote, scheme, host));
        }
        let is_known = {
            let (known, fields) = &*self.last.borrow();
            let known = known.as_ref().map(HeaderValue::as_bytes);
            !fields.is_empty() && known == host.map(Value::as_bytes)
        };
        if !is_known {
            let fields = said_of(remote, scheme, host);
            self.last.replace((host.map(Value::to_value), fields));
        }
        Told::Kept(Ref::map(self.last.borrow(), |(_, fields)| fields))
    }
}

/// What is said, kept or not.
enum Told<'a> {
    Kept(Ref<'a, Fields>),
    Fresh(Fields),
}

impl Deref for Told<'_> {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        match self {
            Self::Kept(fields) => fields,
            Self::Fresh(fields) => fields,
        }
    }
}

fn said_of(remote: PeerAddr, scheme: &Scheme, host: Option<Value<'_>>) -> Fields {
    let mut fields = Fields::new();
    let address = remote.ip().map_or_else(|| "unix".to_owned(), |ip| ip.to_string());
    fields.append(X_FORWARDED_FOR, HeaderValue::try_from(address).unwrap_or(UNKNOWN));
    fields.append(X_FORWARDED_PROTO, proto_of(scheme));
    if let Some(host) = host {
        fields.append(X_FORWARDED_HOST, host);
    }
    let element = HeaderValue::try_from(element(remote, scheme, host)).unwrap_or(UNKNOWN);
    fields.append(FORWARDED, element);
    fields
}

const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// Sets the forwarding fields of a request from `remote` over `scheme`; `said` is the
/// connection's.
pub fn set(
    headers: &mut Fields,
    remote: PeerAddr,
    scheme: &Scheme,
    trusted: &Trusted,
    said: &Said,
) {
    if trusted.trusts(remote) {
        return extend(headers, remote, scheme, trusted, said);
    }
    headers.remove_known(Seen::FORWARDING);
    let said = said.of(remote, scheme, headers.get(Known::HOST));
    headers.append_all(&said);
}

/// Adds this hop to what a trusted proxy says, in both notations. Nodes read one or the other, so
/// both must tell the same (RFC 7239 §7.4): many a proxy writes `X-Forwarded-For` and lets a
/// client's `Forwarded` through as it came. So the former decides, and the latter is written anew.
fn extend(headers: &mut Fields, remote: PeerAddr, scheme: &Scheme, trusted: &Trusted, said: &Said) {
    let said = said.of(remote, scheme, headers.get(Known::HOST));
    let (list, elements) = (joined(headers, &X_FORWARDED_FOR), joined(headers, &FORWARDED));
    // What is added behind a quote that never ends would be a part of it.
    let is_open = headers.get_all(FORWARDED).any(|line| is_open(line.as_bytes()));
    let (list, elements) = match (list, elements) {
        (Some(list), _) => {
            let hops = hops_of(headers, &X_FORWARDED_FOR);
            let elements = as_elements(&hops, trusted, headers);
            (Some(list), Some(elements))
        }
        (None, Some(elements)) => {
            let hops = hops_of(headers, &FORWARDED);
            take_words(headers, &elements, client_at(&hops, trusted));
            let elements = if is_open { as_elements(&hops, trusted, headers) } else { elements };
            (Some(as_list(&hops)), Some(elements))
        }
        (None, None) => (None, None),
    };
    for (name, value) in said.iter() {
        let before = match () {
            () if name == X_FORWARDED_FOR => list.as_ref(),
            () if name == FORWARDED => elements.as_ref(),
            () => {
                headers.insert_if_absent(name, value);
                continue;
            }
        };
        headers.insert(name, appended(before, value));
    }
}

/// Takes scheme and host for `X-Forwarded-*` from the element of the client. Those before it are
/// the client's own words.
fn take_words(headers: &mut Fields, elements: &[u8], client: Option<usize>) {
    let elements = split_unquoted(elements, b',');
    let Some(element) = client.and_then(|at| elements.get(at)) else { return };
    let is_scheme = |value: &&[u8]| {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        value.first().is_some_and(u8::is_ascii_alphabetic) && value.iter().all(is_part)
    };
    let proto = value_of(element, "proto").filter(is_scheme);
    // A comma may be in a name, but where it goes it would part two.
    let is_host = |value: &&[u8]| is_authority(value) && !value.contains(&b',');
    let host = value_of(element, "host").filter(is_host);
    for (name, value) in [(X_FORWARDED_PROTO, proto), (X_FORWARDED_HOST, host)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            headers.insert_if_absent(name, value);
        }
    }
}

/// Which of the hops the client is, as far as can be told: where [`client_ip`] stops.
fn client_at(hops: &[Option<IpAddr>], trusted: &Trusted) -> Option<usize> {
    let (_, passed) = last_stranger(None, hops.iter().rev().copied(), trusted);
    hops.len().checked_sub(passed).filter(|_| passed > 0)
}

fn proto_of(scheme: &Scheme) -> HeaderValue {
    HeaderValue::from_static(if *scheme == Scheme::HTTPS { "https" } else { "http" })
}

/// The hops of `X-Forwarded-For` or `Forwarded`, the client first.
fn hops_of(headers: &Fields, name: &HeaderName) -> Vec<Option<IpAddr>> {
    headers.get_all(name).flat_map(|line| hops_of_line(name, line)).collect()
}

/// The hops of one line, by the notation that `name` is written in.
fn hops_of_line(name: &HeaderName, line: Value<'_>) -> Vec<Option<IpAddr>> {
    let line = line.as_bytes();
    if *name == FORWARDED {
        let elements = split_unquoted(line, b',');
        elements.into_iter().map(|each| value_of(each, "for").and_then(node_ip)).collect()
    } else {
        line.split(|byte| *byte == b',').map(node_ip).collect()
    }
}

fn as_list(hops: &[Option<IpAddr>]) -> BytesMut {
    let names =
        hops.iter().map(|hop| hop.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string()));
    BytesMut::from(names.collect::<Vec<_>>().join(", ").as_bytes())
}

/// `Forwarded` for what the `X-Forwarded-*` fields say: scheme and host are the client's.
fn as_elements(hops: &[Option<IpAddr>], trusted: &Trusted, headers: &Fields) -> BytesMut {
    let client = client_at(hops, trusted);
    let mut text = String::new();
    for (index, hop) in hops.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        push_for(&mut text, *hop, "unknown");
        if Some(index) == client {
            let said = |name: HeaderName| {
                headers.get(name).and_then(|value: Value<'_>| value.to_str().ok())
            };
            push_pair(&mut text, "proto", said(X_FORWARDED_PROTO));
            push_pair(&mut text, "host", said(X_FORWARDED_HOST));
        }
    }
    BytesMut::from(text.as_bytes())
}

/// The address that limits and lists should count for: the peer, or, behind trusted proxies, the
/// last address in `X-Forwarded-For`, else in `Forwarded`, that is none of them.
pub fn client_ip(headers: &Fields, remote: PeerAddr, trusted: &Trusted) -> Option<IpAddr> {
    let peer = remote.ip();
    if !trusted.trusts(remote) {
        return peer;
    }
    let name = if headers.contains_key(X_FORWARDED_FOR) { &X_FORWARDED_FOR } else { &FORWARDED };
    let lines = headers.get_all(name).rev();
    let hops = lines.flat_map(|line| hops_of_line(name, line).into_iter().rev());
    last_stranger(peer, hops, trusted).0
}

/// The first of `hops`, nearest first, that is no trusted proxy, and how many were looked at. What
/// cannot be read ends the chain: whoever wrote it is trusted, and nothing before it.
fn last_stranger(
    peer: Option<IpAddr>,
    hops: impl Iterator<Item = Option<IpAddr>>,
    trusted: &Trusted,
) -> (Option<IpAddr>, usize) {
    let (mut client, mut passed) = (peer, 0);
    // The peer was the first hop.
    for (number, ip) in (1..).zip(hops) {
        passed = number;
        let Some(ip) = ip else { break };
        client = Some(ip);
        if number >= usize::from(trusted.hops) && !trusted.knows(ip) {
            break;
        }
    }
    (client, passed)
}

/// The address of a node (RFC 7239 §6), with or without port and brackets; none for `unknown` and
/// for names that hide one.
fn node_ip(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?.trim();
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    let with_port = || node.parse::<SocketAddr>().map(|addr| addr.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|ip: IpAddr| ip.to_canonical())
}

/// The value of a parameter of an element, without its quotes.
fn value_of<'a>(element: &'a [u8], key: &str) -> Option<&'a [u8]> {
    split_unquoted(element, b';').into_iter().find_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let (name, value) = (pair.get(..equals)?, pair.get(equals + 1..)?.trim_ascii());
        let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        name.trim_ascii().eq_ignore_ascii_case(key.as_bytes()).then(|| quoted.unwrap_or(value))
    })
}

/// Follows the quoted strings of a line (RFC 9110 §5.6.4).
#[derive(Debug, Default)]
struct Quotes {
    is_open: bool,
    is_escaped: bool,
}

impl Quotes {
    /// Whether `byte`, the next one, is within quotes or one of them.
    fn hold(&mut self, byte: u8) -> bool {
        let was_open = self.is_open;
        match byte {
            _ if std::mem::take(&mut self.is_escaped) => {}
            b'\\' => self.is_escaped = self.is_open,
            b'"' => self.is_open = !self.is_open,
            _ => {}
        }
        was_open
    }
}

/// Whether a quote of the line never ends.
fn is_open(line: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    for byte in line {
        quotes.hold(*byte);
    }
    quotes.is_open
}

/// Splits at `at` outside of quoted strings. A quote that never ends takes all that follows.
fn split_unquoted(text: &[u8], at: u8) -> Vec<&[u8]> {
    let mut quotes = Quotes::default();
    text.split(|byte| !quotes.hold(*byte) && *byte == at).collect()
}

fn joined(headers: &Fields, name: &HeaderName) -> Option<BytesMut> {
    let mut lines = headers.get_all(name);
    let mut all = BytesMut::from(lines.next()?.as_bytes());
    for line in lines {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    Some(all)
}

fn appended(before: Option<&BytesMut>, value: Value<'_>) -> HeaderValue {
    let Some(before) = before else { return value.to_value() };
    let all = [before, &b", "[..], value.as_bytes()].concat();
    HeaderValue::try_from(all).unwrap_or_else(|_| value.to_value())
}

/// `for=192.0.2.1;proto=https;host=example.com`; an IPv6 address is quoted and in brackets
/// (RFC 7239 §6).
fn element(remote: PeerAddr, scheme: &Scheme, host: Option<Value<'_>>) -> String {
    let mut text = String::with_capacity(64);
    push_for(&mut text, remote.ip(), "_unix");
    push_pair(&mut text, "proto", proto_of(scheme).to_str().ok());
    push_pair(&mut text, "host", host.and_then(|host| host.to_str().ok()));
    text
}

fn push_for(text: &mut String, ip: Option<IpAddr>, nobody: &str) {
    let _ = match ip {
        Some(IpAddr::V4(ip)) => write!(text, "for={ip}"),
        Some(IpAddr::V6(ip)) => write!(text, "for=\"[{ip}]\""),
        None => write!(text, "for={nobody}"),
    };
}

/// `;key=value`, quoted where it must be; nothing for what no quotes can hold.
fn push_pair(text: &mut String, key: &str, value: Option<&str>) {
    let fits = |value: &&str| !value.is_empty() && !value.contains(['"', '\\']);
    let Some(value) = value.filter(fits) else { return };
    let is_token = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let _ =
        if is_token { write!(text, ";{key}={value}") } else { write!(text, ";{key}=\"{value}\"") };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addr: &str) -> PeerAddr {
        PeerAddr::from_socket(addr.parse().unwrap())
    }

    fn tens() -> Trusted {
        Trusted { networks: vec!["10.0.0.0/8".parse().unwrap()], hops: 0 }
    }

    fn headers(fields: &[(&'static str, &str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// T35: nothing a stranger says about the client gets through.
    #[test]
    fn a_strangers_claims_are_replaced() {
        let mut h = headers(&[
            ("host", "example.com:8080"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ]);
        set(&mut h, peer("10.0.0.9:5"), &Scheme::HTTP, &Trusted::default(), &Said::default());
        assert_eq!(h.get("x-forwarded-for").unwrap(), "10.0.0.9");
        assert_eq!(h.get("x-forwarded-proto").unwrap(), "http");
        assert_eq!(h.get("x-forwarded-host").unwrap(), "example.com:8080");
        assert_eq!(
            h.get("forwarded").unwrap(),
            "for=10.0.0.9;proto=http;host=\"example.com:8080\""
        );
        assert!(!h.contains_key("x-real-ip") && !h.contains_key("x-forwarded-port"));
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_extended() {
        let trusted = tens();
        let mut h = headers(&[
            ("host", "a"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=198.51.100.7, for=10.1.1.1"),
        ]);
        set(&mut h, peer("10.0.0.9:5"), &Scheme::HTTP, &trusted, &Said::default());
        assert_eq!(h.get("x-forwarded-for").unwrap(), "198.51.100.7, 10.1.1.1, 10.0.0.9");
        assert_eq!(h.get("x-forwarded-proto").unwrap(), "https");
        assert_eq!(
            h.get("forwarded").unwrap(),
            "for=198.51.100.7;proto=https, for=10.1.1.1, for=10.0.0.9;proto=http;host=a"
        );
    }

    /// P60, RFC 7239 §7.4: whichever notation a trusted proxy writes, both say the same.
    #[test]
    fn p60_both_notations_tell_the_same() {
        let told = |fields: &[(&'static str, &str)]| {
            let mut h = headers(fields);
            set(&mut h, peer("10.0.0.9:5"), &Scheme::HTTP, &tens(), &Said::default());
            let of = |name: &'static str| h.get(name).unwrap().to_str().unwrap().to_owned();
            let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
            names.map(of)
        };
        let own = "for=10.0.0.9;proto=http;host=a";
        assert_eq!(
            told(&[
                ("host", "a"),
                ("x-forwarded-for", "hidden, 2001:db8::1, 10.2.2.2"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "b:8443"),
            ]),
            [
                "hidden, 2001:db8::1, 10.2.2.2, 10.0.0.9",
                "https",
                "b:8443",
                &format!(
                    "for=unknown, for=\"[2001:db8::1]\";proto=https;host=\"b:8443\", for=10.2.2.2, {own}"
                ),
            ]
        );
        // A client's own `Forwarded`, which the proxy in front let through.
        for forged in ["for=6.6.6.6", "for=198.51.100.7;proto=https;host=evil;by=x", "for=\"x"] {
            let listed = ("x-forwarded-for", "198.51.100.7");
            let told = told(&[("host", "a"), listed, ("forwarded", forged)]);
            assert_eq!(told[3], format!("for=198.51.100.7, {own}"), "{forged}");
            assert_eq!(told[1..3], ["http", "a"], "{forged}");
        }
        // And one to which the proxies in front have added: what comes before is the client's.
        let line = "for=6.6.6.6;proto=ftp;host=evil, \
                    for=\"198.51.100.7:80\";proto=https;host=\"b:1\", for=10.2.2.2;proto=x;host=c";
        assert_eq!(
            told(&[("host", "a"), ("forwarded", line)]),
            [
                "6.6.6.6, 198.51.100.7, 10.2.2.2, 10.0.0.9",
                "https",
                "b:1",
                &format!("{line}, {own}")
            ]
        );
        // Who hides its address still says how it came; nonsense is not passed on.
        for (element, proto, host) in [
            ("for=_x;proto=https;host=b", "https", "b"),
            ("for=_x;host=\"a,b\";proto=https", "https", "a"),
            ("for=_x;proto=\"java script\";host=\"b\\\"c\"", "http", "a"),
        ] {
            let line = format!("for=6.6.6.6;proto=ftp;host=evil, {element}");
            let told = told(&[("host", "a"), ("forwarded", &line)]);
            assert_eq!(told[0], "6.6.6.6, unknown, 10.0.0.9");
            assert_eq!(told[1..3], [proto, host], "{element}");
        }
        let none = ["10.0.0.9".to_owned(), "http".to_owned(), "a".to_owned(), own.to_owned()];
        assert_eq!(told(&[("host", "a")]), none);
        let quotes = [("host", "a"), ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", "\"x")];
        assert_eq!(told(&quotes)[3], format!("for=1.1.1.1, {own}"));
    }

    /// P60: IPv6 is quoted and bracketed.
    #[test]
    fn ipv6_is_quoted_and_bracketed() {
        let mut h = headers(&[("host", "a")]);
        set(&mut h, peer("[2001:db8::1]:5"), &Scheme::HTTPS, &Trusted::default(), &Said::default());
        assert_eq!(h.get("x-forwarded-for").unwrap(), "2001:db8::1");
        assert_eq!(h.get("forwarded").unwrap(), "for=\"[2001:db8::1]\";proto=https;host=a");
    }

    /// T35.
    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy_of_ours() {
        let trusted = tens();
        let h = headers(&[("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.1.1.1")]);
        let ip = |addr| client_ip(&h, peer(addr), &trusted).unwrap().to_string();
        assert_eq!(ip("10.0.0.9:5"), "198.51.100.7");
        assert_eq!(ip("203.0.113.5:5"), "203.0.113.5");
        let garbled = headers(&[("x-forwarded-for", "6.6.6.6, nonsense, 10.1.1.1")]);
        let seen = client_ip(&garbled, peer("10.0.0.9:5"), &trusted).unwrap();
        assert_eq!(seen.to_string(), "10.1.1.1");
    }

    /// P60: a number of proxies instead of their addresses; what clients wrote before them does
    /// not count.
    #[test]
    fn p60_hops_are_counted_from_the_peer() {
        let h = headers(&[
            ("x-forwarded-for", "6.6.6.6, 198.51.100.7"),
            ("x-forwarded-for", "10.1.1.1"),
        ]);
        let ip = |hops, networks| {
            let trusted = Trusted { networks, hops };
            client_ip(&h, peer("203.0.113.5:5"), &trusted).unwrap().to_string()
        };
        assert_eq!(ip(0, Vec::new()), "203.0.113.5");
        assert_eq!(ip(1, Vec::new()), "10.1.1.1");
        assert_eq!(ip(2, Vec::new()), "198.51.100.7");
        assert_eq!(ip(1, tens().networks), "198.51.100.7");
        assert_eq!(ip(9, Vec::new()), "6.6.6.6");
    }

    /// P60, RFC 7239 §4, §6.
    #[test]
    fn p60_forwarded_tells_the_client_where_nothing_else_does() {
        let ip = |line: &str| {
            let h = headers(&[("forwarded", line)]);
            client_ip(&h, peer("10.0.0.9:5"), &tens()).unwrap().to_string()
        };
        assert_eq!(ip("for=198.51.100.7"), "198.51.100.7");
        assert_eq!(
            ip("for=6.6.6.6, For=\"198.51.100.7:8080\";proto=https, for=10.1.1.1"),
            "198.51.100.7"
        );
        assert_eq!(ip("proto=http;for=\"[2001:db8::1]:47011\""), "2001:db8::1");
        assert_eq!(ip("for=\"[2001:db8::1]\";host=\"a, for=6.6.6.6\""), "2001:db8::1");
        for hidden in
            ["for=unknown", "for=_gazonk", "for=", "", "by=1.1.1.1", "for=6.6.6.6, for=\"x"]
        {
            assert_eq!(ip(hidden), "10.0.0.9", "{hidden}");
        }
        let both = headers(&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.7")]);
        let seen = client_ip(&both, peer("10.0.0.9:5"), &tens()).unwrap();
        assert_eq!(seen.to_string(), "198.51.100.7");
    }

    proptest::proptest! {
        /// P60: no line makes it panic, and the client is the peer or something the line says.
        #[test]
        fn p60_any_line_is_read(line in "[ -~]{0,80}", hops in 0u8..4) {
            for name in ["forwarded", "x-forwarded-for"] {
                let h = headers(&[(name, &*line)]);
                let trusted = Trusted { hops, ..tens() };
                let ip = client_ip(&h, peer("10.0.0.9:5"), &trusted).unwrap();
                let parts = line.split(|c: char| ",;=[]\" ".contains(c));
                let says = |ip: IpAddr| parts.filter_map(|part| node_ip(part.as_bytes())).any(|one| one == ip);
                proptest::prop_assert!(ip.to_string() == "10.0.0.9" || says(ip), "{} {}", line, ip);
            }
        }
    }
}
