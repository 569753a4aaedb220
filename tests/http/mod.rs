//! HTTP through the built binary: what a client and an upstream see on the wire.

mod abuse;
mod failure;
mod fields;
mod framing;
mod reverse;
