//! The TCP echo: bytes come back as they come, and so does the end of them.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{Connection, Io};

pub(super) const HELP: &str = "\
Every byte comes back as it came. When the client ends its direction (a half-close), the rest is
still sent before this side ends too.";

/// What is held of a connection: nothing is read before this much is written back.
const BUFFER: usize = 16 * 1024;

/// Echoes until the client is done or the server drains.
pub(super) async fn echo(mut io: Io, connection: Arc<Connection>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = tokio::select! {
            read = io.read(&mut buffer) => read?,
            () = connection.draining() => 0,
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        tokio::select! {
            biased;
            written = io.write_all(bytes) => written?,
            () = connection.draining() => break,
        }
        io.flush().await?;
    }
    io.shutdown().await
}
