//! A serde reader over the tree: every `Settings` type of the house reads from it, and every
//! error comes out with its place, its kind and the path to what caused it.

mod all;
mod error;
mod spanned;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::report::Code;
use super::yaml::{Map, Node, Scalar, Value};
use error::{DeError, Kind};
use spanned::{SPANNED, SpannedParts};

pub(super) use all::{Found, read_all};
pub(super) use spanned::Spanned;

/// The reader of one value.
#[derive(Clone, Copy)]
struct De<'de>(&'de Node);
/// What a plain scalar is by its looks (the core schema of YAML 1.2, decimal numbers only).
enum Look<'a> {
    Bool(bool),
    Float(f64),
    Int(i64),
    Null,
    Text(&'a str),
    Uint(u64),
}

fn look(scalar: &Scalar) -> Look<'_> {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Look::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Look::Null,
        "true" | "True" | "TRUE" => return Look::Bool(true),
        "false" | "False" | "FALSE" => return Look::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = |c: u8| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'-' | b'+');
    if !digits.as_bytes().first().is_some_and(u8::is_ascii_digit) || !digits.bytes().all(number) {
        return Look::Text(text);
    }
    if let Ok(value) = text.parse() {
        return Look::Uint(value);
    }
    if let Ok(value) = text.parse() {
        return Look::Int(value);
    }
    match text.parse() {
        Ok(value) => Look::Float(value),
        Err(_) => Look::Text(text),
    }
}

impl<'de> De<'de> {
    fn is_null(self) -> bool {
        matches!(&self.0.value, Value::Scalar(scalar) if matches!(look(scalar), Look::Null))
    }

    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let place = self.0.place;
        match &self.0.value {
            Value::Scalar(scalar) => match look(scalar) {
                Look::Bool(value) => visitor.visit_bool(value),
                Look::Float(value) => visitor.visit_f64(value),
                Look::Int(value) => visitor.visit_i64(value),
                Look::Null => visitor.visit_unit(),
                Look::Text(text) => visitor.visit_borrowed_str(text),
                Look::Uint(value) => visitor.visit_u64(value),
            },
            Value::Seq(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(map) => {
                let mut pairs = Pairs { map, next: 0 };
                let done = visitor.visit_map(&mut pairs);
                // An alias of a key that was there: serde says so between key and value.
                return done.map_err(|error| match (&error.kind, error.place) {
                    (Kind::Other(Code::DuplicateKey), None) => pairs.point_at_last(error),
                    _ => error.at(place),
                });
            }
        }
        .map_err(|error| error.at(place))
    }

    /// Text as typed: `8080` is text where text is wanted.
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Scalar(scalar) if !self.is_null() => visitor
                .visit_borrowed_str(&scalar.text)
                .map_err(|error: DeError| error.at(self.0.place)),
            _ => self.visit(visitor),
        }
    }
}

/// A value that was quoted, or put in by `"${NAME}"`, still reads as a number or switch.
macro_rules! deserialize_by_look {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            match &self.0.value {
                Value::Scalar(scalar) if !scalar.plain => {
                    let plain = Scalar { text: scalar.text.clone(), plain: true, told: false };
                    match look(&plain) {
                        Look::Bool(value) => visitor.visit_bool(value),
                        Look::Float(value) => visitor.visit_f64(value),
                        Look::Int(value) => visitor.visit_i64(value),
                        Look::Uint(value) => visitor.visit_u64(value),
                        Look::Null | Look::Text(_) => return self.visit(visitor),
                    }
                    .map_err(|error: DeError| error.at(self.0.place))
                }
                _ => self.visit(visitor),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for De<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.visit(visitor)
    }

    deserialize_by_look! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32
        deserialize_f64
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.text(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
            .map_err(|error: DeError| error.at(self.0.place))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        if name == SPANNED {
            return visitor.visit_seq(SpannedParts::of(self.0));
        }
        visitor.visit_newtype_struct(self).map_err(|error: DeError| error.at(self.0.place))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        // `routes:` with nothing below it is an empty list.
        if self.is_null() {
            return visitor.visit_seq(Items { items: &[], next: 0 });
        }
        self.visit(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        if self.is_null() {
            return visitor
                .visit_map(&mut Pairs { map: &EMPTY, next: 0 })
                .map_err(|error: DeError| error.at(self.0.place));
        }
        self.visit(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Scalar(scalar) => {
                let name: StrDeserializer<'_, DeError> = scalar.text.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Map(map) if map.entries.len() == 1 => {
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Pairs { map, next: 0 }))
            }
            _ => return self.visit(visitor),
        }
        .map_err(|error: DeError| error.at(self.0.place))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

static EMPTY: Map = Map { entries: Vec::new(), pruned: Vec::new() };

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = DeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DeError> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        if node.told() {
            return Err(DeError::told(node.place).below(index));
        }
        seed.deserialize(De(node)).map(Some).map_err(|error| error.at(node.place).below(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Pairs<'de> {
    map: &'de Map,
    next: usize,
}

impl Pairs<'_> {
    /// Puts the key read last into an error that serde raised about it.
    fn point_at_last(&self, error: DeError) -> DeError {
        let index = self.next.saturating_sub(1);
        match self.map.entries.get(index) {
            Some(entry) => error.at(entry.key_place).below(index),
            None => error,
        }
    }
}

impl<'de> de::MapAccess<'de> for Pairs<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeError> {
        let Some(entry) = self.map.entries.get(self.next) else { return Ok(None) };
        self.next += 1;
        let key: StrDeserializer<'de, DeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| self.point_at_last(error))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DeError> {
        let index = self.next.saturating_sub(1);
        match self.map.entries.get(index) {
            Some(entry) if entry.value.told() => Err(DeError::told(entry.value.place).below(index)),
            Some(entry) => seed
                .deserialize(De(&entry.value))
                .map_err(|error| error.at(entry.value.place).below(index)),
            None => Err(de::Error::custom("a value was read before its key")),
        }
    }
}
