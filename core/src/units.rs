//! Quantities as a user writes them: each parses from text, prints back in one canonical form,
//! and is refused with a sentence that shows the accepted forms.
//!
//! All of them read from YAML and JSON through the same parser, so that the error points at the
//! value. Plain numbers are accepted where their meaning is plain (bytes, percent, weight).

mod memory;
mod size;
mod span;

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

pub use memory::MemoryLimit;
pub use size::Size;
pub use span::Span;

/// `1 node`, `2 nodes`: for sentences. `word` is one whose plural takes an `s`.
pub fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}

/// So many per time: `100/s`, `5/min`, `1000/h`, `10/500ms`.
///
/// Units: `s`, `min`, `h`, `d`, or a [`Span`]. At most 4 294 967 295 per unit, never 0. Bytes may be
/// written as a [`Size`]: `10MiB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Duration,
}

/// A share of a whole: `50%`, `50` or `12.5%`; 0 to 100, two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Percent(u16);

/// A node's share of the traffic in relation to the others': 0 to 65535; 0 drains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// A small count: a whole number from 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Few(NonZeroU16);

/// How many times as much: `1.9`, `3`; 0 to 100, two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Factor(u16);

/// Why a quantity was refused. `Display` is one sentence: the value, what is wrong, what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError(String);

// === impl Rate ===

/// The units of a rate that print by name.
const RATE_UNITS: [(&str, Duration); 4] = [
    ("s", Duration::from_secs(1)),
    ("min", Duration::from_mins(1)),
    ("h", Duration::from_hours(1)),
    ("d", Duration::from_hours(24)),
];

impl Rate {
    /// So many per second, for defaults.
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    /// So many in a time; none if that is 0.
    pub const fn new(count: NonZeroU32, per: Duration) -> Option<Self> {
        if per.is_zero() { None } else { Some(Self { count, per }) }
    }

    /// So many in a time that is not known yet.
    pub(crate) const fn timeless(count: NonZeroU32) -> Self {
        Self { count, per: Duration::ZERO }
    }

    /// How many in [`Self::per`].
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The time in which [`Self::count`] may happen, never 0.
    pub const fn per(self) -> Duration {
        self.per
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |why: &str| {
            UnitError(format!(
                "`{text}` is not a rate ({why}); write for example `100/s`, `5/min` or `1000/h`"
            ))
        };
        let (count, unit) = text
            .trim()
            .split_once('/')
            .ok_or_else(|| bad("the time is missing: `/s`, `/min` or `/h`"))?;
        let count = count.trim();
        let number = match count.parse::<Size>() {
            // Bytes, as a bandwidth has them.
            Ok(size) if count.ends_with('B') => Some(u128::from(size.get())),
            _ => decimal(count, 1),
        };
        let number = number.and_then(|count| u32::try_from(count).ok());
        let count = number.and_then(NonZeroU32::new);
        let count = count.ok_or_else(|| bad("the number must be whole, from 1 to 4294967295"))?;
        let unit = unit.trim();
        let long = match unit {
            "sec" | "second" => "s",
            "m" | "minute" => "min",
            "hour" => "h",
            "day" => "d",
            other => other,
        };
        if let Some((_, per)) = RATE_UNITS.iter().find(|(name, _)| *name == long) {
            return Ok(Self { count, per: *per });
        }
        match unit.parse::<Span>() {
            Ok(per) if !per.is_zero() => Ok(Self { count, per: per.get() }),
            _ => Err(bad("the time is `s`, `min`, `h`, `d` or a duration as `500ms`")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RATE_UNITS.iter().find(|(_, per)| *per == self.per) {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count),
            None => write!(f, "{}/{}", self.count, Span(self.per)),
        }
    }
}

// === impl Percent ===

impl Percent {
    /// Whole percents, for defaults; more than 100 is cut to 100.
    pub const fn whole(percent: u16) -> Self {
        Self(if percent > 100 { 10_000 } else { percent * 100 })
    }

    /// In hundredths of a percent: 0 to 10 000.
    pub const fn basis_points(self) -> u32 {
        self.0 as u32
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim();
        let number = trimmed.strip_suffix('%').unwrap_or(trimmed).trim_end();
        match decimal(number, 100) {
            // The match bounds it by 10 000.
            Some(points @ 0..=10_000) => Ok(Self(points as u16)),
            _ => Err(UnitError(format!(
                "`{text}` is not a percentage from 0 to 100 with at most two decimals; write for \
                 example `50%` or `12.5%`"
            ))),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            _ if rest.is_multiple_of(10) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

// === impl Weight ===

impl Weight {
    /// A weight, for defaults.
    pub const fn new(weight: u16) -> Self {
        Self(weight)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    /// One share.
    fn default() -> Self {
        Self(1)
    }
}

impl FromStr for Weight {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = decimal(text.trim(), 1).filter(|_| !text.contains('.'));
        number.and_then(|weight| u16::try_from(weight).ok()).map(Self).ok_or_else(|| {
            UnitError(format!(
                "`{text}` is not a weight; write a whole number from 0 to 65535, where 0 sends \
                 nothing"
            ))
        })
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Few ===

impl Few {
    /// A count, for defaults; 0 becomes 1 and more than 1000 becomes 1000.
    pub const fn new(count: u16) -> Self {
        match NonZeroU16::new(if count > 1000 { 1000 } else { count }) {
            Some(count) => Self(count),
            None => Self(NonZeroU16::MIN),
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl FromStr for Few {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = decimal(text.trim(), 1).filter(|_| !text.contains('.'));
        match number {
            // The match bounds it.
            Some(count @ 1..=1000) => Ok(Self::new(count as u16)),
            _ => Err(UnitError(format!("`{text}` is not a whole number from 1 to 1000"))),
        }
    }
}

impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Factor ===

impl Factor {
    /// A factor in hundredths, for defaults; more than 100 times is cut to that.
    pub const fn hundredths(hundredths: u16) -> Self {
        Self(if hundredths > 10_000 { 10_000 } else { hundredths })
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether it is 0.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Factor {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match decimal(text.trim(), 100) {
            // The match bounds it.
            Some(hundredths @ 0..=10_000) => Ok(Self(hundredths as u16)),
            _ => Err(UnitError(format!(
                "`{text}` is not a factor from 0 to 100 with at most two decimals; write for \
                 example `1.9`"
            ))),
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// `12`, `1.5` or `.5` times `scale`; none if it does not read, overflows or leaves a fraction.
fn decimal(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| {
        if text.is_empty() {
            return Some(0);
        }
        // `u128::from_str` takes a leading plus sign; a quantity has none.
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u128>().ok())?
    };
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let whole = digits(whole)?.checked_mul(scale)?;
    let parts = digits(fraction)?.checked_mul(scale)?;
    let tens = 10_u128.pow(fraction.len() as u32);
    parts.is_multiple_of(tens).then(|| whole.checked_add(parts / tens))?
}

// === impl UnitError and the ways in and out of files ===

impl UnitError {
    /// For a choice among words, read the same way.
    pub(crate) fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

/// Reads a quantity from text, or from a number by way of its text, so that a bare number gets
/// the type's own sentence and not serde's.
macro_rules! serde_by_text {
    ($type:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = UnitError;
            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
serde_by_text!(MemoryLimit, "a size, `auto` or `off`");
serde_by_text!(Span, "a duration as `5s`");
serde_by_text!(Size, "a size as `64KiB`");
serde_by_text!(Rate, "a rate as `100/s`");
serde_by_text!(Percent, "a percentage as `50%`");
serde_by_text!(Few, "a whole number from 1 to 1000");
serde_by_text!(Factor, "a factor as `1.9`");
serde_by_text!(Weight, "a whole number from 0 to 65535");

macro_rules! serialize_as_text {
    ($($type:ident)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serialize_as_text!(Span Rate Percent);

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl Serialize for Few {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
