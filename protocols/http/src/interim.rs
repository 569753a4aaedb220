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

use http::{HeaderMap, StatusCode};

/// Interim responses taken from a node for one request; more is an attack.
pub const INTERIM_MAX: u32 = 10;

/// Where the interim responses to a request go.
pub trait Interim: std::fmt::Debug {
    /// Takes one without its hop-by-hop fields. It is left out where the client cannot be told: it
    /// speaks HTTP/1.0, its final response has begun, or its connection has no room.
    fn send(&self, status: StatusCode, headers: &HeaderMap);
}
