//! From fields to bytes.

use std::hash::{BuildHasher, Hasher};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use super::table::{STATIC_LEN, Table, static_name};
use super::{FIELD_OVERHEAD, TABLE_BYTES, huffman};
use crate::fields::{AsName, AsValue, Name};

/// Slots by which entries are found; more than there can be entries.
const SLOTS: usize = 256;
/// Values above this do not enter the table: few would fit, and they push out what is of use.
const VALUE_BYTES_MAX: usize = 512;

/// The sending end of one direction's compression.
#[derive(Debug)]
pub struct Encoder {
    table: Table<Entry>,
    /// Entries ever inserted; the newest has this number.
    inserted: u32,
    /// Numbers of entries, by hash of name and value. The last one to come owns the slot.
    fields: Box<[u32; SLOTS]>,
    /// Numbers of entries, by hash of name.
    names: Box<[u32; SLOTS]>,
    /// Table sizes to announce before the next field: the smallest since, and the present one.
    resized: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Entry {
    name: EntryName,
    value: Bytes,
    hash: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum EntryName {
    Authority,
    Header(Box<[u8]>),
}

impl EntryName {
    fn is(&self, name: &[u8]) -> bool {
        matches!(self, Self::Header(known) if **known == *name)
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Authority => b":authority",
            Self::Header(name) => name,
        }
    }
}

/// How a field may be put into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexing {
    /// It comes again.
    Incremental,
    /// It seldom comes twice, or tells more than others on this connection should be able to
    /// find out by guessing (RFC 7541 §7.1).
    Without,
    /// The sender, or its nature, forbids it on every hop.
    Never,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            table: Table::default(),
            inserted: 0,
            fields: Box::new([0; SLOTS]),
            names: Box::new([0; SLOTS]),
            resized: None,
        }
    }
}

impl Encoder {
    /// The peer's `SETTINGS_HEADER_TABLE_SIZE`. What exceeds ours is not used.
    pub fn resize(&mut self, size: usize) {
        let size = size.min(TABLE_BYTES);
        let smallest = self.resized.map_or(size, |(smallest, _)| smallest.min(size));
        if size != self.table.size_max() || self.resized.is_some() {
            self.resized = Some((smallest, size));
        }
        self.table.resize(size);
    }

    /// Begins a field block.
    pub fn begin(&mut self, out: &mut BytesMut) {
        if let Some((smallest, size)) = self.resized.take() {
            if smallest < size {
                integer(out, 0x20, 5, smallest);
            }
            integer(out, 0x20, 5, size);
        }
    }

    /// `:method`, in no table.
    pub fn method(out: &mut BytesMut, method: &Method) {
        match *method {
            Method::GET => out.extend_from_slice(&[0x82]),
            Method::POST => out.extend_from_slice(&[0x83]),
            _ => literal(out, 0x00, 4, 2, method.as_str().as_bytes()),
        }
    }

    /// `:scheme`: `http` or `https`.
    pub fn scheme(out: &mut BytesMut, is_https: bool) {
        out.extend_from_slice(&[if is_https { 0x87 } else { 0x86 }]);
    }

    /// `:path`, in no table.
    pub fn path(out: &mut BytesMut, path: &str) {
        if path == "/" {
            out.extend_from_slice(&[0x84]);
        } else {
            literal(out, 0x00, 4, 4, path.as_bytes());
        }
    }

    /// `:protocol` (RFC 8441 §4), in no table.
    pub fn protocol(out: &mut BytesMut, protocol: &str) {
        integer(out, 0x00, 4, 0);
        string(out, b":protocol");
        string(out, protocol.as_bytes());
    }

    /// `:status`, in no table.
    pub fn status(out: &mut BytesMut, status: StatusCode) {
        let index = match status.as_u16() {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => return literal(out, 0x00, 4, 8, status.as_str().as_bytes()),
        };
        out.extend_from_slice(&[0x80 | index]);
    }

    /// `:authority`.
    pub fn authority(&mut self, out: &mut BytesMut, value: &[u8]) {
        let hash = hash_of(b":authority", value);
        match self.find(hash, value, |entry| entry.name == EntryName::Authority) {
            Some(index) => integer(out, 0x80, 7, index),
            None => self.add(out, EntryName::Authority, 1, value, hash),
        }
    }

    /// Any other field.
    pub fn header(&mut self, out: &mut BytesMut, name: impl AsName, value: impl AsValue) {
        Name::new(name.as_name()).in_lower_case(|name| self.field(out, name, value));
    }

    fn field(&mut self, out: &mut BytesMut, text: &[u8], value: impl AsValue) {
        let bytes = value.as_value();
        let hash = hash_of(text, bytes);
        // What must not be in the table is not found there; what its sender forbids may be.
        if !value.is_sensitive()
            && let Some(index) = self.find(hash, bytes, |entry| entry.name.is(text))
        {
            return integer(out, 0x80, 7, index);
        }
        let known = static_name(text).map_or(0, usize::from);
        let pattern = match indexing(known, &value) {
            Indexing::Incremental => {
                let name = EntryName::Header(text.into());
                return self.add(out, name, known, bytes, hash);
            }
            Indexing::Without => 0x00,
            Indexing::Never => 0x10,
        };
        integer(out, pattern, 4, known);
        if known == 0 {
            string(out, text);
        }
        string(out, bytes);
    }

    /// A literal that enters the table. `known` is its name's static index, or 0.
    fn add(&mut self, out: &mut BytesMut, name: EntryName, known: usize, value: &[u8], hash: u64) {
        let name_hash = hash_of(name.as_bytes(), b"");
        let known = if known == 0 { self.find_name(name_hash, &name) } else { known };
        integer(out, 0x40, 6, known);
        if known == 0 {
            coded_string(out, name.as_bytes());
        }
        coded_string(out, value);
        self.insert(name, value, hash, name_hash);
    }

    fn insert(&mut self, name: EntryName, value: &[u8], hash: u64, name_hash: u64) {
        let size = name.as_bytes().len() + value.len() + FIELD_OVERHEAD;
        if !self.table.make_room(size) {
            return;
        }
        self.inserted = self.inserted.wrapping_add(1);
        let value = Bytes::copy_from_slice(value);
        self.table.push(Entry { name, value, hash }, size);
        if let Some(slot) = self.fields.get_mut(slot_of(hash)) {
            *slot = self.inserted;
        }
        if let Some(slot) = self.names.get_mut(slot_of(name_hash)) {
            *slot = self.inserted;
        }
    }

    /// Bytes of the table, and how many entries share them.
    pub fn table(&self) -> (usize, usize) {
        self.table.measure()
    }

    /// The index of the entry with this number, if it is still there.
    fn at(&self, number: u32) -> Option<(usize, &Entry)> {
        let age = self.inserted.wrapping_sub(number) as usize;
        self.table.get(age).map(|(entry, _)| (STATIC_LEN + 1 + age, entry))
    }

    fn find(&self, hash: u64, value: &[u8], is_name: impl Fn(&Entry) -> bool) -> Option<usize> {
        let (index, entry) = self.at(*self.fields.get(slot_of(hash))?)?;
        (entry.hash == hash && is_name(entry) && entry.value == value).then_some(index)
    }

    fn find_name(&self, hash: u64, name: &EntryName) -> usize {
        let found = self.names.get(slot_of(hash)).and_then(|&number| self.at(number));
        found.filter(|(_, entry)| entry.name == *name).map_or(0, |(index, _)| index)
    }
}

/// By the static index of a field's name, or 0. The seldom ones: `age`, `content-length`,
/// `content-range`, `cookie`, `etag`, `if-modified-since`, `if-none-match`, `last-modified`,
/// `location`, `range`, `set-cookie`; the secret ones: `authorization`, `proxy-authorization`.
fn indexing(known: usize, value: &impl AsValue) -> Indexing {
    match known {
        23 | 49 => Indexing::Never,
        _ if value.is_sensitive() => Indexing::Never,
        21 | 28 | 30 | 32 | 34 | 40 | 41 | 44 | 46 | 50 | 55 => Indexing::Without,
        _ if value.as_value().len() > VALUE_BYTES_MAX => Indexing::Without,
        _ => Indexing::Incremental,
    }
}

fn hash_of(name: &[u8], value: &[u8]) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(name);
    hasher.write(value);
    hasher.finish()
}

fn slot_of(hash: u64) -> usize {
    hash as usize % SLOTS
}

/// A literal with an indexed name that enters no table.
fn literal(out: &mut BytesMut, pattern: u8, bits: u32, name: usize, value: &[u8]) {
    integer(out, pattern, bits, name);
    string(out, value);
}

pub(super) fn integer(out: &mut BytesMut, pattern: u8, bits: u32, mut value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        return out.extend_from_slice(&[pattern | value as u8]);
    }
    out.extend_from_slice(&[pattern | mask as u8]);
    value -= mask;
    while value >= 0x80 {
        out.extend_from_slice(&[value as u8 | 0x80]);
        value >>= 7;
    }
    out.extend_from_slice(&[value as u8]);
}

/// As it is: coding costs more than it saves where it is not saved for good.
fn string(out: &mut BytesMut, text: &[u8]) {
    integer(out, 0x00, 7, text.len());
    out.extend_from_slice(text);
}

/// The shorter of both forms, for what the table keeps.
fn coded_string(out: &mut BytesMut, text: &[u8]) {
    let coded = huffman::coded_len(text);
    if coded < text.len() {
        integer(out, 0x80, 7, coded);
        huffman::encode(text, out);
    } else {
        string(out, text);
    }
}
