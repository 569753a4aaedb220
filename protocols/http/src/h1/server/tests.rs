//! Clients of HTTP/1 that are slow or silent, each with the time it gets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::h2::tests::support::{House, listener, run, seconds};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ";

/// A proxy whose node answers everything with `ok`.
async fn proxy(house: &House) -> SocketAddr {
    let (listener, addr) = listener().await;
    tokio::task::spawn_local(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let mut head = [0; 4096];
                while tcp.read(&mut head).await.is_ok_and(|read| read > 0) {
                    tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    house.proxy_to("http", &[addr])
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}

async fn answer(tcp: &mut TcpStream) {
    tcp.write_all(GET).await.unwrap();
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n\r\nok") {
        assert!(tcp.read_buf(&mut all).await.unwrap() > 0, "the end, after {all:?}");
    }
}

/// Everything until the end, while a byte is sent now and then, if it `drips`.
async fn rest(tcp: &mut TcpStream, drips: bool) -> String {
    let (mut read, mut write) = tcp.split();
    let mut all = Vec::new();
    let reading = async {
        // A reset is an end as well: the last byte may have crossed it.
        let _ = read.read_to_end(&mut all).await;
    };
    let dripping = async {
        while drips && write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reading => {}
        () = dripping => {}
    }
    String::from_utf8(all).unwrap()
}

/// Half a second is what a coarse deadline may be late.
#[track_caller]
fn is_about(seconds: u64, expected: u64) {
    assert!((expected..=expected + 1).contains(&seconds), "{seconds} s instead of {expected}");
}

/// A head that stops, and one of which a byte comes now and then: 408 and the end, at the same
/// moment, on a fresh connection and on one that has served.
#[test]
fn t23_a_head_must_come_in_time() {
    run(async |house| {
        let addr = proxy(&house).await;
        for is_fresh in [true, false] {
            for drips in [false, true] {
                let mut tcp = connect(addr).await;
                if !is_fresh {
                    answer(&mut tcp).await;
                    // The time between requests is not the head's.
                    tokio::time::sleep(Duration::from_secs(40)).await;
                }
                tcp.write_all(HEAD).await.unwrap();
                let (after, told) = seconds(rest(&mut tcp, drips)).await;
                is_about(after, 10);
                assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
                assert!(told.contains("connection: close\r\n"), "{told}");
            }
        }
    });
}

/// Who says nothing is told nothing: a fresh connection has the time of a head, a used one that
/// between requests.
#[test]
fn t23_silent_connections_are_closed() {
    run(async |house| {
        let addr = proxy(&house).await;
        for (is_fresh, expected) in [(true, 10), (false, 60)] {
            let mut tcp = connect(addr).await;
            if !is_fresh {
                answer(&mut tcp).await;
            }
            let (after, told) = seconds(rest(&mut tcp, false)).await;
            is_about(after, expected);
            assert_eq!(told, "");
        }
    });
}

/// Hundreds of them, and none of those who have something to say notices.
#[test]
fn t23_slow_clients_take_nothing_from_others() {
    run(async |house| {
        let addr = proxy(&house).await;
        let mut slow = Vec::new();
        for number in 0..300 {
            let mut tcp = connect(addr).await;
            if number % 2 == 0 {
                tcp.write_all(HEAD).await.unwrap();
            }
            slow.push(tcp);
        }
        let mut good = connect(addr).await;
        for _ in 0..9 {
            for tcp in slow.iter_mut().step_by(2) {
                tcp.write_all(b"x").await.unwrap();
            }
            let (after, ()) = seconds(answer(&mut good)).await;
            assert_eq!(after, 0, "it waits for nobody");
            answer(&mut connect(addr).await).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for (number, tcp) in slow.iter_mut().enumerate() {
            let told = rest(tcp, false).await;
            assert_eq!(told.starts_with("HTTP/1.1 408 "), number % 2 == 0, "{number}: {told}");
        }
        answer(&mut good).await;
    });
}
