//! The short form of a setting on the command line: `HEAD,key=value,key=value`.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::suggest::closest;
use crate::units::Span;

/// Keys with their values, in the order given.
pub(crate) type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// Takes `text` apart: what stands before the first comma, and the pairs after it.
///
/// # Errors
/// A sentence, if a part is no pair, a key is not `known` or comes twice.
pub(crate) fn split<'a>(text: &'a str, known: &[&str]) -> Result<(&'a str, Pairs<'a>), String> {
    let mut parts = text.split(',').map(str::trim);
    let head = parts.next().unwrap_or_default();
    let mut pairs = Pairs::new();
    for part in parts {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("`{part}` in `{text}` is not `key=value`"));
        };
        let (key, value) = (key.trim(), value.trim());
        if !known.contains(&key) {
            let hint = match closest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? "),
                None => String::new(),
            };
            let known = known.join(", ");
            return Err(format!("`{key}` in `{text}` is not known; {hint}known: {known}"));
        }
        if pairs.iter().any(|(other, _)| *other == key) {
            return Err(format!("`{key}` comes twice in `{text}`"));
        }
        pairs.push((key, value));
    }
    Ok((head, pairs))
}

/// A whole number above 0.
///
/// # Errors
/// A sentence that names the key.
pub(crate) fn positive(key: &str, value: &str) -> Result<std::num::NonZeroU32, String> {
    // `NonZeroU32::from_str` takes a leading plus sign; a count has none.
    let number = if value.starts_with('+') { None } else { value.parse().ok() };
    number.ok_or_else(|| {
        format!("`{key}={value}`: `{value}` is not a whole number from 1 to 4294967295")
    })
}

/// Any quantity that parses, its error with the key in front.
///
/// # Errors
/// As the quantity's own, with the key.
pub(crate) fn quantity<T>(key: &str, value: &str) -> Result<T, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    value.parse().map_err(|error| format!("`{key}={value}`: {error}"))
}

/// A length of time above 0.
///
/// # Errors
/// A sentence that names the key.
pub(crate) fn time(key: &str, value: &str) -> Result<Span, String> {
    let span: Span = quantity(key, value)?;
    if span.is_zero() {
        return Err(format!("`{key}={value}`: it must be longer than 0"));
    }
    Ok(span)
}

/// [`time`] for a field of a map.
pub(crate) fn above_zero<'de, D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(from)?;
    if span.is_zero() {
        return Err(D::Error::custom(format!("`{span}`: it must be longer than 0")));
    }
    Ok(span)
}

/// [`above_zero`] where a number without a unit is in milliseconds, as users of other libraries
/// have it in their files.
pub(crate) fn millis<'de, D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
    millis_or_off(from)?.ok_or_else(|| D::Error::custom("`false`: it must be a duration as `5s`"))
}

/// [`millis`], or `false` for none.
pub(crate) fn millis_or_off<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Span>, D::Error> {
    struct Millis;
    impl Visitor<'_> for Millis {
        type Value = Option<Span>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration as `5s`, or a number of milliseconds")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let span: Span = text.parse().map_err(E::custom)?;
            if span.is_zero() {
                return Err(E::custom(format!("`{text}`: it must be longer than 0")));
            }
            Ok(Some(span))
        }
        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            self.visit_str(&format!("{number}ms"))
        }
        fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
            if on { Err(E::custom("`true`: it must be a duration as `5s`")) } else { Ok(None) }
        }
    }
    from.deserialize_any(Millis)
}

/// Lets a settings struct read from its short form as text or from a map. The struct derives
/// serde's traits with `#[serde(remote = "Self")]`, which makes them plain functions that the
/// traits implemented here call. Unlike an untagged enum this keeps the place and the words of
/// the error. `$whole` looks at what a map said altogether.
macro_rules! serde_text_or_map {
    ($type:ident, $expecting:literal) => {
        crate::options::serde_text_or_map!($type, $expecting, Ok::<$type, String>);
    };
    ($type:ident, $expecting:literal, $whole:expr) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct TextOrMap;
                impl<'de> serde::de::Visitor<'de> for TextOrMap {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_map<A>(self, map: A) -> Result<$type, A::Error>
                    where
                        A: serde::de::MapAccess<'de>,
                    {
                        // The inherent function, which the derive made.
                        let map = serde::de::value::MapAccessDeserializer::new(map);
                        let read = $type::deserialize(map)?;
                        $whole(read).map_err(serde::de::Error::custom)
                    }
                }
                from.deserialize_any(TextOrMap)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // The inherent function, which the derive made.
                $type::serialize(self, to)
            }
        }
    };
}
pub(crate) use serde_text_or_map;

/// Functions for serde's `skip_serializing_if`: whether a field is as its settings have it unless
/// told otherwise.
macro_rules! as_usual {
    ($settings:ident: $($name:ident($field:ident: $type:ty);)*) => {$(
        // serde hands a reference.
        #[allow(clippy::trivially_copy_pass_by_ref)]
        fn $name($field: &$type) -> bool {
            *$field == $settings::default().$field
        }
    )*};
}
pub(crate) use as_usual;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_their_errors() {
        let known = ["burst", "by"];
        assert_eq!(split("100/s", &known), Ok(("100/s", vec![])));
        assert_eq!(
            split("1/s, burst = 5,by=header:x", &known),
            Ok(("1/s", vec![("burst", "5"), ("by", "header:x")]))
        );
        let error = |text| split(text, &known).unwrap_err();
        assert_eq!(error("1/s,x"), "`x` in `1/s,x` is not `key=value`");
        assert!(error("1/s,bust=1").contains("did you mean `burst`? known: burst, by"));
        assert!(error("1/s,by=a,by=b").contains("`by` comes twice"));
        assert!(positive("burst", "0").unwrap_err().contains("`burst=0`"));
        assert!(positive("burst", "+1").is_err());
    }
}
