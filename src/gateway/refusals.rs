//! Connections that are refused for their PROXY header, or because their address has too many,
//! counted. They have no request and no session that could be.

use std::rc::Rc;
use std::sync::Arc;

use gwproxy_core::Error;
use gwproxy_core::net::accept::{Held, Serve};
use gwproxy_core::net::{Peer, Stream};
use gwproxy_core::telemetry::metrics::Cells;
use gwproxy_core::worker::LocalFuture;

/// Serves as `serve` does.
pub struct Refusals {
    /// Who takes the connections that are not refused.
    pub serve: Rc<dyn Serve>,
    /// The metrics of the worker.
    pub metrics: Arc<Cells>,
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refusals").finish_non_exhaustive()
    }
}

impl Serve for Refusals {
    fn serve(self: Rc<Self>, stream: Stream, peer: Peer, held: Held) -> LocalFuture<()> {
        Rc::clone(&self.serve).serve(stream, peer, held)
    }

    fn refused(&self, _peer: &Peer, error: &Error) {
        self.metrics.refuse(error.code());
    }
}
