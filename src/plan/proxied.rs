//! Whose word on who the client is a listener takes.

use gwproxy_core::net::ListenAddr;

use super::{ProxyProtocol, Want};

/// Refuses what no deployment can want of `proxy_protocol` on `bind`.
///
/// # Errors
/// A sentence that says how to mend it.
pub(crate) fn check(one: &ProxyProtocol, bind: &ListenAddr) -> Result<(), &'static str> {
    match (one.from.is_empty(), bind) {
        (false, ListenAddr::Unix(_)) => Err(
            "whoever connects to a Unix socket has no address that could be in `from`; take it \
                 out, and let the permissions of the socket say who may connect",
        ),
        (true, _) if one.want == Want::Optional => Err(
            "an optional PROXY header of anyone's would let every client claim any address; say \
                 whose are believed (`from`, `--proxy-protocol-from`), or make it `required`",
        ),
        _ => Ok(()),
    }
}

/// Whether strangers could claim any address: every connection must have a header, and others than
/// this machine can connect. That is as it should be only where nobody reaches the listener past
/// the proxies in front.
pub(crate) fn is_open(one: &ProxyProtocol, bind: &ListenAddr) -> bool {
    one.from.is_empty() && !bind.is_loopback()
}
