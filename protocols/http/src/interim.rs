//! Interim responses (1xx, RFC 9110 §15.2) on their way from a node to the client, which gets them
//! before the final one: `103 Early Hints` (RFC 8297) above all.
//!
//! They do not travel with the response, which is one and last, but through a sink that the
//! client's side offers ([`Client::interim`](crate::Client::interim)) and [`Terms`] carry to the
//! node's side. A try that failed may have sent some before another node answers: hints stay
//! hints. `100 Continue` is not among them, because it belongs to the request's body and is said
//! by whoever wants that, and neither is 101, which ends HTTP.
//!
//! [`Terms`]: crate::upstream::Terms

use std::rc::Rc;

use http::{StatusCode, Version};

use crate::Fields;
use crate::reverse;
use crate::wire::hop;

/// Interim responses taken from a node for one request; more is an attack.
pub const INTERIM_MAX: u32 = 10;

/// A client's connection, as it takes interim responses.
pub(crate) trait Interim: std::fmt::Debug {
    /// Takes one without its hop-by-hop fields for the request on `stream` (HTTP/2). It is left out
    /// where the client cannot be told: it speaks HTTP/1.0, its final response has begun, or its
    /// connection has no room.
    fn send(&self, stream: u32, status: StatusCode, headers: &Fields);
}

/// Where the interim responses to one request go.
#[derive(Debug, Clone)]
pub struct Way {
    to: Rc<dyn Interim>,
    stream: u32,
    is_signed: bool,
}

impl Way {
    pub(crate) fn new(to: Rc<dyn Interim>, stream: u32) -> Self {
        Self { to, stream, is_signed: false }
    }

    /// With our name on each, as final responses have it (RFC 9110 §7.6.3).
    pub(crate) fn signed(self) -> Self {
        Self { is_signed: true, ..self }
    }

    /// Takes one as the node sent it in `version`.
    pub(crate) fn send(&self, status: StatusCode, mut headers: Fields, version: Version) {
        hop::strip_response(&mut headers);
        if self.is_signed {
            reverse::add_via(&mut headers, version);
        }
        self.to.send(self.stream, status, &headers);
    }
}
