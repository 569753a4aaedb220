//! Settings of the core as this branch needs them, until the core brings its own.

use std::time::Duration;

/// How a node is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// One after the other.
    #[default]
    RoundRobin,
}

/// A rate limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitSettings {
    /// As typed.
    pub text: String,
}

/// A circuit breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerSettings {
    /// As typed.
    pub text: String,
}

/// An active health check.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSettings {
    /// Between two probes.
    pub interval: Duration,
}
