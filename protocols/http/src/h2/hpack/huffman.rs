//! The Huffman code of HPACK (RFC 7541 §5.2, appendix B).

use bytes::BytesMut;

use super::Malformed;

/// Bits of each symbol's code. The code is canonical (shorter codes first, symbols in order within
/// a length), so the lengths say it all. The last symbol is EOS, which never occurs in a string.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const EOS: u16 = 256;
const LENGTH_MAX: usize = 30;
/// Codes up to this length are found by one look-up.
const FAST_BITS: u32 = 9;

static TABLES: Tables = Tables::build();

struct Tables {
    /// Code by symbol, in its low bits.
    codes: [u32; SYMBOLS],
    /// By the next nine bits: symbol and length, length 0 where the code is longer.
    fast: [(u8, u8); 1 << FAST_BITS],
    /// The first code of each length.
    first: [u32; LENGTH_MAX + 1],
    /// How many codes each length has.
    count: [u32; LENGTH_MAX + 1],
    /// Where the symbols of each length begin in `sorted`.
    start: [u16; LENGTH_MAX + 1],
    sorted: [u16; SYMBOLS],
}

impl Tables {
    #[expect(clippy::indexing_slicing, reason = "runs at compile time, where it cannot fail later")]
    const fn build() -> Self {
        let mut tables = Self {
            codes: [0; SYMBOLS],
            fast: [(0, 0); 1 << FAST_BITS],
            first: [0; LENGTH_MAX + 1],
            count: [0; LENGTH_MAX + 1],
            start: [0; LENGTH_MAX + 1],
            sorted: [0; SYMBOLS],
        };
        let (mut code, mut rank, mut length) = (0u32, 0u16, 1usize);
        while length <= LENGTH_MAX {
            tables.first[length] = code;
            tables.start[length] = rank;
            let mut symbol = 0u16;
            while (symbol as usize) < SYMBOLS {
                if LENGTHS[symbol as usize] as usize == length {
                    tables.codes[symbol as usize] = code;
                    tables.sorted[rank as usize] = symbol;
                    if length as u32 <= FAST_BITS {
                        let spare = FAST_BITS - length as u32;
                        let mut at = code << spare;
                        while at < (code + 1) << spare {
                            tables.fast[at as usize] = (symbol as u8, length as u8);
                            at += 1;
                        }
                    }
                    tables.count[length] += 1;
                    rank += 1;
                    code += 1;
                }
                symbol += 1;
            }
            code <<= 1;
            length += 1;
        }
        tables
    }

    /// The symbol of a code longer than [`FAST_BITS`] at the top of `bits`, and its length.
    fn slow(&self, bits: u32) -> Option<(u16, u32)> {
        for length in FAST_BITS + 1..=LENGTH_MAX as u32 {
            let at = length as usize;
            let code = bits >> (32 - length);
            let (first, count) = (self.first.get(at)?, self.count.get(at)?);
            let offset = code.wrapping_sub(*first);
            if offset < *count {
                let rank = u32::from(*self.start.get(at)?) + offset;
                return self.sorted.get(rank as usize).map(|&symbol| (symbol, length));
            }
        }
        None
    }
}

/// Appends the string coded in `coded` to `out`. A string is at most 8/5 of its coded size.
///
/// # Errors
/// When it holds EOS, or its padding is longer than 7 bits or not all ones.
pub fn decode(coded: &[u8], out: &mut BytesMut) -> Result<(), Malformed> {
    // The next bits stand at the top of `window`.
    let (mut window, mut held) = (0u64, 0u32);
    let mut rest = coded.iter();
    loop {
        while held <= 56
            && let Some(&byte) = rest.next()
        {
            window |= u64::from(byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        // Past the end stand zeros; a code that would need them is found out by its length.
        let fast = TABLES.fast.get((window >> (64 - FAST_BITS)) as usize);
        let (symbol, length) = match fast {
            Some(&(symbol, length)) if length > 0 => (u16::from(symbol), u32::from(length)),
            _ => match TABLES.slow((window >> 32) as u32) {
                Some(found) => found,
                None => (EOS, u32::MAX),
            },
        };
        if length > held {
            // No whole code is left: padding.
            let is_padding = held < 8 && (window >> (64 - held)) == (1 << held) - 1;
            return if is_padding { Ok(()) } else { Err(Malformed("bad Huffman padding")) };
        }
        if symbol == EOS {
            return Err(Malformed("EOS in a Huffman string"));
        }
        out.extend_from_slice(&[symbol as u8]);
        window <<= length;
        held -= length;
    }
}

/// Bytes that `text` takes when coded.
pub fn coded_len(text: &[u8]) -> usize {
    let bits: u64 = text.iter().map(|&byte| u64::from(length_of(byte))).sum();
    bits.div_ceil(8) as usize
}

/// Appends the code of `text` to `out`.
pub fn encode(text: &[u8], out: &mut BytesMut) {
    let (mut window, mut held) = (0u64, 0u32);
    for &byte in text {
        let length = u32::from(length_of(byte));
        let code = TABLES.codes.get(usize::from(byte)).copied().unwrap_or_default();
        window = window << length | u64::from(code);
        held += length;
        while held >= 8 {
            held -= 8;
            out.extend_from_slice(&[(window >> held) as u8]);
        }
    }
    if held > 0 {
        // RFC 7541 §5.2: padded with the most significant bits of EOS, which are ones.
        let padded = window << (8 - held) | ((1 << (8 - held)) - 1);
        out.extend_from_slice(&[padded as u8]);
    }
}

fn length_of(byte: u8) -> u8 {
    LENGTHS.get(usize::from(byte)).copied().unwrap_or_default()
}
