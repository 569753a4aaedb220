//! Writing JSON by hand, where a serialiser would cost a tree: logs and problem bodies.

/// Appends `text` as a JSON string (RFC 8259 §7). Bytes that are no UTF-8 become U+FFFD; control
/// characters are escaped, so one record is always one line.
pub fn push_str(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        push_escaped(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(bytes.get(clean_from..at).unwrap_or_default());
        clean_from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                let hex = |digit: u8| b"0123456789abcdef".get(usize::from(digit)).copied();
                out.extend_from_slice(b"\\u00");
                out.extend(hex(byte >> 4).into_iter().chain(hex(byte & 15)));
            }
        }
    }
    out.extend_from_slice(bytes.get(clean_from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
