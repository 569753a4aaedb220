//! Calls over loopback between HTTP/2 peers that are driven frame by frame.

mod calls;
mod deadlines;
mod endings;
mod refusals;
mod support;
mod tls;
