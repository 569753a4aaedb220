//! What a forward proxy lets its clients reach, and who may ask.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use gwproxy_core::net::ListenAddr;
use serde::{Deserialize, Serialize};

use super::{Destination, Ports, UpstreamTimeouts};

/// A forward proxy's rules. The default lets nobody reach a private address and tunnels only to
/// port 443 (reliability D28).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forward {
    /// Who may use it. Empty: everyone who reaches the listener.
    pub users: Vec<User>,
    /// Destinations that may be asked for; empty: all that are not denied.
    pub allow: Vec<Destination>,
    /// Destinations that may not, whatever `allow` says.
    pub deny: Vec<Destination>,
    /// Lets clients reach private, loopback, link-local and metadata addresses.
    pub allow_private: bool,
    /// Ports that may be asked for.
    pub ports: Ports,
    /// Lets an address that others can reach stay open to everyone.
    pub unsafe_open: bool,
    /// Timeouts towards destinations.
    pub timeouts: UpstreamTimeouts,
}

/// A user of a forward proxy; in text `NAME:HASH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct User {
    /// The name, without a colon (RFC 7617 §2).
    pub name: Arc<str>,
    /// What the password is checked against.
    pub hash: PasswordHash,
}

/// A salted password hash: `$argon2id$…` (PHC) or bcrypt (`$2a$…`, `$2b$…`, `$2y$…`). A secret:
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

/// Why a user was refused; `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardParseError(String);

impl Forward {
    /// Refuses a proxy that strangers could use: one that others can reach, without users
    /// (reliability T31).
    ///
    /// # Errors
    /// A sentence that says how to mend it.
    pub fn check(&self, bind: &ListenAddr) -> Result<(), String> {
        if bind.is_loopback() || !self.users.is_empty() || self.unsafe_open {
            return Ok(());
        }
        Err(format!(
            "an open forward proxy on {bind} would serve everyone who can reach it; add users \
             (`--user NAME:HASH`, `users` in a file), bind a loopback address, or say \
             `--unsafe-open` (`unsafe_open: true`)"
        ))
    }
}

impl PasswordHash {
    /// The text of the hash, for the verifier.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl FromStr for PasswordHash {
    type Err = ForwardParseError;

    fn from_str(text: &str) -> Result<Self, ForwardParseError> {
        let bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|tag| text.starts_with(tag));
        // 60 characters: tag, two digits of cost, `$`, 22 of salt, 31 of hash.
        let known = (bcrypt && text.len() == 60 && text.is_ascii())
            || (text.starts_with("$argon2") && text.split('$').count() >= 6);
        if known { Ok(Self(text.into())) } else { Err(not_a_hash()) }
    }
}

// The text is not repeated: it is most likely the password itself.
fn not_a_hash() -> ForwardParseError {
    ForwardParseError(
        "the password must be a hash (`$argon2id$…` or bcrypt `$2y$…`), never plain text; make \
         one with `gwproxy hash-password` and put it in single quotes, because of the `$`"
            .into(),
    )
}

impl FromStr for User {
    type Err = ForwardParseError;

    /// Parses `NAME:HASH`, the lines of an `htpasswd -B` file.
    fn from_str(text: &str) -> Result<Self, ForwardParseError> {
        let (name, hash) = text.split_once(':').ok_or_else(|| {
            ForwardParseError(
                "a user is written NAME:HASH; make the hash with `gwproxy hash-password`".into(),
            )
        })?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(ForwardParseError("a user needs a name before the `:`".into()));
        }
        Ok(Self { name: name.into(), hash: hash.parse()? })
    }
}

impl fmt::Display for ForwardParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ForwardParseError {}

// The hash is shown on purpose: this is what a printed configuration carries.
impl From<User> for String {
    fn from(user: User) -> Self {
        format!("{}:{}", user.name, user.hash.expose())
    }
}

impl TryFrom<String> for User {
    type Error = ForwardParseError;

    fn try_from(text: String) -> Result<Self, ForwardParseError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T61.
    #[test]
    fn only_hashes_are_passwords_and_none_is_shown() {
        let bcrypt = "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        let argon = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";
        for good in [bcrypt, argon] {
            let user: User = format!("ann:{good}").parse().unwrap();
            assert_eq!((&*user.name, user.hash.expose()), ("ann", good));
            assert!(!format!("{user:?}").contains(good));
        }
        for bad in ["ann", "ann:", ":x", "ann:secret", "ann:$2y$10$short", "ann:$argon2id$x"] {
            let sentence = bad.parse::<User>().unwrap_err().to_string();
            assert!(!sentence.contains("secret"), "{sentence}");
        }
    }
}
