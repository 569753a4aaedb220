//! gRPC over HTTP/2: status, deadlines, proxy-made errors as trailers-only.
//!
//! The proxy knows the protocol, not the services: messages are bytes to it, so every service and
//! all four kinds of call pass. A call's life is told in `LIFECYCLE.md` beside this crate.

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod call;
pub mod deadline;
pub mod rescue;
pub mod reverse;
pub mod status;

pub use rescue::{is_grpc, rescue_for};
pub use status::Status;
