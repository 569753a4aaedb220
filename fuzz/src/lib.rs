//! Fuzzing: functions from bytes to nothing that fail when a property does not hold.
//!
//! A target ([`TARGETS`]) takes any bytes and asserts what must hold for them: not only that
//! nothing panics, but that bytes mean the same however they are cut, that what is accepted is
//! within its bounds, that what is printed is read back, that another reader sees the same.
//! Three things run them: the test suite (each file of `fuzz/corpus` and a fixed number of
//! mutations), the binary `fuzz` (mutations for a while) and the binary `guided` (libFuzzer).

pub mod corpus;
pub mod mutate;
mod targets;

/// A property and its name.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name, which is that of its directory in `fuzz/corpus` as well.
    pub name: &'static str,
    /// Panics if the property does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Byte strings that mean something to what is tested; mutations put them in.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = targets::ALL;

/// Bytes of an input at most; what needs more to show is not for fuzzing.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
