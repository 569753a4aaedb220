//! One integration binary: every suite is a module, so that the house is linked once.

mod balance;
mod breaking;
mod clients;
mod forward;
mod grpc;
mod house;
mod http;
mod life;
mod proxy_protocol;
mod support;
mod tcp;
mod tls;
mod together;
mod usage;
mod ws;
