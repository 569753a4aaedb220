//! R13: clients that keep a connection and do next to nothing with it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::proxy::Proxy;
use crate::tally::{Conn, Tally};

/// Connections that are made together, and the pause before the next: 3,000 a second.
const TOGETHER: usize = 30;
const PAUSE: Duration = Duration::from_millis(10);

/// How such a client goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Announces a body and sends one byte of it.
    Body,
    /// Sends a head, byte by byte.
    Head,
    /// Sends one byte of a PROXY header.
    ProxyHeader,
    /// Asks for much and reads nothing.
    Reader,
    /// Sends nothing where TLS is spoken.
    Tls,
}

/// How long the proxy waits for each kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) tls: Duration,
    pub(crate) proxy_header: Duration,
    pub(crate) head: Duration,
    pub(crate) body: Duration,
}

/// How long after its timeout the last of each kind was cut; none: some were not.
pub(crate) type Late = Arc<Mutex<Vec<(Kind, Option<Duration>)>>>;

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Tls, Self::ProxyHeader, Self::Head, Self::Body, Self::Reader];

    fn addr(self, proxy: &Addrs) -> SocketAddr {
        match self {
            Self::Tls => proxy.tls,
            Self::ProxyHeader => proxy.proxied,
            Self::Body | Self::Head | Self::Reader => proxy.plain,
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Body => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\nx",
            Self::Head => "GET / HTTP/1.1\r\nHost: a\r\nX: ",
            Self::ProxyHeader => "P",
            Self::Reader => "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
            Self::Tls => "",
        }
    }

    pub(crate) fn timeout(self, patience: &Patience) -> Duration {
        match self {
            Self::Body | Self::Reader => patience.body,
            Self::Head => patience.head,
            Self::ProxyHeader => patience.proxy_header,
            Self::Tls => patience.tls,
        }
    }
}

impl Patience {
    pub(crate) fn longest(&self) -> Duration {
        self.tls.max(self.proxy_header).max(self.head).max(self.body)
    }
}

/// Where they go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addrs {
    plain: SocketAddr,
    tls: SocketAddr,
    proxied: SocketAddr,
}

impl From<&Proxy> for Addrs {
    fn from(proxy: &Proxy) -> Self {
        Self { plain: proxy.plain, tls: proxy.tls, proxied: proxy.proxied }
    }
}

/// `count` clients, as many of each kind, each until it is cut or all is over.
pub(crate) async fn run(
    to: Addrs,
    count: usize,
    patience: Patience,
    late: Late,
    tally: Arc<Tally>,
) {
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        if number % TOGETHER == 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let tally = Arc::clone(&tally);
        clients.push((kind, tokio::spawn(stay(kind, number, to, tally))));
    }
    let mut worst = Kind::ALL.map(|kind| (kind, Some(Duration::ZERO)));
    for (kind, client) in clients {
        let stayed = client.await.expect("a client does not panic");
        for (_, late) in worst.iter_mut().filter(|(each, _)| *each == kind) {
            let over = stayed.map(|stayed| stayed.saturating_sub(kind.timeout(&patience)));
            *late = late.zip(over).map(|(late, over)| late.max(over));
        }
    }
    late.lock().expect("nobody panics with it").extend(worst);
}

/// How long it could stay; none: to the end.
async fn stay(kind: Kind, number: usize, to: Addrs, tally: Arc<Tally>) -> Option<Duration> {
    let conn = Conn::open(kind.addr(&to), number, &tally).await?;
    let began = Instant::now();
    conn.send(kind.says().as_bytes()).await;
    loop {
        let turn = Duration::from_millis(if kind == Kind::Head { 1000 } else { 200 });
        let _ = tokio::time::timeout(turn, wait(kind, &conn)).await;
        if tally.is_over() {
            return None;
        }
        let is_open = match kind {
            // It does not read, so that only an error tells it; see `wait`.
            Kind::Reader => conn.stream.take_error().is_ok_and(|error| error.is_none()),
            Kind::Head => conn.take() && conn.send(b"x").await,
            Kind::Body | Kind::ProxyHeader | Kind::Tls => conn.take(),
        };
        if !is_open {
            return Some(began.elapsed());
        }
    }
}

/// Until there may be news.
async fn wait(kind: Kind, conn: &Conn) {
    if kind == Kind::Reader {
        std::future::pending::<()>().await;
    }
    let _ = conn.stream.readable().await;
}
