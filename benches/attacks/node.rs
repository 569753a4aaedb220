//! The node behind the proxy: it answers at once, streams for ever, or reads slowly.
//!
//! | target | what it does |
//! |---|---|
//! | `/large` | sends 1 GiB |
//! | `/slow` | reads the body at 64 KiB/s, then answers |
//! | others | reads the body, then answers [`CONTENT`] |

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What honest clients get.
pub(crate) const CONTENT: &[u8; 100] = &[b'x'; 100];

/// The pause after each piece that `/slow` reads, and the piece.
const PAUSE: Duration = Duration::from_millis(250);
const PIECE_BYTES: usize = 16 * 1024;

const SEND_BYTES: usize = 32 * 1024;

const LARGE_BYTES: usize = 1 << 30;

/// Starts it on a thread of its own, for as long as the program runs.
pub(crate) fn start() -> SocketAddr {
    let listener = listen().expect("a port is free");
    let addr = listener.local_addr().expect("it listens");
    std::thread::spawn(move || {
        crate::runtime().block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
    });
    addr
}

/// With a queue that no burst of connections fills.
fn listen() -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Answers requests until the connection ends, in whatever way.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // What its kernel would take of `/large` for a proxy that does not read is not under test.
    socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BYTES)?;
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        bytes.drain(..end);
        let is_slow = head.split(' ').nth(1) == Some("/slow");
        read_body(&mut stream, &mut bytes, &head, is_slow).await?;
        if head.split(' ').nth(1) == Some("/large") {
            return send_large(&mut stream).await;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CONTENT.len());
        stream.write_all(&[answer.as_bytes(), CONTENT].concat()).await?;
    }
}

async fn read_body(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    head: &str,
    is_slow: bool,
) -> io::Result<()> {
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let length = field("content-length: ").and_then(|length| length.trim().parse::<usize>().ok());
    let is_chunked = field("transfer-encoding: ").is_some();
    let mut left = length.unwrap_or(0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if is_chunked && bytes.ends_with(b"0\r\n\r\n") {
            bytes.clear();
            return Ok(());
        }
        if !is_chunked {
            let taken = left.min(bytes.len());
            bytes.drain(..taken);
            left -= taken;
            if left == 0 {
                return Ok(());
            }
        }
        if is_slow {
            tokio::time::sleep(PAUSE).await;
        }
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Of chunks only how they end matters.
        let excess = bytes.len().saturating_sub(16);
        bytes.drain(..if is_chunked { excess } else { 0 });
        bytes.extend_from_slice(&piece[..count]);
    }
}

async fn send_large(stream: &mut TcpStream) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let piece = vec![b'l'; 64 * 1024];
    for _ in 0..LARGE_BYTES / piece.len() {
        stream.write_all(&piece).await?;
    }
    Ok(())
}
