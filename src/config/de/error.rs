//! Why a value does not read, in the words of someone who writes the file.

use std::fmt;

use gwproxy_core::suggest::closest;
use serde::de::{self, Expected, Unexpected};

use crate::config::file::ALIASES;
use crate::config::report::{Code, Place};

/// Why a value does not read.
#[derive(Debug)]
pub(in crate::config) struct DeError {
    pub(super) kind: Kind,
    pub(super) message: String,
    pub(super) place: Option<Place>,
    /// Indices of keys and elements, the deepest first.
    pub(super) path: Vec<usize>,
    /// The key that was meant, if one is near.
    pub(super) instead: Option<String>,
}

/// What kind of mistake.
#[derive(Debug)]
pub(super) enum Kind {
    Missing(&'static str),
    Other(Code),
    Told,
}
impl DeError {
    pub(super) fn other(code: Code, message: String) -> Self {
        Self { kind: Kind::Other(code), message, place: None, path: Vec::new(), instead: None }
    }

    /// For a value whose mistake was told before.
    pub(super) fn told(place: Place) -> Self {
        let error = Self::other(Code::InvalidValue, String::new());
        Self { kind: Kind::Told, ..error }.at(place)
    }

    pub(super) fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    pub(super) fn below(mut self, index: usize) -> Self {
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
        "u8" => "a whole number from 0 to 255",
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
