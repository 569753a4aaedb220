//! The tables (RFC 7541 §2.3): the static one of appendix A, and the dynamic one of either end.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use super::TABLE_BYTES;

/// Entries of the static table; index 0 is not used.
pub(super) const STATIC_LEN: usize = 61;

/// Name and value by index - 1.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); STATIC_LEN] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

/// A dynamic table: entries with the bytes that each counts, the newest first.
#[derive(Debug)]
pub(super) struct Table<E> {
    entries: VecDeque<(E, usize)>,
    size: usize,
    size_max: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, size_max: TABLE_BYTES }
    }
}

impl<E> Table<E> {
    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.make_room(0);
    }

    /// Drops the oldest entries (RFC 7541 §4.4) until `size` bytes more fit; false if they never
    /// do.
    pub(super) fn make_room(&mut self, size: usize) -> bool {
        while self.size + size > self.size_max
            && let Some((_, oldest)) = self.entries.pop_back()
        {
            self.size -= oldest;
        }
        size <= self.size_max
    }

    /// Adds an entry that there is room for.
    pub(super) fn push(&mut self, entry: E, size: usize) {
        self.size += size;
        self.entries.push_front((entry, size));
    }

    /// The entry that so many came after, with its size.
    pub(super) fn get(&self, age: usize) -> Option<&(E, usize)> {
        self.entries.get(age)
    }

    /// Bytes, and how many entries share them.
    pub(super) fn measure(&self) -> (usize, usize) {
        (self.size, self.entries.len())
    }
}

/// The index of a field name in the static table.
pub(super) fn static_name(name: &[u8]) -> Option<u8> {
    static NAMES: LazyLock<HashMap<&[u8], u8, foldhash::fast::FixedState>> = LazyLock::new(|| {
        STATIC
            .iter()
            .zip(1u8..)
            .filter(|((name, _), _)| !name.starts_with(':'))
            .map(|((name, _), index)| (name.as_bytes(), index))
            .collect()
    });
    NAMES.get(name).copied()
}
