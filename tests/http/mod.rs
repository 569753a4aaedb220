//! HTTP through the built binary: what a client and an upstream see on the wire.

mod framing;
mod reverse;
