//! The forward proxy through the built binary: curl and Chromium, as users set them up.
//!
//! Goal: what is allowed is reached, what is not is refused before anything is dialled, and only
//! by whom it may be (row 1.1). Method: nodes are on this machine, which a proxy refuses unless it
//! is told; none of these proxies may look for any other name.

mod browser;
mod curl;
mod websocket;

use crate::support::Proxy;

/// `gwproxy http --listen 127.0.0.1:0 --forward OPTIONS`.
#[track_caller]
fn forward(options: &[&str]) -> Proxy {
    Proxy::start(&[&["http", "--listen", "127.0.0.1:0", "--forward"], options].concat())
}
