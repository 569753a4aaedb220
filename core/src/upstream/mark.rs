//! Names of nodes that tell clients nothing: what a sticky cookie carries.
//!
//! A plain hash of an address would be no secret: there are few enough addresses to try them all.

use aws_lc_rs::hmac;

use super::Endpoint;

/// The secret that marks are made with.
#[derive(Clone)]
pub struct MarkKey(hmac::Key);

impl MarkKey {
    /// A key of a secret that several proxies share, so that they know each other's marks.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A key of this process alone: its marks mean nothing after a restart.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> Result<Self, String> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        Ok(Self::new(&secret))
    }

    /// The node's mark: the first 64 bits of HMAC-SHA-256 over its name and place, never 0. The
    /// same in every proxy with this key.
    pub(crate) fn of(&self, node: &Endpoint) -> u64 {
        let tag = hmac::sign(&self.0, format!("{}\n{}", node.name, node.addr).as_bytes());
        let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(first).max(1)
    }
}

impl std::fmt::Debug for MarkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MarkKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_agree_by_key_and_differ_by_node() {
        let node =
            |name: &str| Endpoint::new(name, "http", "10.0.0.1:80".parse().unwrap(), None, 1);
        let (one, other) = (MarkKey::new(b"secret"), MarkKey::new(b"other"));
        assert_eq!(one.of(&node("a")), MarkKey::new(b"secret").of(&node("a")));
        assert_ne!(one.of(&node("a")), one.of(&node("b")));
        assert_ne!(one.of(&node("a")), other.of(&node("a")));
        let (first, second) = (MarkKey::random().unwrap(), MarkKey::random().unwrap());
        assert_ne!(first.of(&node("a")), second.of(&node("a")));
        assert!(!format!("{one:?}").contains("secret"));
    }
}
