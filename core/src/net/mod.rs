//! Addresses, sockets, accepting and relaying.

pub mod accept;
pub mod addr;
pub(crate) mod descriptors;
pub mod listen;
pub mod pace;
pub mod proxy_protocol;
pub mod relay;
pub mod splice;
pub mod stream;
pub mod unsent;

pub use addr::{HostPort, ListenAddr, Peer, PeerAddr, Proxied};
pub use stream::{Socket, Stream};
