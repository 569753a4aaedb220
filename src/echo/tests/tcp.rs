//! The TCP echo.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;

async fn echo_and_half_close(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    io.write_all(b"one").await.unwrap();
    let mut back = [0; 3];
    io.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"one");
    io.write_all(b"two\0\xff").await.unwrap();
    io.shutdown().await.unwrap();
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"two\0\xff");
}

#[tokio::test]
async fn bytes_come_back_and_a_half_close_is_honoured() {
    let server = Server::start(Kind::Tcp);
    echo_and_half_close(server.connect().await).await;
    server.stop().await;
    let server = Server::start_tls(Kind::Tcp);
    echo_and_half_close(server.connect_tls(&[]).await).await;
    server.stop().await;
}

#[tokio::test]
async fn much_comes_back_while_it_is_sent() {
    let server = Server::start(Kind::Tcp);
    let (mut read, mut write) = server.connect().await.into_split();
    let sent = body::filler_bytes(8 << 20);
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.unwrap();
    sender.await.unwrap();
    assert!(back == sent);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_ends_idle_connections() {
    let server = Server::start(Kind::Tcp);
    let mut idle = server.connect().await;
    idle.write_all(b"x").await.unwrap();
    assert_eq!(idle.read_u8().await.unwrap(), b'x');
    server.stop().await;
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_the_future_ends_all_connections() {
    let server = Server::start(Kind::Tcp);
    let mut idle = server.connect().await;
    idle.write_all(b"x").await.unwrap();
    assert_eq!(idle.read_u8().await.unwrap(), b'x');
    server.task.abort();
    assert!(server.task.await.unwrap_err().is_cancelled());
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn a_client_that_breaks_tls_harms_nobody_else() {
    let server = Server::start_tls(Kind::Tcp);
    let mut hostile = server.connect().await;
    hostile.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // An alert, then the end.
    hostile.read_to_end(&mut Vec::new()).await.unwrap();
    echo_and_half_close(server.connect_tls(&[]).await).await;
    server.stop().await;
}
