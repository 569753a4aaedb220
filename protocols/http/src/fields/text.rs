//! Names and values, as they stand in a head.

use std::fmt;

use http::{HeaderName, HeaderValue};

use super::Known;

/// A field's name. Equal to another whatever its case (RFC 9110 §5.1).
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a [u8]);

/// A field's value: no control characters but tabs, no white space at its ends.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    bytes: &'a [u8],
    is_sensitive: bool,
}

/// A value with characters that are not ASCII's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotText;

/// What names a field.
pub trait AsName {
    /// The name's bytes, a token (RFC 9110 §5.6.2).
    fn as_name(&self) -> &[u8];

    /// Which of the known ones it is.
    fn known(&self) -> Option<Known> {
        Known::of(self.as_name())
    }
}

/// What can be a field's value.
pub trait AsValue {
    /// The value's bytes, valid.
    fn as_value(&self) -> &[u8];

    /// Whether it is to enter no compression table (RFC 7541 §7.1.3).
    fn is_sensitive(&self) -> bool {
        false
    }
}

impl<'a> Name<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, in the case they came in.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its text, in the case it came in.
    pub fn as_str(self) -> &'a str {
        std::str::from_utf8(self.0).unwrap_or_default()
    }

    /// Hands it on in small letters, as HTTP/2 has it (RFC 9113 §8.2.1).
    pub(crate) fn in_lower_case<R>(self, take: impl FnOnce(&[u8]) -> R) -> R {
        if !self.0.iter().any(u8::is_ascii_uppercase) {
            return take(self.0);
        }
        // Nearly all names fit; others have a copy on the heap.
        let mut short = [0u8; 64];
        match short.get_mut(..self.0.len()) {
            Some(lower) => {
                lower.copy_from_slice(self.0);
                lower.make_ascii_lowercase();
                take(lower)
            }
            None => take(&self.0.to_ascii_lowercase()),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn new(bytes: &'a [u8], is_sensitive: bool) -> Self {
        Self { bytes, is_sensitive }
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Its text.
    ///
    /// # Errors
    /// When it has other characters than those of ASCII.
    pub fn to_str(self) -> Result<&'a str, NotText> {
        let text = self.bytes.is_ascii().then(|| std::str::from_utf8(self.bytes).ok());
        text.flatten().ok_or(NotText)
    }

    /// A copy that stands alone.
    pub fn to_value(self) -> HeaderValue {
        let mut value = HeaderValue::from_bytes(self.bytes).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(self.is_sensitive);
        value
    }
}

impl AsName for HeaderName {
    fn as_name(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl AsName for Name<'_> {
    fn as_name(&self) -> &[u8] {
        self.0
    }
}

/// For names in the program's text; what comes from elsewhere is a [`HeaderName`] first.
impl AsName for &'static str {
    fn as_name(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T: AsName> AsName for &T {
    fn as_name(&self) -> &[u8] {
        (**self).as_name()
    }

    fn known(&self) -> Option<Known> {
        (**self).known()
    }
}

impl AsValue for HeaderValue {
    fn as_value(&self) -> &[u8] {
        self.as_bytes()
    }

    fn is_sensitive(&self) -> bool {
        self.is_sensitive()
    }
}

impl AsValue for Value<'_> {
    fn as_value(&self) -> &[u8] {
        self.bytes
    }

    fn is_sensitive(&self) -> bool {
        self.is_sensitive
    }
}

impl<T: AsValue> AsValue for &T {
    fn as_value(&self) -> &[u8] {
        (**self).as_value()
    }

    fn is_sensitive(&self) -> bool {
        (**self).is_sensitive()
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl PartialEq<HeaderName> for Name<'_> {
    fn eq(&self, other: &HeaderName) -> bool {
        self.0.eq_ignore_ascii_case(other.as_str().as_bytes())
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other.as_bytes())
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<HeaderValue> for Value<'_> {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_sensitive {
            return f.write_str("Sensitive");
        }
        write!(f, "\"{}\"", self.bytes.escape_ascii())
    }
}
