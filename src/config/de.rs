//! A serde reader over the tree: every `Settings` type of the house reads from it, and every
//! error comes out with its place, its kind and the path to what caused it.

use std::fmt;

use gwproxy_core::suggest::closest;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};

use super::file::ALIASES;
use super::report::{Code, Diagnostic, Place};
use super::yaml::{Map, Node, Scalar, Value};

/// Errors told of one file; a file with more has one cause.
const ERRORS_MAX: usize = 50;

/// Reads a whole tree, telling every error: what fails is noted, taken out of the tree, and the
/// rest is read again. `told` is what was wrong before. The value is what could be read; `None` if nothing could.
pub(super) fn read_all<T: de::DeserializeOwned>(
    mut root: Node,
    told: Vec<Diagnostic>,
) -> (Option<T>, Found) {
    let mut found = Found { diagnostics: told, damaged: false, lost: false };
    loop {
        let error = match T::deserialize(De(&root)) {
            Ok(value) => return (Some(value), found),
            Err(error) => error,
        };
        let place = error.place.unwrap_or(root.place);
        let mut path = &error.path[..];
        match error.kind {
            Kind::Missing(field) => {
                if !was_pruned(&root, path, field) {
                    found.add(Code::MissingKey, place, error.message, false);
                }
                // Without its key the element cannot be had: take all of it.
                found.took(path);
                if root.prune(path, None).is_none() {
                    return (None, found);
                }
                continue;
            }
            Kind::Told => {}
            Kind::Other(code) => found.add(code, place, error.message, holds_secret(&root, path)),
        }
        // What cannot be taken out itself goes with what it is in.
        while root.prune(path, error.instead.as_deref()).is_none() {
            match path.split_first() {
                Some((_, up)) => path = up,
                None => return (None, found),
            }
        }
        found.took(path);
        if found.diagnostics.len() >= ERRORS_MAX {
            return (None, found);
        }
    }
}

/// What [`read_all`] found wrong.
pub(super) struct Found {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Whether anything was taken out, so that what is missing, empty or the same as another may
    /// be so through that.
    pub(super) damaged: bool,
    /// Whether a whole listener, route or service was, so that references to it dangle through no
    /// fault of theirs.
    pub(super) lost: bool,
}

impl Found {
    fn took(&mut self, path: &[usize]) {
        self.damaged = true;
        // `services` itself, or one of its elements.
        self.lost |= path.len() <= 2;
    }

    fn add(&mut self, code: Code, place: Place, message: String, secret: bool) {
        let mut one = Diagnostic::new(code, place, message);
        one.secret = secret;
        self.diagnostics.push(one);
    }
}

/// Keys whose values are not shown in a report.
const SECRETS: [&str; 6] = ["users", "password", "secret", "token", "hash", "api_key"];

fn holds_secret(root: &Node, path: &[usize]) -> bool {
    let mut node = root;
    for &step in path.iter().rev() {
        node = match &node.value {
            Value::Map(map) => match map.entries.get(step) {
                Some(entry) if SECRETS.contains(&entry.key.as_str()) => return true,
                Some(entry) => &entry.value,
                None => return false,
            },
            Value::Seq(items) => match items.get(step) {
                Some(item) => item,
                None => return false,
            },
            Value::Scalar(_) => return false,
        };
    }
    false
}

fn was_pruned(root: &Node, path: &[usize], field: &str) -> bool {
    let mut node = root;
    for &step in path.iter().rev() {
        let next = match &node.value {
            Value::Map(map) => map.entries.get(step).map(|entry| &entry.value),
            Value::Seq(items) => items.get(step),
            Value::Scalar(_) => None,
        };
        match next {
            Some(next) => node = next,
            None => return false,
        }
    }
    matches!(&node.value, Value::Map(map) if map.pruned.iter().any(|key| {
        key == field || ALIASES.iter().any(|(alias, name)| key == alias && *name == field)
    }))
}

/// A value with the place it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Why a value does not read.
#[derive(Debug)]
pub(super) struct DeError {
    kind: Kind,
    message: String,
    place: Option<Place>,
    /// Indices of keys and elements, the deepest first.
    path: Vec<usize>,
    /// The key that was meant, if one is near.
    instead: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Missing(&'static str),
    Other(Code),
    Told,
}

/// The reader of one value.
#[derive(Clone, Copy)]
pub(super) struct De<'de>(pub(super) &'de Node);

impl DeError {
    fn other(code: Code, message: String) -> Self {
        Self { kind: Kind::Other(code), message, place: None, path: Vec::new(), instead: None }
    }

    /// For a value whose mistake was told before.
    fn told(place: Place) -> Self {
        let error = Self::other(Code::InvalidValue, String::new());
        Self { kind: Kind::Told, ..error }.at(place)
    }

    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    fn below(mut self, index: usize) -> Self {
        self.path.push(index);
        self
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::other(Code::InvalidValue, message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (describe(found), in_plain_words(expected));
        Self::other(Code::WrongType, format!("here stands {found}; expected {expected}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (describe(found), in_plain_words(expected));
        Self::other(Code::InvalidValue, format!("here stands {found}; expected {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let near = closest(field, expected.iter().copied());
        let message = match near {
            Some(near) => format!("there is no key `{field}` here; did you mean `{near}`?"),
            None if expected.is_empty() => format!("there is no key `{field}` here"),
            None => format!("there is no key `{field}` here; there are {}", list(expected)),
        };
        let mut error = Self::other(Code::UnknownKey, message);
        error.instead = near.map(str::to_owned);
        error
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = match closest(variant, expected.iter().copied()) {
            Some(near) => format!("there is no `{variant}` here; did you mean `{near}`?"),
            None => format!("there is no `{variant}` here; there are {}", list(expected)),
        };
        Self::other(Code::UnknownValue, message)
    }

    fn missing_field(field: &'static str) -> Self {
        let message = format!("the key `{field}` is missing");
        Self { kind: Kind::Missing(field), ..Self::other(Code::MissingKey, message) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        let message = format!("`{field}` stands here twice, once under another of its names");
        Self::other(Code::DuplicateKey, message)
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text `{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        other => other.to_string(),
    }
}

/// serde's own words for what std types expect, as a user would say them.
fn in_plain_words(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "a boolean" => "`true` or `false`",
        "a map" => "a map (`key: value`)",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" | "a nonzero usize" => "a whole number from 1 up",
        "a sequence" => "a list",
        "a string" => "a text",
        "i32" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        other => other,
    }
    .to_owned()
}

fn list(names: &[&str]) -> String {
    // Other names of keys are for files that have them already.
    let alias = |name: &&&str| ALIASES.iter().any(|(alias, _)| alias == *name);
    names
        .iter()
        .filter(|name| !alias(name))
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

// === impl De ===

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
            return visitor.visit_seq(SpannedParts { node: self.0, part: 0 });
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

// === Spanned ===

/// What [`Spanned`] calls itself to its reader.
const SPANNED: &str = "$gwproxy::Spanned";

/// A place and a value, as a list of two.
struct SpannedParts<'de> {
    node: &'de Node,
    part: u8,
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
        struct Parts<T>(std::marker::PhantomData<T>);
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
        deserializer.deserialize_newtype_struct(SPANNED, Parts(std::marker::PhantomData))
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
