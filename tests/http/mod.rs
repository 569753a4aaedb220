//! HTTP through the built binary: what a client and an upstream see on the wire.

mod abuse;
mod body_size;
mod calls;
mod conformance;
mod downgrade;
mod failure;
mod fields;
mod floods;
mod framing;
mod gateway;
mod h2spec;
mod half_close;
mod identity;
mod interim;
mod large;
mod limits;
mod load;
mod paths;
mod peers;
mod reverse;
mod slow;
mod streaming;
mod uploads;
