//! gwproxy: HTTP, WebSocket, TCP and gRPC through one proxy.

pub mod admin;
pub mod assemble;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod devcert;
pub mod echo;
pub mod gateway;
pub mod health;
pub mod logging;
pub mod plan;
pub mod process;
pub mod tools;
