//! The HTTP echo, with hyper's client and, where bytes matter, none.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Sends bytes, closes that direction, and reads what comes to the end.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut tcp = server.connect().await;
    tcp.write_all(bytes).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut back = Vec::new();
    tcp.read_to_end(&mut back).await.unwrap();
    String::from_utf8(back).unwrap()
}

/// The JSON in a raw response.
fn report(response: &str) -> serde_json::Value {
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    json(body.as_bytes())
}

/// Reads until `end` has come.
async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn the_report_tells_what_came() {
    let server = Server::start(Kind::Http);
    let (response, body) = server.http1(request("PATCH", "/a/b%20c?x=1&y", "hi é")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-echo-node"], "node-1");
    assert_eq!(response.headers()["content-type"], "application/json");
    let report = json(&body);
    assert_eq!(report["node"], "node-1");
    assert_eq!(report["method"], "PATCH");
    assert_eq!(report["path"], "/a/b%20c");
    assert_eq!(report["query"], "x=1&y");
    assert_eq!(report["version"], "HTTP/1.1");
    assert_eq!(report["body"], "hi é");
    assert_eq!(report["body_bytes"], 5);
    assert_eq!(
        report["body_sha256"],
        "c0249bf4bc0c0dd651cd099a2e78c45ced05f2979c1aa7bbdcb3b9ebb5678fe2"
    );
    assert_eq!(report["local"], server.addr.to_string());
    assert!(report["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(report["tls"].is_null());
    assert_eq!(report["request_on_connection"], 1);
    server.stop().await;
}

#[tokio::test]
async fn raw_headers_keep_case_order_and_duplicates() {
    let server = Server::start(Kind::Http);
    let wire = b"GET / HTTP/1.1\r\nHOST: x\r\nX-b: 1\r\naccept: y\r\nX-B: 2\r\nz: \xe9\r\n\
        Connection: close\r\n\r\n";
    let report = report(&raw(&server, wire).await);
    let expected = serde_json::json!([
        ["HOST", "x"],
        ["X-b", "1"],
        ["accept", "y"],
        ["X-B", "2"],
        ["z", "é"],
        ["Connection", "close"]
    ]);
    assert_eq!(report["raw_headers"], expected);
    let grouped = serde_json::json!([
        ["host", "x"],
        ["x-b", "1"],
        ["x-b", "2"],
        ["accept", "y"],
        ["z", "é"],
        ["connection", "close"]
    ]);
    assert_eq!(report["headers"], grouped);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_counts_its_requests_whatever_their_framing() {
    let server = Server::start(Kind::Http);
    let wire = b"POST /a HTTP/1.1\r\nHost: x\r\nA: 1\r\nContent-Length: 3\r\n\r\nabc\
        POST /b HTTP/1.1\r\nHost: x\r\nB: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;x=y\r\nde\r\n1\r\nf\r\n0\r\nX-Sum: 9\r\n\r\n\
        GET /c HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n";
    let mut tcp = server.connect().await;
    tcp.write_all(wire).await.unwrap();
    let mut all = String::new();
    tcp.read_to_string(&mut all).await.unwrap();
    let reports: Vec<_> = all
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| json(line.as_bytes()))
        .collect();
    assert_eq!(reports.len(), 3, "{all}");
    for (at, (report, path)) in reports.iter().zip(["/a", "/b", "/c"]).enumerate() {
        assert_eq!(report["path"], path);
        assert_eq!(report["request_on_connection"], at + 1);
        assert_eq!(report["connection_id"], reports[0]["connection_id"]);
    }
    assert_eq!(reports[0]["body"], "abc");
    assert_eq!(reports[1]["body"], "def");
    assert_eq!(reports[1]["trailers"], serde_json::json!([["x-sum", "9"]]));
    assert_eq!(reports[1]["raw_headers"][1], serde_json::json!(["B", "2"]));
    assert_eq!(reports[2]["raw_headers"][0], serde_json::json!(["host", "x"]));
    let (_, other) = server.http1(get("/")).await;
    assert_ne!(json(&other)["connection_id"], reports[0]["connection_id"]);
    server.stop().await;
}

#[tokio::test]
async fn only_small_text_bodies_come_back_in_the_report() {
    let server = Server::start(Kind::Http);
    for (body, text) in [
        (Bytes::from(vec![b'a'; 64 * 1024]), true),
        (Bytes::from(vec![b'a'; 64 * 1024 + 1]), false),
        (Bytes::from_static(b"\xff"), false),
    ] {
        let (_, report) = server.http1(request("POST", "/", body.clone())).await;
        let report = json(&report);
        assert_eq!(report["body_bytes"], body.len());
        assert_eq!(report["body"].is_string(), text);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        assert_eq!(report["body_sha256"], report::hex(digest.as_ref()));
    }
    server.stop().await;
}

#[tokio::test]
async fn paths_choose_the_status() {
    let server = Server::start(Kind::Http);
    for status in [200, 204, 205, 301, 304, 404, 426, 500, 503, 599] {
        let (response, body) = server.http1(get(&format!("/status/{status}"))).await;
        assert_eq!(response.status(), status);
        assert_eq!(body.is_empty(), [204, 205, 304].contains(&status), "{status}");
        assert_eq!(response.headers()["x-echo-node"], "node-1");
    }
    for wrong in [
        "/status/101",
        "/status/99",
        "/status/x",
        "/status",
        "/bytes/-1",
        "/bytes",
        "/delay/2",
        "/delay",
        "/stream?count=x",
        "/stream?interval=1",
        "/reset?after=-1",
        "/headers?content-length=1",
        "/headers?transfer-encoding=chunked",
        "/headers?a%20b=1",
        "/headers?a=%0a",
    ] {
        let (response, body) = server.http1(get(wrong)).await;
        assert_eq!(response.status(), 400, "{wrong}");
        assert!(body.ends_with(b"\n") && body.len() > 10, "{wrong}");
    }
    server.stop().await;
}

#[tokio::test]
async fn controls_chain() {
    let server = Server::start(Kind::Http);
    let path = "/delay/1ms/headers/status/503?retry-after=5&X-A=1&X-A=b%20c";
    let (response, _) = server.http1(get(path)).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    let all: Vec<_> = response.headers().get_all("x-a").iter().collect();
    assert_eq!(all, ["1", "b c"]);
    let (response, body) = server.http1(get("/close/headers/other?set-cookie=a=b")).await;
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.headers()["set-cookie"], "a=b");
    assert_eq!(json(&body)["path"], "/close/headers/other");
    server.stop().await;
}

#[tokio::test]
async fn bytes_have_a_length_unless_chunked() {
    let server = Server::start(Kind::Http);
    let (response, body) = server.http1(get("/bytes/1000000")).await;
    assert_eq!(response.headers()["content-length"], "1000000");
    assert!(body == body::filler_bytes(1_000_000));
    let (response, chunked) = server.http1(get("/bytes/1000000?chunked=1")).await;
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    assert!(!response.headers().contains_key("content-length"));
    assert!(chunked == body);
    let (response, none) = server.http1(request("HEAD", "/bytes/1000000", "")).await;
    assert_eq!(response.headers()["content-length"], "1000000");
    assert!(none.is_empty());
    let (response, none) = server.http1(request("HEAD", "/", "")).await;
    assert!(response.headers().contains_key("content-length"));
    assert!(none.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn health_is_what_it_was_set_to() {
    let server = Server::start(Kind::Http);
    for (method, path, status) in [
        ("GET", "/health", 200),
        ("GET", "/health/503", 405),
        ("PUT", "/health/99", 400),
        ("GET", "/health", 200),
        ("PUT", "/health/503", 204),
        ("GET", "/health", 503),
        ("HEAD", "/health", 503),
        ("POST", "/health/200", 204),
        ("GET", "/health", 200),
    ] {
        let (response, _) = server.http1(request(method, path, "")).await;
        assert_eq!(response.status(), status, "{method} {path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn streams_come_line_by_line() {
    let server = Server::start(Kind::Http);
    let (response, body) = server.http1(get("/stream?count=3&interval=1ms")).await;
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    let lines: Vec<_> = body.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(json).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2], serde_json::json!({"node": "node-1", "index": 2}));
    let (response, body) = server.http1(get("/sse?count=2&interval=1ms")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(body.starts_with(b"id: 0\ndata: {"));
    assert_eq!(body.windows(2).filter(|w| w == b"\n\n").count(), 2);
    server.stop().await;
}

#[tokio::test]
async fn trailers_follow_where_they_may() {
    let server = Server::start(Kind::Http);
    let head = "GET /trailers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let with = raw(&server, format!("{head}TE: trailers\r\n\r\n").as_bytes()).await;
    assert!(with.contains("trailer: x-echo-trailer\r\n"), "{with}");
    assert!(with.ends_with("0\r\nx-echo-trailer: node-1\r\n\r\n"), "{with}");
    let without = raw(&server, format!("{head}\r\n").as_bytes()).await;
    assert!(without.ends_with("0\r\n\r\n"), "{without}");

    let mut h2 = server.http2().await;
    let response = h2.send_request(get("http://x/trailers")).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-echo-trailer"], "node-1");
    drop(h2);
    server.stop().await;
}

#[tokio::test]
async fn close_ends_the_connection_after_the_response() {
    let server = Server::start(Kind::Http);
    let mut tcp = server.connect().await;
    tcp.write_all(b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut all = String::new();
    tcp.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("}\n"), "{all}");

    let io = TokioIo::new(server.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let (response, _) = whole(sender.send_request(get("http://x/close")).await.unwrap()).await;
    assert_eq!(response.status(), 200);
    // GOAWAY: the connection ends although the sender is still here.
    connection.await.unwrap().unwrap();
    assert!(sender.send_request(get("http://x/")).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn reset_and_truncate_cut_the_response() {
    let server = Server::start(Kind::Http);
    for (path, kind) in [("/reset", Some(io::ErrorKind::ConnectionReset)), ("/truncate", None)] {
        let mut tcp = server.connect().await;
        let head = format!("GET {path}?after=100 HTTP/1.1\r\nHost: x\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let ended = tcp.read_to_end(&mut all).await;
        assert_eq!(ended.as_ref().err().map(io::Error::kind), kind, "{path}: {ended:?}");
        let all = String::from_utf8(all).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 101"), "{head}");
        assert_eq!(body.len(), 100);
    }
    let mut h2 = server.http2().await;
    let response = h2.send_request(get("http://x/reset")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    // Only the stream was reset.
    let (response, _) = whole(h2.send_request(get("http://x/")).await.unwrap()).await;
    assert_eq!(response.status(), 200);
    drop(h2);
    server.stop().await;
}

#[tokio::test]
async fn echo_streams_both_ways_at_once() {
    let server = Server::start(Kind::Http);
    let mut tcp = server.connect().await;
    tcp.write_all(
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: text/x\r\nTE: trailers\r\n\
        Trailer: x-sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    let head = read_until(&mut tcp, "\r\n\r\n").await;
    assert!(head.contains("content-type: text/x\r\n"), "{head}");
    for word in ["one", "two"] {
        tcp.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut tcp, &format!("{word}\r\n")).await, format!("3\r\n{word}\r\n"));
    }
    tcp.write_all(b"0\r\nx-sum: 7\r\n\r\n").await.unwrap();
    let mut end = String::new();
    tcp.read_to_string(&mut end).await.unwrap();
    assert_eq!(end, "0\r\nx-sum: 7\r\n\r\n");

    let (response, body) = server.http1(request("PUT", "/echo", "whole")).await;
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(body, "whole");
    server.stop().await;
}

#[tokio::test]
async fn continue_is_sent_only_when_the_body_is_wanted() {
    let server = Server::start(Kind::Http);
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\
             Connection: close\r\n\r\n"
        )
    };
    let mut tcp = server.connect().await;
    tcp.write_all(head("/").as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut tcp, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    tcp.write_all(b"ok").await.unwrap();
    let mut rest = String::new();
    tcp.read_to_string(&mut rest).await.unwrap();
    assert_eq!(report(&rest)["body"], "ok");

    let mut tcp = server.connect().await;
    tcp.write_all(head("/status/413").as_bytes()).await.unwrap();
    let mut all = String::new();
    tcp.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 413 "), "{all}");
    server.stop().await;
}

#[tokio::test]
async fn http_2_in_the_clear_and_by_alpn() {
    let server = Server::start(Kind::Http);
    let mut h2 = server.http2().await;
    let (_, body) = whole(h2.send_request(get("http://x.test/p")).await.unwrap()).await;
    let report = json(&body);
    assert_eq!(report["version"], "HTTP/2.0");
    assert_eq!(report["authority"], "x.test");
    assert_eq!(report["scheme"], "http");
    assert!(report["raw_headers"].is_null());
    drop(h2);
    server.stop().await;

    let server = Server::start_tls(Kind::Http);
    for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let io = server.connect_tls(&[alpn.as_bytes()]).await;
        let body = if alpn == "h2" {
            let io = TokioIo::new(io);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            whole(sender.send_request(get("https://x/")).await.unwrap()).await.1
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
            tokio::spawn(connection);
            whole(sender.send_request(get("/")).await.unwrap()).await.1
        };
        let report = json(&body);
        assert_eq!(report["version"], version);
        assert_eq!(report["tls"]["sni"], "echo.test");
        assert_eq!(report["tls"]["alpn"], alpn);
        assert_eq!(report["tls"]["version"], "TLSv1.3");
        assert!(report["tls"]["client_certificate_sha256"].is_null());
    }
    server.stop().await;
}

#[tokio::test]
async fn settings_bound_the_streams_of_a_connection() {
    let server = Server::start(Kind::Http);
    let mut tcp = server.connect().await;
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    tcp.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS comes first");
    let mut settings = vec![0; usize::from(head[2])];
    tcp.read_exact(&mut settings).await.unwrap();
    let value = |id: u8| {
        let setting = settings.chunks(6).find(|s| s[..2] == [0, id]);
        setting.map(|s| u32::from_be_bytes(s[2..].try_into().unwrap()))
    };
    assert_eq!(value(3), Some(200), "MAX_CONCURRENT_STREAMS");
    assert_eq!(value(6), Some(64 * 1024), "MAX_HEADER_LIST_SIZE");
    assert_eq!(value(8), Some(1), "ENABLE_CONNECT_PROTOCOL");
    drop(tcp);
    server.stop().await;
}

#[tokio::test]
async fn it_is_no_proxy_and_survives_garbage() {
    let server = Server::start(Kind::Http);
    let refused = raw(&server, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    for garbage in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff",
        b"PRI * HTTP/2.0\r\n",
    ] {
        let mut tcp = server.connect().await;
        tcp.write_all(garbage).await.unwrap();
        tcp.shutdown().await.unwrap();
        // However it ends, it ends.
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    }
    let (response, _) = server.http1(get("/")).await;
    assert_eq!(response.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_what_began_and_closes_what_is_idle() {
    let server = Server::start(Kind::Http);
    let mut idle = server.connect().await;
    idle.write_all(b"GET /status/200 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut idle, "200 OK\n").await;
    let mut silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    read_until(&mut busy, "ab").await;
    server.shutdown.send_replace(true);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    busy.write_all(b"cd").await.unwrap();
    let mut rest = String::new();
    busy.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "cd");
    server.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}
