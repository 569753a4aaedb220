//! Numbers of bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{UnitError, decimal};

/// A number of bytes: `512`, `512B`, `64KiB`, `1MiB`, `2GiB`, or decimal `10KB`, `10MB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

// === impl Size ===

/// The units of a size; the first that divides it without rest is printed.
const SIZE_UNITS: [(&str, u128); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// So many bytes, for defaults.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |why: &str| {
            UnitError(format!(
                "`{text}` is not a size ({why}); write for example `64KiB`, `1MiB`, `10MB` or a \
                 number of bytes"
            ))
        };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at_checked(end).unwrap_or((trimmed, ""));
        let unit = if unit.is_empty() { "B" } else { unit };
        let scale = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, scale) =
            scale.ok_or_else(|| bad("units are B, KiB, MiB, GiB, TiB and KB to TB"))?;
        let bytes = decimal(number.trim_end(), *scale)
            .ok_or_else(|| bad("it does not come to a whole number of bytes"))?;
        u64::try_from(bytes).map(Self).map_err(|_| bad("it is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        let fits = |&&(_, scale): &&(&str, u128)| bytes != 0 && bytes.is_multiple_of(scale);
        match SIZE_UNITS.iter().find(fits) {
            Some((unit, scale)) if *scale > 1 => write!(f, "{}{unit}", bytes / scale),
            _ => write!(f, "{bytes}"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        // Without a unit it is a plain number, also to a reader of the file.
        if text.ends_with('B') {
            serializer.collect_str(&text)
        } else {
            self.0.serialize(serializer)
        }
    }
}
