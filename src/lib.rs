//! gwproxy: HTTP, WebSocket, TCP and gRPC through one proxy.

pub mod plan;
