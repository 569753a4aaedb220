//! Raw TCP: accept, pick a node, relay both ways.
//!
//! A connection's life is told in `LIFECYCLE.md` beside this crate.

// What comes off the wire ends no worker. An exception says by `expect` why it is none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod reverse;
pub mod session;
mod settings;

pub use reverse::Reverse;
pub use session::{Ending, Session};
pub use settings::Settings;
