//! `gwproxy http --to`: requests reach the upstream and responses come back, whole.

use crate::support::{Conn, Origin, Proxy, curl, echo};

#[test]
fn a_request_reaches_the_node_and_its_answer_comes_back() {
    let echo = echo("http", &["--name", "one"]);
    let proxy = Proxy::http(&echo.url("http", ""), &["--access-log", "off"]);
    let report = curl(&["-d", "hello", &proxy.url("http", "/path?query=1")]).json();
    assert_eq!(report["method"], "POST");
    assert_eq!(report["path"], "/path");
    assert_eq!(report["query"], "query=1");
    assert_eq!(report["body"], "hello");
}

#[test]
fn the_node_sees_one_request_and_the_client_one_response() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    let response = Conn::open(proxy.addr(0)).ask("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status(), 200);
    assert_eq!(response.text(), "ok");
    assert!(origin.seen().starts_with("GET /x HTTP/1.1\r\n"), "{}", origin.seen());
    assert_eq!(origin.connections(), 1);
}
