//! A value that remembers where it stood.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::De;
use super::error::DeError;
use crate::config::report::Place;
use crate::config::yaml::Node;

/// A value with the place it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Spanned<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) place: Place,
}
/// What [`Spanned`] calls itself to its reader.
pub(super) const SPANNED: &str = "$gwproxy::Spanned";

/// A place and a value, as a list of two.
pub(super) struct SpannedParts<'de> {
    node: &'de Node,
    part: u8,
}

impl<'de> SpannedParts<'de> {
    pub(super) const fn of(node: &'de Node) -> Self {
        Self { node, part: 0 }
    }
}

impl<'de> de::SeqAccess<'de> for SpannedParts<'de> {
    type Error = DeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DeError> {
        self.part += 1;
        let Place { line, column, width } = self.node.place;
        match self.part {
            1 => seed.deserialize(line.into_deserializer()).map(Some),
            2 => seed.deserialize(column.into_deserializer()).map(Some),
            3 => seed.deserialize(width.into_deserializer()).map(Some),
            _ => seed.deserialize(De(self.node)).map(Some),
        }
        .map_err(|error: DeError| error.at(self.node.place))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Spanned<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut parts: A,
            ) -> Result<Spanned<T>, A::Error> {
                let lost = || de::Error::custom("the reader does not tell places");
                let line = parts.next_element()?.ok_or_else(lost)?;
                let column = parts.next_element()?.ok_or_else(lost)?;
                let width = parts.next_element()?.ok_or_else(lost)?;
                let value = parts.next_element()?.ok_or_else(lost)?;
                Ok(Spanned { value, place: Place { line, column, width } })
            }
        }
        deserializer.deserialize_newtype_struct(SPANNED, Parts(PhantomData))
    }
}

impl<T: serde::Serialize> serde::Serialize for Spanned<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T> From<T> for Spanned<T> {
    /// A value that stands nowhere: one that is going to be printed.
    fn from(value: T) -> Self {
        Self { value, place: Place::FILE }
    }
}
