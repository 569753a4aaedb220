//! A client's kernel and a server's, joined: whatever both do, everything arrives, in order.

use std::collections::HashMap;

use super::*;

/// What may happen next.
#[derive(Debug, Clone)]
enum Act {
    Ask,
    /// A server or a client sends as much of this as it may, on one of its streams.
    Send {
        by: usize,
        stream: usize,
        size: usize,
        ends: bool,
    },
    Read {
        by: usize,
        stream: usize,
    },
    Cancel {
        by: usize,
        stream: usize,
    },
    /// So many of the bytes on their way arrive.
    Deliver {
        to: usize,
        size: usize,
    },
    Settings {
        by: usize,
        window: u32,
        table: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let (by, stream) = (0..2usize, 0..6usize);
    prop_oneof![
        2 => Just(Act::Ask),
        6 => (by.clone(), stream.clone(), 0..20_000usize, prop::bool::weighted(0.2))
            .prop_map(|(by, stream, size, ends)| Act::Send { by, stream, size, ends }),
        6 => (by.clone(), stream.clone()).prop_map(|(by, stream)| Act::Read { by, stream }),
        1 => (by.clone(), stream).prop_map(|(by, stream)| Act::Cancel { by, stream }),
        6 => (by.clone(), 1..60_000usize).prop_map(|(to, size)| Act::Deliver { to, size }),
        1 => (by, 0..=NODE_STREAM_BYTES, prop::sample::select(vec![0, 31, 4096, 1_000_000]))
            .prop_map(|(by, window, table)| Act::Settings { by, window, table }),
    ]
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Both sides and what is between them.
struct Pair {
    sides: [Side; 2],
    /// Bytes on their way to each side.
    wire: [BytesMut; 2],
    /// Keys by stream id, where they are still held.
    keys: [HashMap<u32, usize>; 2],
    ids: Vec<u32>,
    sent: [HashMap<u32, usize>; 2],
    received: [HashMap<u32, usize>; 2],
    ended: [HashMap<u32, bool>; 2],
    cancelled: Vec<u32>,
}

impl Pair {
    fn new() -> Self {
        Self {
            sides: [Side::silent(Role::Client), Side::silent(Role::Server)],
            wire: Default::default(),
            keys: Default::default(),
            ids: Vec::new(),
            sent: Default::default(),
            received: Default::default(),
            ended: Default::default(),
            cancelled: Vec::new(),
        }
    }

    /// What was said is on its way.
    fn flush(&mut self) {
        for by in [CLIENT, SERVER] {
            let said = self.sides[by].with(|state| state.out.take());
            self.wire[1 - by].extend_from_slice(&said);
        }
    }

    fn deliver(&mut self, to: usize, size: usize) {
        self.flush();
        // The kernel takes whole frames; what is left is kept, as its reader keeps it.
        let size = size.min(self.wire[to].len());
        let mut piece = self.wire[to].split_to(size);
        self.sides[to].with(|state| state.receive(&mut piece, Instant::now())).unwrap();
        piece.unsplit(std::mem::take(&mut self.wire[to]));
        self.wire[to] = piece;
        self.sides[to].check();
        let known = self.sides[to].keys.len();
        self.sides[to].take_accepted();
        if to == CLIENT {
            return;
        }
        for &key in &self.sides[SERVER].keys[known..] {
            let id = self.sides[SERVER].with(|state| state.streams.get(key).map(|s| s.id));
            self.keys[SERVER].insert(id.unwrap(), key);
            let ok = |_: &mut Encoder, out: &mut BytesMut| {
                Encoder::status(out, StatusCode::OK);
            };
            self.sides[SERVER].with(|state| state.send_fields(key, ok, false));
        }
    }

    fn key(&self, by: usize, stream: usize) -> Option<(u32, usize)> {
        let id = *self.ids.get(self.ids.len().wrapping_sub(1 + stream))?;
        Some((id, *self.keys[by].get(&id)?))
    }

    fn send(&mut self, by: usize, (id, key): (u32, usize), size: usize, ends: bool) {
        let cx = Context::from_waker(Waker::noop());
        let side = &self.sides[by];
        let Poll::Ready(Ok(room)) = side.with(|state| state.poll_capacity(&cx, key)) else {
            return;
        };
        if self.ended[by].contains_key(&id) {
            return;
        }
        let size = size.min(room);
        side.with(|state| state.send_data(key, vec![b'x'; size].into(), ends));
        *self.sent[by].entry(id).or_default() += size;
        if ends {
            self.ended[by].insert(id, true);
        }
    }

    fn read(&mut self, by: usize, (id, key): (u32, usize)) -> bool {
        let cx = Context::from_waker(Waker::noop());
        let event = self.sides[by].with(|state| state.poll_event(&cx, key));
        let size = match event {
            Poll::Ready(Some(Ok(Event::Data(data)))) => data.len(),
            Poll::Ready(Some(Ok(Event::Gathered(data)))) => data.len(),
            _ => return false,
        };
        *self.received[by].entry(id).or_default() += size;
        true
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Ask if self.ids.len() < 50 => {
                let key = self.sides[CLIENT].ask(false);
                let id = 2 * self.ids.len() as u32 + 1;
                self.ids.push(id);
                self.keys[CLIENT].insert(id, key);
            }
            Act::Ask => {}
            Act::Send { by, stream, size, ends } => {
                if let Some(at) = self.key(by, stream) {
                    self.send(by, at, size, ends);
                }
            }
            Act::Read { by, stream } => {
                if let Some(at) = self.key(by, stream) {
                    self.read(by, at);
                }
            }
            Act::Cancel { by, stream } => {
                if let Some((id, key)) = self.key(by, stream) {
                    self.sides[by].with(|state| state.release(key));
                    self.keys[by].remove(&id);
                    self.cancelled.push(id);
                }
            }
            Act::Deliver { to, size } => self.deliver(to, size),
            Act::Settings { by, window, table } => {
                let said = [(1, table), (4, window)];
                self.sides[by].with(|state| frame::put_settings(state.out.frames(), &said));
            }
        }
    }

    /// Both sides read and send on until all is said.
    fn finish(&mut self) {
        for by in [CLIENT, SERVER] {
            self.sides[by].with(|state| {
                let roomy = [(4, state.role.stream_window())];
                frame::put_settings(state.out.frames(), &roomy);
            });
        }
        for _ in 0..200 {
            for by in [CLIENT, SERVER] {
                self.deliver(by, usize::MAX);
                for id in self.ids.clone() {
                    let Some(&key) = self.keys[by].get(&id) else { continue };
                    while self.read(by, (id, key)) {}
                    self.send(by, (id, key), 1, true);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_both_do_everything_arrives(acts in prop::collection::vec(act(), 0..300)) {
        let mut pair = Pair::new();
        for act in &acts {
            pair.act(act);
        }
        pair.finish();
        for id in pair.ids.iter().filter(|id| !pair.cancelled.contains(id)) {
            for by in [CLIENT, SERVER] {
                prop_assert!(pair.ended[by].contains_key(id), "stream {} is stuck", id);
                let bytes = |of: &HashMap<u32, usize>| of.get(id).copied().unwrap_or_default();
                prop_assert_eq!(bytes(&pair.sent[by]), bytes(&pair.received[1 - by]));
                let key = pair.keys[by][id];
                prop_assert_eq!(pair.sides[by].event(key), Some("end".to_owned()));
            }
        }
        for by in [CLIENT, SERVER] {
            let open = pair.sides[by].with(|state| state.streams.open());
            prop_assert_eq!(open, 0, "streams of side {} stay open", by);
        }
    }
}

/// Many times what the windows hold, each way, as fast as it is read.
#[test]
fn windows_open_again() {
    for by in [CLIENT, SERVER] {
        let mut pair = Pair::new();
        pair.act(&Act::Ask);
        for _ in 0..4 {
            pair.deliver(SERVER, usize::MAX);
            pair.deliver(CLIENT, usize::MAX);
        }
        let (from, to) = (pair.key(by, 0).unwrap(), pair.key(1 - by, 0).unwrap());
        for _ in 0..1_000 {
            pair.send(by, from, 16_384, false);
            pair.deliver(1 - by, usize::MAX);
            while pair.read(1 - by, to) {}
            pair.deliver(by, usize::MAX);
        }
        assert!(pair.received[1 - by][&1] > 10 << 20);
    }
}
