//! Raw TCP: accept, pick a node, relay both ways.
//!
//! A connection's life is told in `LIFECYCLE.md` beside this crate.

pub mod reverse;
pub mod session;
mod settings;

pub use reverse::Reverse;
pub use session::{Ending, Session};
pub use settings::Settings;
