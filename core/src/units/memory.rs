//! What the process may take of the machine's memory.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Size, UnitError};

/// What the process may take. In text `auto`, `off` or a size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// What its cgroup and those above may, if they have a limit; else there is none.
    #[default]
    Auto,
    /// Resident so many bytes, and what its cgroup may. At least 16 MiB: the program itself takes
    /// some.
    Bytes(Size),
    /// There is none, whatever its cgroup says.
    Off,
}

// === impl MemoryLimit ===

/// Less than this is less than what the program takes before there is any work.
const LIMIT_MIN: Size = Size::bytes(16 << 20);

impl FromStr for MemoryLimit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let size: Size = text.parse().map_err(|UnitError(why)| {
            UnitError(format!("{why}, `auto` (the limit of the cgroup) or `off`"))
        })?;
        if size < LIMIT_MIN {
            let why = format!("`{text}` of memory are too little; give at least {LIMIT_MIN}");
            return Err(UnitError(why));
        }
        Ok(Self::Bytes(size))
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(size) => size.serialize(serializer),
            Self::Auto | Self::Off => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_it_is_written() {
        for (text, limit) in [
            ("auto", MemoryLimit::Auto),
            ("off", MemoryLimit::Off),
            ("256MiB", MemoryLimit::Bytes(Size::bytes(256 << 20))),
            ("16MiB", MemoryLimit::Bytes(LIMIT_MIN)),
        ] {
            assert_eq!(text.parse(), Ok(limit));
            assert_eq!(limit.to_string(), text);
        }
        for (text, says) in [("15MiB", "at least 16MiB"), ("0", "at least"), ("much", "`off`")] {
            let UnitError(why) = text.parse::<MemoryLimit>().unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
