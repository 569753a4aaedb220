//! WebSocket through the built binary.
//!
//! Goal: what a client and a node say to each other arrives as it was said, and each end of a
//! connection is told why it ended. Method: Python's `websockets` and Chromium as clients, the echo
//! server and `websockets` as nodes; frames of our own where no proper peer would say them.

mod autobahn;
mod browser;
mod closing;
pub(crate) mod frame;
mod handshake;
mod http2;
mod messages;
mod stalled;
