//! Forward proxying: CONNECT tunnels and absolute-form requests to whatever the policy lets a
//! client reach.
//!
//! The way of a request: form → credentials → [`Policy`] on the name → one resolve → [`Policy`]
//! on each address → dial exactly those addresses. Strangers learn nothing of the rules, and
//! nothing after the verdict looks at the name again, so a name that resolves to something else a
//! moment later changes nothing (DNS rebinding).

mod authenticate;
mod destination;
mod nodes;
mod pac;
mod policy;
mod reach;
mod target;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gwproxy_core::net::{HostPort, Stream};
use gwproxy_core::upstream::connect;
use gwproxy_core::{Code, Error};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode, Version};
use tokio::net::TcpStream;

use crate::body::Body;
use crate::h1::head::Reject;
use crate::interim::Way;
use crate::rescue::{self, Problem, Rescue};
use crate::reverse;
use crate::serve::{Client, Handle};
use crate::tunnel::{Tunnel, Upgrade, Upgraded, UpgradedIo, carry_raw};
use crate::upstream::{Terms, Upstream};
use crate::wire::hop;
use crate::{Fields, Request, Response, max_forwards};

pub use authenticate::Credentials;
pub use destination::{Destination, DestinationError, Form, Ports};
pub use pac::{PATH as PAC_PATH, guide};
pub use policy::{Named, Policy, Prohibited};

use target::{Target, bad, is_listener, is_localhost, is_own, target_of};

/// What a forward proxy obeys.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What clients may reach.
    pub policy: Policy,
    /// For resolving a name, and again for connecting. Default 2 s (D06).
    pub connect_timeout: Duration,
    /// From a request's head to the response's. Default 60 s: origins on the Internet are slower
    /// than one's own services.
    pub first_byte: Duration,
    /// Silence within a body, either way. Default 300 s: event streams are silent for long.
    pub body: Duration,
    /// A CONNECT tunnel ends after this long without a byte either way. Default 300 s (D05).
    pub tunnel_idle: Duration,
    /// Takes only CONNECT and WebSocket handshakes. Default false.
    pub websocket_only: bool,
    /// How errors are told to clients.
    pub problem: Problem,
}

/// The forward proxy of one worker.
pub struct Forward {
    settings: Arc<Settings>,
    upstream: Rc<Upstream>,
    upgrade: Rc<dyn Upgrade>,
    credentials: Option<Rc<dyn Credentials>>,
    nodes: nodes::Nodes,
}

/// What the proxy made of a request.
#[derive(Debug)]
pub struct Answered {
    /// The response, always.
    pub response: Response,
    /// What went wrong where something did, for the record.
    pub error: Option<Error>,
    /// Who asked, where credentials are needed and were right.
    pub user: Option<Box<str>>,
}

/// Why there is no response of the destination's.
enum Refusal {
    /// A rule says no, whatever the name resolves to.
    Denied(Error),
    /// What was asked for failed, or leads where it may not.
    Failed(Error),
    /// What was asked for makes no sense here; the client is told what does.
    Wrong(Reject),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            connect_timeout: Duration::from_secs(2),
            first_byte: Duration::from_mins(1),
            body: Duration::from_mins(5),
            tunnel_idle: Duration::from_mins(5),
            websocket_only: false,
            problem: Problem::default(),
        }
    }
}

impl Forward {
    /// A forward proxy that carries WebSocket traffic by `upgrade`. Without `credentials` everyone who
    /// reaches the listener may use it.
    pub fn new(
        settings: Arc<Settings>,
        upstream: Rc<Upstream>,
        upgrade: Rc<dyn Upgrade>,
        credentials: Option<Rc<dyn Credentials>>,
    ) -> Self {
        Self { settings, upstream, upgrade, credentials, nodes: nodes::Nodes::default() }
    }

    /// The response, and what the record tells of it. The wires close the connection after a
    /// CONNECT that opens no tunnel (RFC 9931).
    pub async fn respond(&self, request: Box<Request>, client: &Client) -> Answered {
        let is_h2 = request.version() == Version::HTTP_2;
        let mut user = None;
        let (mut response, error) = match self.answer(request, client, &mut user).await {
            Ok(response) => (response, None),
            Err(Refusal::Denied(error)) => (self.settings.problem.deny(&error), Some(error)),
            Err(Refusal::Failed(error)) => (self.settings.problem.answer(&error), Some(error)),
            Err(Refusal::Wrong(reject)) => {
                let mut response = rescue::rejected(&reject);
                if reject.status == StatusCode::UPGRADE_REQUIRED {
                    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
                }
                (response, Some(Error::new(Code::ClientMalformed, reject.reason)))
            }
        };
        if is_h2 {
            // RFC 9113 §8.2.2: there are no connection fields.
            response.headers_mut().remove(CONNECTION);
        }
        Answered { response, error, user }
    }

    async fn answer(
        &self,
        request: Box<Request>,
        client: &Client,
        user: &mut Option<Box<str>>,
    ) -> Result<Response, Refusal> {
        match target_of(&request, client)? {
            Target::Tunnel(at) => self.connect(at, &request, client, user).await,
            Target::Origin(at) => self.pass_on(at, request, client, user).await,
            Target::Own if request.uri().path() == pac::PATH => {
                Ok(pac::answer(&request, client, self.settings.websocket_only))
            }
            Target::Own => Err(bad(
                "this is a forward proxy, not a web server: name it as the proxy of your client \
                 (http_proxy and https_proxy, or the PAC file at /proxy.pac) and ask for whole \
                 URLs or with CONNECT",
            )
            .into()),
        }
    }

    /// CONNECT: a tunnel to `at`, opened before the client is told so.
    async fn connect(
        &self,
        at: HostPort,
        request: &Request,
        client: &Client,
        user: &mut Option<Box<str>>,
    ) -> Result<Response, Refusal> {
        // RFC 9110 §9.3.6: content in CONNECT means nothing, and bytes that nobody counts are
        // where smuggling starts. What follows the head belongs to the tunnel.
        if request.body().length() != Some(0) {
            return Err(bad("a CONNECT request has no content").into());
        }
        let addrs = self.admit(Form::Connect, &at, request.headers(), client, user).await?;
        let tcp = self.dial(&at, &addrs).await?;
        let (idle, worker) = (self.settings.tunnel_idle, Rc::clone(self.upstream.worker()));
        let tunnel = Tunnel::new(move |client, traffic| {
            Box::pin(async move {
                let io = UpgradedIo::Stream(Box::new(Stream::from(tcp)));
                let upstream = Upgraded { io, early: Bytes::new() };
                let relayed = carry_raw(client, upstream, idle, &worker, &traffic).await;
                tracing::debug!(destination = %at, ?relayed, "a CONNECT tunnel ended");
            })
        });
        Ok(Response::new(Body::tunnel(tunnel)))
    }

    /// A request in absolute-form, passed on to `at`.
    ///
    /// The client is hidden: no forwarding field is added. Those the client wrote itself are its
    /// own words and pass.
    async fn pass_on(
        &self,
        at: HostPort,
        mut request: Box<Request>,
        client: &Client,
        user: &mut Option<Box<str>>,
    ) -> Result<Response, Refusal> {
        if request.uri().path() == pac::PATH && is_own(&at, client.peer.local) {
            return Ok(pac::answer(&request, client, self.settings.websocket_only));
        }
        let wants_upgrade = reverse::wants_websocket(&request);
        if self.settings.websocket_only && !wants_upgrade {
            let reason = "this proxy takes CONNECT and WebSocket handshakes only";
            return Err(Reject { status: StatusCode::UPGRADE_REQUIRED, reason }.into());
        }
        reverse::check_loop(request.headers())?;
        let addrs = self.admit(Form::Absolute, &at, request.headers(), client, user).await?;
        if wants_upgrade && let Err(refusal) = self.upgrade.check_request(request.parts()) {
            return Ok(*refusal);
        }
        if let Some(answer) = max_forwards::take_one(&mut request) {
            return Ok(answer);
        }
        let version = request.version();
        hop::strip(request.headers_mut());
        reverse::to_origin_form(&mut request)?;
        let asked = wants_upgrade.then(|| {
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            request.parts().clone()
        });
        reverse::add_via(request.headers_mut(), version);
        let connect_timeout = self.settings.connect_timeout;
        let cluster = self.nodes.of(&at, &addrs, connect_timeout, Instant::now());
        let terms = self.terms(&request, client);
        let response = self.upstream.send(&cluster, request, client, &terms).await?;
        let (version, worker) = (response.version(), self.upstream.worker());
        let mut response = reverse::take_back(&self.upgrade, worker, asked.as_ref(), response)?;
        // RFC 9110 §7.6.3: a proxy signs responses too.
        reverse::add_via(response.headers_mut(), version);
        Ok(response)
    }

    /// The addresses of `at` that this client may reach. Notes whose credentials it has, also when
    /// that is refused afterwards.
    async fn admit(
        &self,
        form: Form,
        at: &HostPort,
        headers: &Fields,
        client: &Client,
        user: &mut Option<Box<str>>,
    ) -> Result<Rc<[SocketAddr]>, Refusal> {
        if let Some(credentials) = &self.credentials {
            *user = Some(authenticate::authenticate(credentials, headers).await?);
        }
        let policy = &self.settings.policy;
        let named = policy.judge_name(form, at).map_err(Refusal::Denied)?;
        let addrs = self.resolve(at).await?;
        let addrs = policy.judge_addrs(form, named, at, &addrs)?;
        if addrs.iter().any(|addr| is_listener(*addr, client.peer.local)) {
            return Err(came_back(at).into());
        }
        Ok(addrs)
    }

    async fn resolve(&self, at: &HostPort) -> Result<Rc<[SocketAddr]>, Error> {
        if is_localhost(&at.host) {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(loopback.map(|ip| SocketAddr::new(ip, at.port)).into());
        }
        let limit = self.settings.connect_timeout;
        let resolving = self.upstream.resolver().resolve(at);
        let deadline = self.upstream.worker().timer().deadline();
        deadline.within(limit, resolving).await.unwrap_or_else(|| {
            let sentence = format!("the name `{}` did not resolve within {limit:?}", at.host);
            Err(Error::new(Code::UpstreamUnresolved, sentence).unsent())
        })
    }

    async fn dial(&self, at: &HostPort, addrs: &[SocketAddr]) -> Result<TcpStream, Error> {
        let limit = self.settings.connect_timeout;
        let deadline = self.upstream.worker().timer().deadline();
        match deadline.within(limit, connect::dial(addrs)).await {
            Some(Ok(tcp)) => Ok(tcp),
            Some(Err(error)) => {
                let sentence = format!("`{at}` refused the connection: {error}");
                Err(Error::new(Code::UpstreamRefused, sentence).because(error).unsent())
            }
            None => {
                let sentence = format!("`{at}` took no connection within {limit:?}");
                Err(Error::new(Code::UpstreamConnectTimeout, sentence).unsent())
            }
        }
    }

    fn terms(&self, request: &Request, client: &Client) -> Terms {
        let Settings { first_byte, body, .. } = *self.settings;
        let interim = client.interim(request).map(Way::signed);
        Terms { first_byte, body, interim, ..Terms::default() }
    }
}

impl Handle for Forward {
    async fn handle(self: Rc<Self>, request: Box<Request>, client: Rc<Client>) -> Response {
        let Answered { response, error, .. } = self.respond(request, &client).await;
        if let Some(error) = error {
            tracing::debug!(client = %client.peer.remote, code = %error.code(), %error);
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::Wrong(reject)
    }
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cold]
fn came_back(at: &HostPort) -> Error {
    let sentence = format!("`{at}` leads back to this proxy");
    Error::new(Code::LoopDetected, sentence).unsent()
}

#[cfg(test)]
mod tests;
