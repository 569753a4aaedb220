//! Lengths of time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{UnitError, decimal};

/// A length of time: `500ms`, `5s`, `1.5s`, `1m30s`, `2h`, `7d`.
///
/// Units: `us`, `ms`, `s`, `m`, `h`, `d`, in falling order when several. Resolution 1 µs, at most
/// 10 years, so that adding one to a moment never overflows. A number without a unit is refused:
/// half of all users mean seconds, the others milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub(super) Duration);

// === impl Span ===

/// The units of a span, the largest first, in nanoseconds.
const SPAN_UNITS: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

const SPAN_MAX: Duration = Duration::from_hours(3650 * 24);

impl Span {
    /// A length of the standard library's; what is above ten years becomes ten years.
    pub fn new(length: Duration) -> Self {
        Self(length.min(SPAN_MAX))
    }

    /// A span of whole seconds, for defaults.
    pub const fn secs(secs: u32) -> Self {
        Self(Duration::from_secs(secs as u64))
    }

    /// A span of whole milliseconds, for defaults.
    pub const fn millis(millis: u32) -> Self {
        Self(Duration::from_millis(millis as u64))
    }

    /// As the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |why: &str| {
            UnitError(format!(
                "`{text}` is not a duration ({why}); write for example `500ms`, `5s`, `1m30s` or \
                 `2h`"
            ))
        };
        let mut rest = text.trim();
        let mut nanos: u128 = 0;
        let mut units = SPAN_UNITS.iter();
        if rest.is_empty() {
            return Err(bad("it is empty"));
        }
        while !rest.is_empty() {
            let split = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
            let Some((number, after)) = split.and_then(|at| rest.split_at_checked(at)) else {
                return Err(bad(&format!("add a unit: `{rest}s` or `{rest}ms`")));
            };
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at_checked(end).unwrap_or((after, ""));
            let unit = if unit == "min" { "m" } else { unit };
            if !SPAN_UNITS.iter().any(|(name, _)| *name == unit) {
                return Err(bad("units are us, ms, s, m, h and d"));
            }
            let scale = units.find(|(name, _)| *name == unit);
            let (_, scale) = scale.ok_or_else(|| bad("larger units come first, each once"))?;
            let part = decimal(number, *scale).ok_or_else(|| bad("the number does not read"))?;
            nanos = nanos.checked_add(part).ok_or_else(|| bad("it is too long"))?;
            rest = after;
        }
        if !nanos.is_multiple_of(1_000) {
            return Err(bad("the smallest step is 1us"));
        }
        match u64::try_from(nanos) {
            Ok(nanos) if Duration::from_nanos(nanos) <= SPAN_MAX => {
                Ok(Self(Duration::from_nanos(nanos)))
            }
            _ => Err(bad("the longest is 3650d")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in SPAN_UNITS {
            let count = nanos / scale;
            nanos %= scale;
            if count != 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}
