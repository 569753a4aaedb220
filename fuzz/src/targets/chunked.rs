//! Chunked bodies: one content however they are cut, and what goes on is framed as it was.

use bytes::BytesMut;
use gwproxy_http::Fields;
use gwproxy_http::h1::body::{Decoder, Part};
use gwproxy_http::h1::encode;
use gwproxy_http::h1::head::Framing;

use crate::mutate::Rng;

/// What is left of a body: its bytes, its trailers, whether it ended, and how many bytes stand
/// behind it.
#[derive(Debug, PartialEq, Eq, Default)]
struct Body {
    data: Vec<u8>,
    trailers: Option<Fields>,
    is_over: bool,
    behind: usize,
}

fn decode(pieces: &[&[u8]]) -> Option<Body> {
    let (mut decoder, mut buf) = (Decoder::new(Framing::Chunked), BytesMut::new());
    let mut body = Body::default();
    for piece in pieces {
        buf.extend_from_slice(piece);
        while !body.is_over {
            match decoder.decode(&mut buf) {
                Ok(None) => break,
                Ok(Some(Part::Data(data))) => {
                    assert!(!data.is_empty(), "empty data would look like the end");
                    body.data.extend_from_slice(&data);
                }
                Ok(Some(Part::Trailers(trailers))) => {
                    body.trailers = Some(trailers);
                    body.is_over = true;
                }
                Ok(Some(Part::End)) => body.is_over = true,
                Err(_) => return None,
            }
        }
    }
    assert_eq!(decoder.is_done(), body.is_over);
    assert_eq!(decoder.close().is_ok(), body.is_over, "a body cut off is no body");
    if !body.is_over {
        assert!(buf.len() <= 4 * 1024 + 2, "{} bytes are kept", buf.len());
    }
    body.behind = buf.len();
    Some(body)
}

/// RFC 9112 §7.1 read as strictly as it can be: the content, and how long all of it is.
fn strictly(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut data = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(line, 16).ok().filter(|_| !line.starts_with('+'))?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some((data, rest.strip_prefix(b"\r\n")?));
        }
        data.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// One content however it is cut; never more than came; a strict reader reads the same; written
/// out again it is the same body.
pub(super) fn chunked(data: &[u8]) {
    let whole = decode(&[data]);
    let pieces = Rng::of(data).pieces(data);
    assert_eq!(whole, decode(&pieces), "cut differently, read differently");
    let Some(body) = whole else { return };
    assert!(body.data.len() + body.behind <= data.len());
    if let Some((content, behind)) = strictly(data) {
        assert!(body.is_over, "a whole body");
        assert_eq!((&body.data, body.behind), (&content, behind.len()));
    }
    if !body.is_over {
        return;
    }
    let mut again = BytesMut::new();
    for part in body.data.chunks(100) {
        encode::chunk_size(&mut again, part.len());
        again.extend_from_slice(part);
        again.extend_from_slice(b"\r\n");
    }
    encode::last_chunk(&mut again, body.trailers.as_ref());
    let trailers = body.trailers.filter(|trailers| !trailers.is_empty());
    let expected = Body { trailers, behind: 0, ..body };
    assert_eq!(decode(&[&again]), Some(expected), "what is written is what was read");
}
