//! Settings of the core.

pub use gwproxy_core::breaker::BreakerSettings;
pub use gwproxy_core::health::HealthSettings;
pub use gwproxy_core::limit::LimitSettings;
