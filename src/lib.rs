//! gwproxy: HTTP, WebSocket, TCP and gRPC through one proxy.

pub mod devcert;
pub mod plan;
