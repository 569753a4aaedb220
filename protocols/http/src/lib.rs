//! HTTP/1.1 and HTTP/2: listeners, upstreams, reverse and forward proxying.

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod body;
pub mod date;
mod debt;
pub mod fields;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod interim;
mod max_forwards;
mod message;
pub mod pool;
mod private;
pub mod probe;
pub mod rescue;
pub mod reverse;
pub mod serve;
pub mod sticky;
pub mod tunnel;
pub mod upstream;
pub mod wire;

pub use body::{Body, Frame};
pub use fields::Fields;
pub use message::{Request, RequestParts, Response, ResponseParts};
pub use serve::{Client, Handle};
