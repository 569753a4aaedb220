//! HTTP/1 messages as the tests read them off the wire.
//!
//! Written apart from the proxy's codec on purpose: it judges what that one sends. It takes what
//! RFC 9112 allows a sender to write and panics on anything else.

use std::io::{ErrorKind, Read};

/// Header or trailer fields: names and values exactly as on the wire, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

/// A request or a response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// The request line or the status line, without its line end.
    pub(crate) start: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

impl Fields {
    /// Every value of `name`, whatever its case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |each: &&(String, String)| each.0.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of `name`, if there is one. Panics when there are more.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "more than one `{name}`: {self:?}");
        all.first().copied()
    }

    /// Whether the list in `name` has this member, whatever its case.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        let mut members = self.all(name).into_iter().flat_map(|value| value.split(','));
        members.any(|each| each.trim().eq_ignore_ascii_case(member))
    }
}

impl Message {
    /// Reads a head, to the empty line. `None`: the stream ended first.
    pub(crate) fn head(stream: &mut impl Read) -> Option<Self> {
        let start = line(stream)?;
        let fields = fields(stream)?;
        Some(Self { start, fields, ..Self::default() })
    }

    /// Reads the body that the head announces. `to_end`: one without length lasts until the end
    /// of the stream, as in responses; otherwise there is none, as in requests. `None`: it was
    /// cut off.
    #[must_use]
    pub(crate) fn read_body(&mut self, stream: &mut impl Read, to_end: bool) -> Option<()> {
        if self.fields.lists("transfer-encoding", "chunked") {
            loop {
                let size = line(stream)?;
                let digits = size.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(digits, 16).expect("a chunk size");
                if size == 0 {
                    self.trailers = fields(stream)?;
                    return Some(());
                }
                read_into(stream, &mut self.body, size)?;
                assert_eq!(line(stream)?, "", "a chunk ends with CRLF");
            }
        } else if let Some(length) = self.fields.get("content-length") {
            let length = length.parse().expect("a content-length is a number");
            read_into(stream, &mut self.body, length)
        } else if to_end {
            stream.read_to_end(&mut self.body).ok().map(|_| ())
        } else {
            Some(())
        }
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    #[track_caller]
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_else(|| panic!("`{}` has no target", self.start))
    }

    /// The status of a response.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("`{}` has no status", self.start))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        super::text(&self.body)
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {}: {}", self.start, self.text()))
    }
}

fn fields(stream: &mut impl Read) -> Option<Fields> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            return Some(Fields(fields));
        }
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: `{line}`"));
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// A line without its CRLF; `None` when the stream ended first. Reads byte by byte, so that
/// nothing behind it is taken from the stream.
fn line(stream: &mut impl Read) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        if !read(stream, &mut byte) {
            return None;
        }
        line.push(byte[0]);
    }
    line.pop();
    assert_eq!(line.pop(), Some(b'\r'), "a line ends with CRLF: {:?}", super::text(&line));
    // Bytes above ASCII are kept apart, one character each (ISO 8859-1), so that nothing is lost.
    Some(line.into_iter().map(char::from).collect())
}

fn read_into(stream: &mut impl Read, body: &mut Vec<u8>, count: usize) -> Option<()> {
    let from = body.len();
    body.resize(from + count, 0);
    read(stream, &mut body[from..]).then_some(())
}

/// Fills the buffer; false when the stream ended first, in order or by a reset.
fn read(stream: &mut impl Read, buffer: &mut [u8]) -> bool {
    match stream.read_exact(buffer) {
        Ok(()) => true,
        Err(error)
            if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
        {
            false
        }
        Err(error) => panic!("{error}"),
    }
}
