//! The examples of RFC 7541, an independent implementation at the other end, and hostile blocks.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::{Decoder, Encoder, Field, Malformed, Section, TABLE_BYTES, decode, encode, huffman};

type Pairs = Vec<(String, String)>;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn pair(field: Field) -> (String, String) {
    let (name, value) = match field {
        Field::Method(method) => (":method", method.as_str().to_owned()),
        Field::Scheme(scheme) => (":scheme", latin(&scheme)),
        Field::Authority(_, host) => (":authority", latin(host.as_bytes())),
        Field::NoAuthority => (":authority", String::new()),
        Field::Path(path) => (":path", path.to_string()),
        Field::Protocol(protocol) => (":protocol", latin(&protocol)),
        Field::Status(status) => (":status", status.as_str().to_owned()),
        Field::Header(name, value) => return (name.to_string(), latin(value.as_bytes())),
        Field::Malformed(why) => ("malformed", why.to_owned()),
    };
    (name.to_owned(), value)
}

fn fields_of(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Malformed> {
    let mut pairs = Vec::new();
    decoder.decode(block, usize::MAX, |field| pairs.push(pair(field)))?;
    Ok(pairs)
}

/// What one block decodes to on a connection of its own.
fn alone(block: &str) -> Result<Pairs, Malformed> {
    fields_of(&mut Decoder::default(), &hex(block))
}

/// Blocks of one connection, each with its fields, one `name: value` a line, and the bytes that
/// its table has then.
#[track_caller]
fn connection(first: &str, blocks: &[(&str, &str, usize)]) {
    let mut decoder = Decoder::default();
    fields_of(&mut decoder, &hex(first)).unwrap();
    for (block, fields, size) in blocks {
        let expected: Pairs = fields
            .lines()
            .map(|line| line.trim().split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(fields_of(&mut decoder, &hex(block)).unwrap(), expected);
        assert_eq!(decoder.table().0, *size, "after {fields}");
    }
}

/// RFC 7541 C.1.
#[test]
fn integers_of_the_rfc_both_ways() {
    for (value, bits, coded) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
        let mut out = BytesMut::new();
        encode::integer(&mut out, 0, bits, value);
        assert_eq!(out, hex(coded));
        assert_eq!(decode::integer(&mut &out[..], bits), Ok(value));
    }
}

#[test]
fn integers_at_the_edges() {
    for bits in 4..=7 {
        let mask = (1usize << bits) - 1;
        for value in [0, mask - 1, mask, mask + 1, mask + 127, mask + 128, (1 << 28) - 1] {
            let mut out = BytesMut::new();
            encode::integer(&mut out, 0, bits, value);
            let mut block = &out[..];
            assert_eq!(decode::integer(&mut block, bits), Ok(value), "{bits} bits");
            assert!(block.is_empty());
            let cut = &out[..out.len() - 1];
            assert!(decode::integer(&mut &cut[..], bits).is_err(), "cut off");
        }
    }
    let too_large = hex("1f ff ff ff ff 00");
    assert!(decode::integer(&mut &too_large[..], 5).is_err());
    let endless = [0xff; 100];
    assert!(decode::integer(&mut &endless[..], 7).is_err());
}

/// RFC 7541 C.2.
#[test]
fn representations_of_the_rfc() {
    for (block, name, value, size) in [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key", "custom-header", 55),
        ("040c2f73616d706c652f70617468", ":path", "/sample/path", 0),
        ("100870617373776f726406736563726574", "password", "secret", 0),
        ("82", ":method", "GET", 0),
    ] {
        let mut decoder = Decoder::default();
        let fields = fields_of(&mut decoder, &hex(block)).unwrap();
        assert_eq!(fields, [(name.to_owned(), value.to_owned())]);
        assert_eq!(decoder.table().0, size);
    }
    let mut sensitive = false;
    Decoder::default()
        .decode(&hex("100870617373776f726406736563726574"), 1000, |field| {
            sensitive = matches!(field, Field::Header(_, value) if value.is_sensitive());
        })
        .unwrap();
    assert!(sensitive, "RFC 7541 §6.2.3: never indexed on the next hop either");
}

const REQUESTS: [&str; 3] = [
    ":method: GET
     :scheme: http
     :path: /
     :authority: www.example.com",
    ":method: GET
     :scheme: http
     :path: /
     :authority: www.example.com
     cache-control: no-cache",
    ":method: GET
     :scheme: https
     :path: /index.html
     :authority: www.example.com
     custom-key: custom-value",
];

/// RFC 7541 C.3 and C.4.
#[test]
fn requests_of_the_rfc() {
    let [first, second, third] = REQUESTS;
    connection(
        "",
        &[
            ("828684410f7777772e6578616d706c652e636f6d", first, 57),
            ("828684be58086e6f2d6361636865", second, 110),
            ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", third, 164),
        ],
    );
    connection(
        "",
        &[
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", first, 57),
            ("828684be5886a8eb10649cbf", second, 110),
            ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", third, 164),
        ],
    );
}

const RESPONSES: [&str; 3] = [
    ":status: 302
     cache-control: private
     date: Mon, 21 Oct 2013 20:13:21 GMT
     location: https://www.example.com",
    ":status: 307
     cache-control: private
     date: Mon, 21 Oct 2013 20:13:21 GMT
     location: https://www.example.com",
    ":status: 200
     cache-control: private
     date: Mon, 21 Oct 2013 20:13:22 GMT
     location: https://www.example.com
     content-encoding: gzip
     set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

/// RFC 7541 C.5 and C.6, with a table of 256 bytes.
#[test]
fn responses_of_the_rfc() {
    let [first, second, third] = RESPONSES;
    connection("3fe101", &[
        (
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120
             474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            first,
            222,
        ),
        ("4803333037c1c0bf", second, 222),
        (
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738
             666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33
             3630303b2076657273696f6e3d31",
            third,
            215,
        ),
    ]);
    connection("3fe101", &[
        (
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad1718
             63c78f0b97c8e9ae82ae43d3",
            first,
            222,
        ),
        ("4883640effc1c0bf", second, 222),
        (
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7
             b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            third,
            215,
        ),
    ]);
}

/// The strings of RFC 7541 C.4 and C.6, coded by us.
#[test]
fn huffman_strings_of_the_rfc_both_ways() {
    for (text, coded) in [
        ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
        ("no-cache", "a8eb10649cbf"),
        ("custom-key", "25a849e95ba97d7f"),
        ("custom-value", "25a849e95bb8e8b4bf"),
        ("302", "6402"),
        ("private", "aec3771a4b"),
        ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
        ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
        ("gzip", "9bd9ab"),
    ] {
        let (mut out, mut back) = (BytesMut::new(), BytesMut::new());
        huffman::encode(text.as_bytes(), &mut out);
        assert_eq!(out, hex(coded), "{text}");
        assert_eq!(huffman::coded_len(text.as_bytes()), out.len());
        huffman::decode(&out, &mut back).unwrap();
        assert_eq!(back, text);
    }
}

#[test]
fn huffman_takes_every_byte_and_every_pair() {
    for first in 0..=255u8 {
        for second in 0..=255u8 {
            let text = [first, second];
            let (mut coded, mut back) = (BytesMut::new(), BytesMut::new());
            huffman::encode(&text, &mut coded);
            assert_eq!(coded.len(), huffman::coded_len(&text));
            huffman::decode(&coded, &mut back).unwrap();
            assert_eq!(back, text[..]);
        }
    }
}

/// RFC 7541 §5.2: padding is at most seven bits of EOS, and EOS itself never occurs.
#[test]
fn huffman_padding() {
    for (coded, text) in [("", Some("")), ("1f", Some("a")), ("f8", Some("&"))] {
        let mut out = BytesMut::new();
        huffman::decode(&hex(coded), &mut out).unwrap();
        assert_eq!(Some(std::str::from_utf8(&out).unwrap()), text);
    }
    for (coded, why) in [
        ("1fff", "eight bits of padding after `a`"),
        ("ff", "nothing but eight bits of padding"),
        ("18", "padding with zeros"),
        ("1e", "padding that ends with a zero"),
        ("fffffffc", "EOS"),
        ("ffffffff", "EOS and its padding"),
        ("1ffffffffc", "EOS after `a`"),
    ] {
        let refused = huffman::decode(&hex(coded), &mut BytesMut::new());
        assert!(refused.is_err(), "{why}");
    }
}

/// What must end the connection with `COMPRESSION_ERROR`.
#[test]
fn blocks_that_break_the_compression() {
    for (block, why) in [
        ("80", "index 0"),
        ("be", "the first dynamic index of an empty table"),
        ("ffffffff7f", "an index far beyond the table"),
        ("7f00", "a literal whose name is beyond the table"),
        ("4003", "a block that ends before its name"),
        ("400361626303", "a block that ends before its value"),
        ("40036162", "a name cut off"),
        ("4083ffffff0100", "a name with bad padding"),
        ("8220", "a table size update after a field"),
        ("3fe21f", "a table of 4097 bytes"),
        ("3f", "a table size cut off"),
        ("ff", "an index cut off"),
    ] {
        assert!(alone(block).is_err(), "{why}");
    }
    assert!(alone("3fe11f82").is_ok(), "a table of 4096 bytes");
    assert!(alone("203fe11f82").is_ok(), "two updates, as RFC 7541 §4.2 has them");
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::default();
    let block = "400a637573746f6d2d6b65790d637573746f6d2d686561646572";
    fields_of(&mut decoder, &hex(block)).unwrap();
    assert_eq!(decoder.table(), (55, 1));
    let mut large = hex("400161 7fe11e");
    large.extend([b'x'; 0x7f + 0xf61]);
    let fields = fields_of(&mut decoder, &large).unwrap();
    assert_eq!(fields[0].1.len(), 4064);
    assert_eq!(decoder.table(), (0, 0), "RFC 7541 §4.4");
    // One byte less fits, and is all there is.
    let mut fits = hex("400161 7fe01e");
    fits.extend([b'x'; 0x7f + 0xf60]);
    fields_of(&mut decoder, &fits).unwrap();
    assert_eq!(decoder.table(), (4096, 1));
}

/// T20: a bomb: one entry as large as the table, then a reference to it in each byte.
#[test]
fn of_a_bomb_only_the_limit_goes_off() {
    let mut block = hex("400161 7fe01e");
    block.extend([b'x'; 0x7f + 0xf60]);
    block.extend([0xbe; 12_000]);
    let (mut decoder, mut taken) = (Decoder::default(), 0);
    let section = decoder.decode(&block, 16 * 1024, |_| taken += 1);
    assert_eq!(section, Ok(Section::TooLarge));
    assert_eq!(taken, 4, "16 KiB are four fields of 4096 bytes");
    let section = Decoder::default().decode(&block[..4069 + 3], 16 * 1024, |_| {});
    assert_eq!(section, Ok(Section::Whole), "at the limit");
}

/// What one connection's encoder says, and when the peer changes its table.
#[derive(Debug, Clone)]
enum Step {
    Block(Vec<(HeaderName, HeaderValue)>),
    Resize(usize),
}

/// RFC 9113 §8.2.2 has no such fields, and TE says one thing only.
fn is_ordinary(name: &HeaderName) -> bool {
    let special = ["connection", "transfer-encoding", "upgrade", "te"];
    !special.contains(&name.as_str())
        && !["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn name() -> impl Strategy<Value = HeaderName> {
    let known = prop::sample::select(vec![
        "accept",
        "authorization",
        "cache-control",
        "content-length",
        "cookie",
        "date",
        "vary",
        "x-a",
        "x-b",
        "x-c",
    ]);
    let any = "[a-z0-9!#$%&'*+.^_`|~-]{1,40}";
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any]
        .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
        .prop_filter("ordinary", is_ordinary)
}

fn value() -> impl Strategy<Value = HeaderValue> {
    let few = prop::sample::select(vec!["", "0", "no-cache", "gzip, deflate", "a=b"]);
    let inner = prop_oneof![
        4 => few.prop_map(|text| text.as_bytes().to_vec()),
        2 => prop::collection::vec(prop_oneof![0x21..=0x7eu8, 0x80..=0xffu8], 0..80),
        1 => (0..5000usize).prop_map(|len| vec![b'x'; len]),
    ];
    (inner, any::<bool>()).prop_map(|(bytes, is_sensitive)| {
        let mut value = HeaderValue::from_bytes(&bytes).unwrap();
        value.set_sensitive(is_sensitive && bytes.len() == 3);
        value
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let block = prop::collection::vec((name(), value()), 0..20).prop_map(Step::Block);
    let sizes = vec![0, 31, 32, 100, 4096, 1_000_000];
    let resize = prop::sample::select(sizes).prop_map(Step::Resize);
    prop::collection::vec(prop_oneof![3 => block, 1 => resize], 1..20)
}

proptest! {
    /// Our encoder, with ours and with an independent decoder at the other end.
    #[test]
    fn what_is_encoded_comes_back(steps in steps()) {
        let (mut encoder, mut ours) = (Encoder::default(), Decoder::default());
        let mut theirs = loona_hpack::Decoder::new();
        let mut limit = TABLE_BYTES;
        for step in steps {
            let fields = match step {
                Step::Resize(size) => {
                    encoder.resize(size);
                    theirs.set_max_allowed_table_size(size.max(limit));
                    limit = size;
                    prop_assert!(encoder.table().0 <= size.min(TABLE_BYTES));
                    continue;
                }
                Step::Block(fields) => fields,
            };
            let mut block = BytesMut::new();
            encoder.begin(&mut block);
            Encoder::method(&mut block, &Method::PUT);
            Encoder::scheme(&mut block, true);
            encoder.authority(&mut block, b"a.test:8443");
            Encoder::path(&mut block, "/x?y");
            for (name, value) in &fields {
                encoder.header(&mut block, name, value);
            }
            let mut expected: Vec<(Vec<u8>, Vec<u8>)> = [
                (":method", "PUT"),
                (":scheme", "https"),
                (":authority", "a.test:8443"),
                (":path", "/x?y"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec();
            let plain = |(name, value): &(HeaderName, HeaderValue)| {
                (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
            };
            expected.extend(fields.iter().map(plain));
            prop_assert_eq!(&theirs.decode(&block).unwrap(), &expected);
            let as_text: Pairs = expected.iter().map(|(n, v)| (latin(n), latin(v))).collect();
            prop_assert_eq!(fields_of(&mut ours, &block).unwrap(), as_text);
            prop_assert_eq!(ours.table(), encoder.table(), "both tables say the same");
            prop_assert!(ours.table().0 <= TABLE_BYTES.min(limit));
        }
    }

    /// An independent encoder, our decoder.
    #[test]
    fn what_others_encode_is_understood(blocks in prop::collection::vec(
        prop::collection::vec((name(), value()), 0..20), 1..10))
    {
        let (mut theirs, mut ours) = (loona_hpack::Encoder::new(), Decoder::default());
        for fields in blocks {
            let plain = fields.iter().map(|(n, v)| (n.as_str().as_bytes(), v.as_bytes()));
            let block = theirs.encode(plain);
            let expected: Pairs = fields
                .iter()
                .map(|(name, value)| (name.to_string(), latin(value.as_bytes())))
                .collect();
            prop_assert_eq!(fields_of(&mut ours, &block).unwrap(), expected);
        }
    }

    /// T20: whatever comes: no panic, no more handed on than the limit, no more kept than the
    /// table.
    #[test]
    fn arbitrary_blocks_stay_within_bounds(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..8),
        limit in 0..2000usize,
    ) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let mut taken = 0;
            let decoded = decoder.decode(&block, limit, |field| {
                taken += 32;
                if let Field::Header(name, value) = field {
                    taken += name.as_str().len() + value.len();
                }
            });
            prop_assert!(taken <= limit, "{taken} > {limit}");
            let (size, entries) = decoder.table();
            prop_assert!(size <= TABLE_BYTES && entries <= TABLE_BYTES / 32);
            if decoded.is_err() {
                break;
            }
        }
    }

    #[test]
    fn huffman_round_trips(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut coded, mut back) = (BytesMut::new(), BytesMut::new());
        huffman::encode(&text, &mut coded);
        prop_assert_eq!(coded.len(), huffman::coded_len(&text));
        huffman::decode(&coded, &mut back).unwrap();
        prop_assert_eq!(&back[..], &text[..]);
    }

    /// What is not refused is the one code of what it says.
    #[test]
    fn arbitrary_huffman_never_panics(coded in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut text = BytesMut::new();
        if huffman::decode(&coded, &mut text).is_ok() {
            let mut again = BytesMut::new();
            huffman::encode(&text, &mut again);
            prop_assert_eq!(&again[..], &coded[..]);
        }
        prop_assert!(text.len() <= coded.len() * 8 / 5 + 1);
    }
}

/// Statuses with an index of their own, and one without.
#[test]
fn every_status_comes_back() {
    for code in 100..1000 {
        let status = StatusCode::from_u16(code).unwrap();
        let mut block = BytesMut::new();
        Encoder::status(&mut block, status);
        let fields = fields_of(&mut Decoder::default(), &block).unwrap();
        assert_eq!(fields, [(":status".to_owned(), code.to_string())]);
    }
}

/// RFC 7541 §7.1.3: what is secret, and what nobody repeats, leaves no trace in the table.
#[test]
fn secrets_enter_no_table() {
    let mut encoder = Encoder::default();
    let mut block = BytesMut::new();
    let mut secret = HeaderValue::from_static("s");
    for name in ["authorization", "proxy-authorization", "cookie", "set-cookie"] {
        encoder.header(&mut block, HeaderName::from_static(name), &secret);
    }
    secret.set_sensitive(true);
    encoder.header(&mut block, HeaderName::from_static("x-secret"), &secret);
    assert_eq!(encoder.table(), (0, 0));
    let mut marked = Vec::new();
    let note = |field| {
        if let Field::Header(name, value) = field {
            marked.push((name, value.is_sensitive()));
        }
    };
    Decoder::default().decode(&block, 4096, note).unwrap();
    let never: Vec<&str> =
        marked.iter().filter(|(_, never)| *never).map(|(name, _)| name.as_str()).collect();
    assert_eq!(never, ["authorization", "proxy-authorization", "x-secret"]);
}
