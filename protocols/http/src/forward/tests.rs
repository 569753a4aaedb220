//! A forward proxy on a real worker, asked through real sockets.

mod abuse;
mod support;
mod tunnels;
mod websockets;

use support::*;

/// P03, RFC 9110 §7.6.3: each message that is forwarded. P12.
#[tokio::test]
async fn p03_interim_responses_are_signed_as_well() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let served = origin.serve_one(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let mut client = Client::to(&proxy).await;
    client
        .send(&format!("GET http://{at}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        .await;
    let all = client.rest().await;
    let hint =
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nvia: 1.1 gwproxy\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert!(all.starts_with(hint), "{all}");
    served.await.unwrap();
}

/// P03, P06, P24, RFC 9112 §3.2.2: the target names the host, whatever `Host` says. RFC 9110
/// §7.6.1: what is between client and proxy stays there. §7.7: the path is not touched.
#[tokio::test]
async fn p24_absolute_form_becomes_a_request_of_the_origins_own() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let served = origin.serve_one(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let mut client = Client::to(&proxy).await;
    client
        .send(&format!(
            "GET http://{at}/%7Ea?x=%2F HTTP/1.1\r\nHost: evil.example\r\nX-Mine: 1\r\n\
             Proxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\n\
             Connection: x-hop\r\nX-Hop: 1\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
        ))
        .await;
    let response = client.response().await;
    assert_eq!((response.status, &*response.body), (200, "ok"));
    assert_eq!(response.field("via"), Some("1.1 gwproxy"));
    let head = served.await.unwrap();
    assert!(head.starts_with("GET /%7Ea?x=%2F HTTP/1.1\r\n"), "{head}");
    let lower = head.to_lowercase();
    assert!(lower.contains(&format!("\r\nhost: {at}\r\n")), "{head}");
    assert!(lower.contains("\r\nvia: 1.1 gwproxy\r\n"), "{head}");
    assert!(lower.contains("\r\nx-mine: 1\r\n"), "{head}");
    // The client's own words pass; the proxy adds none about the client.
    assert!(lower.contains("\r\nx-forwarded-for: 192.0.2.9\r\n"), "{head}");
    for gone in ["evil", "proxy-", "x-hop", "forwarded: ", "127.0.0.1\r", "x-forwarded-host"] {
        assert!(!lower.contains(gone), "`{gone}` in {head}");
    }
}

#[tokio::test]
async fn a_query_without_a_path_gets_one() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let served = origin.serve_one(b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut client = Client::to(&proxy).await;
    client.send(&format!("GET http://{at}?q=1 HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 204);
    assert!(served.await.unwrap().starts_with("GET /?q=1 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn requests_to_one_destination_share_a_pooled_connection() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let both = tokio::spawn(async move {
        let (mut socket, _) = origin.listener.accept().await.unwrap();
        for _ in 0..2 {
            read_head(&mut socket).await;
            write(&mut socket, b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await;
        }
        origin.listener
    });
    // Two clients, so that it is the proxy's pool that joins them.
    for _ in 0..2 {
        let mut client = Client::to(&proxy).await;
        client.send(&format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        assert_eq!(client.response().await.status, 200);
    }
    assert_untouched(both.await.unwrap());
}

#[tokio::test]
async fn a_response_body_streams_with_its_trailers() {
    let origin = Origin::bind().await;
    let proxy = Proxy::start(Config::loopback());
    let at = origin.at;
    let served = origin.serve_one(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    let mut client = Client::to(&proxy).await;
    client
        .send(&format!(
            "POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        ))
        .await;
    let all = client.rest().await;
    assert!(all.ends_with("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{all}");
    assert!(served.await.unwrap().starts_with("POST / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_is_not_for_a_forward_proxy_is_explained() {
    let proxy = Proxy::start(Config::loopback());
    for (target, word) in [
        ("/", "http_proxy"),
        ("/index.html", "forward proxy"),
        ("https://a.example/", "CONNECT"),
        ("ws://a.example/", "CONNECT"),
        ("ftp://a.example/", "http://"),
        ("http://a.example:99999/", "target"),
        ("http://a.example:0/", "host or port"),
    ] {
        let mut client = Client::to(&proxy).await;
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.status, 400, "{target}");
        assert!(response.body.contains(word), "{target}: {}", response.body);
    }
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_a_bad_gateway() {
    let closed = Origin::bind().await.at;
    let mut config = Config::loopback();
    config.settings.policy.allow.push("*.invalid".parse().unwrap());
    let proxy = Proxy::start(config);
    for (asks, error) in [
        (format!("GET http://{closed}/ HTTP/1.1\r\nHost: a\r\n\r\n"), "connection_refused"),
        (format!("CONNECT {closed} HTTP/1.1\r\nHost: a\r\n\r\n"), "connection_refused"),
        ("CONNECT no.invalid:8443 HTTP/1.1\r\nHost: a\r\n\r\n".into(), "dns_error"),
        ("GET http://no.invalid/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), "dns_error"),
    ] {
        let mut client = Client::to(&proxy).await;
        client.send(&asks).await;
        let response = client.response().await;
        assert_eq!(response.status, 502, "{asks}");
        assert_eq!(response.field("proxy-status"), Some(&*format!("gwproxy; error={error}")));
        if asks.starts_with("CONNECT") {
            assert_eq!(client.rest().await, "", "a refused CONNECT closes: {asks}");
        }
    }
}

#[tokio::test]
async fn the_pac_file_names_the_proxy_as_the_client_reached_it() {
    let proxy = Proxy::start(Config::default());
    let at = proxy.at;
    for (asks, named) in [
        (
            "GET /proxy.pac HTTP/1.1\r\nHost: proxy.example:3128\r\n\r\n".into(),
            "proxy.example:3128",
        ),
        ("GET /proxy.pac HTTP/1.1\r\nHost: [::1]:3128\r\n\r\n".into(), "[::1]:3128"),
        ("GET /proxy.pac HTTP/1.1\r\nHost: proxy.example\r\n\r\n".into(), "proxy.example:80"),
        ("GET /proxy.pac HTTP/1.0\r\n\r\n".into(), &*at.to_string()),
        // A client that already uses the proxy asks it for the file through itself.
        (format!("GET http://{at}/proxy.pac HTTP/1.1\r\nHost: {at}\r\n\r\n"), &*at.to_string()),
    ] {
        let mut client = Client::to(&proxy).await;
        client.send(&asks).await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{asks}");
        assert_eq!(response.field("content-type"), Some("application/x-ns-proxy-autoconfig"));
        assert!(response.body.contains(&format!("\"PROXY {named}\"")), "{}", response.body);
    }
    for (asks, status) in [
        ("POST /proxy.pac HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        // What would leave the string of the script is no host.
        ("GET /proxy.pac HTTP/1.1\r\nHost: a\";alert(1)//\r\n\r\n", 400),
        ("GET /proxy.pac HTTP/1.1\r\nHost: a'b\r\n\r\n", 400),
    ] {
        let mut client = Client::to(&proxy).await;
        client.send(asks).await;
        assert_eq!(client.response().await.status, status, "{asks}");
    }
}

/// P15, P36, RFC 9110 §11.7: 407 with a challenge, credentials consumed; RFC 9931: a refused
/// CONNECT closes, another request does not.
#[tokio::test]
async fn only_users_may_pass_when_there_are_users() {
    let origin = Origin::bind().await;
    let mut config = Config::loopback();
    config.user = Some(("ann", "pässword:1"));
    let proxy = Proxy::start(config);
    let at = origin.at;
    let mut client = Client::to(&proxy).await;
    let wrong = basic("ann", "wrong");
    for credentials in ["", &*wrong, "Proxy-Authorization: Bearer x\r\n"] {
        client.send(&format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{credentials}\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.status, 407, "{credentials}");
        let challenge = response.field("proxy-authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        assert_eq!(response.field("connection"), None);
    }
    let mut refused = Client::to(&proxy).await;
    refused.send(&format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{wrong}\r\n")).await;
    let response = refused.response().await;
    assert_eq!((response.status, response.field("connection")), (407, Some("close")));
    assert_eq!(refused.rest().await, "");

    let served = origin.serve_one(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let right = basic("ann", "pässword:1");
    client.send(&format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{right}\r\n")).await;
    assert_eq!(client.response().await.status, 200, "on the connection that was refused before");
    assert!(!served.await.unwrap().to_lowercase().contains("authorization"));
}
