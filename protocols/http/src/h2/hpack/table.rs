//! The static table (RFC 7541 appendix A).

use std::collections::HashMap;
use std::sync::LazyLock;

use http::HeaderName;

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

/// The index of a field name in the static table.
pub(super) fn static_name(name: &HeaderName) -> Option<u8> {
    static NAMES: LazyLock<HashMap<HeaderName, u8, foldhash::fast::FixedState>> =
        LazyLock::new(|| {
            STATIC
                .iter()
                .zip(1u8..)
                .filter(|((name, _), _)| !name.starts_with(':'))
                .map(|((name, _), index)| (HeaderName::from_static(name), index))
                .collect()
        });
    NAMES.get(name).copied()
}
