//! From a request to the key a limit counts by, or a balancer hashes by.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use gwproxy_core::key::{self, By};
use gwproxy_core::limit::{Decision, LimitSettings, Limiter};
use gwproxy_core::{Code, Error};
use gwproxy_http::fields::Value;
use gwproxy_http::wire::cookie;
use gwproxy_http::{Client, Request};
use http::header::HeaderName;

use super::exchange::Exchange;

/// A limit with what it takes to find its key in a request.
#[derive(Debug)]
pub struct Limit {
    limiter: Limiter,
    source: Source,
}

/// Where a key is in a request; names are resolved once.
#[derive(Debug)]
pub enum Source {
    /// One key for all.
    Global,
    /// The client's address.
    Ip,
    /// The path.
    Path,
    /// The server name of the client's TLS.
    Sni,
    /// A field's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// A query parameter's value.
    Query(String),
}

impl Source {
    /// Prepares `by`.
    ///
    /// # Errors
    /// One sentence, when a header's name is not one.
    pub fn new(by: &By) -> Result<Self, String> {
        Ok(match by {
            By::Global => Self::Global,
            By::Ip => Self::Ip,
            By::Path => Self::Path,
            By::Sni => Self::Sni,
            By::Header(name) => Self::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| format!("`{name}` is not the name of a header"))?,
            ),
            By::Cookie(name) => Self::Cookie(name.clone()),
            By::Query(name) => Self::Query(name.clone()),
        })
    }

    /// The value in this request of this client; none where it has none.
    fn value<'a>(&self, request: &'a Request, client: &'a Client) -> Option<&'a [u8]> {
        match self {
            Self::Global | Self::Ip => None,
            Self::Header(name) => request.headers().get(name).map(Value::as_bytes),
            Self::Cookie(name) => cookie::value(request.headers(), name),
            Self::Path => Some(request.uri().path().as_bytes()),
            Self::Sni => client.peer.tls.as_ref()?.sni.as_deref().map(str::as_bytes),
            Self::Query(name) => request
                .uri()
                .query()?
                .as_bytes()
                .split(|&byte| byte == b'&')
                .find_map(|pair| pair_value(pair, name)),
        }
    }

    /// The key that a limit counts by. Those without a value share one.
    fn limit_key(&self, request: &Request, client: &Client, ip: Option<IpAddr>) -> u64 {
        match self {
            Self::Global => 0,
            Self::Ip => ip.map_or(0, key::of_ip),
            _ => key::of_value(self.value(request, client).unwrap_or_default()),
        }
    }

    /// The key that a balancer hashes by, the same in every process and after a restart. None
    /// without a value: were there one for all of these, they would all go to one node.
    pub fn hash_key(&self, request: &Request, client: &Client, ip: Option<IpAddr>) -> Option<u64> {
        match self {
            Self::Global => None,
            Self::Ip => ip.map(key::of_ip),
            _ => self.value(request, client).map(key::stable),
        }
    }
}

fn pair_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

impl Limit {
    /// A limit with nothing spent.
    ///
    /// # Errors
    /// One sentence, when its key cannot be found in requests.
    pub fn new(settings: LimitSettings) -> Result<Self, String> {
        let source = Source::new(&settings.by)?;
        Ok(Self { limiter: Limiter::new(settings), source })
    }

    /// Charges one request.
    ///
    /// # Errors
    /// [`Code::RateLimited`], with the pause after which another try is admitted.
    pub fn check(
        &self,
        request: &Request,
        client: &Client,
        exchange: &mut Exchange,
        now: Instant,
    ) -> Result<(), Error> {
        let key = self.source.limit_key(request, client, exchange.client_ip);
        self.decide(key, exchange, now)
    }

    /// Charges one connection of a client, where there is no request.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_connection(&self, ip: Option<IpAddr>, now: Instant) -> Result<(), Error> {
        let key = ip.map_or(0, key::of_ip);
        match self.limiter.check(key, now) {
            Decision::Admitted { .. } => Ok(()),
            Decision::Refused { retry_after, .. } => Err(self.refusal(retry_after)),
        }
    }

    fn decide(&self, key: u64, exchange: &mut Exchange, now: Instant) -> Result<(), Error> {
        let decision = self.limiter.check(key, now);
        exchange.note_limit(decision);
        match decision {
            Decision::Admitted { .. } => Ok(()),
            Decision::Refused { retry_after, .. } => Err(self.refusal(retry_after)),
        }
    }

    fn refusal(&self, retry_after: Duration) -> Error {
        let sentence = format!("the limit of {} is reached", self.limiter.settings());
        Error::new(Code::RateLimited, sentence).retry_in(retry_after)
    }
}
