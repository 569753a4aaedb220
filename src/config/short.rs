//! Settings that may be one text instead of a map: `load_balancer: random`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// Settings with a short form.
pub(super) trait Shorthand: Sized {
    /// What may stand there, for errors.
    const EXPECTING: &str;

    /// The meaning of the short form.
    fn from_text(text: &str) -> Result<Self, String>;

    /// The short form, if it says everything.
    fn to_text(&self) -> Option<String>;
}

/// The short form or the map.
#[derive(Debug, Default)]
pub(super) struct Short<T>(pub(super) T);

// By hand instead of serde's `untagged`, which forgets where values stood and answers every
// mistake with "did not match any variant".
impl<'de, T: Shorthand + Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Shorthand + Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Short<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTING)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Short<T>, E> {
                T::from_text(text).map(Short).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Short<T>, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Short)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: Shorthand + Serialize> Serialize for Short<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_text() {
            Some(text) => serializer.serialize_str(&text),
            None => self.0.serialize(serializer),
        }
    }
}
