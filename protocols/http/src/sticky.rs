//! Sticky sessions: a cookie that leads a client back to its node.
//!
//! Its value is the node's mark ([`gwproxy_core::upstream::MarkKey`]) in hexadecimal digits, which
//! tells nothing about the node. A client whose node is gone or not well gets another one, by the
//! algorithm, and a new cookie.

use std::fmt;
use std::str::FromStr;

use gwproxy_core::units::Span;
use http::HeaderValue;
use http::header::SET_COOKIE;
use serde::{Deserialize, Serialize};

use crate::Fields;
use crate::wire::cookie;

/// What a sticky cookie is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `cookie`")]
pub struct StickySettings {
    /// Its name. Default `gwproxy-node`.
    #[serde(default)]
    pub cookie: CookieName,
    /// The paths it is sent for. Default `/`.
    #[serde(default, skip_serializing_if = "CookiePath::is_root")]
    pub path: CookiePath,
    /// How long the client keeps it, from when it was set; to the second. Default none: until the
    /// browser is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// Which requests of other sites it goes with. Default `lax`.
    #[serde(default, skip_serializing_if = "SameSite::is_lax")]
    pub same_site: SameSite,
    /// Whether scripts see it not. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub http_only: bool,
    /// Whether it goes over TLS only. Default none: if the client came over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// What nodes' marks are made with; proxies with the same secret know each other's cookies, and
    /// they outlive a restart. Default none: drawn at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// The name of a cookie (RFC 6265 §4.1.1: a token).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookieName(String);

/// The path of a cookie: begins with `/`, without `;` and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookiePath(String);

/// 16 bytes or more that nobody else knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(String);

/// Which requests of other sites a cookie goes with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// With those that a user makes by following a link.
    #[default]
    Lax,
    /// With all; needs TLS.
    None,
    /// With none.
    Strict,
}

/// Why a part of a sticky cookie was refused; `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyError(String);

/// The cookie of one service.
#[derive(Debug)]
pub struct Sticky {
    name: String,
    /// What follows the value.
    attributes: String,
    secure: Option<bool>,
}

/// Hexadecimal digits of a mark.
const DIGITS: usize = 16;

fn yes() -> bool {
    true
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(value: &bool) -> bool {
    *value
}

impl Default for StickySettings {
    fn default() -> Self {
        Self {
            cookie: CookieName::default(),
            path: CookiePath::default(),
            max_age: None,
            same_site: SameSite::Lax,
            http_only: true,
            secure: None,
            secret: None,
        }
    }
}

impl StickySettings {
    /// The settings with this name for the cookie.
    pub fn named(cookie: CookieName) -> Self {
        Self { cookie, ..Self::default() }
    }

    /// Refuses what browsers would throw away.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.cookie.0;
        if self.same_site == SameSite::None && self.secure == Some(false) {
            return Err("browsers take `same_site: none` only with `secure`".into());
        }
        if name.starts_with("__Host-") && (self.secure == Some(false) || self.path.0 != "/") {
            return Err(format!("`{name}`: browsers take `__Host-` only with `secure` and `/`"));
        }
        Ok(())
    }
}

impl Sticky {
    /// A cookie made as the settings say.
    pub fn new(settings: &StickySettings) -> Self {
        let age = settings.max_age.map(|age| format!("; Max-Age={}", age.get().as_secs()));
        let mut attributes = format!("; Path={}{}", settings.path.0, age.unwrap_or_default());
        attributes.push_str(match settings.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
            SameSite::Strict => "; SameSite=Strict",
        });
        if settings.http_only {
            attributes.push_str("; HttpOnly");
        }
        let needs_tls = settings.same_site == SameSite::None || settings.cookie.0.starts_with("__");
        let secure = settings.secure.or_else(|| needs_tls.then_some(true));
        Self { name: settings.cookie.0.clone(), attributes, secure }
    }

    /// The mark that a request brings; what is none of ours is none.
    pub(crate) fn mark_of(&self, request: &Fields) -> Option<u64> {
        let value = cookie::value(request, &self.name)?;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() == DIGITS)?;
        text.as_bytes().iter().all(is_digit).then(|| u64::from_str_radix(text, 16).ok())?
    }

    /// Sets the cookie in a response.
    pub(crate) fn set(&self, response: &mut Fields, mark: u64, tls: bool) {
        let secure = if self.secure.unwrap_or(tls) { "; Secure" } else { "" };
        let cookie = format!("{}={mark:016x}{}{secure}", self.name, self.attributes);
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.append(SET_COOKIE, cookie);
        }
    }
}

impl Secret {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl CookiePath {
    fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl SameSite {
    // serde hands a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_lax(&self) -> bool {
        *self == Self::Lax
    }
}

impl Default for CookieName {
    fn default() -> Self {
        Self("gwproxy-node".into())
    }
}

impl Default for CookiePath {
    fn default() -> Self {
        Self("/".into())
    }
}

impl FromStr for CookieName {
    type Err = StickyError;

    fn from_str(text: &str) -> Result<Self, StickyError> {
        // RFC 9110 §5.6.2.
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(is_token) {
            return Err(StickyError(format!(
                "`{text}` is not the name of a cookie; write letters, digits, `-` and `_`, as \
                 `gwproxy-node`"
            )));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for CookiePath {
    type Err = StickyError;

    fn from_str(text: &str) -> Result<Self, StickyError> {
        let is_fine = |byte: u8| matches!(byte, 0x21..0x7f) && byte != b';';
        if !text.starts_with('/') || text.len() > 1024 || !text.bytes().all(is_fine) {
            return Err(StickyError(format!(
                "`{text}` is not the path of a cookie; it begins with `/` and has no `;`"
            )));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Secret {
    type Err = StickyError;

    fn from_str(text: &str) -> Result<Self, StickyError> {
        if text.len() < 16 {
            // What is too short may still be somebody's secret: it is not repeated.
            return Err(StickyError("a secret has 16 characters or more".into()));
        }
        Ok(Self(text.into()))
    }
}

/// Text in and out, for serde.
macro_rules! strings {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = StickyError;
            fn try_from(text: String) -> Result<Self, StickyError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    )*};
}
strings!(CookieName, CookiePath, Secret);

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for StickyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StickyError {}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    fn set_by(settings: &StickySettings, tls: bool) -> String {
        let mut response = Fields::new();
        Sticky::new(settings).set(&mut response, 0xab, tls);
        response.get(SET_COOKIE).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn attributes_are_as_set() {
        let usual = StickySettings::default();
        let plain = "gwproxy-node=00000000000000ab; Path=/; SameSite=Lax; HttpOnly";
        assert_eq!(set_by(&usual, false), plain);
        assert_eq!(set_by(&usual, true), format!("{plain}; Secure"));
        let other = StickySettings {
            cookie: "sid".parse().unwrap(),
            path: "/app".parse().unwrap(),
            max_age: Some("1h".parse().unwrap()),
            same_site: SameSite::None,
            http_only: false,
            ..usual.clone()
        };
        let want = "sid=00000000000000ab; Path=/app; Max-Age=3600; SameSite=None; Secure";
        assert_eq!(set_by(&other, false), want);
        let never = StickySettings { secure: Some(false), ..usual };
        assert_eq!(set_by(&never, true), plain);
        assert!(StickySettings { secure: Some(false), ..other }.check().is_err());
    }

    #[test]
    fn only_marks_are_read() {
        let sticky = Sticky::new(&StickySettings::named("n".parse().unwrap()));
        for (cookie, mark) in [
            ("n=00000000000000ab", Some(0xab)),
            ("a=b; n=ffffffffffffffff", Some(u64::MAX)),
            ("n=ab", None),
            ("n=00000000000000AB", None),
            ("n=+0000000000000ab", None),
            ("n=00000000000000ab0", None),
            ("n=\u{e9}", None),
            ("nn=00000000000000ab", None),
        ] {
            let mut headers = Fields::new();
            headers.insert(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
            assert_eq!(sticky.mark_of(&headers), mark, "{cookie}");
        }
    }

    #[test]
    fn what_would_break_the_header_is_refused() {
        for name in ["", "a b", "a;b", "a=b", "a\r\n"] {
            assert!(name.parse::<CookieName>().is_err(), "{name:?}");
        }
        for path in ["", "a", "/;x", "/a b", "/\n"] {
            assert!(path.parse::<CookiePath>().is_err(), "{path:?}");
        }
        let short = "hunter2".parse::<Secret>().unwrap_err().to_string();
        assert!(!short.contains("hunter2"), "{short}");
    }
}
