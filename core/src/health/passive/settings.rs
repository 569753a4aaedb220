//! What passive health obeys, and its short form `5,eject=30s`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::options;
use crate::units::{Factor, Few, Percent, Span};

/// What passive health obeys. In text: the failures in a row that eject a node (0: not by these),
/// then options as in `5,gateway=3,eject=30s,share=50%`. The keys of a file are Envoy's where Envoy
/// has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct OutlierSettings {
    /// So many failed calls in a row eject the node; 0: not by these. Default 5.
    #[serde(alias = "consecutive_5xx", skip_serializing_if = "usual_consecutive_failures")]
    pub consecutive_failures: u32,
    /// So many in a row that ended without the node's own answer, or with 502, 503, 504 or
    /// `UNAVAILABLE`; 0: not by these. Default 0. Short form `gateway`.
    #[serde(
        alias = "consecutive_gateway_failure",
        skip_serializing_if = "usual_consecutive_gateway_failures"
    )]
    pub consecutive_gateway_failures: u32,
    /// How often nodes are compared with each other, above 0. Default 10 s.
    #[serde(deserialize_with = "options::above_zero", skip_serializing_if = "usual_interval")]
    pub interval: Span,
    /// How long the first ejection lasts, above 0; the n-th in a short while lasts n times as
    /// long. Default 30 s. Short form `eject`.
    #[serde(
        deserialize_with = "options::above_zero",
        skip_serializing_if = "usual_base_ejection_time"
    )]
    pub base_ejection_time: Span,
    /// The longest ejection; what is shorter than the first is as long as that. Default 5 m. Short
    /// form `max_eject`.
    #[serde(
        deserialize_with = "options::above_zero",
        skip_serializing_if = "usual_max_ejection_time"
    )]
    pub max_ejection_time: Span,
    /// The share of the nodes that may be out at a time; one always may, the last never. Default
    /// 10 %. Short form `share`.
    #[serde(skip_serializing_if = "usual_max_ejection_percent")]
    pub max_ejection_percent: Percent,
    /// A node whose share of good calls is below the mean of all by more than so many standard
    /// deviations is ejected; 0: not by this. Default 1.9. Short form `stdev`.
    #[serde(skip_serializing_if = "usual_success_rate_stdev_factor")]
    pub success_rate_stdev_factor: Factor,
    /// A node of whose calls at least this share failed is ejected. Default none. Short form
    /// `failures`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_percentage_threshold: Option<Percent>,
    /// A node whose mean latency is so many times the median of all is ejected; 0: not by this.
    /// Default 0. Short form `latency`.
    #[serde(skip_serializing_if = "usual_latency_factor")]
    pub latency_factor: Factor,
    /// … and above this in any case. Default 10 ms. Short form `latency_floor`.
    #[serde(skip_serializing_if = "usual_latency_floor")]
    pub latency_floor: Span,
    /// Nodes are compared when at least so many have [`Self::min_calls`]. Default 5.
    #[serde(alias = "success_rate_minimum_hosts", skip_serializing_if = "usual_min_nodes")]
    pub min_nodes: Few,
    /// Calls within an interval that a node needs to be compared, at least 1. Default 100.
    #[serde(alias = "success_rate_request_volume", skip_serializing_if = "usual_min_calls")]
    pub min_calls: u32,
}

/// Why the settings were refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierError(String);

impl OutlierSettings {
    fn read(text: &str) -> Result<Self, String> {
        let known = [
            "gateway",
            "interval",
            "eject",
            "max_eject",
            "share",
            "stdev",
            "failures",
            "latency",
            "latency_floor",
            "min_nodes",
            "min_calls",
        ];
        let (head, pairs) = options::split(text, &known)?;
        let mut settings = Self { consecutive_failures: number(head, head)?, ..Self::default() };
        for (key, value) in pairs {
            match key {
                "gateway" => {
                    settings.consecutive_gateway_failures =
                        number(&format!("{key}={value}"), value)?;
                }
                "interval" => settings.interval = options::time(key, value)?,
                "eject" => settings.base_ejection_time = options::time(key, value)?,
                "max_eject" => settings.max_ejection_time = options::time(key, value)?,
                "share" => settings.max_ejection_percent = options::quantity(key, value)?,
                "stdev" => settings.success_rate_stdev_factor = options::quantity(key, value)?,
                "failures" => {
                    settings.failure_percentage_threshold = Some(options::quantity(key, value)?);
                }
                "latency" => settings.latency_factor = options::quantity(key, value)?,
                "latency_floor" => settings.latency_floor = options::quantity(key, value)?,
                "min_nodes" => settings.min_nodes = options::quantity(key, value)?,
                _ => settings.min_calls = options::positive(key, value)?.get(),
            }
        }
        Ok(settings)
    }
}

fn number(shown: &str, text: &str) -> Result<u32, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        format!(
            "`{shown}` is not a number of failures in a row; write for example `5`, or `0` for \
                 none"
        )
    })
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            consecutive_gateway_failures: 0,
            interval: Span::secs(10),
            base_ejection_time: Span::secs(30),
            max_ejection_time: Span::secs(300),
            max_ejection_percent: Percent::whole(10),
            success_rate_stdev_factor: Factor::hundredths(190),
            failure_percentage_threshold: None,
            latency_factor: Factor::default(),
            latency_floor: Span::millis(10),
            min_nodes: Few::new(5),
            min_calls: 100,
        }
    }
}

options::as_usual! { OutlierSettings:
    usual_consecutive_failures(consecutive_failures: u32);
    usual_consecutive_gateway_failures(consecutive_gateway_failures: u32);
    usual_interval(interval: Span);
    usual_base_ejection_time(base_ejection_time: Span);
    usual_max_ejection_time(max_ejection_time: Span);
    usual_max_ejection_percent(max_ejection_percent: Percent);
    usual_success_rate_stdev_factor(success_rate_stdev_factor: Factor);
    usual_latency_factor(latency_factor: Factor);
    usual_latency_floor(latency_floor: Span);
    usual_min_nodes(min_nodes: Few);
    usual_min_calls(min_calls: u32);
}

options::serde_text_or_map!(
    OutlierSettings,
    "passive health as `5,eject=30s`, or a map with `consecutive_failures` …"
);

impl FromStr for OutlierSettings {
    type Err = OutlierError;

    fn from_str(text: &str) -> Result<Self, OutlierError> {
        Self::read(text).map_err(OutlierError)
    }
}

impl fmt::Display for OutlierSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        write!(f, "{}", self.consecutive_failures)?;
        let mut tell = |name: &str, shown: Option<String>| match shown {
            Some(shown) => write!(f, ",{name}={shown}"),
            None => Ok(()),
        };
        tell("gateway", unlike(&self.consecutive_gateway_failures, &0))?;
        tell("interval", unlike(&self.interval, &usual.interval))?;
        tell("eject", unlike(&self.base_ejection_time, &usual.base_ejection_time))?;
        tell("max_eject", unlike(&self.max_ejection_time, &usual.max_ejection_time))?;
        tell("share", unlike(&self.max_ejection_percent, &usual.max_ejection_percent))?;
        let stdev = (&self.success_rate_stdev_factor, &usual.success_rate_stdev_factor);
        tell("stdev", unlike(stdev.0, stdev.1))?;
        tell("failures", self.failure_percentage_threshold.map(|share| share.to_string()))?;
        tell("latency", unlike(&self.latency_factor, &usual.latency_factor))?;
        tell("latency_floor", unlike(&self.latency_floor, &usual.latency_floor))?;
        tell("min_nodes", unlike(&self.min_nodes, &usual.min_nodes))?;
        tell("min_calls", unlike(&self.min_calls, &usual.min_calls))
    }
}

fn unlike<T: PartialEq + fmt::Display>(value: &T, usual: &T) -> Option<String> {
    (value != usual).then(|| value.to_string())
}

impl fmt::Display for OutlierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutlierError {}
