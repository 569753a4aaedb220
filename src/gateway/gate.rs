//! Limits of connections, asked before anything is read from one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gwproxy_core::Error;
use gwproxy_core::limit::{Admission, Counted};
use gwproxy_core::net::accept::{Held, Serve};
use gwproxy_core::net::{Peer, Stream};
use gwproxy_core::telemetry::metrics::Cells;
use gwproxy_core::timer::pause;
use gwproxy_core::worker::LocalFuture;

use super::limit::{Ledger, Limit};

/// Serves as `serve` does, whom the limits let in. The others are reset: an orderly close would
/// look like a server with nothing to say.
pub struct Gate {
    /// Who takes the connections that are let in.
    pub serve: Rc<dyn Serve>,
    /// The limits of the listener.
    pub limit: Arc<Limit>,
    /// The metrics of the worker.
    pub metrics: Arc<Cells>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Serve for Gate {
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()> {
        let mut admission = Admission::default();
        let of = [Counted::Connections];
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let checked =
            self.limit.check_connection(&of, peer.remote, &mut admission, &mut ledger, now);
        drop(ledger);
        if let Err(error) = checked {
            self.metrics.refuse(error.code());
            tracing::debug!(client = %peer.remote, "a connection is refused: {}", error.sentence());
            stream.abort_on_close();
            return Box::pin(async {});
        }
        let stream = match self.limit.pace(peer.remote) {
            Some(pace) => stream.paced(pace),
            None => stream,
        };
        let serve = Rc::clone(&self.serve);
        if admission.wait.is_zero() && admission.permits.is_empty() {
            return serve.serve(stream, peer, held);
        }
        Box::pin(async move {
            let Admission { wait, permits } = admission;
            pause(wait).await;
            serve.serve(stream, peer, held).await;
            drop(permits);
        })
    }

    fn refused(&self, peer: &Peer, error: &Error) {
        self.serve.refused(peer, error);
    }
}
