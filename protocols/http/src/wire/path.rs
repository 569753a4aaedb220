//! The one path of a request: what routes are matched with, what is rewritten and what the node
//! receives are the same bytes.
//!
//! Proxies and servers that read a path in different ways are how `/public/..%2fadmin` gets past
//! a rule for `/admin` (CVE-2026-48020, CVE-2026-40912, CVE-2026-27587). So a path that has one
//! meaning is brought into its one spelling, and one that other readers take for another path is
//! refused:
//!
//! | in the path | becomes |
//! |---|---|
//! | a percent-encoded unreserved character (`%61`, `%7E`, `%2D`) | the character (RFC 3986 §6.2.2.2) |
//! | any other percent-encoding (`%3a`, `%C3%A9`) | itself in capitals (§6.2.2.1); it is decoded by nobody here |
//! | a character that a path cannot have (`é`, `{`, `"`) | its percent-encoding |
//! | `//` | `/` |
//! | a segment `.` or `..` | resolved (§5.2.4) |
//! | `..` above the root | refused |
//! | `.` or `..` in disguise: percent-encoded, or with parameters (`..;x`) | refused |
//! | `%2F` | refused, or kept as it is ([`Ambiguous`]) |
//! | `\`, `%5C` | refused: some servers take it for `/` |
//! | a control character (`%00`, `%0A`) | refused |
//! | a `%` that begins no percent-encoding | refused |
//! | a dot, slash, `;`, backslash or NUL encoded twice (`%252e`) | refused |
//! | `;` in the last segment | itself; routes are matched with what stands before it |
//! | `;` in another segment | refused: some servers leave out what follows it |
//!
//! Case and the query are left alone. Pure.

use std::borrow::Cow;

use super::Ambiguous;

/// The one spelling of `path`, which begins with `/`; borrowed if it is that already. `slash` is
/// for `%2F`: part of a name (RFC 3986 §2.2), but many servers decode it before they look for
/// slashes. Kept, it is never beside a `.` or `..`.
///
/// # Errors
/// Why the path is refused, as the rest of a sentence.
pub fn canonical(path: &str, slash: Ambiguous) -> Result<Cow<'_, str>, &'static str> {
    if is_canonical(path) {
        return Ok(Cow::Borrowed(path));
    }
    let Some(relative) = path.strip_prefix('/') else { return Err("a path begins with `/`") };
    let mut out = String::with_capacity(path.len() + 8);
    let mut segments = relative.split('/').peekable();
    while let Some(raw) = segments.next() {
        let is_last = segments.peek().is_none();
        match raw {
            "" | "." => {}
            ".." => match out.rfind('/') {
                Some(parent) => out.truncate(parent),
                None => return Err("it leads above the root"),
            },
            raw => {
                out.push('/');
                let from = out.len();
                push_segment(&mut out, raw, slash)?;
                check_segment(out.get(from..).unwrap_or_default(), is_last)?;
                continue;
            }
        }
        if is_last {
            out.push('/');
        }
    }
    Ok(Cow::Owned(out))
}

/// Whether there is nothing to change or to refuse; errs on the side of looking closer.
fn is_canonical(path: &str) -> bool {
    let mut last = 0;
    for byte in path.bytes() {
        // A segment that begins with a dot, or an empty one.
        let is_odd = last == b'/' && matches!(byte, b'/' | b'.');
        if is_odd || byte == b';' || !(byte == b'/' || is_path_char(byte)) {
            return false;
        }
        last = byte;
    }
    path.starts_with('/')
}

/// Appends a segment in its one spelling.
fn push_segment(out: &mut String, raw: &str, slash: Ambiguous) -> Result<(), &'static str> {
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let Some((code, after)) = take_code(rest) else {
                    return Err("it has a `%` without two digits behind it");
                };
                rest = after;
                check_code(code, slash)?;
                if is_unreserved(code) {
                    out.push(char::from(code));
                } else {
                    push_code(out, code);
                }
            }
            b';' => out.push(';'),
            byte if is_path_char(byte) => out.push(char::from(byte)),
            byte => {
                check_code(byte, slash)?;
                push_code(out, byte);
            }
        }
    }
    Ok(())
}

/// Refuses bytes that other readers act on, encoded or not.
fn check_code(code: u8, slash: Ambiguous) -> Result<(), &'static str> {
    match code {
        b'/' if slash == Ambiguous::Refuse => Err("it has an encoded slash"),
        b'\\' => Err("it has a backslash"),
        0..0x20 | 0x7f => Err("it has a control character"),
        _ => Ok(()),
    }
}

/// Refuses a finished segment that is a dot segment for another reader.
fn check_segment(segment: &str, is_last: bool) -> Result<(), &'static str> {
    if !is_last && segment.contains(';') {
        return Err("it has a `;` before its last segment");
    }
    // Looked for when all is decoded: `%25%32%65` is another way to write `%252e`.
    let is_structure = |code: &str| {
        let code = code.as_bytes().get(..2).and_then(hex);
        matches!(code, Some(b'.' | b'/' | b';' | b'\\' | 0))
    };
    if segment.split("%25").skip(1).any(is_structure) {
        return Err("it is encoded twice");
    }
    // Servers that decode first see several names here, those that drop parameters less of one.
    let is_dots = |name: &str| {
        let name = name.split(';').next().and_then(|name| name.split("%3B").next());
        matches!(name, Some("." | ".."))
    };
    if segment.split("%2F").any(is_dots) {
        return Err("it has a `.` or `..` in disguise");
    }
    Ok(())
}

/// The byte behind a `%`, and what follows.
fn take_code(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = after_percent.split_at_checked(2)?;
    Some((hex(digits)?, rest))
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low] = digits else { return None };
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

fn push_code(out: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0').to_ascii_uppercase();
    out.push('%');
    out.push(digit(byte >> 4));
    out.push(digit(byte & 15));
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands for itself in a segment (RFC 3986 §3.3) and has one meaning everywhere.
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(path: &str) -> Result<String, &'static str> {
        canonical(path, Ambiguous::Refuse).map(Cow::into_owned)
    }

    /// T47, RFC 3986 §6.2.2.
    #[test]
    fn t47_a_path_of_one_meaning_has_one_spelling() {
        for (path, want) in [
            ("/", "/"),
            ("/a/b.c/~d", "/a/b.c/~d"),
            ("/%61dmin%2D%7e", "/admin-~"),
            ("/a%3ab%c3%a9", "/a%3Ab%C3%A9"),
            ("/é{x}\"|^`", "/%C3%A9%7Bx%7D%22%7C%5E%60"),
            ("//admin", "/admin"),
            ("/a///b//", "/a/b/"),
            ("/api/../admin", "/admin"),
            ("/api/./x/.", "/api/x/"),
            ("/api/x/..", "/api/"),
            ("/a/..", "/"),
            ("/.", "/"),
            ("/api../x", "/api../x"),
            ("/...", "/..."),
            ("/.well-known/%2ehidden", "/.well-known/.hidden"),
            ("/admin;x=1", "/admin;x=1"),
            ("/a%3Bb", "/a%3Bb"),
            ("/100%25", "/100%25"),
            ("/100%2541", "/100%2541"),
            ("/%2525", "/%2525"),
        ] {
            assert_eq!(one(path).as_deref(), Ok(want), "{path}");
        }
    }

    /// T47: what another reader takes for another path.
    #[test]
    fn t47_a_path_of_two_meanings_is_refused() {
        for path in [
            "",
            "admin",
            "/..",
            "/a/../../b",
            "/%2e%2e/admin",
            "/api/%2e%2E/admin",
            "/api/.%2e/x",
            "/%2e",
            "/api/..;/admin",
            "/api/..;x",
            "/api/..%3bx",
            "/.;x",
            "/admin;x/y",
            "/api%2fadmin",
            "/api%2Fadmin",
            "/a\\b",
            "/a%5cb",
            "/admin%00",
            "/a%0ab",
            "/a%7f",
            "/%",
            "/%a",
            "/%zz",
            "/%+1",
            "/%252e%252e/x",
            "/%25%32%65",
            "/a%252Fb",
            "/a%255cb",
            "/a%2500",
        ] {
            assert!(one(path).is_err(), "{path}: {:?}", one(path));
        }
    }

    #[test]
    fn an_encoded_slash_is_kept_only_where_it_leads_nowhere() {
        let kept = |path| canonical(path, Ambiguous::Keep).map(Cow::into_owned);
        assert_eq!(kept("/projects/a%2fb").as_deref(), Ok("/projects/a%2Fb"));
        for path in ["/a/..%2fb", "/a/x%2f..", "/a/x%2f.%2Fb", "/a/x%2f..;y", "/a%252fb", "/a%5c"] {
            assert!(kept(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_usual_path_is_not_copied() {
        for path in ["/", "/api/v1/users/42", "/a.b/c..d/e"] {
            assert!(matches!(canonical(path, Ambiguous::Refuse), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    /// Decodes every percent-encoding once.
    fn decoded(path: &str) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), path.as_bytes());
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match take_code(after).filter(|_| byte == b'%') {
                Some((code, after)) => {
                    out.push(code);
                    rest = after;
                }
                None => out.push(byte),
            }
        }
        out
    }

    /// Where a path leads for a server that splits at slashes and knows dots.
    fn leads_to(path: &[u8]) -> Option<Vec<&[u8]>> {
        let mut at = Vec::new();
        for segment in path.split(|byte| *byte == b'/') {
            match segment {
                b"" | b"." => {}
                b".." => drop(at.pop()?),
                name => at.push(name),
            }
        }
        Some(at)
    }

    fn hostile() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%25".to_owned()),
            Just("%".to_owned()),
            Just(";".to_owned()),
            Just("\\".to_owned()),
            Just("%5C".to_owned()),
            Just("2e".to_owned()),
            Just("2f".to_owned()),
            Just("api".to_owned()),
            Just("é".to_owned()),
            any::<u8>().prop_map(|byte| format!("%{byte:02x}")),
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        /// A path that was brought into its spelling is in it.
        #[test]
        fn t47_it_is_idempotent(path in hostile(), keep in any::<bool>()) {
            let slash = if keep { Ambiguous::Keep } else { Ambiguous::Refuse };
            if let Ok(once) = canonical(&path, slash) {
                let twice = canonical(&once, slash);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }

        /// No reader sees it lead up, whether it decodes not at all, once or twice, and whatever
        /// prefix is taken off or put before it.
        #[test]
        fn t47_it_never_escapes(path in hostile(), keep in any::<bool>()) {
            let slash = if keep { Ambiguous::Keep } else { Ambiguous::Refuse };
            if let Ok(one) = canonical(&path, slash) {
                let once = decoded(&one);
                let twice = decoded(&String::from_utf8_lossy(&once));
                for read in [one.as_bytes(), &once, &twice] {
                    let read = read.to_vec();
                    prop_assert!(!read.contains(&b'\\') && !read.contains(&0), "{}", one);
                    let names = read.split(|byte| *byte == b'/');
                    for name in names {
                        let name = name.split(|byte| *byte == b';').next().unwrap_or_default();
                        prop_assert!(name != b"." && name != b"..", "{}", one);
                    }
                }
            }
        }

        /// It means what the path meant: once decoded, both lead to the same place.
        #[test]
        fn t47_it_decodes_nothing_twice(path in hostile()) {
            if let Ok(one) = canonical(&path, Ambiguous::Refuse) {
                let (given, ours) = (decoded(&path), decoded(&one));
                prop_assert_eq!(leads_to(&given), leads_to(&ours));
            }
        }
    }
}
