//! Services and their nodes.

pub mod cluster;
pub mod connect;
pub mod discover;
pub mod endpoint;
pub mod lease;
pub mod mark;

pub use cluster::{Cluster, ClusterSettings};
pub use discover::Discover;
pub use endpoint::{Endpoint, NodeAddr};
pub use lease::{Lease, Outcome, Tried};
pub use mark::MarkKey;
