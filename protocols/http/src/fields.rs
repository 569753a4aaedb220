//! The field lines of a message, in the order and the spelling in which they came.
//!
//! A proxy passes nearly every field on as it is. So a head is kept as the bytes it came as, with
//! an index of its lines; what is added is written behind. Taking a field out takes a line out of
//! the index, and writing the head for the next hop copies whole runs of lines
//! (`docs/adr/0009-fields.md` has the figures against a hash map).
//!
//! Names are compared without regard to case (RFC 9110 §5.1) and keep theirs. Looking for a field
//! goes through all lines, whose number the limits of heads bound; those that a proxy asks about
//! in every message ([`Known`]) are told by a bit.

mod known;
mod text;

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

pub use known::{Known, Seen};
pub use text::{AsName, AsValue, Name, NotText, Value};

/// Field lines: names, values, their order.
#[derive(Clone, Default)]
pub struct Fields {
    /// The head that parsed lines lie in.
    head: Bytes,
    /// Names and values of the other lines.
    added: Vec<u8>,
    lines: Vec<Line>,
    seen: Seen,
}

/// Where a line is.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: Span,
    value: Span,
    known: Option<Known>,
    /// Name and value stand in one text, as they would be written: `name: value\r\n`.
    is_whole: bool,
    /// The value is not to enter a compression table (RFC 7541 §7.1.3).
    is_sensitive: bool,
}

/// A piece of the head, or of what was added.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    /// With [`ADDED`] if it is not in the head.
    length: u32,
}

/// There is more than one line of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Several;

/// No length has this bit: a section has at most some hundred KiB.
const ADDED: u32 = 1 << 31;

/// Bytes that all fields together may have for positions to be told; far more than the limits of
/// heads let through.
const BYTES_MAX: usize = ADDED as usize - 1;

/// Room for what a proxy adds to a request.
const ADDED_BYTES: usize = 320;

/// Room left over that is not worth another allocation.
const SLACK_BYTES_MAX: usize = 1024;

impl Span {
    fn length(self) -> usize {
        (self.length & !ADDED) as usize
    }

    fn end(self) -> usize {
        self.start as usize + self.length()
    }

    fn is_added(self) -> bool {
        self.length & ADDED != 0
    }

    fn moved(self, offset: u32) -> Self {
        Self { start: self.start + offset, ..self }
    }
}

/// The lines of a head that is being read.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    seen: Seen,
}

impl Lines {
    pub(crate) fn with_capacity(lines: usize) -> Self {
        Self { lines: Vec::with_capacity(lines), seen: Seen::default() }
    }

    /// A line whose `name` and `value` are pieces of `head` and known to be valid.
    pub(crate) fn push(&mut self, head: &[u8], name: &[u8], value: &[u8]) {
        let base = head.as_ptr() as usize;
        let span = |piece: &[u8]| Span {
            start: (piece.as_ptr() as usize).wrapping_sub(base) as u32,
            length: piece.len() as u32,
        };
        let known = Known::of(name);
        self.seen.note(known);
        let (name, value) = (span(name), span(value));
        let between = |from: usize, to: usize| head.get(from..to).unwrap_or_default();
        let is_whole = between(name.end(), value.start as usize) == b": "
            && between(value.end(), value.end() + 2) == b"\r\n";
        self.lines.push(Line { name, value, known, is_whole, is_sensitive: false });
    }

    /// Where each line begins.
    pub(crate) fn starts(&self) -> impl Iterator<Item = usize> {
        self.lines.iter().map(|line| line.name.start as usize)
    }

    /// The fields of this `head`; with room, if it `grows`, for what a proxy adds.
    pub(crate) fn of(self, head: Bytes, grows: bool) -> Fields {
        debug_assert!(head.len() < BYTES_MAX);
        let added = if grows { Vec::with_capacity(ADDED_BYTES) } else { Vec::new() };
        Fields { head, added, lines: self.lines, seen: self.seen }
    }
}

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for so many lines, and bytes of theirs.
    pub(crate) fn with_capacity(lines: usize, bytes: usize) -> Self {
        Self {
            added: Vec::with_capacity(bytes),
            lines: Vec::with_capacity(lines),
            ..Self::default()
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes that all of them take as text, at most.
    pub(crate) fn bytes(&self) -> usize {
        self.head.len() + self.added.len()
    }

    /// Gives back room that large fields left over.
    pub(crate) fn shrink(&mut self) {
        if self.added.capacity() - self.added.len() > SLACK_BYTES_MAX {
            self.added.shrink_to(self.added.len() + ADDED_BYTES);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Which of the known names may be among them: a bit that is not set is a name that is not
    /// there.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// The value of the first line of this name.
    pub fn get(&self, name: impl AsName) -> Option<Value<'_>> {
        self.find(&name).map(|at| self.value(at))
    }

    /// The value of a name that must not have several, if it is there.
    ///
    /// # Errors
    /// When there are several lines of it.
    pub(crate) fn sole(&self, name: Known) -> Result<Option<Value<'_>>, Several> {
        if self.lacks(Some(name)) {
            return Ok(None);
        }
        let mut lines = self.lines.iter().filter(|line| line.known == Some(name));
        let value = lines.next().map(|line| self.value(line));
        if lines.next().is_some() { Err(Several) } else { Ok(value) }
    }

    /// The values of all lines of this name, in order.
    pub fn get_all<N: AsName>(&self, name: N) -> impl DoubleEndedIterator<Item = Value<'_>> {
        let known = name.known();
        let lines = if self.lacks(known) { &[] } else { self.lines.as_slice() };
        lines
            .iter()
            .filter(move |line| self.is(line, known, name.as_name()))
            .map(|line| self.value(line))
    }

    /// Whether there is a line of this name.
    pub fn contains_key(&self, name: impl AsName) -> bool {
        self.find(&name).is_some()
    }

    /// Every line, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Name<'_>, Value<'_>)> {
        self.lines.iter().map(|line| (self.name(line), self.value(line)))
    }

    /// The name of every line, in order.
    pub fn names(&self) -> impl Iterator<Item = Name<'_>> {
        self.lines.iter().map(|line| self.name(line))
    }

    /// Whether some line has this byte.
    pub(crate) fn have(&self, byte: u8) -> bool {
        // In one piece, which is far quicker than line by line, and seldom more than is asked.
        [&*self.head, &*self.added].iter().any(|text| memchr::memchr(byte, text).is_some())
    }

    /// Adds a line at the end.
    pub fn append(&mut self, name: impl AsName, value: impl AsValue) {
        let (name, known, is_sensitive) = (name.as_name(), name.known(), value.is_sensitive());
        self.seen.note(known);
        // As it will be written, so that lines that follow each other go in one piece.
        let name = self.add(name);
        self.added.extend_from_slice(b": ");
        let value = self.add(value.as_value());
        self.added.extend_from_slice(b"\r\n");
        self.lines.push(Line { name, value, known, is_whole: true, is_sensitive });
    }

    /// Adds all lines of `others`.
    pub(crate) fn append_all(&mut self, others: &Self) {
        if !others.head.is_empty() {
            return others.iter().for_each(|(name, value)| self.append(name, value));
        }
        let offset = self.added.len() as u32;
        self.added.extend_from_slice(&others.added);
        self.lines.extend(others.lines.iter().map(|line| Line {
            name: line.name.moved(offset),
            value: line.value.moved(offset),
            ..*line
        }));
        self.seen = self.seen.and(others.seen);
    }

    /// Sets the one value of a name: in the place of its first line, at the end if there is none.
    pub fn insert(&mut self, name: impl AsName, value: impl AsValue) {
        let known = name.known();
        let is_it = |line: &Line| self.is(line, known, name.as_name());
        let first = if self.lacks(known) { None } else { self.lines.iter().position(is_it) };
        let Some(first) = first else { return self.append(name, value) };
        let (is_sensitive, value) = (value.is_sensitive(), self.add(value.as_value()));
        if let Some(line) = self.lines.get_mut(first) {
            *line = Line { value, is_sensitive, is_whole: false, ..*line };
        }
        self.drop_lines(known, name.as_name(), first + 1);
    }

    /// [`Self::insert`] if there is no line of this name.
    pub fn insert_if_absent(&mut self, name: impl AsName, value: impl AsValue) {
        if self.find(&name).is_none() {
            self.append(name, value);
        }
    }

    /// Takes out all lines of this name; whether there was one.
    pub fn remove(&mut self, name: impl AsName) -> bool {
        let known = name.known();
        if self.lacks(known) {
            return false;
        }
        let before = self.lines.len();
        self.drop_lines(known, name.as_name(), 0);
        if let Some(known) = known {
            self.seen.forget(known.bit());
        }
        self.lines.len() < before
    }

    /// Takes out all lines of these known names.
    pub(crate) fn remove_known(&mut self, names: Seen) {
        if self.seen.has(names) {
            self.lines.retain(|line| !names.lists(line.known));
            self.seen.forget(names);
        }
    }

    /// Writes the lines as they are in a head of HTTP/1, without those of the names in `without`.
    pub(crate) fn write(&self, out: &mut BytesMut, without: Seen) {
        // Lines that stand one behind the other, as they are written, go together.
        let mut run = Span { start: 0, length: 0 };
        for line in self.lines.iter().filter(|line| !without.lists(line.known)) {
            let Line { name, value, .. } = *line;
            if !line.is_whole {
                out.extend_from_slice(self.text(run));
                run.length = 0;
                for piece in [self.text(name), b": ", self.text(value), b"\r\n"] {
                    out.extend_from_slice(piece);
                }
                continue;
            }
            let length = value.start - name.start + value.length + 2;
            if run.is_added() == name.is_added() && run.end() == name.start as usize {
                run.length += length & !ADDED;
            } else {
                out.extend_from_slice(self.text(run));
                run = Span { start: name.start, length };
            }
        }
        out.extend_from_slice(self.text(run));
    }

    fn find(&self, name: &impl AsName) -> Option<&Line> {
        let known = name.known();
        if self.lacks(known) {
            return None;
        }
        self.lines.iter().find(|line| self.is(line, known, name.as_name()))
    }

    /// Whether it is sure that no line has this name.
    fn lacks(&self, known: Option<Known>) -> bool {
        known.is_some() && !self.seen.lists(known)
    }

    fn is(&self, line: &Line, known: Option<Known>, name: &[u8]) -> bool {
        line.known == known
            && (known.is_some()
                || (line.name.length() == name.len()
                    && self.text(line.name).eq_ignore_ascii_case(name)))
    }

    fn drop_lines(&mut self, known: Option<Known>, name: &[u8], from: usize) {
        let mut lines = std::mem::take(&mut self.lines);
        let mut at = 0;
        lines.retain(|line| {
            at += 1;
            at <= from || !self.is(line, known, name)
        });
        self.lines = lines;
    }

    fn name(&self, line: &Line) -> Name<'_> {
        Name::new(self.text(line.name))
    }

    fn value(&self, line: &Line) -> Value<'_> {
        Value::new(self.text(line.value), line.is_sensitive)
    }

    fn text(&self, span: Span) -> &[u8] {
        let all = if span.is_added() { &*self.added } else { &*self.head };
        all.get(span.start as usize..span.end()).unwrap_or_default()
    }

    fn add(&mut self, text: &[u8]) -> Span {
        let start = self.added.len() as u32;
        self.added.extend_from_slice(text);
        Span { start, length: text.len() as u32 | ADDED }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The same lines in the same order; names by their letters, whatever their case.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl<N: AsName, V: AsValue> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(lines: I) -> Self {
        let mut fields = Self::new();
        for (name, value) in lines {
            fields.append(name, value);
        }
        fields
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        map.iter().collect()
    }
}

impl From<&Fields> for HeaderMap {
    /// What the library holds for no name or value, it does not get; there is none.
    fn from(fields: &Fields) -> Self {
        let lines = fields.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        });
        lines.fold(Self::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }
}

#[cfg(test)]
mod tests;
