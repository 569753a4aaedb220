//! Chromium opens a WebSocket through the proxy.

use crate::clients::chromium;
use crate::clients::site::{Site, assert_told};

#[test]
fn chromium_speaks_websocket_through_a_gateway() {
    let site = Site::start();
    let [http, https] = site.ports();
    assert_told(&chromium(&format!("http://127.0.0.1:{http}/page"), &[]));
    let options = ["--ignore-certificate-errors"];
    assert_told(&chromium(&format!("https://127.0.0.1:{https}/page"), &options));
}
