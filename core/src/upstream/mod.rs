//! Services and their nodes.

pub mod endpoint;

pub use endpoint::{Endpoint, NodeAddr};
