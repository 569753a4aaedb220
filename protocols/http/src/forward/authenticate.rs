//! Who may use the proxy: Basic credentials (RFC 7617) in `Proxy-Authorization` (RFC 9110 §11.7).

use std::rc::Rc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gwproxy_core::worker::LocalFuture;
use gwproxy_core::{Code, Error};
use http::header::PROXY_AUTHORIZATION;

use crate::Fields;

/// Base64 as browsers and scripts write it: padding is often forgotten and means nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Knows users and their passwords. The data path only asks: how passwords are kept is not HTTP's
/// business.
pub trait Credentials: std::fmt::Debug + 'static {
    /// Whether this is a user and their password. Takes the same time for a user that does not
    /// exist, and blocks no worker.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when too many ask at once.
    fn verify(self: Rc<Self>, user: String, password: String) -> LocalFuture<Result<bool, Error>>;
}

/// Lets only a request with valid credentials pass; says whose they are.
///
/// # Errors
/// [`Code::ProxyAuthRequired`], or that the check itself failed.
pub(super) async fn authenticate(
    credentials: &Rc<dyn Credentials>,
    headers: &Fields,
) -> Result<Box<str>, Error> {
    let required = |sentence| Err(Error::new(Code::ProxyAuthRequired, sentence).unsent());
    if !headers.contains_key(PROXY_AUTHORIZATION) {
        return required("the request has no credentials for the proxy");
    }
    let Some((user, password)) = basic(headers) else {
        return required("the credentials for the proxy are not in the Basic form (RFC 7617)");
    };
    let name = user.as_str().into();
    if Rc::clone(credentials).verify(user, password).await? {
        return Ok(name);
    }
    required("the user or the password for the proxy is wrong")
}

/// The user and the password of the one `Proxy-Authorization` line.
fn basic(headers: &Fields) -> Option<(String, String)> {
    let mut lines = headers.get_all(PROXY_AUTHORIZATION);
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut pair = String::from_utf8(BASE64.decode(token.trim()).ok()?).ok()?;
    // The first colon: a user has none, a password may (RFC 7617 §2).
    let colon = pair.find(':')?;
    let password = pair.get(colon + 1..)?.to_owned();
    pair.truncate(colon);
    Some((pair, password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(lines: &[&str]) -> Option<(String, String)> {
        let mut headers = Fields::new();
        for line in lines {
            headers.append(PROXY_AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        }
        basic(&headers)
    }

    #[test]
    fn basic_credentials() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]), pair("Aladdin", "open sesame"));
        assert_eq!(read(&["basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ"]), pair("Aladdin", "open sesame"));
        // RFC 7617 §2.1: UTF-8, and the example of that section.
        assert_eq!(read(&["Basic dGVzdDoxMjPCow=="]), pair("test", "123£"));
        assert_eq!(read(&["Basic YTpiOmM="]), pair("a", "b:c"));
        assert_eq!(read(&["Basic Og=="]), pair("", ""));
    }

    #[test]
    fn everything_else_is_no_credentials() {
        for lines in [
            &[][..],
            &["Basic"],
            &["Basic "],
            &["Basic %%%"],
            &["Basic bm9jb2xvbg=="],
            &["Basic Ov8="],
            &["Bearer YTpi"],
            &["Basic YTpi", "Basic YTpi"],
        ] {
            assert_eq!(read(lines), None, "{lines:?}");
        }
    }
}
