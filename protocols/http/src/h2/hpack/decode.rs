//! From bytes to fields.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::table::{STATIC, STATIC_LEN, Table};
use super::{FIELD_OVERHEAD, Malformed, TABLE_BYTES, huffman};
use crate::h1::head::is_authority;

/// RFC 9113 §8.2.2: they belong to HTTP/1.1 and have no meaning here but to mislead what stands
/// behind.
static CONNECTION_SPECIFIC: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A field, parsed. What is wrong with one concerns its message only, so it is a field as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `:method`.
    Method(Method),
    /// `:scheme`.
    Scheme(Bytes),
    /// `:authority`, with the value of the `Host` field that says the same.
    Authority(Authority, HeaderValue),
    /// `:authority` with an empty value.
    NoAuthority,
    /// `:path`, never empty.
    Path(PathAndQuery),
    /// `:protocol` (RFC 8441 §4).
    Protocol(Bytes),
    /// `:status`.
    Status(StatusCode),
    /// Any other.
    Header(HeaderName, HeaderValue),
    /// Why the message that has it is malformed (RFC 9113 §8.1.1).
    Malformed(&'static str),
}

/// A field's name.
#[derive(Debug, Clone)]
enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    Header(HeaderName),
    Malformed(&'static str),
}

/// How a section went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// All its fields were handed on.
    Whole,
    /// It is larger than the limit; what came after that was decoded and dropped.
    TooLarge,
}

/// The receiving end of one direction's compression.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table<Entry>,
}

#[derive(Debug)]
struct Entry {
    field: Field,
    name: Name,
    name_len: usize,
}

impl Decoder {
    /// Hands the fields of one block to `take`, in order, until they exceed `limit` bytes (names,
    /// values and 32 for each field, RFC 9113 §6.5.2).
    ///
    /// # Errors
    /// When the block breaks the compression.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        limit: usize,
        mut take: impl FnMut(Field),
    ) -> Result<Section, Malformed> {
        let mut scratch = BytesMut::new();
        let mut total = 0usize;
        let mut may_resize = true;
        let section = |total| if total > limit { Section::TooLarge } else { Section::Whole };
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if !may_resize {
                    return Err(Malformed("a table size update after the first field"));
                }
                if size > TABLE_BYTES {
                    return Err(Malformed("a table size above the limit"));
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let size = self.size_at(index)?;
                total = total.saturating_add(size);
                if total <= limit {
                    take(self.field_at(index)?);
                }
                continue;
            }
            let enters = first & 0x40 != 0;
            let index = integer(&mut block, if enters { 6 } else { 4 })?;
            let (name, name_len) = if index == 0 {
                let text = string(&mut block, &mut scratch)?;
                (Name::parse(text), text.len())
            } else {
                self.name_at(index)?
            };
            // A copy of its own: a value must keep neither a table entry nor a message alive.
            let value = Bytes::copy_from_slice(string(&mut block, &mut scratch)?);
            let size = name_len + value.len() + FIELD_OVERHEAD;
            total = total.saturating_add(size);
            if !enters {
                if total <= limit {
                    // RFC 7541 §6.2.3: what is never to be indexed stays so on the next hop.
                    take(Field::parse(name, value, first & 0x10 != 0));
                }
                continue;
            }
            if self.table.make_room(size) {
                let field = Field::parse(name.clone(), value, false);
                if total <= limit {
                    take(field.clone());
                }
                self.table.push(Entry { field, name, name_len }, size);
            } else if total <= limit {
                take(Field::parse(name, value, false));
            }
        }
        Ok(section(total))
    }

    /// Bytes of the table, and how many entries share them.
    pub fn table(&self) -> (usize, usize) {
        self.table.measure()
    }

    fn entry(&self, index: usize) -> Result<&(Entry, usize), Malformed> {
        self.table.get(index - STATIC_LEN - 1).ok_or(Malformed("an index beyond the table"))
    }

    fn size_at(&self, index: usize) -> Result<usize, Malformed> {
        match index {
            0 => Err(Malformed("index 0")),
            1..=STATIC_LEN => {
                let (name, value) = static_entry(index)?;
                Ok(name.len() + value.len() + FIELD_OVERHEAD)
            }
            _ => self.entry(index).map(|(_, size)| *size),
        }
    }

    fn field_at(&self, index: usize) -> Result<Field, Malformed> {
        if index > STATIC_LEN {
            return self.entry(index).map(|(entry, _)| entry.field.clone());
        }
        let (name, value) = static_entry(index)?;
        Ok(match index {
            2 => Field::Method(Method::GET),
            3 => Field::Method(Method::POST),
            4 | 5 => Field::Path(PathAndQuery::from_static(value)),
            8 => Field::Status(StatusCode::OK),
            9 => Field::Status(StatusCode::NO_CONTENT),
            _ => Field::parse(
                Name::parse(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
                false,
            ),
        })
    }

    fn name_at(&self, index: usize) -> Result<(Name, usize), Malformed> {
        if index > STATIC_LEN {
            return self.entry(index).map(|(entry, _)| (entry.name.clone(), entry.name_len));
        }
        let (name, _) = static_entry(index)?;
        Ok((Name::parse(name.as_bytes()), name.len()))
    }
}

fn static_entry(index: usize) -> Result<(&'static str, &'static str), Malformed> {
    STATIC.get(index - 1).copied().ok_or(Malformed("an index beyond the table"))
}

impl Name {
    fn parse(text: &[u8]) -> Self {
        if text.first() == Some(&b':') {
            return match text {
                b":method" => Self::Method,
                b":scheme" => Self::Scheme,
                b":authority" => Self::Authority,
                b":path" => Self::Path,
                b":protocol" => Self::Protocol,
                b":status" => Self::Status,
                _ => Self::Malformed("an unknown pseudo-header field"),
            };
        }
        if text.iter().any(u8::is_ascii_uppercase) {
            return Self::Malformed("a field name with upper-case letters");
        }
        match HeaderName::from_bytes(text) {
            Ok(name) if CONNECTION_SPECIFIC.contains(&name) => {
                Self::Malformed("a connection-specific field (RFC 9113 §8.2.2)")
            }
            Ok(name) => Self::Header(name),
            Err(_) => Self::Malformed("a field name that is not a token"),
        }
    }
}

impl Field {
    fn parse(name: Name, value: Bytes, is_sensitive: bool) -> Self {
        match name {
            Name::Header(name) if name == TE && *value != *b"trailers" => {
                Self::Malformed("TE says something else than trailers (RFC 9113 §8.2.2)")
            }
            Name::Header(name) => match checked_value(value) {
                Some(mut value) => {
                    value.set_sensitive(is_sensitive);
                    Self::Header(name, value)
                }
                None => Self::Malformed("a field value with forbidden characters"),
            },
            Name::Method => Method::from_bytes(&value)
                .map_or(Self::Malformed(":method is not a token"), Self::Method),
            Name::Scheme => Self::Scheme(value),
            Name::Authority if value.is_empty() => Self::NoAuthority,
            Name::Authority => {
                if !is_authority(&value) {
                    return Self::Malformed(":authority is not a host");
                }
                let host = checked_value(value.clone());
                match (Authority::from_maybe_shared(value), host) {
                    (Ok(authority), Some(host)) => Self::Authority(authority, host),
                    _ => Self::Malformed(":authority is not a host"),
                }
            }
            Name::Path if value.is_empty() => Self::Malformed(":path is empty"),
            Name::Path if !matches!(value.first(), Some(b'/' | b'*')) => {
                Self::Malformed(":path does not begin with a slash")
            }
            // `#` cannot be in a path; the library drops it and what follows.
            Name::Path if value.contains(&b'#') => Self::Malformed(":path has a fragment"),
            Name::Path => PathAndQuery::from_maybe_shared(value)
                .map_or(Self::Malformed(":path is not a path"), Self::Path),
            Name::Protocol => Self::Protocol(value),
            Name::Status => StatusCode::from_bytes(&value)
                .map_or(Self::Malformed(":status is not a status"), Self::Status),
            Name::Malformed(reason) => Self::Malformed(reason),
        }
    }
}

/// RFC 9113 §8.2.1: no control characters, no white space at the ends.
fn checked_value(value: Bytes) -> Option<HeaderValue> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) {
        return None;
    }
    HeaderValue::from_maybe_shared(value).ok()
}

/// An integer with a prefix of `bits` bits (RFC 7541 §5.1). No integer that means anything here
/// needs more than 28 bits.
pub(super) fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    const CUT_OFF: Malformed = Malformed("the block ends within an integer");
    let (&first, mut rest) = block.split_first().ok_or(CUT_OFF)?;
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(CUT_OFF)?;
            rest = after;
            if shift > 21 {
                return Err(Malformed("an integer is too large"));
            }
            value += (usize::from(byte) & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// A string literal (RFC 7541 §5.2), decoded into `scratch` if it is coded.
fn string<'s, 'b: 's>(
    block: &mut &'b [u8],
    scratch: &'s mut BytesMut,
) -> Result<&'s [u8], Malformed> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let Some((text, rest)) = block.split_at_checked(length) else {
        return Err(Malformed("the block ends within a string"));
    };
    *block = rest;
    if !is_coded {
        return Ok(text);
    }
    scratch.clear();
    // Every coded byte is at most 1.6 bytes of text.
    scratch.reserve(text.len() + text.len() / 2);
    huffman::decode(text, scratch)?;
    Ok(scratch)
}
