//! gwproxy: HTTP, WebSocket, TCP and gRPC through one proxy.

pub mod echo;
pub mod plan;
