//! How much one client, or all together, may ask for.
//!
//! A limit is one truth for the process: its state is shared atomics, so that `100/s` is 100/s
//! whatever the number of workers. A refused request costs its client nothing.

mod keyed;
mod token_bucket;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::key::By;
use crate::options;
use crate::units::Rate;

pub use keyed::Table;
pub use token_bucket::{Quota, TokenBucket};

/// What a limiter obeys. In text: `100/s,burst=50,by=ip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct LimitSettings {
    /// How many in the long run.
    pub rate: Rate,
    /// How many at once after a pause. Default: the rate's count, so one unit of time's worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// What tells one client from another. Default `ip`.
    #[serde(default = "default_by", skip_serializing_if = "is_default_by")]
    pub by: By,
    /// The number of keys a limiter has room for; those beyond share their limit with others.
    /// Default 100 000, some 4 MiB when full.
    #[serde(default = "default_max_keys", skip_serializing_if = "is_default_max_keys")]
    pub max_keys: NonZeroU32,
}

/// Why a limit was refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitError(String);

/// What a limiter says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Admitted {
        /// The most at once (the burst).
        limit: u32,
        /// How many more may come now.
        remaining: u32,
        /// After which pause `remaining` is `limit` again.
        reset: Duration,
    },
    /// Too many.
    Refused {
        /// The most at once (the burst).
        limit: u32,
        /// After which pause the next one is admitted; above 0.
        retry_after: Duration,
        /// After which pause `remaining` is `limit` again.
        reset: Duration,
    },
}

/// A limit at work, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    settings: LimitSettings,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Global(TokenBucket),
    Keyed(Quota, Table),
}

/// Keys of a limiter unless told otherwise (reliability D36).
const MAX_KEYS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

impl Limiter {
    /// A limiter with nothing spent.
    pub fn new(settings: LimitSettings) -> Self {
        let quota =
            Quota::new(settings.rate, settings.burst.unwrap_or_else(|| settings.rate.count()));
        let kind = match settings.by {
            By::Global => Kind::Global(TokenBucket::new(quota)),
            _ => Kind::Keyed(quota, Table::new(settings.max_keys)),
        };
        Self { settings, kind }
    }

    /// What it obeys.
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Where the key of [`Self::check`] comes from.
    pub fn by(&self) -> &By {
        &self.settings.by
    }

    /// Charges one request to `key` ([`key::of_ip`](crate::key::of_ip),
    /// [`key::of_value`](crate::key::of_value); ignored by a global limit).
    pub fn check(&self, key: u64, now: Instant) -> Decision {
        match &self.kind {
            Kind::Global(bucket) => bucket.check(now),
            Kind::Keyed(quota, table) => table.check(key, quota, now),
        }
    }
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted { .. })
    }
}

// === the ways in and out of flags and files ===

options::serde_text_or_map!(LimitSettings, "a limit as `100/s,burst=50,by=ip`");

impl LimitSettings {
    fn read(text: &str) -> Result<Self, String> {
        let (rate, pairs) = options::split(text, &["burst", "by", "max_keys"])?;
        let rate = rate.parse::<Rate>().map_err(|error| error.to_string())?;
        let mut settings = Self { rate, burst: None, by: By::Ip, max_keys: MAX_KEYS };
        for (key, value) in pairs {
            match key {
                "burst" => settings.burst = Some(options::positive(key, value)?),
                "by" => settings.by = options::quantity(key, value)?,
                _ => settings.max_keys = options::positive(key, value)?,
            }
        }
        Ok(settings)
    }
}

impl FromStr for LimitSettings {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        Self::read(text).map_err(LimitError)
    }
}

impl fmt::Display for LimitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rate)?;
        if let Some(burst) = self.burst {
            write!(f, ",burst={burst}")?;
        }
        write!(f, ",by={}", self.by)?;
        if !is_default_max_keys(&self.max_keys) {
            write!(f, ",max_keys={}", self.max_keys)?;
        }
        Ok(())
    }
}

const fn default_by() -> By {
    By::Ip
}

fn is_default_by(by: &By) -> bool {
    *by == default_by()
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

#[cfg(test)]
mod tests;
