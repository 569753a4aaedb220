//! Settings of the core.

pub use gwproxy_core::health::HealthSettings;
