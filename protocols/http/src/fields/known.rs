//! Names that a proxy asks about in every message.

use super::text::AsName;

/// A name that a proxy asks about in every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known(u8);

/// A set of [`Known`] names: which ones a message has, which ones to leave out. One look at each
/// name tells all of them, where most messages have hardly any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen(u32);

/// By their numbers.
const NAMES: [&str; 28] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
    "expect",
    "via",
    "content-length",
    "www-authenticate",
    "host",
    "date",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
    "x-real-ip",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-client-ip",
    "content-type",
    "cookie",
    "authorization",
];

// One bit each.
const _: () = assert!(NAMES.len() <= u32::BITS as usize);

/// Bytes of a name that its fold has.
const FOLDED_BYTES: usize = 16;

/// The first and the last eight bytes of a name, or all of a shorter one, in small letters. Of the
/// characters of names and values only those fold to what a known name has that are its letters:
/// others that do are control characters.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fold(u64, u64);

/// The bit that small letters have and capitals have not.
const SMALL: u8 = 0x20;

impl Fold {
    const fn of(name: &[u8]) -> Self {
        const SMALL_8: u64 = u64::from_ne_bytes([SMALL; 8]);
        const SMALL_4: u32 = u32::from_ne_bytes([SMALL; 4]);
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            return Self(u64::from_ne_bytes(*first) | SMALL_8, u64::from_ne_bytes(*last) | SMALL_8);
        }
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
            return Self((first | SMALL_4) as u64, (last | SMALL_4) as u64);
        }
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            let ([a, b], [c, d]): ([u8; 2], [u8; 2]) = (*first, *last);
            return Self(
                u32::from_ne_bytes([a | SMALL, b | SMALL, c | SMALL, d | SMALL]) as u64,
                0,
            );
        }
        Self(0, 0)
    }
}

/// Those of [`NAMES`] of one length, with their folds.
const fn of_length<const N: usize>(numbers: [u8; N]) -> [(Known, Fold); N] {
    let mut all = [(Known(0), Fold(0, 0)); N];
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "the compiler does it, and says when it is wrong")]
    while at < N {
        all[at] = (Known(numbers[at]), Fold::of(NAMES[numbers[at] as usize].as_bytes()));
        at += 1;
    }
    all
}

macro_rules! by_length {
    ($length:expr, $($bytes:literal: $($number:literal)+),+) => {
        match $length {
            $($bytes => {
                const CANDIDATES: &[(Known, Fold)] = &of_length([$($number),+]);
                CANDIDATES
            })+
            _ => &[],
        }
    };
}

impl Known {
    /// `Authorization`.
    pub const AUTHORIZATION: Self = Self(27);
    /// `Connection`.
    pub const CONNECTION: Self = Self(0);
    /// `Content-Length`.
    pub const CONTENT_LENGTH: Self = Self(12);
    /// `Content-Type`.
    pub const CONTENT_TYPE: Self = Self(25);
    /// `Expect`.
    pub const EXPECT: Self = Self(10);
    /// `Forwarded`.
    pub const FORWARDED: Self = Self(19);
    /// `Host`.
    pub const HOST: Self = Self(14);
    /// `TE`.
    pub const TE: Self = Self(5);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Self = Self(6);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(7);
    /// `Via`.
    pub const VIA: Self = Self(11);
    /// `X-Forwarded-For`.
    pub const X_FORWARDED_FOR: Self = Self(16);
    /// `X-Forwarded-Host`.
    pub const X_FORWARDED_HOST: Self = Self(17);
    /// `X-Forwarded-Proto`.
    pub const X_FORWARDED_PROTO: Self = Self(18);

    /// Which one this is, if it is one; in any case (RFC 9110 §5.1).
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        // Its length settles it for most.
        let candidates: &[(Self, Fold)] = by_length!(name.len(),
            2: 5, 3: 11, 4: 14 15, 6: 10 26, 7: 7, 9: 19 20, 10: 0 2, 11: 24, 12: 25, 13: 27, 14: 12 1,
            15: 16, 16: 17 13 4 21, 17: 6 18, 18: 8 22 23, 19: 3, 25: 9);
        if candidates.is_empty() {
            return None;
        }
        let fold = Fold::of(name);
        let (known, _) = candidates.iter().find(|(_, known)| *known == fold)?;
        let is_whole = name.len() <= FOLDED_BYTES || name.eq_ignore_ascii_case(known.as_name());
        is_whole.then_some(*known)
    }

    /// The set of this one.
    pub fn bit(self) -> Seen {
        Seen(1 << self.0)
    }
}

impl AsName for Known {
    fn as_name(&self) -> &[u8] {
        NAMES.get(usize::from(self.0)).map_or(b"", |name| name.as_bytes())
    }

    fn known(&self) -> Option<Known> {
        Some(*self)
    }
}

impl Seen {
    /// `Connection`.
    pub const CONNECTION: Self = Self(1);
    /// `TE`.
    pub const TE: Self = Self(1 << 5);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Self = Self(1 << 6);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(1 << 7);
    /// Fields that never cross the proxy, listed or not (RFC 9110 §7.6.1). `TE` may come back for
    /// the one thing that it may say.
    pub const HOP_BY_HOP: Self = Self(0xff);
    /// Fields by which a proxy and its client get to know each other (RFC 9110 §11.7): in a
    /// response they are for the client of the proxy that asked, and that is this one.
    pub const PROXY_AUTHENTICATION: Self = Self(0x300);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 10);
    /// `Via`.
    pub const VIA: Self = Self(1 << 11);
    /// `Content-Length`.
    pub const CONTENT_LENGTH: Self = Self(1 << 12);
    /// A challenge, of a server or of a proxy (RFC 9110 §11.3).
    pub const CHALLENGE: Self = Self(1 << 8 | 1 << 13);
    /// `Host`.
    pub const HOST: Self = Self(1 << 14);
    /// `Date`.
    pub const DATE: Self = Self(1 << 15);
    /// What says who the client is: `X-Forwarded-For`, `-Host` and `-Proto`, `Forwarded`, and the
    /// names that others gave it.
    pub const FORWARDING: Self = Self(0x1ff << 16);
    /// What frames the message on HTTP/1 and is written anew on every hop.
    pub const FRAMING: Self =
        Self(Self::CONNECTION.0 | Self::TRANSFER_ENCODING.0 | Self::CONTENT_LENGTH.0);
    /// Whether it has one of `any`.
    pub const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Whether it has this one.
    pub(super) fn lists(self, known: Option<Known>) -> bool {
        known.is_some_and(|known| self.has(known.bit()))
    }

    /// Whether this is the name of one of them.
    pub fn names(self, name: &[u8]) -> bool {
        self.lists(Known::of(name))
    }

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without `other`.
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn note(&mut self, known: Option<Known>) {
        if let Some(known) = known {
            *self = self.and(known.bit());
        }
    }

    pub(super) fn forget(&mut self, names: Self) {
        *self = self.but(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_letters() {
        for (number, name) in NAMES.iter().enumerate() {
            let known = Some(Known(u8::try_from(number).unwrap()));
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(Known::of(name.to_uppercase().as_bytes()), known, "{name}");
            // Every letter counts.
            for at in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                other[at] = if other[at] == b'q' { b'p' } else { b'q' };
                assert_eq!(Known::of(&other), None, "{name} {at}");
            }
        }
        for other in ["", "x", "hosts", "x-hostname", "keep_alive", "x-real.ip"] {
            assert_eq!(Known::of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn names_and_sets_say_what_they_are() {
        for (known, name) in [
            (Known::AUTHORIZATION, "authorization"),
            (Known::CONNECTION, "connection"),
            (Known::CONTENT_LENGTH, "content-length"),
            (Known::EXPECT, "expect"),
            (Known::TE, "te"),
            (Known::TRANSFER_ENCODING, "transfer-encoding"),
            (Known::UPGRADE, "upgrade"),
            (Known::CONTENT_TYPE, "content-type"),
            (Known::FORWARDED, "forwarded"),
            (Known::HOST, "host"),
            (Known::VIA, "via"),
            (Known::X_FORWARDED_FOR, "x-forwarded-for"),
            (Known::X_FORWARDED_HOST, "x-forwarded-host"),
            (Known::X_FORWARDED_PROTO, "x-forwarded-proto"),
        ] {
            assert_eq!(known.as_name(), name.as_bytes());
        }
        for (set, names) in [
            (Seen::CONNECTION, &["connection"][..]),
            (Seen::TE, &["te"]),
            (Seen::TRANSFER_ENCODING, &["transfer-encoding"]),
            (Seen::UPGRADE, &["upgrade"]),
            (Seen::PROXY_AUTHENTICATION, &["proxy-authenticate", "proxy-authentication-info"]),
            (Seen::EXPECT, &["expect"]),
            (Seen::VIA, &["via"]),
            (Seen::CHALLENGE, &["www-authenticate", "proxy-authenticate"]),
            (Seen::HOST, &["host"]),
            (Seen::DATE, &["date"]),
            (Seen::FRAMING, &["connection", "content-length", "transfer-encoding"]),
        ] {
            let bits = names.iter().filter_map(|name| Known::of(name.as_bytes()));
            assert_eq!(bits.fold(Seen::default(), |all, one| all.and(one.bit())), set, "{names:?}");
        }
    }
}
