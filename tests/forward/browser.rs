//! Chromium, told of the proxy by flag and by PAC file.

use super::forward;
use crate::clients::chromium;
use crate::clients::site::{Site, assert_told};
use crate::support::{Proxy, eventually};

/// The access log has a line of this method to this host.
#[track_caller]
fn assert_logged(proxy: &Proxy, method: &str, host: &str) {
    eventually(&format!("a line of {method} to {host}"), || {
        let lines = proxy.stdout();
        let (method, host) = (format!("\"method\":\"{method}\""), format!("\"host\":\"{host}\""));
        lines.lines().any(|line| line.contains(&method) && line.contains(&host)).then_some(())
    });
}

/// Pages over HTTP and HTTPS, and a WebSocket on each of them.
#[test]
fn row_1_1_chromium_browses_through_the_proxy() {
    let site = Site::start();
    let [http, https] = site.ports().map(|port| format!("127.0.0.1:{port}"));
    let proxy = forward(&["--allow", &http, "--allow", &https]);
    let options = [
        &format!("--proxy-server={}", proxy.url("http", "")),
        // It would go to this machine directly.
        "--proxy-bypass-list=<-loopback>",
        "--ignore-certificate-errors",
    ];
    assert_told(&chromium(&format!("http://{http}/page"), &options));
    assert_logged(&proxy, "GET", "127.0.0.1");
    assert_told(&chromium(&format!("https://{https}/page"), &options));
    assert_logged(&proxy, "CONNECT", "127.0.0.1");
}

#[test]
fn row_1_1_chromium_is_set_up_by_the_pac_file() {
    let site = Site::start();
    // The file sends loopback addresses past the proxy, so this is another name of this machine.
    let [http, https] = site.ports().map(|port| format!("0.0.0.0:{port}"));
    let proxy = forward(&["--allow", &http, "--allow", &https]);
    let pac = format!("--proxy-pac-url={}", proxy.url("http", "/proxy.pac"));
    let options = [&pac, "--ignore-certificate-errors"];
    assert_told(&chromium(&format!("http://{http}/page"), &options));
    assert_logged(&proxy, "GET", "0.0.0.0");
    assert_told(&chromium(&format!("https://{https}/page"), &options));
    assert_logged(&proxy, "CONNECT", "0.0.0.0");
}
