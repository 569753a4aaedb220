//! The last descriptors are kept for the admin address: when clients have taken all the others,
//! somebody has to be able to see that (R16).
//!
//! The kernel gives the lowest number that is free (POSIX, `open`), so that a high one tells that
//! nearly all are in use: whoever serves clients gives it back at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// Kept for the admin address: as many as it takes connections. Of few descriptors, an eighth.
const KEPT_MAX: u64 = 64;

/// `EMFILE`.
const NONE_LEFT: i32 = 24;

/// Whether a descriptor may be kept open, which is so unless it is one of the last.
///
/// # Errors
/// As if there had been none: `EMFILE`.
pub(crate) fn spare_last(descriptor: &impl AsFd) -> io::Result<()> {
    // Asked each time, 0.1 µs beside the tens that a connection costs: it changes (prlimit(1)).
    let limit = getrlimit(Resource::Nofile).current;
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or_default();
    if limit.is_some_and(|limit| is_kept(number, limit)) {
        return Err(io::Error::from_raw_os_error(NONE_LEFT));
    }
    Ok(())
}

/// Whether there is a descriptor left that may be kept open.
///
/// # Errors
/// As [`spare_last`].
pub(crate) fn probe(any: &impl AsFd) -> io::Result<()> {
    spare_last(&fcntl_dupfd_cloexec(any, 0)?)
}

/// Whether half of them are in use, by the number of a fresh one: from here on it pays to
/// [`probe`].
pub(crate) fn is_half_used(descriptor: &impl AsFd) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or_default();
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number >= limit / 2)
}

fn is_kept(number: u64, limit: u64) -> bool {
    number >= limit - KEPT_MAX.min(limit / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R16.
    #[test]
    fn r16_the_last_descriptors_are_kept() {
        for (limit, first_kept) in [(512, 448), (20_000, 19_936), (64, 56), (48, 42), (7, 7)] {
            assert!(!is_kept(first_kept - 1, limit), "{limit}");
            assert!(is_kept(first_kept, limit), "{limit}");
        }
        assert!(spare_last(&io::stderr()).is_ok() && probe(&io::stderr()).is_ok());
        assert!(!is_half_used(&io::stderr()));
    }
}
