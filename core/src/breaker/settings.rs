//! What a breaker obeys, and its short form `50%,window=10s,min=20,open=5s`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::window::Counts;
use crate::options;
use crate::units::{Few, Percent, Span, UnitError};

/// What a breaker obeys. The keys of a file are the field names (opossum's, in `snake_case`); the
/// short form is `50%,window=10s,min=20,open=5s,probes=1,consecutive=5`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Opens when at least this share of the calls in the window failed. Default 50 %.
    pub error_threshold_percentage: Percent,
    /// … but not before so many calls finished in the window. Default 20. Short form `min`.
    #[serde(skip_serializing_if = "usual_volume_threshold")]
    pub volume_threshold: NonZeroU32,
    /// The length of the window, above 0. Default 10 s. Short form `window`.
    #[serde(
        deserialize_with = "options::above_zero",
        skip_serializing_if = "usual_rolling_count_timeout"
    )]
    pub rolling_count_timeout: Span,
    /// In how many steps the window forgets. Default 10. Short form `buckets`.
    #[serde(skip_serializing_if = "usual_rolling_count_buckets")]
    pub rolling_count_buckets: Few,
    /// How long it stays open before it lets probes through, above 0. Default 5 s. Short form
    /// `open`.
    #[serde(deserialize_with = "options::above_zero", skip_serializing_if = "usual_reset_timeout")]
    pub reset_timeout: Span,
    /// Probes let through when half-open; all must succeed to close it. Default 1. Short form
    /// `probes`.
    #[serde(skip_serializing_if = "usual_half_open_probes")]
    pub half_open_probes: Few,
    /// How long probes may take, above 0; then others take their place. Default 30 s. Short form
    /// `probe_timeout`.
    #[serde(
        deserialize_with = "options::above_zero",
        skip_serializing_if = "usual_half_open_timeout"
    )]
    pub half_open_timeout: Span,
    /// Opens also after so many failures in a row, whatever the share. Default none. Short form
    /// `consecutive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<NonZeroU32>,
}

/// Why a breaker's settings were refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerError(String);

impl BreakerSettings {
    /// Whether these numbers open the breaker.
    pub(super) fn trips(&self, counts: Counts, consecutive: u32) -> bool {
        let threshold = u64::from(self.error_threshold_percentage.basis_points());
        let in_a_row = self.consecutive_failures.is_some_and(|most| consecutive >= most.get());
        let enough = counts.total >= u64::from(self.volume_threshold.get());
        in_a_row || (enough && counts.failures * 10_000 >= threshold * counts.total)
    }

    fn read(text: &str) -> Result<Self, String> {
        let known = ["window", "min", "open", "probes", "probe_timeout", "consecutive", "buckets"];
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
            half_open_probes: Few::new(1),
            half_open_timeout: Span::secs(30),
            consecutive_failures: None,
        }
    }
}

options::as_usual! { BreakerSettings:
    usual_volume_threshold(volume_threshold: NonZeroU32);
    usual_rolling_count_timeout(rolling_count_timeout: Span);
    usual_rolling_count_buckets(rolling_count_buckets: Few);
    usual_reset_timeout(reset_timeout: Span);
    usual_half_open_probes(half_open_probes: Few);
    usual_half_open_timeout(half_open_timeout: Span);
}

options::serde_text_or_map!(BreakerSettings, "a breaker as `50%,window=10s,min=20,open=5s`");

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
        Ok(())
    }
}

impl fmt::Display for BreakerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BreakerError {}
