//! gwproxy: HTTP, WebSocket, TCP and gRPC through one proxy.

pub mod config;
pub mod plan;
