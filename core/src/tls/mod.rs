//! TLS on both legs: rustls with the aws-lc-rs provider.

mod accept;
mod connect;
mod info;

pub use accept::ServerTls;
pub use connect::ClientTls;
pub use info::{ClientIdentity, TlsInfo};
