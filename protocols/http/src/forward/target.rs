//! What a request to a forward proxy wants, read from its target alone, and whether an address
//! leads back to the proxy.

use std::net::SocketAddr;

use gwproxy_core::net::{HostPort, PeerAddr};
use http::uri::Scheme;
use http::{Method, StatusCode, Version};

use crate::Request;
use crate::h1::head::Reject;
use crate::serve::Client;

/// What a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A message passed on (RFC 9112 §3.2.2).
    Origin(HostPort),
    /// Something of the proxy itself.
    Own,
    /// A tunnel (RFC 9110 §9.3.6).
    Tunnel(HostPort),
}

/// Reads what a request wants from its target.
pub(super) fn target_of(request: &Request, client: &Client) -> Result<Target, Reject> {
    let uri = request.uri();
    let Some(authority) = uri.authority() else { return Ok(Target::Own) };
    if *request.method() == Method::CONNECT {
        return match HostPort::parse(authority.as_str(), None) {
            Ok(at) => Ok(Target::Tunnel(at)),
            Err(_) => Err(bad("CONNECT asks for host:port (RFC 9110 §9.3.6)")),
        };
    }
    let is_h2 = request.version() == Version::HTTP_2;
    match uri.scheme_str() {
        Some("http") => {
            // RFC 3986 §3.2.3: an empty port is the default one.
            let authority = authority.as_str();
            let authority = authority.strip_suffix(':').unwrap_or(authority);
            match HostPort::parse(authority, Some(80)) {
                Ok(at) => Ok(Target::Origin(at)),
                Err(_) => Err(bad("the target's host or port is not valid")),
            }
        }
        // HTTP/2 has no origin-form: over TLS a request for the proxy itself looks like this.
        Some("https") if is_h2 && client.scheme == Scheme::HTTPS => Ok(Target::Own),
        Some("https") => Err(bad("https:// goes through a forward proxy by CONNECT")),
        Some("ws" | "wss") => Err(bad("WebSockets go through a forward proxy by CONNECT")),
        _ => Err(bad("a forward proxy passes http:// on and takes CONNECT for everything else")),
    }
}

/// Names that are this machine whatever a name server says (RFC 6761 §6.3).
pub(super) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether `at` is how a client would name the address it reached this proxy at.
pub(super) fn is_own(at: &HostPort, local: PeerAddr) -> bool {
    let PeerAddr::Ip(local) = local else { return false };
    let is_host = match at.ip() {
        Some(ip) => ip == local.ip(),
        None => local.ip().is_loopback() && is_localhost(&at.host),
    };
    is_host && at.port == local.port()
}

/// Whether dialling `addr` reaches the listener that the client came through. A loop by another
/// address of this machine is found at its second round, when that address is `local`.
pub(super) fn is_listener(addr: SocketAddr, local: PeerAddr) -> bool {
    let PeerAddr::Ip(local) = local else { return false };
    let ip = addr.ip().to_canonical();
    let is_host = ip == local.ip() || (ip.is_unspecified() && local.ip().is_loopback());
    is_host && addr.port() == local.port()
}

pub(super) const fn bad(reason: &'static str) -> Reject {
    Reject { status: StatusCode::BAD_REQUEST, reason }
}
