//! HPACK: bounds of what is decoded and kept, and what is encoded comes back.

use bytes::BytesMut;
use gwproxy_http::h2::hpack::{
    Decoder, Encoder, FIELD_OVERHEAD, Field, Section, TABLE_BYTES, huffman,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields_of;
use crate::mutate::Rng;

type Fields = Vec<(HeaderName, HeaderValue)>;

/// The fields of one block, those only that are fields, and what all of them count.
fn decode(decoder: &mut Decoder, block: &[u8], limit: usize) -> Option<(Fields, usize, Section)> {
    let (mut fields, mut least) = (Vec::new(), 0);
    let taken = decoder.decode(block, limit, |field| {
        least += FIELD_OVERHEAD;
        match field {
            Field::Header(name, value) => {
                least += name.as_str().len() + value.len();
                fields.push((name, value));
            }
            Field::Scheme(text) | Field::Protocol(text) => least += text.len(),
            Field::Path(path) => least += path.as_str().len(),
            Field::Authority(authority, host) => {
                assert_eq!(authority.as_str().as_bytes(), host.as_bytes());
                assert!(!authority.as_str().contains('@'));
                least += host.len();
            }
            _ => {}
        }
    });
    assert!(least <= limit, "{least} bytes of fields, limited to {limit}");
    let (size, entries) = decoder.table();
    assert!(size <= TABLE_BYTES && entries <= TABLE_BYTES / FIELD_OVERHEAD);
    taken.ok().map(|section| (fields, least, section))
}

/// Blocks of one connection, each after a byte with its length in eights: no more is handed on than
/// the limit or kept than the table, and what was decoded and is encoded again is decoded as the
/// same.
pub(super) fn blocks(data: &[u8]) {
    let Some((&knob, mut rest)) = data.split_first() else { return };
    let limit = [0, 64, 500, 16 * 1024][usize::from(knob & 3)];
    let (mut decoder, mut unlimited) = (Decoder::default(), Decoder::default());
    let (mut encoder, mut back) = (Encoder::default(), Decoder::default());
    while let Some((&length, after)) = rest.split_first() {
        let (block, behind) = after.split_at((usize::from(length) * 8).min(after.len()));
        rest = behind;
        let all = decode(&mut unlimited, block, usize::MAX);
        let some = decode(&mut decoder, block, limit);
        assert_eq!(decoder.table(), unlimited.table(), "a limit changes what is remembered");
        assert_eq!(some.is_some(), all.is_some(), "a limit changes the verdict");
        let (Some((all, least, _)), Some((some, _, section))) = (all, some) else { return };
        assert!(all.starts_with(&some), "the limit cuts, it does not choose");
        assert!(least <= limit || section == Section::TooLarge);

        let mut again = BytesMut::new();
        encoder.begin(&mut again);
        for (name, value) in &all {
            encoder.header(&mut again, name, value);
        }
        let Some((same, ..)) = decode(&mut back, &again, usize::MAX) else {
            panic!("our own block is refused");
        };
        assert_eq!(same, all);
        let never = |fields: &[(HeaderName, HeaderValue)]| -> Vec<bool> {
            fields.iter().map(|(_, value)| value.is_sensitive()).collect()
        };
        let kept = never(&all).into_iter().zip(never(&same)).all(|(was, is)| is || !was);
        assert!(kept, "what is never to be indexed was (RFC 7541 §6.2.3)");
        assert_eq!(encoder.table(), back.table());
    }
}

/// Fields, in blocks, while the peer changes its table: they come back, and both tables are one.
pub(super) fn fields(data: &[u8]) {
    const NOT_HERE: [&str; 6] =
        ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];
    let mut rng = Rng::of(data);
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let given: Vec<(HeaderName, HeaderValue)> = HeaderMap::from(&fields_of(data))
        .iter()
        .filter(|(name, _)| !NOT_HERE.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for _ in 0..3 {
        for part in given.chunks(1 + rng.below(8)) {
            if rng.below(4) == 0 {
                encoder.resize([0, 31, 32, 100, 4096, 1_000_000][rng.below(6)]);
            }
            let mut block = BytesMut::new();
            encoder.begin(&mut block);
            for (name, value) in part {
                encoder.header(&mut block, name, value);
            }
            let Some((back, ..)) = decode(&mut decoder, &block, usize::MAX) else {
                panic!("our own block is refused");
            };
            assert_eq!(back, part);
            assert_eq!(encoder.table(), decoder.table());
        }
    }
}

/// Any text comes back from its code; and what is decoded was the one code of what it says.
pub(super) fn huffman(data: &[u8]) {
    let (mut coded, mut back) = (BytesMut::new(), BytesMut::new());
    huffman::encode(data, &mut coded);
    assert_eq!(coded.len(), huffman::coded_len(data));
    assert!(huffman::decode(&coded, &mut back).is_ok());
    assert_eq!(back, data);

    let mut text = BytesMut::new();
    if huffman::decode(data, &mut text).is_ok() {
        let mut again = BytesMut::new();
        huffman::encode(&text, &mut again);
        assert_eq!(again, data, "two codes of one text");
    }
    assert!(text.len() <= data.len() * 8 / 5 + 1, "{} bytes of {}", text.len(), data.len());
}
