use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// Content, trailers, and what is left.
type Decoded = (Vec<u8>, Option<Fields>, Vec<u8>);

/// Decodes `bytes` in pieces of `step`; the content, the trailers if any, and what is left.
fn decode(framing: Framing, bytes: &[u8], step: usize) -> Result<Decoded, Malformed> {
    let mut decoder = Decoder::new(framing);
    let mut buf = BytesMut::new();
    let mut content = Vec::new();
    let mut pieces = bytes.chunks(step.max(1));
    loop {
        match decoder.decode(&mut buf)? {
            Some(Part::Data(data)) => {
                assert!(!data.is_empty());
                content.extend_from_slice(&data);
            }
            Some(Part::Trailers(trailers)) => {
                let rest = [&buf[..], &pieces.collect::<Vec<_>>().concat()].concat();
                return Ok((content, Some(trailers), rest));
            }
            Some(Part::End) => {
                let rest = [&buf[..], &pieces.collect::<Vec<_>>().concat()].concat();
                return Ok((content, None, rest));
            }
            None => {
                let Some(piece) = pieces.next() else {
                    decoder.close()?;
                    return Ok((content, None, buf.to_vec()));
                };
                buf.extend_from_slice(piece);
            }
        }
    }
}

fn chunked(bytes: &str) -> Result<Decoded, Malformed> {
    let whole = decode(Framing::Chunked, bytes.as_bytes(), usize::MAX);
    for step in [1, 2, 3, 7] {
        let split = decode(Framing::Chunked, bytes.as_bytes(), step);
        assert_eq!(whole, split, "{bytes:?} in pieces of {step}");
    }
    whole
}

/// P31.
#[test]
fn chunks_extensions_and_trailers() {
    let (content, trailers, rest) =
        chunked("5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\nGET").unwrap();
    assert_eq!(content, b"hello world");
    assert_eq!(trailers.unwrap().get_all("x-sum").count(), 2);
    assert_eq!(rest, b"GET");
    let (content, trailers, rest) = chunked("0\r\n\r\nnext").unwrap();
    assert!(content.is_empty() && trailers.is_none());
    assert_eq!(rest, b"next");
}

/// T04, P31.
#[test]
fn t04_bad_chunk_sizes() {
    for size in ["7fffffffffffffff", "11111111111111111", "0x5", "5_0", "-1", "", " 5", "5 ", "g"] {
        assert!(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")).is_err(), "{size:?}");
    }
}

/// T05, P31.
#[test]
fn t05_bad_lines_and_extensions() {
    let bad = [
        "5;\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "0\r\nX: 1\n\r\n",
        "0\r\n X: 1\r\n\r\n",
        "0\r\nX : 1\r\n\r\n",
    ];
    for bytes in bad {
        assert!(chunked(bytes).is_err(), "{bytes:?}");
    }
    let extension = |n: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n - 1));
    assert!(chunked(&extension(1000)).is_ok());
    let many = |n: usize| format!("{}0\r\n\r\n", "1;xxxxxxx\r\na\r\n".repeat(n));
    assert!(chunked(&many(EXTENSION_BYTES_MAX / 8)).is_ok());
    assert!(chunked(&many(EXTENSION_BYTES_MAX / 8 + 1)).is_err());
    let trailer = |n: usize| format!("0\r\nX: {}\r\n\r\n", "x".repeat(n - 7));
    assert!(chunked(&trailer(TRAILER_BYTES_MAX)).is_ok());
    assert!(chunked(&trailer(TRAILER_BYTES_MAX + 1)).is_err());
    let trailers = |n: usize| format!("0\r\n{}\r\n", "X: 1\r\n".repeat(n));
    assert!(chunked(&trailers(TRAILER_FIELDS_MAX)).is_ok());
    assert!(chunked(&trailers(TRAILER_FIELDS_MAX + 1)).is_err());
}

/// R06, P29: a cut-off body is never taken for a whole one.
#[test]
fn r06_cut_off_bodies_are_errors() {
    assert!(decode(Framing::Length(5), b"hell", 1).is_err());
    assert!(decode(Framing::Chunked, b"5\r\nhello\r\n", 1).is_err());
    assert!(decode(Framing::Chunked, b"5\r\nhello\r\n0\r\n", 1).is_err());
    assert_eq!(decode(Framing::UntilClose, b"hello", 2).unwrap().0, b"hello");
    assert_eq!(decode(Framing::Length(5), b"hello!", 2).unwrap().2, b"!");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8),
        step in 1usize..40,
    ) {
        let mut wire = BytesMut::new();
        for chunk in &chunks {
            super::super::encode::chunk_size(&mut wire, chunk.len());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        super::super::encode::last_chunk(&mut wire, None);
        let (content, trailers, rest) = decode(Framing::Chunked, &wire, step).unwrap();
        prop_assert_eq!(content, chunks.concat());
        prop_assert!(trailers.is_none() && rest.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let one = decode(Framing::Chunked, &bytes, usize::MAX);
        let other = decode(Framing::Chunked, &bytes, 1);
        prop_assert_eq!(one, other);
    }
}
