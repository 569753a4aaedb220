//! How calls end that do not end well: cancelled, reset, refused, answered by no gRPC server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gwproxy_core::breaker::State;
use gwproxy_core::upstream::{Cluster, ClusterSettings, Endpoint};
use h2::Reason;
use http::Response;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::support::*;
use crate::deadline::Settings;

/// Every reason of RFC 9113 §7 with the status that `PROTOCOL-HTTP2.md` gives it.
const RESETS: [(Reason, &str); 13] = [
    (Reason::PROTOCOL_ERROR, "13"),
    (Reason::INTERNAL_ERROR, "13"),
    (Reason::FLOW_CONTROL_ERROR, "13"),
    (Reason::SETTINGS_TIMEOUT, "13"),
    (Reason::STREAM_CLOSED, "13"),
    (Reason::FRAME_SIZE_ERROR, "13"),
    (Reason::REFUSED_STREAM, "14"),
    (Reason::CANCEL, "1"),
    (Reason::COMPRESSION_ERROR, "13"),
    (Reason::CONNECT_ERROR, "13"),
    (Reason::ENHANCE_YOUR_CALM, "8"),
    (Reason::INADEQUATE_SECURITY, "7"),
    (Reason::HTTP_1_1_REQUIRED, "13"),
];

#[tokio::test]
async fn p74_a_reset_before_the_head_becomes_its_status() {
    let next = Arc::new(AtomicUsize::new(0));
    let node = node(move |_, mut respond| {
        let (reason, _) = RESETS[next.fetch_add(1, Ordering::Relaxed)];
        async move { respond.send_reset(reason) }
    });
    let proxy = Proxy::to(node.await);
    for (reason, status) in RESETS {
        let answer = proxy.unary(call("/s/M"), &message(b"?")).await;
        assert_eq!(answer.status().0, status, "{reason:?}");
        answer.is_trailers_only(status);
    }
}

#[tokio::test]
async fn p74_a_reset_after_the_head_keeps_its_code() {
    let (reset, resets) = mpsc::channel(16);
    let resets = Arc::new(tokio::sync::Mutex::new(resets));
    let node = node(move |_, mut respond| {
        let resets = Arc::clone(&resets);
        async move {
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            stream.send_data(message(b"half").into(), false).unwrap();
            let reason = resets.lock().await.recv().await.unwrap();
            stream.send_reset(reason);
        }
    });
    let proxy = Proxy::to(node.await);
    for (reason, _) in RESETS {
        let mut client = proxy.connect().await;
        let (response, _request) = client.send_request(call("/s/M"), true).unwrap();
        let mut stream = response.await.unwrap().into_body();
        expect(&mut stream, &message(b"half")).await;
        // Not before: a reset overtakes what is queued in front of it.
        reset.send(reason).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap_err().reason(), Some(reason));
    }
}

#[tokio::test]
async fn p76_a_client_that_cancels_before_the_head_is_heard_by_the_node() {
    let (tell, mut told) = mpsc::channel(16);
    let (arrived, mut arrives) = mpsc::channel(16);
    let node = node(move |_, mut respond| {
        let (tell, arrived) = (tell.clone(), arrived.clone());
        async move {
            arrived.send(()).await.unwrap();
            tell.send(reset_of_call(&mut respond).await).await.unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    for end_stream in [true, false] {
        let mut client = proxy.connect().await;
        let (response, mut request) = client.send_request(call("/s/M"), end_stream).unwrap();
        arrives.recv().await.unwrap();
        request.send_reset(Reason::CANCEL);
        assert_eq!(told.recv().await, Some(Reason::CANCEL), "end_stream: {end_stream}");
        drop(response);
    }
}

#[tokio::test]
async fn p76_a_client_that_cancels_a_stream_is_heard_by_the_node() {
    let (tell, mut told) = mpsc::channel(16);
    let node = node(move |request, mut respond| {
        let tell = tell.clone();
        async move {
            let _body = request.into_body();
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            stream.send_data(message(b"one").into(), false).unwrap();
            tell.send(reset_of(&mut stream).await).await.unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    for end_stream in [true, false] {
        let mut client = proxy.connect().await;
        let (response, mut request) = client.send_request(call("/s/M"), end_stream).unwrap();
        let mut stream = response.await.unwrap().into_body();
        expect(&mut stream, &message(b"one")).await;
        request.send_reset(Reason::CANCEL);
        assert_eq!(told.recv().await, Some(Reason::CANCEL), "end_stream: {end_stream}");
    }
}

#[tokio::test]
async fn p76_a_client_that_goes_away_is_heard_by_the_node() {
    let (tell, mut told) = mpsc::channel(16);
    let node = node(move |_, mut respond| {
        let tell = tell.clone();
        async move {
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            tell.send(reset_of(&mut stream).await).await.unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    let tcp = tokio::net::TcpStream::connect(proxy.addr).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (response, _request) = client.send_request(call("/s/M"), true).unwrap();
    let _response = response.await.unwrap();
    connection.abort();
    assert_eq!(told.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_node_may_answer_before_it_has_heard_all() {
    let node = node(|_request, mut respond| async move {
        let mut head = ok_head();
        head.headers_mut().insert("grpc-status", "8".parse().unwrap());
        respond.send_response(head, true).unwrap();
    });
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(call("/s/Upload"), false).unwrap();
    // As much as the way to the node takes, and more: the client is told to stop.
    let uploading = async {
        let part = bytes::Bytes::from(vec![0; 16 * 1024]);
        while send_all(&mut request, part.clone(), false).await {}
        reset_of(&mut request).await
    };
    let answering = async { Answer::read(response.await.unwrap()).await };
    let (reset, answer) = tokio::join!(uploading, answering);
    answer.is_trailers_only("8");
    assert_eq!(reset, Reason::NO_ERROR);
}

#[tokio::test]
async fn an_unreachable_service_is_unavailable() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::to(socket.local_addr().unwrap());
    let answer = proxy.unary(call("/s/M"), &message(b"?")).await;
    answer.is_trailers_only("14");
    let (_, said) = answer.status();
    assert_eq!(said, "upstream_refused: The service refused the connection.");
}

#[tokio::test]
async fn a_call_that_no_node_saw_goes_to_another_one() {
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let alive = node(|mut request, mut respond| async move {
        let heard = read_all(request.body_mut()).await.unwrap();
        let mut stream = respond.send_response(ok_head(), false).unwrap();
        stream.send_data(heard.into(), false).unwrap();
        stream.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
    });
    let endpoints = [dead.local_addr().unwrap(), alive.await].map(|addr| {
        Endpoint::new(addr.to_string(), "grpc", addr.to_string().parse().unwrap(), None, 1)
    });
    let cluster = Cluster::new(ClusterSettings::new("service"), endpoints.into());
    let proxy = Proxy::start(cluster, Settings::default());
    for _ in 0..2 {
        let answer = proxy.unary(call("/s/M"), &message(b"once")).await;
        assert_eq!(answer.status().0, "0");
        assert_eq!(answer.body, message(b"once"));
    }
}

#[tokio::test]
async fn a_node_that_drops_the_connection_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(tcp).await.unwrap();
            // The call has arrived; nothing is ever said about it.
            let _call = connection.accept().await;
        }
    });
    let proxy = Proxy::to(addr);
    proxy.unary(call("/s/M"), &message(b"?")).await.is_trailers_only("14");
}

#[tokio::test]
async fn a_node_that_speaks_no_http2_at_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let said = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut tcp, said).await.unwrap();
        }
    });
    let proxy = Proxy::to(addr);
    let answer = proxy.unary(call("/s/M"), &message(b"?")).await;
    assert!(answer.only_head && ["2", "13", "14"].contains(&answer.status().0), "{answer:?}");
}

// http-grpc-status-mapping.md.
#[tokio::test]
async fn p75_an_answer_that_is_no_grpc_becomes_one() {
    let node = node(|request, mut respond| async move {
        let status: u16 = request.uri().path().rsplit('/').next().unwrap().parse().unwrap();
        let page = Response::builder().status(status).header("content-type", "text/html");
        let mut stream = respond.send_response(page.body(()).unwrap(), false).unwrap();
        stream.send_data("<h1>a page nobody asked for</h1>".into(), true).unwrap();
    });
    let proxy = Proxy::to(node.await);
    for (code, status) in [
        ("200", "2"),
        ("302", "2"),
        ("400", "13"),
        ("401", "16"),
        ("403", "7"),
        ("404", "12"),
        ("429", "14"),
        ("431", "13"),
        ("500", "2"),
        ("502", "14"),
        ("503", "14"),
        ("504", "14"),
    ] {
        let answer = proxy.unary(call(&format!("/s/{code}")), &message(b"?")).await;
        answer.is_trailers_only(status);
        let (_, said) = answer.status();
        assert!(said.contains(if code == "200" { "text/html" } else { code }), "{said}");
    }
}

#[tokio::test]
async fn t58_a_call_without_a_status_is_unknown() {
    let node = node(|request, mut respond| async move {
        match request.uri().path() {
            "/s/Head" => drop(respond.send_response(ok_head(), true).unwrap()),
            "/s/Data" => {
                let mut stream = respond.send_response(ok_head(), false).unwrap();
                stream.send_data(message(b"data").into(), true).unwrap();
            }
            _ => {
                let mut stream = respond.send_response(ok_head(), false).unwrap();
                stream.send_data(message(b"data").into(), false).unwrap();
                stream.send_trailers(trailers(&[("x-other", "1")])).unwrap();
            }
        }
    });
    let proxy = Proxy::to(node.await);
    for path in ["/s/Head", "/s/Data", "/s/Trailers"] {
        let answer = proxy.unary(call(path), &message(b"?")).await;
        assert_eq!(answer.status().0, "2", "{path}");
        assert!(answer.status().1.contains("without a status"), "{path}");
    }
    let answer = proxy.unary(call("/s/Trailers"), &message(b"?")).await;
    assert_eq!(answer.trailers.unwrap()["x-other"], "1");
}

// Coverage B.6: a breaker that only sees HTTP statuses never opens for gRPC, where all are 200.
#[tokio::test]
async fn the_breaker_counts_the_status_of_calls() {
    for (status, opens) in [("14", true), ("13", true), ("5", false), ("0", false)] {
        for in_trailers in [true, false] {
            let node = node(move |_, mut respond| async move {
                let mut head = ok_head();
                if in_trailers {
                    let mut stream = respond.send_response(head, false).unwrap();
                    stream.send_data(message(b"x").into(), false).unwrap();
                    stream.send_trailers(trailers(&[("grpc-status", status)])).unwrap();
                } else {
                    head.headers_mut().insert("grpc-status", status.parse().unwrap());
                    respond.send_response(head, true).unwrap();
                }
            });
            let mut settings = ClusterSettings::new("breaking");
            settings.breaker = Some("50%,min=4,open=1h".parse().unwrap());
            let cluster = cluster_of(settings, "grpc", node.await);
            let proxy = Proxy::start(Arc::clone(&cluster), Settings::default());
            for _ in 0..4 {
                assert_eq!(proxy.unary(call("/s/M"), b"").await.status().0, status);
            }
            let answer = proxy.unary(call("/s/M"), b"").await;
            let is_open = cluster.breaker().unwrap().state() == State::Open;
            assert_eq!(is_open, opens, "{status} in_trailers: {in_trailers}");
            if opens {
                answer.is_trailers_only("14");
                assert!(answer.status().1.starts_with("breaker_open"), "{answer:?}");
                assert!(answer.head.contains_key("grpc-retry-pushback-ms"));
            }
        }
    }
}
