//! The forward proxy as a listener: its requests do not pass the gateway, but they are limited,
//! counted and logged like all others.

use std::rc::Rc;
use std::sync::Arc;

use gwproxy_core::memory;
use gwproxy_http::forward::{Answered, Forward};
use gwproxy_http::h1::head::Reject;
use gwproxy_http::rescue::{Problem, Rescue as _};
use gwproxy_http::wire::forwarded;
use gwproxy_http::{Client, Handle, Request, Response};

use super::exchange::Exchange;
use super::limit::{Ledger, Limit, Stage};
use super::{Shared, check, hold_to, wait_for_turn};

/// Limits, counts and logs what the forward proxy answers.
#[derive(Debug)]
pub struct Recorded {
    inner: Rc<Forward>,
    shared: Rc<Shared>,
    listener: Arc<str>,
    limit: Option<Arc<Limit>>,
    body_max: Option<u64>,
}

impl Recorded {
    /// A record for every answer of `inner`, under the listener's name. Content of requests has at
    /// most `body_max` bytes; none: any number, that is between the client and its destination.
    pub fn new(
        inner: Rc<Forward>,
        shared: Rc<Shared>,
        listener: Arc<str>,
        limit: Option<Arc<Limit>>,
        body_max: Option<u64>,
    ) -> Rc<Self> {
        Rc::new(Self { inner, shared, listener, limit, body_max })
    }
}

impl Handle for Recorded {
    async fn handle(self: Rc<Self>, mut request: Box<Request>, client: Rc<Client>) -> Response {
        let client_ip =
            forwarded::client_ip(request.headers(), client.peer.remote, &self.shared.trusted);
        let listener = Arc::clone(&self.listener);
        let mut exchange = Exchange::begin(&request, &client, client_ip, listener, &self.shared);
        let now = exchange.started;
        let (limit, mut ledger) = (self.limit.as_ref(), Ledger::default());
        let checked = memory::admit()
            .and_then(|()| {
                let (whole, ledger) = (Stage::Whole, &mut ledger);
                check(limit, whole, &request, &client, &mut exchange, ledger, now)
            })
            .and_then(|()| hold_to(request.body_mut(), self.body_max));
        wait_for_turn(&exchange, ledger).await;
        let Answered { mut response, error, user } = match checked {
            Ok(()) => self.inner.respond(request, &client).await,
            Err(error) => {
                let response = Problem::default().answer(&error);
                Answered { response, error: Some(error), user: None }
            }
        };
        exchange.user = user;
        exchange.finish_on(&mut response, error.as_ref());
        response
    }

    fn reject(&self, reject: &Reject, client: &Client) -> Response {
        let mut response = self.inner.reject(reject, client);
        let error = reject.error();
        Exchange::of_rejected(client, Arc::clone(&self.listener), &self.shared)
            .finish_on(&mut response, Some(&error));
        response
    }
}
