//! From a request to the key a limit counts by, or a balancer hashes by.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use gwproxy_core::key::{self, By};
use gwproxy_core::limit::{Decision, LimitSettings, Limiter};
use gwproxy_core::{Code, Error};
use gwproxy_http::Request;
use gwproxy_http::fields::Value;
use http::header::{COOKIE, HeaderName};

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
            By::Header(name) => Self::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| format!("`{name}` is not the name of a header"))?,
            ),
            By::Cookie(name) => Self::Cookie(name.clone()),
            By::Query(name) => Self::Query(name.clone()),
        })
    }

    /// The value in this request; none where it has none.
    fn value<'a>(&self, request: &'a Request) -> Option<&'a [u8]> {
        match self {
            Self::Global | Self::Ip => None,
            Self::Header(name) => request.headers().get(name).map(Value::as_bytes),
            Self::Cookie(name) => request
                .headers()
                .get_all(COOKIE)
                .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
                .find_map(|pair| pair_value(pair.trim_ascii(), name)),
            Self::Query(name) => request
                .uri()
                .query()?
                .as_bytes()
                .split(|&byte| byte == b'&')
                .find_map(|pair| pair_value(pair, name)),
        }
    }

    /// The key, made of a value by `of`. Those without a value share one.
    pub fn key(&self, request: &Request, ip: Option<IpAddr>, of: fn(&[u8]) -> u64) -> u64 {
        match self {
            Self::Global => 0,
            Self::Ip => ip.map_or(0, key::of_ip),
            _ => of(self.value(request).unwrap_or_default()),
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
        exchange: &mut Exchange,
        now: Instant,
    ) -> Result<(), Error> {
        let key = self.source.key(request, exchange.client_ip, key::of_value);
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
