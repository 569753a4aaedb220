//! The one path: what routes see is what nodes get (T47). A listener without routes has no rule to
//! get around and forwards every path as it came (P06, in the `reverse` suite).

use crate::support::{Conn, Message, Origin, Proxy};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A public API below `/api`, and what must only be reached by name.
struct Site {
    api: Origin,
    admin: Origin,
    proxy: Proxy,
}

impl Site {
    fn start(listener: &str) -> Self {
        let (api, admin) = (Origin::answering(OK), Origin::answering(OK));
        let proxy = Proxy::run_file(&format!(
            "access_log: 'off'
listeners: [{{bind: '127.0.0.1:0'{listener}}}]
routes:
  - {{path: /api, rewrite_prefix: /v2, service: api}}
  - {{path: /admin, service: admin}}
services:
  - {{id: api, nodes: ['{}']}}
  - {{id: admin, nodes: ['{}']}}
",
            api.url(),
            admin.url()
        ));
        Self { api, admin, proxy }
    }

    #[track_caller]
    fn ask(&self, target: &str) -> Message {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        Conn::open(self.proxy.addr(0)).ask(request)
    }
}

#[test]
fn t47_what_a_route_takes_is_what_the_node_gets() {
    let site = Site::start("");
    for (target, sent) in [
        ("/api/x?q=%2e%2e/", "/v2/x?q=%2e%2e/"),
        ("/%61pi/%7Euser/%c3%a9", "/v2/~user/%C3%A9"),
        ("//api//x", "/v2/x"),
        ("/api/a/../b/./c", "/v2/b/c"),
        ("/admin/../api/x", "/v2/x"),
        ("/api/x;v=1", "/v2/x;v=1"),
    ] {
        assert_eq!(site.ask(target).status(), 200, "{target}");
        site.api.wait_for(&format!("GET {sent} HTTP/1.1\r\n"));
    }
    assert_eq!(site.admin.connections(), 0);
    // Whatever leads to the other service does so by its own route.
    assert_eq!(site.ask("/api/../admin").status(), 200);
    assert!(site.admin.seen().starts_with("GET /admin HTTP/1.1\r\n"), "{}", site.admin.seen());
}

#[test]
fn t47_a_path_with_two_meanings_reaches_no_node() {
    let site = Site::start("");
    for target in [
        "/api/%2e%2e/admin",
        "/api/..%2fadmin",
        "/api/..;/admin",
        "/api/..%5cadmin",
        "/api/..\\admin",
        "/api/%252e%252e/admin",
        "/api%2f..%2fadmin",
        "/api/x%00",
        "/../admin",
        "/api/%",
    ] {
        let answer = site.ask(target);
        assert_eq!((answer.status(), &answer.json()["code"]), (400, &"client_malformed".into()));
    }
    assert_eq!((site.api.connections(), site.admin.connections()), (0, 0));
}

#[test]
fn an_encoded_slash_is_kept_where_it_is_wanted() {
    let site = Site::start(", encoded_slash: keep");
    assert_eq!(site.ask("/api/group%2fproject").status(), 200);
    site.api.wait_for("GET /v2/group%2Fproject HTTP/1.1\r\n");
    assert_eq!(site.ask("/api/..%2fadmin").status(), 400);
}
