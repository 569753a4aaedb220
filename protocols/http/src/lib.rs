//! HTTP/1.1 and HTTP/2: listeners, upstreams, reverse and forward proxying.

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod body;
pub mod date;
mod debt;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod interim;
mod max_forwards;
pub mod pool;
mod private;
pub mod probe;
pub mod rescue;
pub mod reverse;
pub mod serve;
pub mod tunnel;
pub mod upstream;
pub mod wire;

pub use body::Body;
pub use serve::{Client, Handle};

/// A request on its way through the proxy.
pub type Request = http::Request<Body>;
/// A response on its way back.
pub type Response = http::Response<Body>;
