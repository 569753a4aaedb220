//! From a request to the keys that limits count by, or a balancer hashes by; and several limits as
//! one: all of them agree, or none is charged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gwproxy_core::key::{self, By};
use gwproxy_core::limit::{
    Admission, Algorithm, Charged, Counted, Decision, LimitSettings, Limiter, Limits, Meters,
    Permit, Place,
};
use gwproxy_core::net::PeerAddr;
use gwproxy_core::net::pace::Pace;
use gwproxy_core::{Code, Error};
use gwproxy_http::fields::Value;
use gwproxy_http::wire::cookie;
use gwproxy_http::{Client, Request};
use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHORIZATION};

use super::exchange::Exchange;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The limits of one place: a listener, a route, a service.
#[derive(Debug)]
pub struct Limit {
    rules: Box<[Rule]>,
}

/// A limit with what it takes to find its key in a request.
#[derive(Debug)]
pub struct Rule {
    limiter: Arc<Limiter>,
    sources: Box<[Source]>,
    /// Whether its key is only known after the route is.
    routed: bool,
}

/// Where a key is in a request; names are resolved once.
#[derive(Debug)]
pub enum Source {
    /// One key for all.
    Global,
    /// The client's address.
    Ip,
    /// The client's connection.
    Connection,
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
    /// The route's name.
    Route,
    /// The service's name.
    Service,
    /// Who asks: the user whose credentials were checked, else the credentials as they came, else
    /// the address.
    User,
}

/// When limits are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// As soon as the request is there.
    Arrived,
    /// When its route and service are known.
    Routed,
    /// At once, where there is no route or it is known.
    Whole,
}

/// What a request was charged so far, in case it is refused after all.
#[derive(Debug, Default)]
pub struct Ledger<'a> {
    /// Most requests pass few limits.
    first: [Option<Entry<'a>>; 4],
    rest: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    limiter: &'a Limiter,
    key: u64,
    place: Place,
}

impl Source {
    /// Prepares `by`.
    ///
    /// # Errors
    /// One sentence, when a header's name is not one.
    pub fn new(by: &By) -> Result<Self, String> {
        Ok(match by {
            By::ApiKey => Self::Header(API_KEY),
            By::Connection => Self::Connection,
            By::Cookie(name) => Self::Cookie(name.clone()),
            By::Global => Self::Global,
            By::Path => Self::Path,
            By::Sni => Self::Sni,
            By::Header(name) => Self::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| format!("`{name}` is not the name of a header"))?,
            ),
            By::Ip => Self::Ip,
            By::Query(name) => Self::Query(name.clone()),
            By::Route => Self::Route,
            By::Service => Self::Service,
            By::User => Self::User,
        })
    }

    /// The value in this request of this client; none where it has none.
    fn value<'a>(
        &self,
        request: &'a Request,
        client: &'a Client,
        exchange: &'a Exchange,
    ) -> Option<&'a [u8]> {
        match self {
            Self::Connection | Self::Global | Self::Ip => None,
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
            Self::Route => exchange.route.as_deref().map(str::as_bytes),
            Self::Service => exchange.service_id.as_deref().map(str::as_bytes),
            Self::User => exchange.user.as_deref().map(str::as_bytes).or_else(|| {
                let fields = request.headers();
                let given =
                    fields.get(AUTHORIZATION).or_else(|| fields.get(PROXY_AUTHORIZATION))?;
                Some(given.as_bytes())
            }),
        }
    }

    /// The key that a limit counts by. Those without a value share one, except that who does not
    /// say who it is counts by address.
    fn limit_key(&self, request: &Request, client: &Client, exchange: &Exchange) -> u64 {
        let value = self.value(request, client, exchange);
        match self {
            Self::Global => 0,
            Self::Connection => of_connection(exchange.remote),
            Self::Ip => of_address(exchange.client_ip),
            Self::User if value.is_none() => of_address(exchange.client_ip),
            _ => key::of_value(value.unwrap_or_default()),
        }
    }

    /// The key that a balancer hashes by, the same in every process and after a restart. None
    /// without a value: were there one for all of these, they would all go to one node.
    pub fn hash_key(&self, request: &Request, client: &Client, exchange: &Exchange) -> Option<u64> {
        match self {
            Self::Connection | Self::Global => None,
            Self::Ip => exchange.client_ip.map(key::of_ip),
            _ => self.value(request, client, exchange).map(key::stable),
        }
    }

    /// The key of a connection that has no request yet, or none at all.
    fn key_of_peer(&self, remote: PeerAddr) -> u64 {
        match self {
            Self::Connection => of_connection(remote),
            Self::Ip | Self::User => of_address(remote.ip()),
            _ => 0,
        }
    }
}

fn of_address(ip: Option<IpAddr>) -> u64 {
    ip.map_or(0, key::of_ip)
}

/// No other connection has its address and port while it lasts.
fn of_connection(remote: PeerAddr) -> u64 {
    match remote {
        PeerAddr::Ip(addr) => key::combined([key::of_ip(addr.ip()), u64::from(addr.port())]),
        PeerAddr::Unix => 0,
    }
}

fn pair_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

impl Rule {
    fn new(settings: &LimitSettings) -> Result<Self, String> {
        let sources = settings.by.iter().map(Source::new).collect::<Result<Box<[_]>, _>>()?;
        let routed = sources.iter().any(|source| matches!(source, Source::Route | Source::Service));
        Ok(Self { limiter: Arc::new(Limiter::new(settings.clone())), sources, routed })
    }

    fn key(&self, request: &Request, client: &Client, exchange: &Exchange) -> u64 {
        key::combined(self.sources.iter().map(|one| one.limit_key(request, client, exchange)))
    }

    fn key_of_peer(&self, remote: PeerAddr) -> u64 {
        key::combined(self.sources.iter().map(|source| source.key_of_peer(remote)))
    }

    fn settings(&self) -> &LimitSettings {
        self.limiter.settings()
    }

    fn is_at(&self, stage: Stage) -> bool {
        match stage {
            Stage::Arrived => !self.routed,
            Stage::Routed => self.routed,
            Stage::Whole => true,
        }
    }

    fn refusal(&self, retry_after: Duration) -> Error {
        let sentence = format!("the limit of {} is reached", self.limiter);
        Error::new(Code::RateLimited, sentence).retry_in(retry_after)
    }
}

impl Limit {
    /// Limits with nothing spent.
    ///
    /// # Errors
    /// One sentence, when a key cannot be found in requests.
    pub fn new(limits: &Limits) -> Result<Self, String> {
        let rules = limits.iter().map(Rule::new).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Each limit.
    pub fn limiters(&self) -> impl Iterator<Item = &Arc<Limiter>> {
        self.rules.iter().map(|rule| &rule.limiter)
    }

    /// Whether one of them counts these.
    pub fn counts(&self, of: Counted) -> bool {
        self.rules.iter().any(|rule| rule.settings().of == of)
    }

    /// How fast a connection's bytes may come and go; none: as fast as they can.
    pub fn pace(&self, remote: PeerAddr) -> Option<Pace> {
        // Shadow mode counts whom it would refuse; bytes are not refused.
        let ours = |rule: &&Rule| rule.settings().of == Counted::Bytes && !rule.settings().shadow;
        let limits = |way: u64| -> Vec<_> {
            let rules = self.rules.iter().filter(ours);
            let limits = rules.map(|rule| {
                // Each way has its own count.
                (Arc::clone(&rule.limiter), key::combined([rule.key_of_peer(remote), way]))
            });
            limits.collect()
        };
        let (read, write) = (limits(0), limits(1));
        (!read.is_empty()).then_some(Pace { read, write })
    }

    /// Charges one request to those limits whose turn it is.
    ///
    /// # Errors
    /// [`Code::RateLimited`], with the pause after which another try is admitted. Then nothing of
    /// what `ledger` holds is charged any more.
    pub fn check<'a>(
        &'a self,
        stage: Stage,
        request: &Request,
        client: &Client,
        exchange: &mut Exchange,
        ledger: &mut Ledger<'a>,
        now: Instant,
    ) -> Result<(), Error> {
        let ours = |rule: &&Rule| rule.settings().of == Counted::Requests && rule.is_at(stage);
        for rule in self.rules.iter().filter(ours) {
            let key = rule.key(request, client, exchange);
            let Charged { decision, place } = rule.limiter.charge(key, now);
            match decision {
                Decision::Refused { .. } if rule.settings().shadow => {}
                Decision::Refused { retry_after, .. } => {
                    ledger.take_back(now);
                    exchange.permits.clear();
                    exchange.note_limit(decision, &rule.limiter);
                    return Err(rule.refusal(retry_after));
                }
                Decision::Admitted { wait, .. } => {
                    if rule.settings().algorithm == Algorithm::Concurrency {
                        let permit = Permit::new(Arc::clone(&rule.limiter), key, place);
                        exchange.permits.push(permit);
                    } else {
                        ledger.add(Entry { limiter: &rule.limiter, key, place });
                    }
                    if !rule.settings().shadow {
                        exchange.wait = exchange.wait.max(wait);
                        exchange.note_limit(decision, &rule.limiter);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds what limits the messages of this request's connection or call.
    pub fn add_meters(
        &self,
        request: &Request,
        client: &Client,
        exchange: &Exchange,
        meters: &mut Meters,
    ) {
        for rule in self.rules.iter().filter(|rule| rule.settings().of == Counted::Messages) {
            meters.add(Arc::clone(&rule.limiter), rule.key(request, client, exchange));
        }
    }

    /// Charges one connection of a client to the limits of `of`, before there is a request.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_connection<'a>(
        &'a self,
        of: &[Counted],
        remote: PeerAddr,
        admission: &mut Admission,
        ledger: &mut Ledger<'a>,
        now: Instant,
    ) -> Result<(), Error> {
        for rule in self.rules.iter().filter(|rule| of.contains(&rule.settings().of)) {
            let key = rule.key_of_peer(remote);
            let Charged { decision, place } = rule.limiter.charge(key, now);
            match decision {
                Decision::Refused { .. } if rule.settings().shadow => {}
                Decision::Refused { retry_after, .. } => {
                    ledger.take_back(now);
                    admission.permits.clear();
                    return Err(rule.refusal(retry_after));
                }
                Decision::Admitted { wait, .. } => {
                    if rule.settings().algorithm == Algorithm::Concurrency {
                        let permit = Permit::new(Arc::clone(&rule.limiter), key, place);
                        admission.permits.push(permit);
                    } else {
                        ledger.add(Entry { limiter: &rule.limiter, key, place });
                    }
                    if !rule.settings().shadow {
                        admission.wait = admission.wait.max(wait);
                    }
                }
            }
        }
        Ok(())
    }
}

impl<'a> Ledger<'a> {
    fn add(&mut self, entry: Entry<'a>) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(entry),
            None => self.rest.push(entry),
        }
    }

    /// A refused request costs nothing anywhere.
    fn take_back(&mut self, now: Instant) {
        let first = self.first.iter_mut().filter_map(Option::take);
        for Entry { limiter, key, place } in first.chain(self.rest.drain(..)) {
            limiter.refund(key, place, now);
        }
    }
}
