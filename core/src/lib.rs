//! Sockets, TLS, upstreams, balancing, breaking, limiting: everything that knows no protocol.
//!
//! **Invariant:** this crate does not know what a header is. Hash keys are `u64`, ALPN is bytes,
//! the end of an exchange is an [`upstream::Outcome`].

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod balance;
pub mod breaker;
mod clock;
pub mod error;
pub mod health;
pub mod key;
pub mod limit;
pub mod memory;
pub mod net;
mod options;
pub mod retry;
pub mod suggest;
pub mod telemetry;
pub mod timer;
pub mod tls;
pub mod units;
pub mod upstream;
pub mod worker;

pub use error::{Code, Error};
