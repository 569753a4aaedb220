//! D08: connections do not serve for ever.

use std::time::Duration;

use h2::client::Builder;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::support::{client, echo, listener, run, whole};

/// Between requests: shorter than either side lets a connection idle.
const PAUSE: Duration = Duration::from_secs(40);

/// An hour, a tenth more or less, and what one pause adds.
#[track_caller]
fn assert_is_about_an_hour(age: Duration) {
    let minutes = age.as_secs() / 60;
    assert!((54..=67).contains(&minutes), "{minutes} min");
}

/// D08: HTTP/2: whoever asks again and again is told by GOAWAY to ask elsewhere, and loses no request.
#[test]
fn d08_an_old_connection_of_an_http2_client_says_farewell() {
    run(async |house| {
        let node = echo(h2::server::Builder::new()).await;
        let addr = house.proxy(&[node]);
        let mut sender = client(addr, &Builder::new()).await;
        let began = Instant::now();
        loop {
            let Ok(ready) = sender.clone().ready().await else { break };
            sender = ready;
            let request = Request::get("http://a/").body(()).unwrap();
            let Ok((response, _)) = sender.send_request(request, true) else { break };
            assert_eq!(whole(response.await.unwrap()).await.unwrap().status, 200);
            sleep(PAUSE).await;
        }
        assert_is_about_an_hour(began.elapsed());
    });
}

/// D08: HTTP/1: the answer says that it is the last one. The connection to the node ends at its
/// own age.
#[test]
fn d08_old_connections_over_http1_are_replaced() {
    run(async |house| {
        let (listener, node) = listener().await;
        let (tell, mut ages) = tokio::sync::mpsc::channel(8);
        tokio::task::spawn_local(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let (began, tell) = (Instant::now(), tell.clone());
                tokio::task::spawn_local(async move {
                    let mut head = [0; 1024];
                    while tcp.read(&mut head).await.unwrap_or(0) > 0 {
                        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                            .await
                            .unwrap();
                    }
                    tell.send(began.elapsed()).await.unwrap();
                });
            }
        });
        let addr = house.proxy_to("http", &[node]);
        for _ in 0..2 {
            let mut tcp = TcpStream::connect(addr).await.unwrap();
            let began = Instant::now();
            loop {
                tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                let mut answer = [0; 1024];
                let count = tcp.read(&mut answer).await.unwrap();
                let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
                assert!(answer.starts_with("http/1.1 200"), "{answer}");
                if answer.contains("connection: close") {
                    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
                    break;
                }
                sleep(PAUSE).await;
            }
            assert_is_about_an_hour(began.elapsed());
        }
        assert_is_about_an_hour(ages.recv().await.unwrap());
    });
}
