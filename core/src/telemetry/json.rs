//! Writing JSON by hand, where a serialiser would cost a tree: logs and problem bodies.

/// Appends `text` as a JSON string (RFC 8259 §7). Bytes that are no UTF-8 become U+FFFD; control
/// characters and the line ends of Unicode are escaped, so one record is always one line, and no
/// terminal obeys what a client wrote.
pub fn push_str(out: &mut Vec<u8>, text: &[u8]) {
    push_str_within(out, text, usize::MAX);
}

/// [`push_str`], cut where what is between the quotes would be longer than `bytes_max`. Escaping
/// makes up to six bytes of one, so what a client may send is no bound for what is written.
pub fn push_str_within(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    out.push(b'"');
    let end = out.len().saturating_add(bytes_max);
    for chunk in text.utf8_chunks() {
        if !push_escaped(out, chunk.valid(), end) {
            break;
        }
        if !chunk.invalid().is_empty() && !push_piece(out, "\u{fffd}".as_bytes(), end) {
            break;
        }
    }
    out.push(b'"');
}

/// Appends `text` up to `end` of `out`; false when not all of it fitted.
fn push_escaped(out: &mut Vec<u8>, text: &str, end: usize) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if out.len().saturating_add(text.len()) <= end && text.bytes().all(is_plain) {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    text.chars().all(|char| match char {
        '"' | '\\' => push_piece(out, &[b'\\', char as u8], end),
        '\u{2028}' | '\u{2029}' => push_piece(out, &escape(char), end),
        _ if char.is_control() => push_piece(out, &escape(char), end),
        _ => push_piece(out, char.encode_utf8(&mut [0; 4]).as_bytes(), end),
    })
}

fn push_piece(out: &mut Vec<u8>, piece: &[u8], end: usize) -> bool {
    let fits = out.len() + piece.len() <= end;
    if fits {
        out.extend_from_slice(piece);
    }
    fits
}

/// `\uXXXX` of a character below U+10000.
fn escape(char: char) -> [u8; 6] {
    let digit = |shift: u32| {
        let digit = (char as u32 >> shift) & 15;
        char::from_digit(digit, 16).map_or(b'0', |digit| digit as u8)
    };
    [b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T59.
    #[test]
    fn one_string_is_one_line_whatever_is_in_it() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            push_str(&mut out, bytes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b"plain"), "\"plain\"");
        assert_eq!(text(b"a\"b\\c\nd\x1b\x7f"), r#""a\"b\\c\u000ad\u001b\u007f""#);
        assert_eq!(text(b"\xffx\xc3\xa9"), "\"\u{fffd}x\u{e9}\"");
        assert_eq!(text(b""), "\"\"");
        assert_eq!(text("\u{9b}\u{2028}".as_bytes()), r#""\u009b\u2028""#);
    }

    #[test]
    fn a_string_is_cut_by_what_it_becomes() {
        let text = |bytes: &[u8], max: usize| {
            let mut out = Vec::new();
            push_str_within(&mut out, bytes, max);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b"plain", 5), "\"plain\"");
        assert_eq!(text(b"plain", 4), "\"plai\"");
        assert_eq!(text(b"a\tb", 7), r#""a\u0009""#);
        assert_eq!(text(b"a\tb", 6), r#""a""#);
        assert_eq!(text(b"a\"", 2), r#""a""#);
        assert_eq!(text("\u{e9}".as_bytes(), 1), r#""""#);
        assert_eq!(text(b"\xff\xff", 5), "\"\u{fffd}\"");
    }
}
