//! Field names as the peer wrote them, and their order, for peers that mind (RFC 9110 §5.1 says
//! that nobody should): asked for with [`Limits::preserve_case`](super::head::Limits), because it
//! costs an allocation or two for each head and a look at every line of it.
//!
//! It travels in the extensions of a request or response, beside the map that policies see and
//! change. A field that was added on the way stands at the end; one that was removed is left out.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The field lines of a head.
#[derive(Debug, Clone)]
pub(super) struct Spelling(Bytes);

impl Spelling {
    /// Of a whole head that was found valid.
    pub(super) fn of_head(head: &Bytes) -> Self {
        let start = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
        Self(head.slice(start..))
    }

    /// The name as the peer wrote it first; as it is if the peer did not.
    pub(super) fn of<'a>(&'a self, name: &'a HeaderName) -> &'a [u8] {
        self.names().find(|written| is(written, name)).unwrap_or(name.as_str().as_bytes())
    }

    /// The fields that are not to `skip`, in the peer's order and spelling, then those that are
    /// new. The bound on fields bounds the square that this is.
    pub(super) fn fields<'a>(
        &'a self,
        headers: &'a HeaderMap,
        skip: impl Fn(&HeaderName) -> bool,
        mut each: impl FnMut(&[u8], &HeaderValue),
    ) {
        for (at, written) in self.names().enumerate() {
            let Ok(name) = HeaderName::from_bytes(written) else { continue };
            if skip(&name) {
                continue;
            }
            let before = self.names().take(at).filter(|other| is(other, &name)).count();
            if let Some(value) = headers.get_all(&name).iter().nth(before) {
                each(written, value);
            }
        }
        for name in headers.keys().filter(|name| !skip(name)) {
            let written = self.names().filter(|written| is(written, name)).count();
            for value in headers.get_all(name).iter().skip(written) {
                each(self.of(name), value);
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.0.split(|byte| *byte == b'\n');
        lines.filter_map(|line| line.get(..memchr::memchr(b':', line)?))
    }
}

fn is(written: &[u8], name: &HeaderName) -> bool {
    written.eq_ignore_ascii_case(name.as_str().as_bytes())
}

/// A name that the proxy writes itself, in the peer's spelling if that is known.
pub(super) fn put_name(out: &mut BytesMut, name: &HeaderName, spelling: Option<&Spelling>) {
    match spelling {
        Some(spelling) => out.extend_from_slice(spelling.of(name)),
        None => out.extend_from_slice(name.as_str().as_bytes()),
    }
    out.extend_from_slice(b": ");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_place_and_their_case() {
        let head = "GET / HTTP/1.1\r\nX-B: 1\r\nHOST: a\r\nx-a: 2\r\nX-b: 3\r\nGone: 4\r\n\r\n";
        let spelling = Spelling::of_head(&Bytes::from_static(head.as_bytes()));
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("via", "own"), ("x-a", "changed"), ("x-b", "1"), ("x-b", "3"), ("x-b", "new")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        spelling.fields(
            &headers,
            |name| name == "host",
            |name, value| {
                out.push((String::from_utf8_lossy(name).into_owned(), value.clone()));
            },
        );
        let out: Vec<_> =
            out.iter().map(|(name, value)| (&**name, value.to_str().unwrap())).collect();
        let want = [("X-B", "1"), ("x-a", "changed"), ("X-b", "3"), ("via", "own"), ("X-B", "new")];
        assert_eq!(out, want);
        assert_eq!(spelling.of(&http::header::HOST), b"HOST");
        assert_eq!(spelling.of(&http::header::DATE), b"date");
    }
}
