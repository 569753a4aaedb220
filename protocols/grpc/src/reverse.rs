//! Reverse proxying of calls: HTTP's way to a node, with gRPC's rules on top.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gwproxy_core::limit::Meters;
use gwproxy_core::timer::TICK;
use gwproxy_core::upstream::{Cluster, Outcome};
use gwproxy_core::{Code, Error};
use gwproxy_http::h1::head::Reject;
use gwproxy_http::rescue::rejected;
use gwproxy_http::reverse::Reverse;
use gwproxy_http::upstream::Terms;
use gwproxy_http::{Client, Request, Response};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, TE};
use http::{HeaderValue, Method, StatusCode, Version};

use crate::call::{Answering, Asking, Cut, Limit, NO_STATUS, too_many};
use crate::deadline::{self, Settings};
use crate::is_grpc;
use crate::rescue::{GrpcRescue, rescue_for};
use crate::status::Status;

/// How long the client of a call that streams may say nothing before its answer begins (D05).
const SILENCE: Duration = Duration::from_mins(5);

/// The gRPC reverse proxy: a thin coat around HTTP's, made where it is needed.
#[derive(Debug, Clone)]
pub struct Grpc<'a> {
    reverse: &'a Rc<Reverse>,
    settings: Settings,
    arrived: Option<Instant>,
    meters: Meters,
}

impl<'a> Grpc<'a> {
    /// A proxy that forwards by `reverse`, with the default settings.
    pub fn new(reverse: &'a Rc<Reverse>) -> Self {
        Self { reverse, settings: Settings::default(), arrived: None, meters: Meters::default() }
    }

    /// Obeys `settings`.
    #[must_use]
    pub fn obeying(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Counts the call's deadline from `arrived`. Default: from [`Grpc::forward`].
    #[must_use]
    pub fn since(mut self, arrived: Instant) -> Self {
        self.arrived = Some(arrived);
        self
    }

    /// The client's messages are limited by `meters`.
    #[must_use]
    pub fn metered(mut self, meters: Meters) -> Self {
        self.meters = meters;
        self
    }

    /// Forwards a call to `cluster`. What is no call is answered with the HTTP status that says
    /// so: 415 by content type, 405 by method, 505 by version.
    ///
    /// A call with a deadline is held to it as well as to `terms.first_byte`, which is worth
    /// setting only where no call is a watch that answers with its first event.
    ///
    /// # Errors
    /// Why there is no response of the node's; [`rescue_for`] makes one.
    pub async fn forward(
        &self,
        mut request: Box<Request>,
        client: &Client,
        cluster: &Arc<Cluster>,
        terms: &Terms,
    ) -> Result<Response, Error> {
        let rescue = match check(&request) {
            Ok(rescue) => rescue,
            Err(refusal) => return Ok(*refusal),
        };
        check_path(request.uri().path())?;
        let spent = self.arrived.map_or(Duration::ZERO, |arrived| arrived.elapsed());
        let max = self.settings.max_deadline.get();
        let allowed = deadline::take(request.headers_mut(), max, spent)?;
        request.body_mut().converses(SILENCE);
        // Required of every client, and what asks intermediaries to carry trailers.
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        let mut terms = Terms { prior_knowledge: true, ..terms.clone() };
        if allowed.is_none() && self.meters.is_empty() {
            let response = self.reverse.forward(request, client, cluster, &terms).await?;
            return Ok(finish(response, &rescue, None));
        }
        let cut = Rc::<Cut>::default();
        if !request.body().is_empty() {
            let asking = Asking::new(Rc::clone(&cut), self.meters.clone());
            request.body_mut().filter(Box::new(asking));
        }
        let Some(allowed) = allowed else {
            let response = self.reverse.forward(request, client, cluster, &terms).await;
            let response = response.map_err(|error| cut.exceeded().map_or(error, too_many))?;
            return Ok(finish(response, &rescue, Some(Limit { deadline: None, cut })));
        };
        terms.first_byte = terms.first_byte.min(allowed);
        let started = Instant::now();
        let deadline = self.reverse.upstream().worker().timer().deadline();
        // By reference, because it is some kilobytes that would be moved otherwise.
        let forwarding = pin!(self.reverse.forward(request, client, cluster, &terms));
        // A little later than the node's own limit, which knows whom to blame.
        let response = deadline.within(allowed + 2 * TICK, forwarding).await;
        let response = response.unwrap_or_else(|| Err(deadline::exceeded(allowed)));
        let response = response.map_err(|error| cut.exceeded().map_or(error, too_many))?;
        deadline.arm(allowed.saturating_sub(started.elapsed()));
        Ok(finish(response, &rescue, Some(Limit { deadline: Some(deadline), cut })))
    }
}

/// What every call is (`PROTOCOL-HTTP2.md`, Requests), told apart by HTTP statuses as grpc-go
/// does: whoever does not send this speaks no gRPC and could not read its errors.
fn check(request: &Request) -> Result<GrpcRescue, Box<Response>> {
    let refuse = |status, reason| {
        let mut response = rejected(&Reject { status, reason });
        if request.version() == Version::HTTP_2 {
            response.headers_mut().remove(CONNECTION);
        }
        Box::new(response)
    };
    let Some(rescue) = rescue_for(request.headers()) else {
        let reason = "only gRPC calls are taken here, with the content type application/grpc";
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    };
    if *request.method() != Method::POST {
        let mut refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "a gRPC call is a POST");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(refusal);
    }
    if request.version() != Version::HTTP_2 {
        let reason = "gRPC needs HTTP/2";
        return Err(refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, reason));
    }
    Ok(rescue)
}

/// `"/" Service-Name "/" {method name}` and nothing that another reader could take for another
/// method (CVE-2026-33186: a path without its leading slash passed rules written for it).
fn check_path(path: &str) -> Result<(), Error> {
    let mut segments = path.split('/');
    let rooted = segments.next() == Some("") && path.len() > 1;
    if rooted && segments.clone().count() >= 2 && segments.all(|segment| !segment.is_empty()) {
        return Ok(());
    }
    Err(Error::new(Code::RouteNotFound, "the path is not /service/method").unsent())
}

/// Makes the node's response one that a gRPC client understands.
fn finish(mut response: Response, rescue: &GrpcRescue, limit: Option<Limit>) -> Response {
    let head = Status::of_fields(response.headers());
    if let Some(status) = head {
        // Trailers-only, as the node made it.
        response.body_mut().judge(status.outcome());
        return response;
    }
    let status = response.status();
    if status != StatusCode::OK || !is_grpc(response.headers()) {
        return in_grpc(response, rescue);
    }
    if response.body().is_empty() {
        Status::Unknown.put(NO_STATUS, response.headers_mut());
        response.body_mut().judge(Outcome::Failure);
        return response;
    }
    response.body_mut().filter(Box::new(Answering::within(limit)));
    response
}

/// Turns an answer that is no gRPC into one that is: a web server's error page, a login form.
fn in_grpc(mut response: Response, rescue: &GrpcRescue) -> Response {
    let code = response.status();
    let status = Status::of_http(code);
    let message = if code == StatusCode::OK {
        response.body_mut().judge(Outcome::Failure);
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or("none");
        format!("upstream_malformed: The service answered with the content type {content_type}.")
    } else {
        format!("The service answered with the HTTP status {code}.")
    };
    let mut body = std::mem::take(response.body_mut());
    body.clear();
    let mut answer = rescue.with(status, &message);
    *answer.body_mut() = body;
    answer
}

#[cfg(test)]
mod tests;
