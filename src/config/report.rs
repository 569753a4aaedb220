//! What is wrong with a file, said so that one knows what to change: `file:line:column: sentence`
//! with the line and a caret, or JSON for editors and CI.

use std::fmt;

use serde::Serialize;

/// Where something stands. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The line; 0 if it concerns the whole file.
    pub line: u32,
    /// The column; 0 if it concerns the whole file.
    pub column: u32,
    /// Characters it takes on that line, at least 1.
    pub width: u32,
}

/// What kind of thing is wrong. The names are stable: scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Two keys that exclude each other.
    Conflict,
    /// Two listeners on one address.
    DuplicateBind,
    /// Two things of one name.
    DuplicateId,
    /// A key twice in one map.
    DuplicateKey,
    /// A list that needs an element has none.
    Empty,
    /// An environment variable that is not set.
    EnvUnset,
    /// A file that is named and cannot be read, or does not hold what it is named for.
    FileUnreadable,
    /// A value that does not read.
    InvalidValue,
    /// A key that must be there and is not.
    MissingKey,
    /// A route that an earlier one hides altogether.
    ShadowedRoute,
    /// More than this program reads.
    TooLarge,
    /// A key that does not exist.
    UnknownKey,
    /// A service that does not exist.
    UnknownService,
    /// A choice that does not exist.
    UnknownValue,
    /// Something that lets strangers in, without the switch that says so.
    Unsafe,
    /// A list where a text should be, and the like.
    WrongType,
    /// A protocol that does not fit the service or scheme.
    WrongProtocol,
    /// No YAML.
    YamlSyntax,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind.
    pub code: Code,
    /// Where.
    pub place: Place,
    /// What, and what to write instead.
    pub message: String,
    /// The line holds a secret and is not shown.
    pub secret: bool,
}

/// Everything that is wrong with a file, in the order of the file. Never empty.
#[derive(Debug, Clone)]
pub struct Report {
    file: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Code {
    /// Every code, in alphabetical order.
    pub const ALL: [Self; 18] = [
        Self::Conflict,
        Self::DuplicateBind,
        Self::DuplicateId,
        Self::DuplicateKey,
        Self::Empty,
        Self::EnvUnset,
        Self::FileUnreadable,
        Self::InvalidValue,
        Self::MissingKey,
        Self::ShadowedRoute,
        Self::TooLarge,
        Self::UnknownKey,
        Self::UnknownService,
        Self::UnknownValue,
        Self::Unsafe,
        Self::WrongProtocol,
        Self::WrongType,
        Self::YamlSyntax,
    ];
}

impl Place {
    /// The first character of the file.
    pub const START: Self = Self { line: 1, column: 1, width: 1 };
    /// The file as a whole.
    pub const FILE: Self = Self { line: 0, column: 0, width: 1 };

    pub(super) fn new(line: usize, column: usize, width: usize) -> Self {
        // Files are at most 16 MiB, so no line, column or width is near the limit.
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: small(line), column: small(column), width: small(width.max(1)) }
    }

    pub(super) fn wide(self, width: usize) -> Self {
        Self { width: u32::try_from(width.max(1)).unwrap_or(1), ..self }
    }
}

impl Diagnostic {
    pub(super) fn new(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { code, place, message: message.into(), secret: false }
    }
}

impl Report {
    pub(super) fn new(file: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|one| one.place);
        diagnostics.dedup();
        Self { file: file.into(), text: text.into(), diagnostics }
    }

    /// One by one.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// An array of `{file, line, column, code, message}`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Item<'a> {
            file: &'a str,
            line: u32,
            column: u32,
            code: Code,
            message: &'a str,
        }
        let items: Vec<_> = self
            .diagnostics
            .iter()
            .map(|one| Item {
                file: &self.file,
                line: one.place.line,
                column: one.place.column,
                code: one.code,
                message: &one.message,
            })
            .collect();
        serde_json::to_string_pretty(&items).unwrap_or_else(|_| "[]".into())
    }
}

/// Widest line shown with a caret; longer ones (a key in one line) are not worth a screenful.
const SHOWN_MAX: usize = 160;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // To YAML a carriage return alone ends a line too (YAML 1.2.2 §5.4).
        let text = self.text.replace("\r\n", "\n");
        let lines: Vec<&str> = text.split(['\n', '\r']).collect();
        for one in &self.diagnostics {
            let Place { line, column, width } = one.place;
            if line == 0 {
                writeln!(f, "{}: {}", self.file, one.message)?;
                continue;
            }
            writeln!(f, "{}:{line}:{column}: {}", self.file, one.message)?;
            let text = lines.get(line as usize - 1).copied().unwrap_or_default();
            if one.secret || text.chars().count() > SHOWN_MAX || text.trim().is_empty() {
                continue;
            }
            // A tab or a control character in the text would move the caret.
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let before = column as usize - 1;
            let room = text.chars().count().saturating_sub(before).max(1);
            let carets = "^".repeat((width as usize).min(room));
            writeln!(f, "{line:>5} | {}", text.trim_end())?;
            writeln!(f, "      | {:before$}{carets}", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
