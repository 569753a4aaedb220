//! The admin address: is the process alive, does it take new work, what does it count.
//!
//! It has a worker of its own, so that it answers when the data plane is busy and while it drains.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::memory;
use gwproxy_core::net::ListenAddr;
use gwproxy_core::net::accept::{Listener, Serve};
use gwproxy_core::net::listen::{Bound, bind};
use gwproxy_core::telemetry::Metrics;
use gwproxy_core::worker::{Phase, Workers};
use gwproxy_http::serve::{Server, Settings};
use gwproxy_http::{Body, Client, Handle, Request, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::watch;

/// Connections at a time: a scraper and a few humans.
const CONNECTIONS_MAX: usize = 64;

/// What the admin address answers from.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where the process is in its life.
    pub phase: watch::Receiver<Phase>,
}

/// Serves `admin` on `addr`, which was written in `setting`, on a thread of its own. Its sockets are
/// taken out of what is returned.
///
/// # Errors
/// One sentence, when the address cannot be used.
pub fn start(addr: &ListenAddr, setting: &str, admin: Admin) -> Result<(Workers, Bound), String> {
    let mut bound = bind(addr, 1).map_err(|error| error.tell(setting))?;
    let mut listener = Listener::new("admin".to_owned(), None, Duration::ZERO, CONNECTIONS_MAX);
    listener.is_vital = true;
    let listener = Arc::new(listener);
    let socket = std::sync::Mutex::new(bound.sockets.pop());
    let workers = Workers::start("admin", 1, move |worker| {
        let Some(socket) = socket.lock().ok().and_then(|mut socket| socket.take()) else { return };
        let server = Server::new(Rc::new(admin.clone()), Rc::clone(&worker), Settings::default());
        let serve: Rc<dyn Serve> = Rc::new(server);
        if let Err(error) = worker.listen(socket, Arc::clone(&listener), serve) {
            tracing::error!(%error, "the admin address cannot listen");
        }
    })
    .map_err(|error| format!("cannot start the admin thread: {error}"))?;
    Ok((workers, bound))
}

impl Handle for Admin {
    async fn handle(self: Rc<Self>, request: Box<Request>, _client: Rc<Client>) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" if *self.phase.borrow() != Phase::Running => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
            "/readyz" if memory::is_short() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "short of memory\n")
            }
            "/readyz" => text(StatusCode::OK, "ready\n"),
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.metrics.render());
                let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, version);
                response
            }
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
        }
    }
}

fn text(status: StatusCode, content: impl Into<bytes::Bytes>) -> Response {
    let mut response = Response::new(Body::full(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
