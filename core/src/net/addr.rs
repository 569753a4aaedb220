//! Addresses as a user types them and as sockets have them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::proxy_protocol::{Origin, Tlvs};
use crate::tls::TlsInfo;

/// Where a listener binds.
///
/// Accepted forms: `:8080` and `8080` (every IPv4 and IPv6 address), `127.0.0.1:8080`,
/// `[::1]:8080`, `localhost:8080` (the loopback address), `unix:/path`. Port 0 lets the system
/// choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ListenAddr {
    /// All addresses of the machine, dual stack where it has IPv6.
    Any(u16),
    /// One address.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// A host (name or address) with a port: something to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// The name or address, lower-case, without brackets.
    pub host: Arc<str>,
    /// The port, never 0.
    pub port: u16,
}

/// One end of an accepted or dialled connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// An address and a port. IPv4-mapped IPv6 addresses are shown as the IPv4 they are.
    Ip(SocketAddr),
    /// A Unix domain socket; it has no name worth telling.
    Unix,
}

/// Who is on the other end of a client connection. Filled once at accept, read-only after.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address: the connection's, or what a believed PROXY header says.
    pub remote: PeerAddr,
    /// Our address that the connection came to, whatever a header says.
    pub local: PeerAddr,
    /// What a PROXY header said, if it spoke for a client.
    pub proxied: Option<Arc<Proxied>>,
    /// What TLS told us, if the connection has it.
    pub tls: Option<Arc<TlsInfo>>,
}

/// A client connection that came through a proxy with a believed PROXY header.
#[derive(Debug, Clone)]
pub struct Proxied {
    /// The proxy's address.
    pub sender: PeerAddr,
    /// The proxy's address that the client connected to.
    pub destination: PeerAddr,
    /// What else the header said.
    pub tlvs: Tlvs,
}

/// Why an address was refused; `Display` is a sentence that shows the accepted forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrError(String);

impl ListenAddr {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Any(_) => false,
            Self::Tcp(addr) => addr.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether both cannot be listened on at a time. Port 0 is another port each time.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.socket(), other.socket()) {
            (Some(one), Some(two)) => {
                let (a, b) = (one.ip().to_canonical(), two.ip().to_canonical());
                one.port() == two.port()
                    && one.port() != 0
                    && (a == b || is_everywhere_for(a, b) || is_everywhere_for(b, a))
            }
            (None, None) => self == other,
            _ => false,
        }
    }

    fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Any(port) => Some((Ipv6Addr::UNSPECIFIED, *port).into()),
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

/// Whether `all` is a wildcard with `one` in it; `[::]` is bound for both families.
fn is_everywhere_for(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

impl FromStr for ListenAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let bad = || {
            AddrError(format!(
                "`{text}` is not an address to listen on; write `:8080`, `127.0.0.1:8080`, \
                 `[::1]:8080`, `localhost:8080` or `unix:/path`"
            ))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(addr));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = parse_port(port).ok_or_else(bad)?;
        match host {
            "" | "*" => Ok(Self::Any(port)),
            "localhost" => Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, ":{port}"),
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl HostPort {
    /// The address if the host is one and not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Parses `host:port`, `[v6]:port`, or a host alone when there is a `default_port`.
    ///
    /// # Errors
    /// The sentence names the text and the form it should have.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AddrError> {
        let bad = |why: &str| {
            AddrError(format!(
                "`{text}` is not host:port ({why}); write for example `10.0.0.5:9000`"
            ))
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| bad("`]` is missing"))?;
                host.parse::<Ipv6Addr>().map_err(|_| bad("no IPv6 address"))?;
                (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("x") }))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if !is_host(host) {
            return Err(bad("the host is not a name or an address"));
        }
        let port = match port {
            Some(port) => parse_port(port).filter(|&port| port != 0),
            None => default_port,
        };
        let port = port.ok_or_else(|| bad("the port is missing or not 1 to 65535"))?;
        Ok(Self { host: host.to_ascii_lowercase().into(), port })
    }
}

/// Letters, digits, `-`, `_`, `.` of a name, or an IPv6 address without its brackets.
fn is_host(host: &str) -> bool {
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !host.is_empty()
        && host.len() <= 253
        && (host.bytes().all(name) || host.parse::<Ipv6Addr>().is_ok())
}

pub(super) fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` takes a leading plus sign; a port has none.
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl FromStr for HostPort {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        Self::parse(text, None)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Peer {
    /// How a PROXY header to a node names this connection.
    pub fn origin(&self) -> Origin {
        let reached = self.proxied.as_ref().map_or(self.local, |proxied| proxied.destination);
        Origin::between(self.remote, reached)
    }
}

impl PeerAddr {
    /// Wraps a socket address, unmapping IPv4-mapped IPv6.
    pub fn from_socket(addr: SocketAddr) -> Self {
        Self::Ip(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// The IP address; none for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(addr) => Some(addr.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => write!(f, "{addr}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddrError {}

macro_rules! string_conversions {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = AddrError;
            fn try_from(text: String) -> Result<Self, AddrError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
string_conversions!(ListenAddr);
string_conversions!(HostPort);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_overlap_what_they_hold() {
        for (one, two, overlap) in [
            (":80", ":80", true),
            (":80", ":81", false),
            (":80", "127.0.0.1:80", true),
            (":80", "[::1]:80", true),
            (":80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            (":0", ":0", false),
            ("127.0.0.1:0", ":0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", ":80", false),
        ] {
            let [a, b]: [ListenAddr; 2] = [one, two].map(|text| text.parse().unwrap());
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (overlap, overlap), "{one} {two}");
        }
    }

    #[test]
    fn listen_addresses() {
        let ok = |text: &str| text.parse::<ListenAddr>().unwrap().to_string();
        assert_eq!(ok(":8080"), ":8080");
        assert_eq!(ok("8080"), ":8080");
        assert_eq!(ok("localhost:1"), "127.0.0.1:1");
        assert_eq!(ok("[::1]:9"), "[::1]:9");
        assert_eq!(ok("unix:/run/x.sock"), "unix:/run/x.sock");
        for bad in ["", ":", "65536", "+80", "example.com:80", "unix:", "a b:1", ":-1", "1.2.3.4"] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_ports() {
        let ok = |text: &str| text.parse::<HostPort>().unwrap().to_string();
        assert_eq!(ok("Example.COM:80"), "example.com:80");
        assert_eq!(ok("[::1]:80"), "[::1]:80");
        for bad in
            ["", "a", "a:", "a:0", "a:65536", "a:+1", "::1:80", "[::1]", "[x]:1", "a b:1", "a/b:1"]
        {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
        assert_eq!(HostPort::parse("[::1]", Some(443)).unwrap().port, 443);
        assert!(HostPort::parse("[::1]x", Some(443)).is_err());
    }

    #[test]
    fn mapped_addresses_are_shown_as_v4() {
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:5".parse().unwrap();
        assert_eq!(PeerAddr::from_socket(mapped).to_string(), "10.1.2.3:5");
    }
}
