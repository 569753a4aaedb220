//! The deadline of a call: the `grpc-timeout` field, read, written, and never made longer.

use std::time::Duration;

use gwproxy_core::units::Span;
use gwproxy_core::{Code, Error};
use gwproxy_http::Fields;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// How long the caller gives the call, from when it was sent.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What a user may set about deadlines. Every key may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, expecting = "a map with `max_deadline`")]
pub struct Settings {
    /// The longest deadline that a caller may name; a longer one is shortened to this. Default
    /// 5 min; 0 takes any. A call without a deadline has none, whatever this says: it may be a
    /// stream that is meant to stay.
    pub max_deadline: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_deadline: Span::secs(300) }
    }
}

/// The units of `PROTOCOL-HTTP2.md` with their nanoseconds, the finest first.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// `TimeoutValue` has 8 digits at most.
const VALUE_MAX: u128 = 99_999_999;

/// The time in a `grpc-timeout` value; none if it breaks the grammar: 1 to 8 digits and one of
/// `H M S m u n`.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, nanos) = UNITS.iter().find(|(letter, _)| letter == unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    // At most 99,999,999 hours, which fits.
    let nanos = number * nanos;
    let (secs, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    Some(Duration::new(secs as u64, nanos as u32))
}

/// The value for a time, in the finest unit that fits and never more than it.
pub fn print(time: Duration) -> HeaderValue {
    let nanos = time.as_nanos();
    let fits = |&&(_, unit): &&(u8, u128)| nanos / unit <= VALUE_MAX;
    let (letter, number) = match UNITS.iter().find(fits) {
        Some((letter, unit)) => (*letter, nanos / unit),
        None => (b'H', VALUE_MAX),
    };
    let text = format!("{number}{}", char::from(letter));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// Reads a call's deadline, shortens it to `max` (zero: no maximum) and by what was `spent`
/// already, and tells the node the shorter one. None for a call without a deadline.
///
/// # Errors
/// - [`Code::ClientMalformed`] for a value that breaks the grammar. Some servers take that for "no
///   deadline" (tonic), others refuse the call (grpc-go); a caller that meant to wait for seconds
///   must not wait for ever, so we refuse.
/// - [`Code::UpstreamTimeout`] if it has passed already.
pub fn take(
    headers: &mut Fields,
    max: Duration,
    spent: Duration,
) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let is_one = headers.get_all(GRPC_TIMEOUT).nth(1).is_none();
    let named = parse(value.as_bytes()).filter(|_| is_one).ok_or_else(|| {
        Error::new(
            Code::ClientMalformed,
            "the grpc-timeout is not one value of 1 to 8 digits and a unit of H, M, S, m, u or n",
        )
        .unsent()
    })?;
    let allowed = if max.is_zero() { named } else { named.min(max) };
    let left = allowed.saturating_sub(spent);
    if left.is_zero() {
        return Err(exceeded(allowed).unsent());
    }
    if left < named {
        headers.insert(GRPC_TIMEOUT, print(left));
    }
    Ok(Some(left))
}

/// The error of a call whose time is over.
pub(crate) fn exceeded(allowed: Duration) -> Error {
    let sentence = format!("the call was not over within its deadline of {allowed:?}");
    Error::new(Code::UpstreamTimeout, sentence)
}

#[cfg(test)]
mod tests;
