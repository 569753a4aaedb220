//! The program's own log, on standard error.

use std::io::IsTerminal as _;

use crate::plan::LogLevel;

/// Starts the log. Lines go to standard error, so that standard output is free for the access log.
pub fn start(level: LogLevel) {
    let filter = tracing_subscriber::EnvFilter::new(level.as_str());
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // Only a second start in one process fails, and then the first one serves.
    drop(started);
}
