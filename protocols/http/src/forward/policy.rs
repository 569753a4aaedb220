//! What clients may reach: names and ports before anything is resolved, addresses before
//! anything is dialled. Pure.
//!
//! An attacker chooses names and owns what they resolve to, so a verdict on a name is never one
//! on an address: every address is judged by itself, and only those that passed are dialled.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use gwproxy_core::net::HostPort;
use gwproxy_core::{Code, Error};

use super::destination::{Destination, Form, Ports};
use super::reach;

/// Addresses of one name that are dialled at most.
const ADDRS_MAX: usize = 8;

/// What a forward proxy lets its clients reach. The default: every address of the public
/// Internet, nothing private, CONNECT to port 443 alone (reliability D28).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What may be reached; empty: all that is not denied. A rule with a port also permits that
    /// port, whatever `ports` says. A private address needs a rule that names it or a private
    /// network around it.
    pub allow: Vec<Destination>,
    /// What may not, whatever `allow` says.
    pub deny: Vec<Destination>,
    /// Lets clients reach private, loopback, link-local and metadata addresses.
    pub allow_private: bool,
    /// Ports that may be asked for.
    pub ports: Ports,
}

/// How a name passed, which decides what its addresses must still show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// There is no list of what is allowed.
    Open,
    /// A rule allows the name.
    Listed,
    /// No rule allows the name; one may allow its addresses.
    ByAddress,
}

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prohibited {
    /// A rule denies it.
    Denied,
    /// It is private, local or reserved.
    NotGlobal,
    /// No rule allows it.
    NotListed,
}

impl Policy {
    /// Judges what a client asked for before its name is resolved, so that a name which is not
    /// allowed causes no DNS query either.
    ///
    /// # Errors
    /// [`Code::DestinationDenied`].
    pub fn judge_name(&self, form: Form, at: &HostPort) -> Result<Named, Error> {
        let denies = |rule: &Destination| {
            rule.names(&at.host) && rule.port().is_none_or(|port| port == at.port)
        };
        if self.deny.iter().any(denies) {
            return Err(denied(format!("a rule denies `{at}`")));
        }
        let permits = |rule: &Destination| self.permits_port(rule, form, at.port);
        if self.allow.is_empty() {
            if self.ports.permit(form, at.port) {
                return Ok(Named::Open);
            }
            return Err(denied(format!("port {} of `{}` is not allowed", at.port, at.host)));
        }
        if self.allow.iter().any(|rule| rule.names(&at.host) && permits(rule)) {
            return Ok(Named::Listed);
        }
        if self.allow.iter().any(|rule| rule.net().is_some() && permits(rule)) {
            return Ok(Named::ByAddress);
        }
        Err(denied(format!("no rule allows `{at}`")))
    }

    /// Judges one address that a name resolved to.
    ///
    /// # Errors
    /// Why it must not be dialled.
    pub fn judge_addr(&self, form: Form, named: Named, addr: SocketAddr) -> Result<(), Prohibited> {
        let ip = addr.ip().to_canonical();
        let embedded = match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => reach::embedded_v4(ip).map(IpAddr::V4),
        };
        let denies = |rule: &Destination| {
            rule.port().is_none_or(|port| port == addr.port())
                && rule.net().is_some_and(|net| {
                    net.contains(&ip) || embedded.is_some_and(|ip| net.contains(&ip))
                })
        };
        if self.deny.iter().any(denies) {
            return Err(Prohibited::Denied);
        }
        let allowing = || {
            self.allow
                .iter()
                .filter(|rule| self.permits_port(rule, form, addr.port()))
                .filter_map(Destination::net)
                .filter(|net| net.contains(&ip))
        };
        if named == Named::ByAddress && allowing().next().is_none() {
            return Err(Prohibited::NotListed);
        }
        if self.allow_private || reach::is_global(ip) || allowing().any(reach::names_private) {
            return Ok(());
        }
        Err(Prohibited::NotGlobal)
    }

    /// The addresses of `at` that may be dialled, at most 8, in the order given.
    ///
    /// # Errors
    /// [`Code::DestinationDenied`] when there is none.
    pub fn judge_addrs(
        &self,
        form: Form,
        named: Named,
        at: &HostPort,
        addrs: &Rc<[SocketAddr]>,
    ) -> Result<Rc<[SocketAddr]>, Error> {
        let judge = |addr: &SocketAddr| self.judge_addr(form, named, *addr);
        if (1..=ADDRS_MAX).contains(&addrs.len()) && addrs.iter().all(|addr| judge(addr).is_ok()) {
            return Ok(Rc::clone(addrs));
        }
        let vetted: Rc<[SocketAddr]> =
            addrs.iter().copied().filter(|addr| judge(addr).is_ok()).take(ADDRS_MAX).collect();
        if !vetted.is_empty() {
            return Ok(vetted);
        }
        let why = addrs.iter().find_map(|addr| Some((addr, judge(addr).err()?)));
        Err(denied(match why {
            Some((addr, Prohibited::Denied)) => {
                format!("`{at}` is {addr}, which a rule denies")
            }
            Some((addr, Prohibited::NotGlobal)) => format!(
                "`{at}` is {addr}, a private, local or reserved address, which no name allows; \
                 allow the address itself (`--allow {addr}`, or a network of such addresses alone) \
                 or all of them (`--allow-private`; in a file `allow` and `allow_private`)"
            ),
            Some((addr, Prohibited::NotListed)) => {
                format!("`{at}` is {addr}, and no rule allows the name or the address")
            }
            None => format!("`{at}` has no address"),
        }))
    }

    /// A rule that names a port permits it; for the others the list of ports holds.
    fn permits_port(&self, rule: &Destination, form: Form, port: u16) -> bool {
        rule.port().map_or_else(|| self.ports.permit(form, port), |named| named == port)
    }
}

fn denied(sentence: String) -> Error {
    Error::new(Code::DestinationDenied, sentence).unsent()
}

#[cfg(test)]
mod tests;
