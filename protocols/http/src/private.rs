//! Connections to nodes that are one client's. NTLM and Negotiate authenticate the connection and
//! not the request (RFC 4559 §6): whoever is sent on it afterwards is taken for the same user.
//!
//! Such a connection goes back to the client that used it and to nobody else, and that client stays
//! with its node, so that a handshake of several requests comes to its end (`HAProxy` calls these
//! connections private). They end with the client's connection.

use std::cell::RefCell;
use std::rc::Rc;

use http::Version;

use crate::fields::{AsName, Known};
use crate::pool::Home;
use crate::wire::hop;
use crate::{Fields, Request};

/// Nodes a client can be known to at a time; the one it was known to first is forgotten, which
/// costs another handshake.
const NODES_MAX: usize = 4;

/// Schemes that authenticate a connection.
const SCHEMES: [&str; 3] = ["negotiate", "ntlm", "nego2"];

/// The connections to nodes that are one client's.
#[derive(Debug, Default)]
pub(crate) struct Private {
    /// By node, the oldest first.
    homes: RefCell<Vec<(u64, Rc<Home>)>>,
}

/// Where a connection to a node goes when its exchange is over.
#[derive(Debug)]
pub(crate) struct Return<'a> {
    /// Where it came from.
    pub(crate) home: Rc<Home>,
    /// The node.
    pub(crate) endpoint: u64,
    /// The client whose request it carries.
    pub(crate) client: &'a Private,
}

impl Private {
    /// Whether some node knows the client.
    pub(crate) fn is_empty(&self) -> bool {
        self.homes.borrow().is_empty()
    }

    /// The client's own connections to this node, if the node knows it.
    pub(crate) fn home(&self, endpoint: u64) -> Option<Rc<Home>> {
        let homes = self.homes.borrow();
        homes.iter().find(|(known, _)| *known == endpoint).map(|(_, home)| Rc::clone(home))
    }

    fn make(&self, endpoint: u64) -> Rc<Home> {
        if let Some(home) = self.home(endpoint) {
            return home;
        }
        let home = Home::apart();
        // It was HTTP/1 that authenticated; over HTTP/2 the handshake would begin anew.
        home.speaks_h2.set(Some(false));
        let mut homes = self.homes.borrow_mut();
        if homes.len() == NODES_MAX {
            homes.remove(0);
        }
        homes.push((endpoint, Rc::clone(&home)));
        home
    }
}

impl Return<'_> {
    /// After `request`, where `is_challenged` says that its response asked for such a scheme.
    pub(crate) fn after(self, request: &Request, is_challenged: bool) -> Option<Rc<Home>> {
        if !is_challenged && !authenticates_connection(request.headers(), Known::AUTHORIZATION) {
            return Some(self.home);
        }
        // The streams of an HTTP/2 connection have no order, and may be those of several users:
        // none of them gets it.
        (request.version() != Version::HTTP_2).then(|| self.client.make(self.endpoint))
    }
}

/// Whether a line of the field, credentials or a list of challenges, has one of [`SCHEMES`]. A
/// parameter of another scheme that looks like one counts as well: it costs a connection.
pub(crate) fn authenticates_connection(headers: &Fields, name: impl AsName) -> bool {
    // Nearly no request has one, and an iterator over nothing costs more than this look.
    if !headers.contains_key(&name) {
        return false;
    }
    hop::tokens(headers, name)
        .filter_map(|challenge| challenge.split_ascii_whitespace().next())
        .any(|word| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};

    use super::*;
    use crate::Body;

    /// T39.
    #[test]
    fn schemes_that_authenticate_a_connection() {
        for (value, is_one) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate", true),
            ("NEGOTIATE YII=", true),
            ("Nego2", true),
            ("Basic realm=\"a\", NTLM", true),
            ("Basic realm=\"a\",\tNegotiate x", true),
            ("Basic realm=\"NTLM\"", false),
            ("Bearer negotiate", false),
            ("NTLMv2 x", false),
            ("Digest realm=\"a\", nonce=\"ntlm\"", false),
            ("", false),
            (",, ,", false),
        ] {
            let mut headers = Fields::new();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"b\""));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
            assert_eq!(authenticates_connection(&headers, &WWW_AUTHENTICATE), is_one, "{value}");
        }
    }

    /// T39: the request alone decides as well; over HTTP/2 nobody gets the connection.
    #[test]
    fn only_the_client_gets_its_connection_back() {
        let (shared, client) = (Home::apart(), Private::default());
        let mut request = Request::new(Body::empty());
        let back = |request: &Request, is_challenged| {
            let way = Return { home: Rc::clone(&shared), endpoint: 7, client: &client };
            way.after(request, is_challenged)
        };
        assert!(Rc::ptr_eq(&back(&request, false).unwrap(), &shared));
        *request.version_mut() = Version::HTTP_2;
        assert!(back(&request, true).is_none());
        assert!(client.is_empty());
        *request.version_mut() = Version::HTTP_11;
        let ntlm = HeaderValue::from_static("NTLM x");
        request.headers_mut().insert(AUTHORIZATION, ntlm);
        let own = back(&request, false).unwrap();
        assert!(!Rc::ptr_eq(&own, &shared));
        assert!(Rc::ptr_eq(&own, &back(&request, true).unwrap()));
        assert!(Rc::ptr_eq(&own, &client.home(7).unwrap()));
        for endpoint in 8..8 + NODES_MAX as u64 {
            client.make(endpoint);
        }
        assert!(client.home(7).is_none(), "there is a bound");
    }
}
