//! Reads along on an HTTP/1 connection and keeps each request head as it was on the wire.
//!
//! hyper groups repeated fields and lowers their names; a proxy that promises to keep case and
//! order needs a counterpart that can see them. The tap never changes what hyper reads: when it
//! loses the thread (HTTP/2, a malformed head, an upgrade) it stops for good.

use std::collections::VecDeque;
use std::mem;

use super::report::text;

/// A head, or a line of a chunked body, longer than this ends the tap.
const MAX_HEAD: usize = 128 * 1024;
/// Field lines in a head; hyper is set to take no more.
pub(super) const MAX_FIELDS: usize = 256;
/// Heads that were read ahead (pipelining) and not yet asked for.
const MAX_AHEAD: usize = 1024;

/// Field lines in order, names and values as they came.
pub(super) type Fields = Vec<(String, String)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Tap {
    state: State,
    heads: VecDeque<Fields>,
}

#[derive(Debug)]
enum State {
    /// Collecting a head.
    Head(Vec<u8>),
    /// Within a body, or a chunk with its line end, of that many more bytes; then on with the
    /// chunks or the next head.
    Skip { left: u64, chunked: bool },
    /// Collecting the line with a chunk's size (RFC 9112 §7.1).
    ChunkSize(Vec<u8>),
    /// Within the trailer section; the length of the present line, without its end.
    Trailers(usize),
    /// The thread is lost.
    Off,
}

impl Default for Tap {
    fn default() -> Self {
        Self { state: State::Head(Vec::new()), heads: VecDeque::new() }
    }
}

impl Tap {
    /// Takes the next bytes of the connection.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.heads.len() > MAX_AHEAD {
                self.state = State::Off;
            }
            (self.state, bytes) = match mem::replace(&mut self.state, State::Off) {
                State::Head(head) => self.head(head, bytes),
                State::Skip { left, chunked } => skip(left, chunked, bytes),
                State::ChunkSize(line) => chunk_size(line, bytes),
                State::Trailers(length) => trailers(length, bytes),
                State::Off => return,
            };
        }
    }

    /// The fields of the next request in order; `None` when the thread is lost.
    pub(super) fn next_head(&mut self) -> Option<Fields> {
        self.heads.pop_front()
    }

    /// Reads no further.
    pub(super) fn stop(&mut self) {
        self.state = State::Off;
    }

    fn head<'b>(&mut self, mut head: Vec<u8>, bytes: &'b [u8]) -> (State, &'b [u8]) {
        // A head can only end at a line feed: parse at those, not at every byte.
        let Some(at) = bytes.iter().position(|&byte| byte == b'\n') else {
            head.extend_from_slice(bytes);
            return (if head.len() > MAX_HEAD { State::Off } else { State::Head(head) }, &[]);
        };
        let (line, rest) = bytes.split_at(at + 1);
        head.extend_from_slice(line);
        if head.len() > MAX_HEAD {
            return (State::Off, rest);
        }
        if !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
            return (State::Head(head), rest);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let next = after(request.headers);
                let fields =
                    request.headers.iter().map(|field| (field.name.to_owned(), text(field.value)));
                self.heads.push_back(fields.collect());
                (next, rest)
            }
            // Empty lines ahead of the request line (RFC 9112 §2.2).
            Ok(httparse::Status::Partial) => (State::Head(head), rest),
            Err(_) => (State::Off, rest),
        }
    }
}

/// How the body of a request with these fields is framed (RFC 9112 §6.3).
fn after(fields: &[httparse::Header<'_>]) -> State {
    let values = |name: &'static str| {
        fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    };
    if values("transfer-encoding").next().is_some() {
        return State::ChunkSize(Vec::new());
    }
    let length = values("content-length").next().map_or(&b"0"[..], <[u8]>::trim_ascii);
    match str::from_utf8(length).ok().and_then(|length| length.parse().ok()) {
        Some(0) => State::Head(Vec::new()),
        Some(left) => State::Skip { left, chunked: false },
        None => State::Off,
    }
}

fn skip(left: u64, chunked: bool, bytes: &[u8]) -> (State, &[u8]) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    let (_, rest) = bytes.split_at(here);
    let state = match (left - here as u64, chunked) {
        (0, true) => State::ChunkSize(Vec::new()),
        (0, false) => State::Head(Vec::new()),
        (left, chunked) => State::Skip { left, chunked },
    };
    (state, rest)
}

fn chunk_size(mut line: Vec<u8>, bytes: &[u8]) -> (State, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (here, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
    line.extend_from_slice(here);
    if line.len() > MAX_HEAD {
        return (State::Off, rest);
    }
    if end.is_none() {
        return (State::ChunkSize(line), rest);
    }
    let size = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let size = str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
    let state = match size {
        Some(0) => State::Trailers(0),
        // The chunk's own line end goes with it.
        Some(size) => {
            size.checked_add(2).map_or(State::Off, |left| State::Skip { left, chunked: true })
        }
        None => State::Off,
    };
    (state, rest)
}

fn trailers(mut length: usize, bytes: &[u8]) -> (State, &[u8]) {
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if length == 0 => {
                return (State::Head(Vec::new()), bytes.get(at + 1..).unwrap_or_default());
            }
            b'\n' => length = 0,
            b'\r' => {}
            _ => length += 1,
        }
    }
    (State::Trailers(length), &[])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIRE: &[u8] =
        b"\r\nGET /a HTTP/1.1\r\nHOST: x\r\nX-b: 1\r\naccept:  y \r\nX-B: 2\r\n\r\n\
        POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\nGET / HTTP/1.1\r\nA: b\n\
        PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;ext=1\r\nhe\r\n\r\r\nA\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n\
        GET /d HTTP/1.1\nHost: y\n\n";

    fn fields(of: &[(&str, &str)]) -> Fields {
        of.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn expected() -> Vec<Fields> {
        vec![
            fields(&[("HOST", "x"), ("X-b", "1"), ("accept", "y"), ("X-B", "2")]),
            fields(&[("Host", "x"), ("Content-Length", "21")]),
            fields(&[("Host", "x"), ("Transfer-Encoding", "chunked")]),
            fields(&[("Host", "y")]),
        ]
    }

    fn heads(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Fields> {
        let mut tap = Tap::default();
        pieces.into_iter().for_each(|piece| tap.feed(piece.as_ref()));
        std::iter::from_fn(|| tap.next_head()).collect()
    }

    #[test]
    fn heads_keep_case_order_and_duplicates_across_all_framings() {
        assert_eq!(heads([WIRE]), expected());
        assert_eq!(heads(WIRE.chunks(1)), expected());
    }

    #[test]
    fn what_is_not_http_1_turns_it_off() {
        for wire in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"\x16\x03\x01\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            let mut tap = Tap::default();
            tap.feed(wire);
            assert!(matches!(tap.state, State::Off), "{wire:?}: {:?}", tap.state);
        }
        let mut tap = Tap::default();
        (0..=MAX_HEAD / 16).for_each(|_| tap.feed(b"0123456789abcdef"));
        assert!(matches!(tap.state, State::Off));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_heads(cuts in prop::collection::vec(0..WIRE.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, WIRE.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &WIRE[pair[0]..pair[1]]);
            prop_assert_eq!(heads(pieces), expected());
        }

        #[test]
        fn garbage_does_not_panic(pieces in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..64), 0..16,
        )) {
            heads(pieces);
        }
    }
}
