//! gRPC over HTTP/2: status, deadlines, proxy-made errors as trailers-only.
//!
//! The proxy knows the protocol, not the services: messages are bytes to it, so every service and
//! all four kinds of call pass. A call's life is told in `LIFECYCLE.md` beside this crate.

mod call;
pub mod deadline;
pub mod rescue;
pub mod reverse;
pub mod status;

pub use rescue::{is_grpc, rescue_for};
pub use status::Status;
