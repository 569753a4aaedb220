//! Bodies that come or go too slowly (D03, T24), on either wire.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{interval, timeout};

use super::frames::{data, headers};
use super::support::{House, Wire, echo, node, run, seconds, send_all};
use crate::h2::Reason;

/// Long after anything would have been given up.
const LIMIT: Duration = Duration::from_secs(150);
/// POST / of `a`, of a mebibyte.
const POST: &[u8] = b"\x83\x86\x84\x01\x01a\x0f\x0d\x071048576";
/// The same without a length.
const STREAM: &[u8] = b"\x83\x86\x84\x01\x01a";

/// Runs `act` every five seconds until `end` is there, if that is before the limit.
async fn every_five_seconds<T>(
    mut act: impl AsyncFnMut(),
    end: impl Future<Output = T>,
) -> Option<T> {
    let mut timer = interval(Duration::from_secs(5));
    let acting = async {
        loop {
            timer.tick().await;
            act().await;
        }
    };
    let ended = async {
        tokio::select! {
            end = end => end,
            () = acting => unreachable!("it goes on for ever"),
        }
    };
    timeout(LIMIT, ended).await.ok()
}

#[track_caller]
fn assert_given_up(after: u64, is_ended: bool, is_expected: bool) {
    assert_eq!(is_ended, is_expected, "after {after} s");
    assert!(!is_ended || (29..=61).contains(&after), "{after} s");
}

/// An upload of which `size` bytes come every five seconds.
async fn upload_h1(proxy: SocketAddr, size: usize, framing: &str) -> (u64, bool) {
    let tcp = TcpStream::connect(proxy).await.unwrap();
    let (mut from, mut to) = tcp.into_split();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    to.write_all(head.as_bytes()).await.unwrap();
    let is_chunked = framing.starts_with("Transfer");
    let content = "x".repeat(size);
    let piece = if is_chunked { format!("{size:x}\r\n{content}\r\n") } else { content };
    let closed = async {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all).await;
    };
    let sent = every_five_seconds(async || drop(to.write_all(piece.as_bytes()).await), closed);
    let (after, ended) = seconds(sent).await;
    (after, ended.is_some())
}

/// T24.
#[test]
fn d03_an_upload_over_http1_that_is_too_slow() {
    let known = "Content-Length: 1048576";
    // What has no length may have nothing to say for long.
    let cases =
        [(1, known, true), (10_240, known, false), (1, "Transfer-Encoding: chunked", false)];
    for (size, framing, is_given_up) in cases {
        run(async |house: House| {
            let proxy = house.proxy(&[echo(h2::server::Builder::new()).await]);
            let (after, ended) = upload_h1(proxy, size, framing).await;
            assert_given_up(after, ended, is_given_up);
        });
    }
}

/// T24.
#[test]
fn d03_an_upload_over_http2_that_is_too_slow() {
    for (size, head, is_given_up) in [(1, POST, true), (10_240, POST, false), (1, STREAM, false)] {
        run(async |house: House| {
            // It takes what comes and does not answer in a hurry.
            let node = node(h2::server::Builder::new(), |request, mut respond| async move {
                let _send = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
            })
            .await;
            let mut wire = Wire::connect(house.proxy(&[node]), &[]).await;
            wire.say(&headers(1, head, false)).await;
            let ended = timeout(LIMIT, wire.drips(5, data(1, size, false)));
            let (after, ended) = seconds(ended).await;
            assert_given_up(after, ended.is_ok(), is_given_up);
            assert!(ended.is_err() || ended == Ok(Reason::CANCEL), "{ended:?}");
        });
    }
}

/// T24: a byte now and then is not enough.
#[test]
fn t24_a_reader_over_http1_that_is_too_slow() {
    run(async |house: House| {
        let given_up = Rc::new(Notify::new());
        let told = Rc::clone(&given_up);
        let node = node(h2::server::Builder::new(), move |_, mut respond| {
            let told = Rc::clone(&told);
            async move {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                let piece = Bytes::from(vec![b'x'; 16_384]);
                while send_all(&mut send, piece.clone()).await {}
                told.notify_one();
            }
        })
        .await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut tcp = socket.connect(house.proxy(&[node])).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let read = async || drop(tcp.read_u8().await);
        let (after, ended) = seconds(every_five_seconds(read, given_up.notified())).await;
        assert_given_up(after, ended.is_some(), true);
    });
}
