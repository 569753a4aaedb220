//! How WebSocket meets HTTP: the handshake's judge, and the carrier of what follows.

use std::rc::Rc;

use gwproxy_core::Error;
use gwproxy_core::limit::Meters;
use gwproxy_core::worker::{LocalFuture, Worker};
use gwproxy_http::h1::head;
use gwproxy_http::tunnel::{Agreed, Traffic, Upgrade, Upgraded};
use gwproxy_http::{Request, RequestParts, Response, ResponseParts, rescue};
use http::Version;
use http::header::HeaderValue;

use crate::handshake::{self, Reject};
use crate::relay::{Opening, relay_counted};
use crate::settings::Settings;

/// WebSocket for an HTTP listener: checks handshakes and carries frames.
#[derive(Debug, Clone, Default)]
pub struct WebSocket {
    settings: Settings,
    meters: Meters,
}

impl WebSocket {
    /// Connections are held to `settings`.
    pub fn new(settings: Settings) -> Self {
        Self { settings, meters: Meters::default() }
    }

    /// Clients' messages are limited by `meters`.
    #[must_use]
    pub fn metered(self, meters: Meters) -> Self {
        Self { meters, ..self }
    }
}

impl Upgrade for WebSocket {
    fn check_request(&self, parts: &RequestParts) -> Result<(), Box<Response>> {
        handshake::check_request(parts).map_err(|reject| Box::new(answer(reject, parts.version)))
    }

    fn check_response(
        &self,
        request: &RequestParts,
        response: &ResponseParts,
    ) -> Result<Agreed, Error> {
        handshake::check_response(request, response)?;
        Ok(Agreed { extensions: handshake::has_extensions(response) })
    }

    fn carry(
        self: Rc<Self>,
        client: Upgraded,
        upstream: Upgraded,
        agreed: Agreed,
        worker: Rc<Worker>,
        traffic: Rc<Traffic>,
    ) -> LocalFuture<()> {
        let ahead = client.ahead();
        let opening = Opening {
            early_from_client: client.early,
            early_from_upstream: upstream.early,
            extensions: agreed.extensions,
            ahead,
            meters: self.meters.clone(),
        };
        let (client, upstream) = (client.io, upstream.io);
        Box::pin(async move {
            let settings = &self.settings;
            let report =
                relay_counted(client, upstream, opening, &worker, settings, &traffic).await;
            traffic.ending.set(Some((report.end.as_str(), report.end.code())));
            tracing::debug!(?report, "WebSocket connection ended");
        })
    }
}

/// The answer of a listener that takes nothing but WebSocket to a request that is no handshake,
/// mostly 426; none for one that is.
pub fn refusal(request: &Request) -> Option<Response> {
    let version = request.version();
    handshake::check(request.method(), request.uri(), version, request.headers())
        .err()
        .map(|reject| answer(reject, version))
}

/// The response that tells a client why its request is no handshake.
fn answer(reject: Reject, version: Version) -> Response {
    let (status, reason) = (reject.status(), reject.sentence());
    let mut response = rescue::rejected(&head::Reject { status, reason });
    for (name, value) in reject.fields() {
        // RFC 9113 §8.2.2: HTTP/2 has no Upgrade.
        if version < Version::HTTP_2 || *name != http::header::UPGRADE {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

#[cfg(test)]
mod tests;
