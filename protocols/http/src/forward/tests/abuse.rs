//! What a forward proxy must not be used for.

use super::support::*;

const PROHIBITED: &str = "gwproxy; error=destination_ip_prohibited";

/// T32: every way to write this machine's address, and those of metadata services and private
/// networks, by both forms: 403, and no connection is opened.
#[tokio::test]
async fn t32_private_addresses_are_refused_however_they_are_written() {
    let origin = Origin::bind().await;
    let port = origin.at.port();
    let proxy = Proxy::start(Config::any_port());
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "a.localhost",
        // What the system's resolver takes for an address though no URL parser does.
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "10.0.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.169.254",
        "192.168.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
    ] {
        for asks in [
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            let mut client = Client::to(&proxy).await;
            client.send(&asks).await;
            let response = client.response().await;
            assert_eq!(response.status, 403, "{asks}");
            assert_eq!(response.field("proxy-status"), Some(PROHIBITED), "{asks}");
            assert!(!response.body.contains("127.0.0.1"), "what it resolved to leaked: {asks}");
        }
    }
    assert_untouched(origin.listener);
}

/// The rules are for those who may use the proxy, and what they deny is on the user's account.
#[tokio::test]
async fn strangers_learn_nothing_of_the_rules() {
    let mut config = Config::any_port();
    config.settings.policy.allow = vec!["example.com".parse().unwrap()];
    config.settings.policy.deny = vec!["denied.example".parse().unwrap()];
    config.user = Some(("ann", "secret"));
    let proxy = Proxy::start(config);
    let login = basic("ann", "secret");
    for host in ["denied.example:443", "unlisted.example:443", "example.com.invalid:25"] {
        for (login, status) in [("", 407), (login.as_str(), 403)] {
            for asks in [format!("CONNECT {host}"), format!("GET http://{host}/")] {
                let mut client = Client::to(&proxy).await;
                client.send(&format!("{asks} HTTP/1.1\r\nHost: a\r\n{login}\r\n")).await;
                let response = client.response().await;
                assert_eq!(response.status, status, "{asks}");
                // A name is no address (RFC 9209 §2.3.5).
                let told = response.field("proxy-status");
                assert_eq!(told, Some("gwproxy; error=http_request_denied"), "{asks}");
            }
        }
    }
}

/// T32: ports 25, 0 and 65979.
#[tokio::test]
async fn t32_ports_of_other_protocols_are_refused() {
    let mut config = Config::default();
    config.settings.policy.allow_private = true;
    let proxy = Proxy::start(config);
    for (asks, status) in [
        ("CONNECT 127.0.0.1:25", 403),
        ("CONNECT 127.0.0.1:80", 403),
        ("CONNECT 127.0.0.1:0", 400),
        ("CONNECT 127.0.0.1:65979", 400),
        ("GET http://127.0.0.1:25/", 403),
        ("GET http://127.0.0.1:22/", 403),
        ("GET http://127.0.0.1:65979/", 400),
    ] {
        let mut client = Client::to(&proxy).await;
        client.send(&format!("{asks} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.response().await.status, status, "{asks}");
    }
}

/// T33: a name that a rule allows is still judged by what it resolves to.
#[tokio::test]
async fn t33_an_allowed_name_does_not_open_a_private_address() {
    let origin = Origin::bind().await;
    let port = origin.at.port();
    let asks = format!("GET http://localhost:{port}/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut config = Config::any_port();
    config.settings.policy.allow = vec!["localhost".parse().unwrap()];
    let proxy = Proxy::start(config);
    let mut client = Client::to(&proxy).await;
    client.send(&asks).await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("proxy-status")), (403, Some(PROHIBITED)));

    // With the address named as well it is dialled, and the name is what the origin sees.
    let mut config = Config::any_port();
    config.settings.policy.allow = ["localhost", "127.0.0.1"].map(|r| r.parse().unwrap()).into();
    let proxy = Proxy::start(config);
    let served = origin.serve_one(b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut client = Client::to(&proxy).await;
    client.send(&asks).await;
    assert_eq!(client.response().await.status, 204);
    assert!(served.await.unwrap().contains(&format!("Host: localhost:{port}\r\n")));
}

/// T34, P05: what leads back to the proxy ends there.
#[tokio::test]
async fn t34_a_loop_is_detected() {
    let proxy = Proxy::start(Config::loopback());
    let (at, port) = (proxy.at, proxy.at.port());
    let loops = Some("gwproxy; error=proxy_loop_detected");
    for asks in [
        format!("GET http://{at}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET http://localhost:{port}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET http://0.0.0.0:{port}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let mut client = Client::to(&proxy).await;
        client.send(&asks).await;
        let response = client.response().await;
        assert_eq!((response.status, response.field("proxy-status")), (508, loops), "{asks}");
    }
}

/// T34: a loop whose addresses are hidden by translation shows in `Via`.
#[tokio::test]
async fn t34_a_loop_shows_in_via() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let asks = |times: usize| {
        let via = vec!["1.1 gwproxy"; times].join(", ");
        format!("GET http://{at}/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 other\r\nVia: {via}\r\n\r\n")
    };
    let mut client = Client::to(&proxy).await;
    client.send(&asks(10)).await;
    assert_eq!(client.response().await.status, 508);
    let served = origin.serve_one(b"HTTP/1.1 204 No Content\r\n\r\n");
    client.send(&asks(9)).await;
    assert_eq!(client.response().await.status, 204, "proxies of one name in a row are no loop");
    assert!(served.await.unwrap().contains("Via: 1.1 other\r\n"));
}

/// T10: no way to another protocol than the one that was judged.
#[tokio::test]
async fn t10_h2c_is_not_passed_on() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let served = origin.serve_one(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let mut client = Client::to(&proxy).await;
    client
        .send(&format!(
            "GET http://{at}/ HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
             Connection: Upgrade, HTTP2-Settings\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    let head = served.await.unwrap().to_lowercase();
    assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
}
