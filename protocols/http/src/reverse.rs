//! Reverse proxying: the request as the node should see it, the response as the client should.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use gwproxy_core::upstream::Cluster;
use gwproxy_core::worker::Worker;
use gwproxy_core::{Code, Error};
use http::header::{EXPECT, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, Version};

use crate::body::Body;
use crate::fields::{Known, Seen, Value};
use crate::serve::Client;
use crate::tunnel::{Tunnel, Upgrade};
use crate::upstream::{Terms, Upstream};
use crate::wire::forwarded::{self, Trusted};
use crate::wire::hop;
use crate::{Fields, Request, RequestParts, Response, max_forwards};

/// The name in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "gwproxy";

/// Proxies of this name that a request may have passed through.
const OWN_HOPS_MAX: usize = 10;

/// The reverse proxy of one worker.
pub struct Reverse {
    upstream: Rc<Upstream>,
    upgrade: Rc<dyn Upgrade>,
    trusted: Arc<Trusted>,
}

impl std::fmt::Debug for Reverse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reverse").field("trusted", &self.trusted).finish_non_exhaustive()
    }
}

impl Reverse {
    /// A reverse proxy that carries upgraded connections by `upgrade` and believes the forwarding
    /// fields of `trusted` peers.
    pub fn new(upstream: Rc<Upstream>, upgrade: Rc<dyn Upgrade>, trusted: Arc<Trusted>) -> Self {
        Self { upstream, upgrade, trusted }
    }

    /// The way to nodes.
    pub fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    /// Forwards `request` to `cluster` and makes the response fit for the client.
    ///
    /// # Errors
    /// Why there is no response of the node's.
    pub async fn forward(
        &self,
        mut request: Box<Request>,
        client: &Client,
        cluster: &Arc<Cluster>,
        terms: &Terms,
    ) -> Result<Response, Error> {
        let wants_upgrade = wants_websocket(&request);
        let version = request.version();
        if wants_upgrade && let Err(refusal) = self.upgrade.check_request(request.parts()) {
            return Ok(*refusal);
        }
        if let Some(answer) = max_forwards::take_one(&mut request) {
            return Ok(answer);
        }
        prepare(&mut request, client, &self.trusted)?;
        let asked = wants_upgrade.then(|| {
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            Box::new(request.parts().clone())
        });
        add_via(request.headers_mut(), version);
        let response = self.upstream.send(cluster, request, client, terms).await?;
        take_back(&self.upgrade, self.upstream.worker(), asked.as_deref(), response)
    }
}

/// The node's response as the client should see it; after a 101 both ends are joined.
///
/// # Errors
/// A 101 that does not answer what was `asked`, the head of a handshake if it was one, and over
/// HTTP/2 an answer that its client would take for one that does.
pub(crate) fn take_back(
    upgrade: &Rc<dyn Upgrade>,
    worker: &Rc<Worker>,
    asked: Option<&RequestParts>,
    mut response: Response,
) -> Result<Response, Error> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return switch(upgrade, worker, asked, response);
    }
    if status.is_success() && asked.is_some_and(|asked| asked.version == Version::HTTP_2) {
        let sentence = "the node answered a WebSocket's handshake as if it were a plain request";
        let node = response.body().node().cloned();
        return Err(Error::new(Code::UpstreamUnsupported, sentence).at(node));
    }
    hop::strip_response(response.headers_mut());
    Ok(response)
}

/// Joins both ends after a 101.
fn switch(
    upgrade: &Rc<dyn Upgrade>,
    worker: &Rc<Worker>,
    asked: Option<&RequestParts>,
    response: Response,
) -> Result<Response, Error> {
    let (mut parts, mut body) = response.into_parts();
    let node = body.node().cloned();
    let malformed = |sentence| Error::new(Code::UpstreamMalformed, sentence).at(node.clone());
    let (Some(asked), Some(upstream)) = (asked, body.take_upgraded()) else {
        return Err(malformed("the node switched protocols without being asked (RFC 9110 §7.8)"));
    };
    if !hop::has_token(&parts.headers, Known::UPGRADE, "websocket") {
        return Err(malformed(
            "the node switched to a protocol that was not asked for (RFC 9110 §7.8)",
        ));
    }
    let agreed = upgrade.check_response(asked, &parts).map_err(|error| error.at(node.clone()))?;
    hop::strip_response(&mut parts.headers);
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let (upgrade, worker) = (Rc::clone(upgrade), Rc::clone(worker));
    let mut tunnel = Body::tunnel(Tunnel::new(move |client, traffic| {
        upgrade.carry(client, upstream, agreed, worker, traffic)
    }));
    // The node's lease ends with the tunnel.
    tunnel.inherit(body);
    Ok(Response::from_parts(parts, tunnel))
}

/// Whether this asks for a WebSocket (RFC 6455 §4.1, RFC 8441 §5). Other protocols are never switched to
/// (h2c smuggling); their `Upgrade` is stripped.
pub fn wants_websocket(request: &Request) -> bool {
    let headers = request.headers();
    request.version() >= Version::HTTP_11
        && headers.seen().has(Seen::UPGRADE)
        && hop::has_token(headers, Known::UPGRADE, "websocket")
        && hop::has_token(headers, Known::CONNECTION, "upgrade")
}

/// The request as the next hop should see it: no hop-by-hop fields, origin-form, one truth about
/// the host and the client.
pub(crate) fn prepare(
    request: &mut Request,
    client: &Client,
    trusted: &Trusted,
) -> Result<(), Error> {
    if *request.method() == Method::CONNECT {
        return Err(Error::new(
            Code::ClientMalformed,
            "CONNECT is for a forward proxy; this listener is a reverse proxy",
        ));
    }
    let seen = request.headers().seen();
    if seen.has(Seen::VIA) {
        check_loop(request.headers())?;
    }
    hop::strip(request.headers_mut());
    if seen.has(Seen::EXPECT) && request.body().is_empty() {
        // RFC 9110 §10.1.1: without content there is nothing to wait for.
        request.headers_mut().remove(EXPECT);
    }
    to_origin_form(request)?;
    let (remote, scheme) = (client.peer.remote, &client.scheme);
    forwarded::set(request.headers_mut(), remote, scheme, trusted, &client.said);
    Ok(())
}

/// RFC 9110 §7.6: a request that passed through here again and again goes round in a loop. One
/// proxy may well stand behind another of the same name, so a single own `Via` says nothing.
pub(crate) fn check_loop(headers: &Fields) -> Result<(), Error> {
    // `received-protocol received-by [comment]` (RFC 9110 §7.6.3).
    let is_own = |hop: &&str| hop.split_ascii_whitespace().nth(1) == Some(PSEUDONYM);
    if hop::tokens(headers, Known::VIA).filter(is_own).count() < OWN_HOPS_MAX {
        return Ok(());
    }
    Err(Error::new(
        Code::LoopDetected,
        "the request came through this proxy too often: a node leads back to a listener",
    ))
}

/// RFC 9112 §3.2.2: the authority of an absolute-form target replaces the `Host` field.
pub(crate) fn to_origin_form(request: &mut Request) -> Result<(), Error> {
    let Some(authority) = request.uri().authority() else { return Ok(()) };
    let is_known = |host: Value<'_>| host == *authority.as_str();
    if !request.headers().get(HOST).is_some_and(is_known) {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Error::new(Code::ClientMalformed, "the target's host is not valid"))?;
        request.headers_mut().insert(HOST, host);
    }
    let path = match request.uri().path_and_query() {
        // `http://host?query` has an empty path, which the origin-form writes as `/`.
        Some(path) if path.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", path.as_str()))
                .map_err(|_| Error::new(Code::ClientMalformed, "the target's query is not valid"))?
        }
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    *request.uri_mut() = Uri::from(path);
    Ok(())
}

/// RFC 9110 §7.6.3.
pub(crate) fn add_via(headers: &mut Fields, version: Version) {
    /// Ready to be copied: every message gets one.
    static OF_VERSION: LazyLock<[Fields; 3]> = LazyLock::new(|| {
        ["1.0 gwproxy", "1.1 gwproxy", "2 gwproxy"]
            .map(|via| Fields::from_iter([(Known::VIA, HeaderValue::from_static(via))]))
    });
    let [of_1_0, of_1_1, of_2] = &*OF_VERSION;
    headers.append_all(match version {
        Version::HTTP_2 => of_2,
        Version::HTTP_10 => of_1_0,
        _ => of_1_1,
    });
}
