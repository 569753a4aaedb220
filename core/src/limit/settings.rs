//! What a user says of a limit.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::sliding_window;
use crate::key::{By, Keys};
use crate::options;
use crate::units::{Rate, Span};

/// Limits of one place at most.
pub const LIMITS_MAX: usize = 16;

/// Keys of a limit unless told otherwise (reliability D36).
const MAX_KEYS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// What a limit obeys. In text: `100/s,burst=50,by=ip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct LimitSettings {
    /// How many in the long run; of [`Algorithm::Concurrency`] how many at a time, a plain number.
    #[serde(deserialize_with = "rate_or_count")]
    pub rate: Rate,
    /// The time of a rate that is a plain number in a map. Default 1 s.
    #[serde(default, skip_serializing)]
    window_size: Option<Span>,
    /// How it is counted. Default token bucket.
    #[serde(default, skip_serializing_if = "is_default")]
    pub algorithm: Algorithm,
    /// How many at once after a pause (token bucket), or waiting for their turn (leaky bucket).
    /// Default: the rate's count, so one unit of time's worth. The others have no use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// How long a request waits for its turn at most (leaky bucket). Default 1 s, at most 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// What is counted. Default requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub of: Counted,
    /// What tells one client from another. Default `ip`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by: Keys,
    /// Whether it only counts whom it would refuse, and refuses nobody. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Which fields tell clients of it. Default `legacy`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// The number of keys that a limit has room for; those beyond share their limit with others.
    /// Default 100 000, some 2 MiB when full; never more than 64 MiB.
    #[serde(default = "default_max_keys", skip_serializing_if = "is_default_max_keys")]
    pub max_keys: NonZeroU32,
    /// What it is called in logs and in `RateLimit-Policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A name for humans; nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The limits of one place, all of which must agree. One to [`LIMITS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits(Vec<LimitSettings>);

/// How a limit counts. In text also with underscores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    /// So many at a time, whatever they take.
    Concurrency,
    /// So many in each window; windows follow one another.
    FixedWindow,
    /// One each interval; those that come sooner wait.
    LeakyBucket,
    /// So many in the time before any moment, by two counts.
    SlidingWindow,
    /// So many in the long run and a burst after a pause.
    #[default]
    TokenBucket,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Counted {
    /// Bytes, each way for itself.
    Bytes,
    /// New connections.
    Connections,
    /// Messages of clients: WebSocket's and gRPC's.
    Messages,
    /// Requests; on TCP, which has none, connections.
    #[default]
    Requests,
}

/// Which fields tell clients of a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Headers {
    /// Both kinds.
    Both,
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    Ietf,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    #[default]
    Legacy,
    /// None but `Retry-After`.
    None,
}

/// Why a limit was refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitError(String);

/// A name of a list as text and back.
macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal,)*) => {
        impl $type {
            /// The canonical name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text.replace('_', "-").as_str() {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(format!(
                        "`{text}` is not {}; write one of {}", $what, [$($name),*].join(", ")
                    )),
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.as_str().into()
            }
        }
    };
}
named!(
    Algorithm,
    "an algorithm of limits",
    Concurrency = "concurrency",
    FixedWindow = "fixed-window",
    LeakyBucket = "leaky-bucket",
    SlidingWindow = "sliding-window",
    TokenBucket = "token-bucket",
);
named!(
    Counted,
    "what a limit counts",
    Bytes = "bytes",
    Connections = "connections",
    Messages = "messages",
    Requests = "requests",
);
named!(Headers, "a kind of fields", Both = "both", Ietf = "ietf", Legacy = "legacy", None = "none",);

impl LimitSettings {
    /// The longest wait that can be asked for.
    pub const WAIT_MAX: Span = Span::secs(60);

    const KEYS: [&str; 9] =
        ["algorithm", "burst", "by", "headers", "id", "max_keys", "of", "shadow", "wait"];

    /// So many at a rate, by address.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            window_size: None,
            algorithm: Algorithm::default(),
            burst: None,
            wait: None,
            of: Counted::default(),
            by: Keys::default(),
            shadow: false,
            headers: Headers::default(),
            max_keys: MAX_KEYS,
            id: None,
            name: None,
        }
    }

    /// How long a request waits at most.
    pub fn wait(&self) -> Span {
        self.wait.unwrap_or(Span::secs(1))
    }

    fn read(text: &str) -> Result<Self, String> {
        let (head, pairs) = options::split(text, &Self::KEYS)?;
        let algorithm = pairs.iter().find(|(key, _)| *key == "algorithm");
        let algorithm: Option<Algorithm> =
            algorithm.map(|(key, value)| options::quantity(key, value)).transpose()?;
        let rate = match algorithm {
            Some(Algorithm::Concurrency) if !head.contains('/') => {
                Rate::per_second(options::positive("limit", head)?)
            }
            _ => head.parse::<Rate>().map_err(|error| error.to_string())?,
        };
        let mut settings = Self::new(rate);
        settings.algorithm = algorithm.unwrap_or_default();
        for (key, value) in pairs {
            match key {
                "burst" => settings.burst = Some(options::positive(key, value)?),
                "by" => settings.by = options::quantity(key, value)?,
                "headers" => settings.headers = options::quantity(key, value)?,
                "id" => settings.id = Some(value.into()),
                "max_keys" => settings.max_keys = options::positive(key, value)?,
                "of" => settings.of = options::quantity(key, value)?,
                "shadow" => settings.shadow = options::quantity(key, value)?,
                "wait" => settings.wait = Some(options::quantity(key, value)?),
                _ => {} // the algorithm, which is known already
            }
        }
        settings.whole()
    }

    /// What the keys mean together.
    fn whole(mut self) -> Result<Self, String> {
        if self.rate.per().is_zero() {
            let per = self.window_size.map_or(std::time::Duration::from_secs(1), Span::get);
            self.rate = Rate::new(self.rate.count(), per).ok_or("`window_size`: above 0")?;
        } else if self.window_size.is_some() {
            return Err("`window_size` belongs to a rate that is a plain number".into());
        }
        self.window_size = None;
        let algorithm = self.algorithm;
        if self.wait.is_some() && algorithm != Algorithm::LeakyBucket {
            return Err(format!("`wait` means nothing for {algorithm}; nobody waits there"));
        }
        if self.wait() > Self::WAIT_MAX {
            return Err(format!("`wait={}`: at most {}", self.wait(), Self::WAIT_MAX));
        }
        let most = sliding_window::COUNT_MAX;
        if algorithm == Algorithm::SlidingWindow && self.rate.count().get() > most {
            return Err(format!(
                "a sliding window counts up to {most}; write the rate for a shorter time"
            ));
        }
        if self.of == Counted::Bytes && algorithm != Algorithm::TokenBucket {
            return Err(format!("bytes are limited by a token bucket only, not by {algorithm}"));
        }
        if self.of == Counted::Messages
            && matches!(algorithm, Algorithm::Concurrency | Algorithm::LeakyBucket)
        {
            return Err(format!("messages cannot be limited by {algorithm}"));
        }
        let plain = |text: &String| {
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if self.id.as_ref().is_some_and(|id| !plain(id) || id.contains(['"', '\\'])) {
            return Err("`id` is 1 to 64 visible ASCII characters without quotes".into());
        }
        Ok(self)
    }
}

options::serde_text_or_map!(
    LimitSettings,
    "a limit as `100/s,burst=50,by=ip`",
    LimitSettings::whole
);

impl FromStr for LimitSettings {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        Self::read(text).map_err(LimitError)
    }
}

impl fmt::Display for LimitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm {
            Algorithm::Concurrency => write!(f, "{}", self.rate.count())?,
            _ => write!(f, "{}", self.rate)?,
        }
        if let Some(burst) = self.burst {
            write!(f, ",burst={burst}")?;
        }
        write!(f, ",by={}", self.by)?;
        if !is_default(&self.algorithm) {
            write!(f, ",algorithm={}", self.algorithm)?;
        }
        if let Some(wait) = self.wait {
            write!(f, ",wait={wait}")?;
        }
        if !is_default(&self.of) {
            write!(f, ",of={}", self.of)?;
        }
        if self.shadow {
            f.write_str(",shadow=true")?;
        }
        if !is_default(&self.headers) {
            write!(f, ",headers={}", self.headers)?;
        }
        if !is_default_max_keys(&self.max_keys) {
            write!(f, ",max_keys={}", self.max_keys)?;
        }
        match &self.id {
            Some(id) => write!(f, ",id={id}"),
            None => Ok(()),
        }
    }
}

impl Limits {
    /// These; none if there are none or more than [`LIMITS_MAX`].
    pub fn new(limits: Vec<LimitSettings>) -> Option<Self> {
        (1..=LIMITS_MAX).contains(&limits.len()).then_some(Self(limits))
    }

    /// In the order given.
    pub fn iter(&self) -> impl Iterator<Item = &LimitSettings> {
        self.0.iter()
    }
}

impl From<LimitSettings> for Limits {
    fn from(one: LimitSettings) -> Self {
        Self(vec![one])
    }
}

/// One text or map, or a list of them.
impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Limits;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a limit as `100/s,burst=50,by=ip`, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Limits, E> {
                text.parse().map(|one: LimitSettings| one.into()).map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Limits, A::Error> {
                let map = de::value::MapAccessDeserializer::new(map);
                <LimitSettings as Deserialize>::deserialize(map).map(Limits::from)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Limits, A::Error> {
                let mut limits = Vec::new();
                while let Some(one) = list.next_element()? {
                    limits.push(one);
                }
                Limits::new(limits).ok_or_else(|| {
                    de::Error::custom(format!("a list of limits has 1 to {LIMITS_MAX}"))
                })
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [one] => Serialize::serialize(one, to),
            many => to.collect_seq(many),
        }
    }
}

/// A rate, or a count whose time stands elsewhere (a `per` of 0 until [`LimitSettings::whole`]).
fn rate_or_count<'de, D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
    struct RateOrCount;
    impl Visitor<'_> for RateOrCount {
        type Value = Rate;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a rate as `100/s`, or a number")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
            text.parse().map_err(E::custom)
        }
        fn visit_u64<E: de::Error>(self, count: u64) -> Result<Rate, E> {
            let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
            count
                .map(Rate::timeless)
                .ok_or_else(|| E::custom("the number must be whole, from 1 to 4294967295"))
        }
    }
    from.deserialize_any(RateOrCount)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn default_max_keys() -> NonZeroU32 {
    MAX_KEYS
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_default_max_keys(keys: &NonZeroU32) -> bool {
    *keys == MAX_KEYS
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LimitError {}

impl LimitSettings {
    /// Whether everybody shares one state.
    pub(super) fn is_global(&self) -> bool {
        // Bytes have a state for each way.
        self.of != Counted::Bytes && self.by.iter().all(|by| *by == By::Global)
    }
}
