//! Just enough of Rust's lexical grammar to see which paths a file names.
//!
//! A parser crate would not see inside macro calls, where half of this code base's `select!` and
//! `format!` arguments live; tokens do.

/// A token that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Ident(String),
    /// `::`
    Sep,
    Punct(char),
}

/// A path as written, with every brace of a `use` tree multiplied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    /// Inline modules (`mod x { … }`) around it, outermost first.
    pub(super) inside: Vec<String>,
}

/// The source with the contents of comments and literals blanked; line breaks stay.
pub(super) fn code(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(&char) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let skipped = comment(rest).or_else(|| literal(rest, at.checked_sub(1).map(|i| bytes[i])));
        if let Some(len) = skipped {
            out.extend(rest.iter().take(len).map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at += len;
        } else {
            out.push(char);
            at += 1;
        }
    }
    out
}

/// The length of the comment that begins here.
fn comment(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let (mut depth, mut at) = (0_usize, 0);
            while at < rest.len() {
                match rest.get(at..).unwrap_or_default() {
                    ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
                    ['*', '/', ..] if depth == 1 => return Some(at + 2),
                    ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
            }
            Some(rest.len())
        }
        _ => None,
    }
}

/// The length of the string or character literal that begins here.
fn literal(rest: &[char], before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = rest.iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    let after = rest.get(prefix..)?;
    if prefix > 0 && in_word {
        return None;
    }
    if rest.iter().take(prefix).any(|&c| c == 'r') {
        let hashes = after.iter().take_while(|&&c| c == '#').count();
        if after.get(hashes) != Some(&'"') {
            return None;
        }
        let mut end = hashes + 1;
        while let Some(tail) = after.get(end..).filter(|tail| !tail.is_empty()) {
            let closing = tail.iter().skip(1).take_while(|&&c| c == '#').take(hashes).count();
            if tail.first() == Some(&'"') && closing == hashes {
                return Some(prefix + end + 1 + hashes);
            }
            end += 1;
        }
        return Some(rest.len());
    }
    match after {
        ['"', ..] => Some(prefix + quoted(after, '"')),
        ['\'', '\\', ..] => Some(prefix + quoted(after, '\'')),
        // `'x'` is a character; `'x` without the second quote is a lifetime.
        ['\'', _, '\'', ..] => Some(prefix + 3),
        _ => None,
    }
}

fn quoted(text: &[char], quote: char) -> usize {
    let mut at = 1;
    while let Some(&char) = text.get(at) {
        match char {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Code with every item under `#[cfg(test)]` blanked; line breaks stay. Takes what [`code`] gives.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, item) = rest.split_at(at);
        out.push_str(before);
        let len = item_len(item);
        let (item, after) = item.split_at(len);
        out.extend(item.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out + rest
}

/// The bytes up to the end of the item that begins here: its closing brace, or its semicolon.
fn item_len(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, char) in item.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// The tokens of [`code`], each with its line.
pub(super) fn tokens(code: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    for (line, text) in code.lines().enumerate() {
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let token = match char {
                c if c.is_whitespace() => continue,
                c if c.is_alphanumeric() || c == '_' => {
                    let mut word = String::from(c);
                    while let Some(&c) = chars.peek().filter(|c| c.is_alphanumeric() || **c == '_')
                    {
                        word.push(c);
                        chars.next();
                    }
                    Token::Ident(word)
                }
                ':' if chars.next_if_eq(&':').is_some() => Token::Sep,
                c => Token::Punct(c),
            };
            tokens.push((line + 1, token));
        }
    }
    tokens
}

/// Every path of two or more segments, and everything that a `use` or `extern crate` names.
pub(super) fn paths(code: &str) -> Vec<Path> {
    let tokens = tokens(code);
    let mut reader = Reader { tokens: &tokens, at: 0, paths: Vec::new(), inside: Vec::new() };
    reader.read();
    reader.paths
}

struct Reader<'a> {
    tokens: &'a [(usize, Token)],
    at: usize,
    paths: Vec<Path>,
    /// Open braces: the name of an inline module, or none for any other brace.
    inside: Vec<Option<String>>,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(token) = self.peek(0).cloned() {
            match token {
                Token::Punct('{') => self.inside.push(None),
                Token::Punct('}') => drop(self.inside.pop()),
                Token::Ident(word) if self.word(&word) => continue,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Reads what begins with this word; false when the word alone is to be stepped over.
    fn word(&mut self, word: &str) -> bool {
        match (word, self.peek(1), self.peek(2)) {
            // `use<'a>` in a return type captures lifetimes and names nothing.
            ("use", Some(next), _) if *next != Token::Punct('<') => {
                self.at += 1;
                self.tree(&[]);
                true
            }
            ("extern", Some(Token::Ident(next)), Some(Token::Ident(name))) if next == "crate" => {
                self.keep(vec![name.clone()]);
                self.at += 3;
                true
            }
            ("mod", Some(Token::Ident(name)), Some(Token::Punct('{'))) => {
                let name = name.clone();
                self.inside.push(Some(name));
                self.at += 3;
                true
            }
            (_, Some(Token::Sep), _) => {
                let mut segments = vec![word.to_owned()];
                self.at += 1;
                while let (Some(Token::Sep), Some(Token::Ident(next))) =
                    (self.peek(0), self.peek(1))
                {
                    segments.push(next.clone());
                    self.at += 2;
                }
                self.keep(segments);
                true
            }
            _ => false,
        }
    }

    /// A `use` tree: `a::{b, c::*, d as e}`.
    fn tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        loop {
            match self.peek(0).cloned() {
                Some(Token::Sep) => self.at += 1,
                Some(Token::Ident(word)) if word == "as" => self.at += 2,
                Some(Token::Ident(word)) => {
                    segments.push(word);
                    self.at += 1;
                }
                Some(Token::Punct('{')) => {
                    self.at += 1;
                    while !matches!(self.peek(0), None | Some(Token::Punct('}'))) {
                        self.tree(&segments);
                        if self.peek(0) == Some(&Token::Punct(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                Some(Token::Punct('*')) => {
                    segments.push("*".into());
                    self.at += 1;
                }
                _ => {
                    if segments.len() > prefix.len() {
                        self.keep(segments);
                    } else {
                        // Not a tree after all: step on, or this would never end.
                        self.at += 1;
                    }
                    return;
                }
            }
        }
    }

    fn keep(&mut self, segments: Vec<String>) {
        // A path may end at the end of the file; its last token still has a line.
        let at = self.at.min(self.tokens.len().saturating_sub(1));
        let line = self.tokens.get(at).map_or(1, |(line, _)| *line);
        let inside = self.inside.iter().flatten().cloned().collect();
        self.paths.push(Path { line, segments, inside });
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }
}

fn joined(source: &str) -> Vec<String> {
    paths(&code(source)).into_iter().map(|path| path.segments.join("::")).collect()
}

#[test]
fn use_trees_are_multiplied_out() {
    let source = "pub(crate) use a::{self, b::{C, D as E}, f::*};\nuse ::g::H; extern crate i;";
    assert_eq!(
        joined(source),
        ["a::self", "a::b::C", "a::b::D", "a::f::*", "g::H", "i"],
        "{source}"
    );
}

#[test]
fn paths_are_seen_in_expressions_and_macros() {
    let source = "fn f() -> impl X + use<> { select! { _ = a::b::c() => d::e } g }";
    assert_eq!(joined(source), ["a::b::c", "d::e"]);
}

#[test]
fn comments_and_literals_name_nothing() {
    let source = r##"
        // a::b
        /* c::d /* e::f */ g::h */
        let x = "i::j \" k::l"; let y = r#"m::n " o::p"#; let z = b"q::r";
        let q = '"'; let e = '\'';
        fn life<'a>(s: &'a str) { s::t(); }
    "##;
    assert_eq!(joined(source), ["s::t"]);
}

#[test]
fn lines_and_inline_modules_are_known() {
    let found = paths("use a::b;\nmod x {\n    mod y { use super::c; }\n    d::e();\n}\nf::g();\n");
    let seen: Vec<_> = found.iter().map(|p| (p.line, p.inside.join("/"))).collect();
    assert_eq!(seen, [(1, String::new()), (3, "x/y".into()), (4, "x".into()), (6, String::new())]);
}

#[test]
fn test_items_are_blanked_and_lines_kept() {
    let source = "a();\n#[cfg(test)]\nmod tests {\n    fn f() { b::c(); }\n}\nd();\n\
                  #[cfg(test)]\nmod tests;\ne();\n";
    let kept = without_tests(&code(source));
    assert_eq!(kept.lines().count(), source.lines().count());
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["a();", "d();", "e();"]);
}
