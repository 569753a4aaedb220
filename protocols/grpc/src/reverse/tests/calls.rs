//! The four kinds of call, and what must pass untouched.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gwproxy_core::upstream::ClusterSettings;

use super::support::*;
use crate::deadline::Settings;

/// The values of a field in order.
fn values<'a>(fields: &'a http::HeaderMap, name: &str) -> Vec<&'a [u8]> {
    fields.get_all(name).iter().map(http::HeaderValue::as_bytes).collect()
}

// PROTOCOL-HTTP2.md: duplicates keep their order, `-bin` is base64 with or without padding.
#[tokio::test]
async fn p71_p73_unary_with_metadata_and_trailers_untouched() {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let node = node(move |mut request, mut respond| {
        let note = Arc::clone(&note);
        async move {
            assert_eq!(read_all(request.body_mut()).await.unwrap(), message(b"question"));
            *note.lock().unwrap() = Some(request.into_parts().0);
            let mut head = ok_head();
            head.headers_mut().append("x-trace-bin", "AAEC/w".parse().unwrap());
            head.headers_mut().append("x-trace-bin", "AAEC/w==,Zm9v".parse().unwrap());
            let mut stream = respond.send_response(head, false).unwrap();
            stream.send_data(message(b"answer").into(), false).unwrap();
            let fields =
                [("grpc-status", "0"), ("x-end-bin", "//79"), ("x-end", "1"), ("x-end", "2")];
            stream.send_trailers(trailers(&fields)).unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    let fields =
        [("x-id-bin", "AQI="), ("x-id-bin", "AQI,AQI="), ("x-order", "b"), ("x-order", "a")];
    let answer =
        proxy.unary(with(call("/pkg.Service/Method"), &fields), &message(b"question")).await;
    let asked = seen.lock().unwrap().take().unwrap();
    assert_eq!(asked.uri.path(), "/pkg.Service/Method");
    assert_eq!(asked.uri.authority().unwrap(), "service.test");
    assert_eq!(values(&asked.headers, "x-id-bin"), [&b"AQI="[..], b"AQI,AQI="]);
    assert_eq!(values(&asked.headers, "x-order"), [b"b", b"a"]);
    assert_eq!(values(&asked.headers, "te"), [b"trailers"]);
    assert_eq!(asked.headers["content-type"], "application/grpc+test");
    assert!(!asked.headers.contains_key("grpc-timeout"));
    assert_eq!(answer.body, message(b"answer"));
    assert_eq!(values(&answer.head, "x-trace-bin"), [&b"AAEC/w"[..], b"AAEC/w==,Zm9v"]);
    let end = answer.trailers.unwrap();
    let expected =
        trailers(&[("grpc-status", "0"), ("x-end-bin", "//79"), ("x-end", "1"), ("x-end", "2")]);
    assert_eq!(end, expected);
}

#[tokio::test]
async fn p70_the_node_is_told_that_trailers_pass() {
    let node = node(|request, mut respond| async move {
        let te = request.headers().get("te").map_or("none", |te| te.to_str().unwrap()).to_owned();
        let mut stream = respond.send_response(ok_head(), false).unwrap();
        stream.send_data(te.into(), false).unwrap();
        stream.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
    });
    let proxy = Proxy::to(node.await);
    let mut call = call("/s/M");
    call.headers_mut().remove("te");
    assert_eq!(proxy.unary(call, b"").await.body, b"trailers");
}

// PROTOCOL-HTTP2.md, Trailers-Only: one head with END_STREAM.
#[tokio::test]
async fn p71_a_trailers_only_error_passes_byte_for_byte() {
    let node = node(|_, mut respond| async move {
        let mut head = ok_head();
        let fields = [
            ("grpc-status", "5"),
            ("grpc-message", "no%20such%20thing %F0%9F%A6%80 100%25"),
            ("grpc-status-details-bin", "CAUSB25vIHN1Y2g"),
        ];
        for (name, value) in fields {
            head.headers_mut().append(name, value.parse().unwrap());
        }
        respond.send_response(head, true).unwrap();
    });
    let proxy = Proxy::to(node.await);
    let answer = proxy.unary(call("/s/M"), &message(b"?")).await;
    answer.is_trailers_only("5");
    assert_eq!(answer.head["grpc-message"], "no%20such%20thing %F0%9F%A6%80 100%25");
    assert_eq!(answer.head["grpc-status-details-bin"], "CAUSB25vIHN1Y2g");
}

#[tokio::test]
async fn server_streaming_each_message_as_it_comes() {
    let (next, turns) = tokio::sync::mpsc::channel::<u8>(16);
    let turns = Arc::new(tokio::sync::Mutex::new(turns));
    let node = node(move |_, mut respond| {
        let turns = Arc::clone(&turns);
        async move {
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            while let Some(turn) = turns.lock().await.recv().await {
                stream.send_data(message(&[turn]).into(), false).unwrap();
            }
            stream.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(call("/s/Watch"), false).unwrap();
    request.send_data(message(b"all").into(), true).unwrap();
    // The head comes before the first message: a watcher learns that it watches.
    let mut stream = response.await.unwrap().into_body();
    for turn in 0..5 {
        next.send(turn).await.unwrap();
        expect(&mut stream, &message(&[turn])).await;
    }
    drop(next);
    assert!(stream.data().await.is_none());
    assert_eq!(stream.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn client_streaming_the_node_answers_when_it_has_heard_all() {
    let node = node(|mut request, mut respond| async move {
        let all = read_all(request.body_mut()).await.unwrap();
        let mut stream = respond.send_response(ok_head(), false).unwrap();
        stream.send_data(message(all.len().to_string().as_bytes()).into(), false).unwrap();
        stream.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
    });
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(call("/s/Upload"), false).unwrap();
    for part in 0..5_u8 {
        request.send_data(message(&[part]).into(), part == 4).unwrap();
    }
    let answer = Answer::read(response.await.unwrap()).await;
    assert_eq!(answer.body, message(b"30"));
    assert_eq!(answer.status(), ("0", ""));
}

#[tokio::test]
async fn bidirectional_streaming_is_a_conversation() {
    let node = node(echo);
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(call("/s/Chat"), false).unwrap();
    let mut stream = response.await.unwrap().into_body();
    for turn in 0..10 {
        // Each waits for the other: nothing may be held back on either way.
        request.send_data(message(&[turn]).into(), false).unwrap();
        expect(&mut stream, &message(&[turn])).await;
    }
    request.send_data(Bytes::new(), true).unwrap();
    assert!(stream.data().await.is_none());
    assert_eq!(stream.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn twenty_mebibytes_each_way_at_once_arrive_unchanged() {
    const SIZE: usize = 20 << 20;
    let node = node(echo);
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(call("/s/Chat"), false).unwrap();
    let pattern: Bytes = (0..SIZE).map(|i| (i * 31 + (i >> 13)) as u8).collect::<Vec<_>>().into();
    let sent = pattern.clone();
    let sending = send_all(&mut request, sent, true);
    let receiving = async { Answer::read(response.await.unwrap()).await };
    let (sent, answer) = tokio::join!(sending, receiving);
    assert!(sent);
    assert!(answer.body == pattern, "bytes changed");
    assert_eq!(answer.status(), ("0", ""));
}

// The proxy reads no message, so no length it claims makes the proxy allocate.
#[tokio::test]
async fn t58_a_message_that_lies_about_its_length_is_the_nodes_to_judge() {
    let node = node(|mut request, mut respond| async move {
        let got = read_all(request.body_mut()).await.unwrap();
        let mut stream = respond.send_response(ok_head(), false).unwrap();
        stream.send_data(got.into(), false).unwrap();
        stream.send_trailers(trailers(&[("grpc-status", "13")])).unwrap();
    });
    let proxy = Proxy::to(node.await);
    let mut lie = vec![1, 0xff, 0xff, 0xff, 0xff];
    lie.extend(b"ten bytes.");
    let answer = proxy.unary(call("/s/M"), &lie).await;
    assert_eq!(answer.body, lie);
    assert_eq!(answer.status(), ("13", ""));
}

#[tokio::test]
async fn a_plain_http_node_is_spoken_to_in_http2() {
    let cluster = cluster_of(ClusterSettings::new("service"), "http", node(echo).await);
    let proxy = Proxy::start(cluster, Settings::default());
    let answer = proxy.unary(call("/s/M"), &message(b"x")).await;
    assert_eq!((answer.body, answer.trailers.is_some()), (message(b"x"), true));
}

/// Sends back what it gets, as it gets it.
async fn echo(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let mut from = request.into_body();
    let mut to = respond.send_response(ok_head(), false).unwrap();
    while let Some(data) = from.data().await {
        let Ok(data) = data else { return };
        let size = data.len();
        if !send_all(&mut to, data, false).await {
            return;
        }
        from.flow_control().release_capacity(size).unwrap();
    }
    to.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
}
