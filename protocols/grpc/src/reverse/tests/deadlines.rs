//! Deadlines: told, shortened, enforced.

use bytes::Bytes;
use gwproxy_core::units::Span;
use h2::Reason;
use tokio::sync::mpsc;

use super::support::*;
use crate::deadline::Settings;

/// A node that answers with the `grpc-timeout` it was told.
async fn mirror() -> std::net::SocketAddr {
    node(|request, mut respond| async move {
        let told = request.headers().get("grpc-timeout");
        let told = told.map_or("none", |value| value.to_str().unwrap()).to_owned();
        let mut stream = respond.send_response(ok_head(), false).unwrap();
        stream.send_data(told.into(), false).unwrap();
        stream.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
    })
    .await
}

fn hasty(timeout: &str) -> http::Request<()> {
    with(call("/s/M"), &[("grpc-timeout", timeout)])
}

#[tokio::test]
async fn p72_the_deadline_reaches_the_node_and_never_grows() {
    let node = mirror().await;
    let proxy = Proxy::to(node);
    assert_eq!(proxy.unary(call("/s/M"), b"").await.body, b"none");
    assert_eq!(proxy.unary(hasty("30S"), b"").await.body, b"30S");
    // What was spent on the way is taken off.
    let late = with(hasty("30S"), &[("x-spent", "10")]);
    let told = String::from_utf8(proxy.unary(late, b"").await.body).unwrap();
    let micros: u64 = told.strip_suffix('u').expect(&told).parse().unwrap();
    assert!((10_000_000..=20_000_000).contains(&micros), "{told}");
    proxy.unary(with(hasty("30S"), &[("x-spent", "30")]), b"").await.is_trailers_only("4");
    // The default maximum is 5 minutes.
    assert_eq!(proxy.unary(hasty("99999999H"), b"").await.body, b"300000m");
    let off = Settings { max_deadline: Span::default() };
    let proxy = Proxy::start(cluster(node), off);
    assert_eq!(proxy.unary(hasty("99999999H"), b"").await.body, b"99999999H");
}

#[tokio::test]
async fn t58_hostile_deadlines_are_answered_without_the_node() {
    let node = node(|_, _| async { panic!("the node must not be asked") });
    let proxy = Proxy::to(node.await);
    for hostile in ["123456789S", "-1S", "", "1", "1s", "S"] {
        let answer = proxy.unary(hasty(hostile), b"").await;
        answer.is_trailers_only("13");
        assert!(answer.status().1.contains("grpc-timeout"), "{answer:?}");
    }
    proxy.unary(hasty("0n"), b"").await.is_trailers_only("4");
    let twice = with(hasty("1S"), &[("grpc-timeout", "2S")]);
    proxy.unary(twice, b"").await.is_trailers_only("13");
}

#[tokio::test]
async fn p72_a_node_that_says_nothing_is_given_up_and_told_so() {
    let (tell, mut told) = mpsc::channel(16);
    let node = node(move |_, mut respond| {
        let tell = tell.clone();
        async move { tell.send(reset_of_call(&mut respond).await).await.unwrap() }
    });
    let proxy = Proxy::to(node.await);
    let answer = proxy.unary(hasty("100m"), &message(b"?")).await;
    answer.is_trailers_only("4");
    assert!(answer.status().1.starts_with("upstream_timeout"), "{answer:?}");
    assert_eq!(told.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn p72_a_call_that_is_still_being_sent_has_its_deadline_too() {
    let (tell, mut told) = mpsc::channel(16);
    let node = node(move |request, mut respond| {
        let tell = tell.clone();
        async move {
            let _body = request.into_body();
            tell.send(reset_of_call(&mut respond).await).await.unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(hasty("100m"), false).unwrap();
    request.send_data(message(b"first of many").into(), false).unwrap();
    Answer::read(response.await.unwrap()).await.is_trailers_only("4");
    assert_eq!(told.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn p72_a_stream_that_outlives_its_deadline_ends_with_the_status() {
    let (tell, mut told) = mpsc::channel(16);
    let node = node(move |_, mut respond| {
        let tell = tell.clone();
        async move {
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            stream.send_data(message(b"one").into(), false).unwrap();
            tell.send(reset_of(&mut stream).await).await.unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    let answer = proxy.unary(hasty("100m"), &message(b"?")).await;
    assert_eq!(answer.body, message(b"one"));
    assert_eq!(answer.trailers.as_ref().unwrap()["grpc-status"], "4");
    assert_eq!(told.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn p72_a_conversation_that_outlives_its_deadline_is_cut_on_both_sides() {
    let (tell, mut told) = mpsc::channel(16);
    let node = node(move |request, mut respond| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            let mut stream = respond.send_response(ok_head(), false).unwrap();
            let heard = read_all(&mut body).await.unwrap_err().reason();
            tell.send((heard, reset_of(&mut stream).await)).await.unwrap();
        }
    });
    let proxy = Proxy::to(node.await);
    let mut client = proxy.connect().await;
    let (response, mut request) = client.send_request(hasty("200m"), false).unwrap();
    request.send_data(message(b"still talking").into(), false).unwrap();
    let answer = Answer::read(response.await.unwrap()).await;
    assert_eq!(answer.status().0, "4");
    // The client never ended its side; the node is told all the same.
    assert_eq!(told.recv().await, Some((Some(Reason::CANCEL), Reason::CANCEL)));
    drop(request);
}

#[tokio::test]
async fn a_node_that_never_stops_sending_meets_the_deadline_too() {
    let node = node(|_, mut respond| async move {
        let mut stream = respond.send_response(ok_head(), false).unwrap();
        let flood = Bytes::from(vec![0; 16 * 1024]);
        while send_all(&mut stream, flood.clone(), false).await {}
    });
    let proxy = Proxy::to(node.await);
    let answer = proxy.unary(hasty("100m"), &message(b"?")).await;
    assert_eq!(answer.status().0, "4");
    assert!(!answer.body.is_empty());
}
