//! Destinations as a user writes them in `allow` and `deny`, and ports.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use gwproxy_core::net::HostPort;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// A destination in `allow` and `deny`. In text: `HOST`, `HOST:PORT`, `*.DOMAIN`,
/// `*.DOMAIN:PORT`, an address, `ADDRESS:PORT`, `[V6]:PORT` or a CIDR.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// This name, lower-case and without a final dot, on one port or any.
    Host {
        /// The name.
        host: Arc<str>,
        /// None: any.
        port: Option<u16>,
    },
    /// Every address of a network, on one port or any. Compared with the address dialled.
    Net {
        /// The network.
        net: IpNet,
        /// None: any.
        port: Option<u16>,
    },
    /// Every name below a domain, not the domain itself, on one port or any.
    Suffix {
        /// With its leading dot, lower-case and without a final dot.
        suffix: Arc<str>,
        /// None: any.
        port: Option<u16>,
    },
}

/// Ports that may be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ports {
    /// CONNECT: 443. Absolute-form requests: 80, 443 and every port from 1024 up. The ports
    /// below are other protocols', some of which take an HTTP request for their own (25, 22).
    #[default]
    Usual,
    /// These, for CONNECT and absolute-form requests alike.
    Only(Vec<u16>),
}

/// How a client asks for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An absolute-form request (RFC 9112 §3.2.2).
    Absolute,
    /// CONNECT (RFC 9110 §9.3.6).
    Connect,
}

/// Why a destination was refused; `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationError(String);

impl Destination {
    /// Whether this is the rule of a name, and the name is `host`.
    pub fn names(&self, host: &str) -> bool {
        let host = without_final_dot(host);
        match self {
            Self::Host { host: name, .. } => &**name == host,
            Self::Suffix { suffix, .. } => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Net { .. } => false,
        }
    }

    /// The network, if this is the rule of one.
    pub fn net(&self) -> Option<&IpNet> {
        match self {
            Self::Net { net, .. } => Some(net),
            Self::Host { .. } | Self::Suffix { .. } => None,
        }
    }

    /// The one port it is about; none: any.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Host { port, .. } | Self::Net { port, .. } | Self::Suffix { port, .. } => *port,
        }
    }
}

impl Ports {
    /// Whether a request of this form may ask for `port`.
    pub fn permit(&self, form: Form, port: u16) -> bool {
        match (self, form) {
            (Self::Usual, Form::Absolute) => matches!(port, 80 | 443 | 1024..),
            (Self::Usual, Form::Connect) => port == 443,
            (Self::Only(ports), _) => ports.contains(&port),
        }
    }
}

/// An IPv4-mapped network as the IPv4 network it is: addresses are compared in that form, so the
/// rule would else never match.
fn canonical(net: IpNet) -> IpNet {
    let (IpAddr::V4(ip), Some(prefix)) =
        (net.addr().to_canonical(), net.prefix_len().checked_sub(96))
    else {
        return net;
    };
    match net {
        IpNet::V4(_) => net,
        IpNet::V6(_) => Ipv4Net::new(ip, prefix).map_or(net, IpNet::V4),
    }
}

/// `example.com.` and `example.com` are one name (RFC 1034 §3.1): a rule about either holds for
/// both.
fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let bad = || {
            DestinationError(format!(
                "`{text}` is not a destination; write a host (`example.com`), a host and port \
                 (`example.com:443`), every name below a domain (`*.example.com`) or a network \
                 (`10.0.0.0/8`)"
            ))
        };
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net { net: canonical(net.trunc()), port: None });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Net { net: ip.to_canonical().into(), port: None });
        }
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let has_port = rest.rsplit_once(']').map_or(rest, |(_, after)| after).contains(':');
        // Any port stands in for a missing one: it is only there to make the host parse.
        let at = HostPort::parse(rest, Some(1)).map_err(|_| bad())?;
        let port = has_port.then_some(at.port);
        let host = without_final_dot(&at.host);
        match (wildcard, host.parse::<IpAddr>().ok()) {
            (true, Some(_)) => Err(bad()),
            // One dot more than a name may end with: no name would ever match.
            _ if host.is_empty() || host.ends_with('.') => Err(bad()),
            (true, None) => Ok(Self::Suffix { suffix: format!(".{host}").into(), port }),
            (false, Some(ip)) => Ok(Self::Net { net: ip.to_canonical().into(), port }),
            (false, None) => Ok(Self::Host { host: host.into(), port }),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, .. } => f.write_str(host)?,
            Self::Suffix { suffix, .. } => write!(f, "*{suffix}")?,
            Self::Net { net, port } => {
                match (net.prefix_len() == net.max_prefix_len(), port, net.addr()) {
                    (true, Some(_), IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
                    (true, _, ip) => write!(f, "{ip}")?,
                    (false, ..) => write!(f, "{net}")?,
                }
            }
        }
        match self.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DestinationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DestinationError {}

impl TryFrom<String> for Destination {
    type Error = DestinationError;

    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_print_as_they_parse() {
        for text in [
            "example.com",
            "example.com:443",
            "*.example.com",
            "*.example.com:8443",
            "10.0.0.0/8",
            "10.1.2.3",
            "10.1.2.3:22",
            "::1",
            "[::1]:80",
            "fd00::/8",
        ] {
            let parsed: Destination = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        let prints = |text: &str| text.parse::<Destination>().unwrap().to_string();
        assert_eq!(prints("10.9.9.9/8"), "10.0.0.0/8");
        assert_eq!(prints("[::1]"), "::1");
        assert_eq!(prints("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        assert_eq!(prints("Example.COM."), "example.com");
        assert_eq!(prints("10.0.0.1."), "10.0.0.1");
        for bad in [
            "",
            "*",
            "*.",
            ".",
            "a..",
            "*.1.2.3.4",
            "*.1.2.3.4.",
            "a b",
            "host:0",
            "host:99999",
            "10.0.0.0/33",
            "a/b",
        ] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_match_whole_labels_and_ignore_the_final_dot() {
        let rule = |text: &str| text.parse::<Destination>().unwrap();
        assert!(rule("example.com").names("example.com"));
        assert!(rule("example.com").names("example.com."));
        assert!(rule("example.com.").names("example.com"));
        assert!(!rule("example.com").names("www.example.com"));
        assert!(rule("*.example.com").names("a.b.example.com."));
        for other in ["example.com", ".example.com", "evilexample.com", "example.com.evil"] {
            assert!(!rule("*.example.com").names(other), "{other}");
        }
        assert!(!rule("10.0.0.1").names("10.0.0.1"), "addresses are judged when dialled");
    }
}
