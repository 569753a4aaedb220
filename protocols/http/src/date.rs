//! The `Date` field's value (RFC 9110 §6.6.1), formatted once a second per worker.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT` is 29 bytes, always.
const LENGTH: usize = 29;

struct Cached {
    second: u64,
    text: [u8; LENGTH],
}

thread_local! {
    static CACHED: RefCell<Cached> = const { RefCell::new(Cached { second: 0, text: [0; LENGTH] }) };
}

/// Calls `f` with the current date as an IMF-fixdate.
pub fn with_now<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    CACHED.with_borrow_mut(|cached| {
        if cached.second != now {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            if let Ok(text) = text.as_bytes().try_into() {
                *cached = Cached { second: now, text };
            }
        }
        f(&cached.text)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_an_imf_fixdate() {
        let date = super::with_now(<[u8]>::to_vec);
        let text = String::from_utf8(date).unwrap();
        assert!(text.ends_with(" GMT"), "{text}");
        httpdate::parse_http_date(&text).unwrap();
    }
}
