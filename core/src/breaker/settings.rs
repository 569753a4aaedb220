//! What a breaker obeys, and its short form `50%,window=10s,min=20,open=5s`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::window::Counts;
use crate::options;
use crate::units::{Few, Percent, Span, UnitError};

/// What a breaker obeys. The keys of a file are the field names (opossum's, in `snake_case` or as
/// opossum has them; a time without a unit is in milliseconds, as there); the short form is
/// `50%,window=10s,min=20,open=5s,probes=1,consecutive=5`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Opens when at least this share of the calls in the window failed. Default 50 %.
    #[serde(alias = "errorThresholdPercentage")]
    pub error_threshold_percentage: Percent,
    /// … but not before so many calls finished in the window. Default 20; 0 is as good as 1. Short
    /// form `min`.
    #[serde(
        alias = "volumeThreshold",
        deserialize_with = "volume",
        skip_serializing_if = "usual_volume_threshold"
    )]
    pub volume_threshold: NonZeroU32,
    /// The length of the window, above 0. Default 10 s. Short form `window`.
    #[serde(
        alias = "rollingCountTimeout",
        deserialize_with = "options::millis",
        skip_serializing_if = "usual_rolling_count_timeout"
    )]
    pub rolling_count_timeout: Span,
    /// In how many steps the window forgets. Default 10. Short form `buckets`.
    #[serde(alias = "rollingCountBuckets", skip_serializing_if = "usual_rolling_count_buckets")]
    pub rolling_count_buckets: Few,
    /// How long it stays open before it lets probes through, above 0. Default 5 s. Short form
    /// `open`.
    #[serde(
        alias = "resetTimeout",
        deserialize_with = "options::millis",
        skip_serializing_if = "usual_reset_timeout"
    )]
    pub reset_timeout: Span,
    /// The longest time that it stays open; what is shorter than `reset_timeout` is as long as
    /// that. Default 30 s. Short form `max_open`.
    #[serde(deserialize_with = "options::millis", skip_serializing_if = "usual_max_reset_timeout")]
    pub max_reset_timeout: Span,
    /// The open time is so many times as long after each probe that failed. Default 2; 1: always
    /// `reset_timeout`.
    #[serde(skip_serializing_if = "usual_backoff")]
    pub backoff: Few,
    /// By up to this share the open time is longer, at random, so that several proxies do not try
    /// at the same moment. Default 10 %.
    #[serde(skip_serializing_if = "usual_jitter")]
    pub jitter: Percent,
    /// Probes let through when half-open; all must succeed to close it. Default 1. Short form
    /// `probes`.
    #[serde(skip_serializing_if = "usual_half_open_probes")]
    pub half_open_probes: Few,
    /// How long probes may take, above 0; then others take their place. Default 30 s. Short form
    /// `probe_timeout`.
    #[serde(deserialize_with = "options::millis", skip_serializing_if = "usual_half_open_timeout")]
    pub half_open_timeout: Span,
    /// Opens also after so many failures in a row, whatever the share. Default none. Short form
    /// `consecutive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<NonZeroU32>,
    /// A call whose answer takes longer is slow. Default none: no call is. Short form `slow`.
    #[serde(deserialize_with = "options::millis_or_off", skip_serializing_if = "Option::is_none")]
    pub slow_call_duration: Option<Span>,
    /// Opens also when at least this share of the calls in the window was slow. Default 50 %. Short
    /// form `slow_share`.
    #[serde(skip_serializing_if = "usual_slow_call_percentage")]
    pub slow_call_percentage: Percent,
    /// For the answer to one call, whatever else allows more; then it has failed. Default none.
    #[serde(deserialize_with = "options::millis_or_off", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Calls under way at most, over all workers; more are refused. Default any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<NonZeroU32>,
    /// Whether it does anything: `false` is `force: closed`. Default true.
    #[serde(skip_serializing_if = "usual_enabled")]
    pub enabled: bool,
    /// Keeps it open or closed whatever happens. Default none. Short form `force`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<Forced>,
    /// What a client gets in place of the breaker's refusal, or of no answer. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// Where a breaker is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forced {
    /// Calls pass, and none is counted.
    Closed,
    /// No call passes.
    Open,
}

/// What a client gets when the service cannot answer: another service's answer, or this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a map with `service`, or with `status`, `headers`, `body`"
)]
pub struct Fallback {
    /// The service that gets the request instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The status of the answer. Default 200.
    #[serde(skip_serializing_if = "is_ok")]
    pub status: u16,
    /// Its fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its content. Default none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
}

impl Default for Fallback {
    fn default() -> Self {
        Self { service: None, status: 200, headers: BTreeMap::new(), body: String::new() }
    }
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_ok(status: &u16) -> bool {
    *status == 200
}

/// Why a breaker's settings were refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerError(String);

impl BreakerSettings {
    /// Whether these numbers open the breaker.
    pub(super) fn trips(&self, counts: Counts, consecutive: u32) -> bool {
        let in_a_row = self.consecutive_failures.is_some_and(|most| consecutive >= most.get());
        in_a_row || self.is_reached(self.error_threshold_percentage, counts)
    }

    /// Whether so many calls were slow (counted as failures here) that it opens.
    pub(super) fn trips_slow(&self, counts: Counts) -> bool {
        self.is_reached(self.slow_call_percentage, counts)
    }

    fn is_reached(&self, threshold: Percent, counts: Counts) -> bool {
        let threshold = u64::from(threshold.basis_points());
        let enough = counts.total >= u64::from(self.volume_threshold.get());
        // A threshold of 0 % is reached by the first failure, not by none.
        enough && counts.failures > 0 && counts.failures * 10_000 >= threshold * counts.total
    }

    /// Whether a call that took so long is slow.
    pub(super) fn is_slow(&self, took: Option<Duration>) -> bool {
        let (Some(limit), Some(took)) = (self.slow_call_duration, took) else { return false };
        took > limit.get()
    }

    /// How long it stays open after so many probes in a row that failed, before the jitter.
    pub(super) fn open_time(&self, failed_probes: u32) -> Duration {
        let first = self.reset_timeout.get();
        let factor = u32::from(self.backoff.get()).saturating_pow(failed_probes.min(32));
        first.saturating_mul(factor).min(self.max_reset_timeout.get().max(first))
    }

    /// Refuses what contradicts itself.
    fn whole(self) -> Result<Self, String> {
        if let Some(fallback) = &self.fallback {
            let answers = !is_ok(&fallback.status)
                || !fallback.headers.is_empty()
                || !fallback.body.is_empty();
            if fallback.service.is_some() && answers {
                return Err("`fallback` is a `service`, or an answer (`status`, `headers`, \
                            `body`); keep one"
                    .into());
            }
            if !(200..600).contains(&fallback.status) {
                return Err(format!(
                    "`fallback`: `status` {} is not from 200 to 599",
                    fallback.status
                ));
            }
        }
        if !self.enabled && self.force == Some(Forced::Open) {
            return Err(
                "`enabled: false` lets every call pass, `force: open` none; keep one".into()
            );
        }
        Ok(self)
    }

    fn read(text: &str) -> Result<Self, String> {
        let known = [
            "window",
            "min",
            "open",
            "max_open",
            "backoff",
            "jitter",
            "probes",
            "probe_timeout",
            "consecutive",
            "slow",
            "slow_share",
            "timeout",
            "capacity",
            "force",
            "buckets",
        ];
        let (percent, pairs) = options::split(text, &known)?;
        let mut settings = Self {
            error_threshold_percentage: percent.parse().map_err(|e: UnitError| e.to_string())?,
            ..Self::default()
        };
        for (key, value) in pairs {
            match key {
                "window" => settings.rolling_count_timeout = options::time(key, value)?,
                "min" => settings.volume_threshold = options::positive(key, value)?,
                "open" => settings.reset_timeout = options::time(key, value)?,
                "max_open" => settings.max_reset_timeout = options::time(key, value)?,
                "backoff" => settings.backoff = options::quantity(key, value)?,
                "jitter" => settings.jitter = options::quantity(key, value)?,
                "slow" => settings.slow_call_duration = Some(options::time(key, value)?),
                "slow_share" => settings.slow_call_percentage = options::quantity(key, value)?,
                "timeout" => settings.timeout = Some(options::time(key, value)?),
                "capacity" => settings.capacity = Some(options::positive(key, value)?),
                "force" => settings.force = Some(options::quantity(key, value)?),
                "probes" => settings.half_open_probes = options::quantity(key, value)?,
                "probe_timeout" => settings.half_open_timeout = options::time(key, value)?,
                "consecutive" => {
                    settings.consecutive_failures = Some(options::positive(key, value)?);
                }
                _ => settings.rolling_count_buckets = options::quantity(key, value)?,
            }
        }
        Ok(settings)
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        const CALLS: NonZeroU32 = NonZeroU32::new(20).unwrap();
        Self {
            error_threshold_percentage: Percent::whole(50),
            volume_threshold: CALLS,
            rolling_count_timeout: Span::secs(10),
            rolling_count_buckets: Few::new(10),
            reset_timeout: Span::secs(5),
            max_reset_timeout: Span::secs(30),
            backoff: Few::new(2),
            jitter: Percent::whole(10),
            half_open_probes: Few::new(1),
            half_open_timeout: Span::secs(30),
            consecutive_failures: None,
            slow_call_duration: None,
            slow_call_percentage: Percent::whole(50),
            timeout: None,
            capacity: None,
            enabled: true,
            force: None,
            fallback: None,
        }
    }
}

options::as_usual! { BreakerSettings:
    usual_volume_threshold(volume_threshold: NonZeroU32);
    usual_rolling_count_timeout(rolling_count_timeout: Span);
    usual_rolling_count_buckets(rolling_count_buckets: Few);
    usual_reset_timeout(reset_timeout: Span);
    usual_max_reset_timeout(max_reset_timeout: Span);
    usual_backoff(backoff: Few);
    usual_jitter(jitter: Percent);
    usual_slow_call_percentage(slow_call_percentage: Percent);
    usual_enabled(enabled: bool);
    usual_half_open_probes(half_open_probes: Few);
    usual_half_open_timeout(half_open_timeout: Span);
}

options::serde_text_or_map!(
    BreakerSettings,
    "a breaker as `50%,window=10s,min=20,open=5s`",
    BreakerSettings::whole
);

/// Opossum's 0 ("from the first call on") is 1: without a call nothing failed.
fn volume<'de, D: Deserializer<'de>>(from: D) -> Result<NonZeroU32, D::Error> {
    let number = u64::deserialize(from)?;
    let number = u32::try_from(number.max(1)).ok().and_then(NonZeroU32::new);
    number.ok_or_else(|| D::Error::custom("it is a whole number from 0 to 4294967295"))
}

impl FromStr for Forced {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            _ => Err(UnitError::new(format!("`{text}` is neither `open` nor `closed`"))),
        }
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
        })
    }
}

impl FromStr for BreakerSettings {
    type Err = BreakerError;

    fn from_str(text: &str) -> Result<Self, BreakerError> {
        Self::read(text).map_err(BreakerError)
    }
}

impl fmt::Display for BreakerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        write!(f, "{}", self.error_threshold_percentage)?;
        write!(f, ",window={}", self.rolling_count_timeout)?;
        write!(f, ",min={},open={}", self.volume_threshold, self.reset_timeout)?;
        if self.max_reset_timeout != usual.max_reset_timeout {
            write!(f, ",max_open={}", self.max_reset_timeout)?;
        }
        if self.backoff != usual.backoff {
            write!(f, ",backoff={}", self.backoff)?;
        }
        if self.jitter != usual.jitter {
            write!(f, ",jitter={}", self.jitter)?;
        }
        if self.half_open_probes != usual.half_open_probes {
            write!(f, ",probes={}", self.half_open_probes)?;
        }
        if self.half_open_timeout != usual.half_open_timeout {
            write!(f, ",probe_timeout={}", self.half_open_timeout)?;
        }
        if let Some(consecutive) = self.consecutive_failures {
            write!(f, ",consecutive={consecutive}")?;
        }
        if self.rolling_count_buckets != usual.rolling_count_buckets {
            write!(f, ",buckets={}", self.rolling_count_buckets)?;
        }
        if let Some(slow) = self.slow_call_duration {
            write!(f, ",slow={slow}")?;
        }
        if self.slow_call_percentage != usual.slow_call_percentage {
            write!(f, ",slow_share={}", self.slow_call_percentage)?;
        }
        if let Some(timeout) = self.timeout {
            write!(f, ",timeout={timeout}")?;
        }
        if let Some(capacity) = self.capacity {
            write!(f, ",capacity={capacity}")?;
        }
        self.force.map_or(Ok(()), |force| write!(f, ",force={force}"))
    }
}

impl fmt::Display for BreakerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BreakerError {}
