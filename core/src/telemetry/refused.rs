//! Connections that ended, or had to wait, for what their client did before or beside its requests.
//! Requests have their own counters.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Refused {
    /// No descriptor was left; it waits in the kernel's queue.
    Descriptors,
    /// The listener has as many connections as it may; it waits in the kernel's queue.
    Full,
    /// A flood, or another breach of the rules of HTTP/2 that ends the connection.
    Http2,
    /// Memory was out.
    Memory,
    /// No request began in time.
    Silence,
    /// The TLS handshake failed or took too long.
    Tls,
}

static COUNTS: [AtomicU64; Refused::ALL.len()] = [const { AtomicU64::new(0) }; Refused::ALL.len()];

impl Refused {
    /// Every reason with its name in the metrics.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Descriptors, "no_descriptors"),
        (Self::Full, "full"),
        (Self::Http2, "http2"),
        (Self::Memory, "memory"),
        (Self::Silence, "silence"),
        (Self::Tls, "tls"),
    ];

    /// Counts one.
    pub fn count(self) {
        if let Some(count) = COUNTS.get(self as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub fn counted(self) -> u64 {
        COUNTS.get(self as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        for (place, (reason, name)) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{name}");
            let before = reason.counted();
            reason.count();
            assert!(reason.counted() > before, "{name}");
        }
    }
}
