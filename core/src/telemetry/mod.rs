//! What the proxy says of itself: the access log and the metrics.

pub mod access_log;
pub mod json;
pub mod metrics;
pub mod panics;
pub mod refused;

pub use access_log::{AccessLog, Lines, Rotation};
pub use metrics::Metrics;
pub use refused::Refused;
