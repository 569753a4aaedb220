//! Reads the controls in paths and query strings: percent-decoding, numbers, durations.

use std::time::Duration;

/// No control may wait longer than this.
const LONGEST: Duration = Duration::from_hours(1);

/// The parameters of a query string, decoded, in order.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The last value of a parameter.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query).filter(|(key, _)| key == name).last().map(|(_, value)| value)
}

/// A number in a parameter, or `default` when it is not given.
pub(super) fn number(query: &str, name: &str, default: u64) -> Result<u64, String> {
    match parameter(query, name) {
        None => Ok(default),
        Some(text) => {
            text.parse().map_err(|_| format!("`{name}={text}` is no number; write {name}=10"))
        }
    }
}

/// A duration in a parameter, or `default` when it is not given.
pub(super) fn interval(query: &str, name: &str, default: Duration) -> Result<Duration, String> {
    parameter(query, name).map_or(Ok(default), |text| duration(&text))
}

/// Whether a switch is on: `?name`, `?name=1` or `?name=true`.
pub(super) fn switch(query: &str, name: &str) -> bool {
    parameter(query, name).is_some_and(|value| matches!(&*value, "" | "1" | "true"))
}

/// A whole number with `us`, `ms`, `s`, `m` or `h`; at most an hour.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 250ms, 2s or 1m, at most 1h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(micros)
        .map(Duration::from_micros)
        .filter(|&duration| duration <= LONGEST)
        .ok_or_else(wrong)
}

/// Decodes `%XX` and `+`; what is no escape stays as it is, and bytes that are no UTF-8 become
/// U+FFFD.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, escape(tail)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escape(tail: &[u8]) -> Option<u8> {
    let digit = |at: usize| tail.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_in_order() {
        let found: Vec<_> = parameters("a=1&&b=x%20y+z&a=2&c&d=%zz%4").collect();
        let expected = [("a", "1"), ("b", "x y z"), ("a", "2"), ("c", ""), ("d", "%zz%4")];
        let expected: Vec<_> =
            expected.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(found, expected);
        assert_eq!(parameter("a=1&a=2", "a").as_deref(), Some("2"));
        assert_eq!(parameters("x=%ff").next().unwrap().1, "\u{fffd}");
    }

    #[test]
    fn durations_have_units_and_a_bound() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1h"), Ok(LONGEST));
        for wrong in ["", "2", "s", "-1s", "61m", "2 s", "2d", "18446744073709551615h", "٣s"] {
            assert!(duration(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn numbers_and_switches() {
        assert_eq!(number("count=3", "count", 10), Ok(3));
        assert_eq!(number("", "count", 10), Ok(10));
        assert!(number("count=x", "count", 10).is_err());
        assert!(switch("chunked", "chunked") && switch("chunked=1", "chunked"));
        assert!(!switch("chunked=0", "chunked") && !switch("", "chunked"));
    }
}
