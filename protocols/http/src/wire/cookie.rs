//! Cookies as requests carry them (RFC 6265 §5.4): `name=value` pairs with `;` between, on one line
//! or, over HTTP/2, on several (RFC 9113 §8.2.3).

use http::header::COOKIE;

use crate::Fields;

/// The value of the first cookie of this name.
pub fn value<'a>(headers: &'a Fields, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_first_of_its_whole_name() {
        let mut headers = Fields::new();
        headers.append(COOKIE, HeaderValue::from_static("xsid=0; sid=1;sid=2"));
        headers.append(COOKIE, HeaderValue::from_static("b=3=4"));
        assert_eq!(value(&headers, "sid"), Some(&b"1"[..]));
        assert_eq!(value(&headers, "b"), Some(&b"3=4"[..]));
        assert_eq!((value(&headers, "si"), value(&headers, "c")), (None, None));
    }
}
