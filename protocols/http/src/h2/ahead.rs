//! How far nodes may be ahead of their readers: far enough for a reader that keeps up, over any
//! distance, and no further than fits for many that do not.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{NODE_STREAM_BYTES, NODE_STREAM_BYTES_MAX};
use crate::serve::Client;

/// Bytes that nodes' streams may hold for one client's connection above what each begins with:
/// with as many streams as a client can have, all unread, less than 4 MiB.
const BYTES_MAX: u32 = 640 * 1024;
/// A reader that takes a whole window in less time may be waiting for the way there and back.
const QUICK: Duration = Duration::from_secs(1);

/// What a client's connection has left of it.
#[derive(Debug)]
pub(crate) struct Ahead(Cell<u32>);

impl Default for Ahead {
    fn default() -> Self {
        Self(Cell::new(BYTES_MAX))
    }
}

/// How a stream is read, and what it is allowed for that. It looks at the clock once a window.
#[derive(Debug)]
pub(super) struct Pace {
    window: u32,
    /// Bytes read since `since`.
    taken: u32,
    since: Option<Instant>,
    /// The reader was quicker than the node.
    has_waited: bool,
    /// Whose share it takes; none: a client that reads nothing else.
    client: Option<Rc<Client>>,
    lent: Option<Loan>,
}

impl Default for Pace {
    fn default() -> Self {
        let window = NODE_STREAM_BYTES;
        Self { window, taken: 0, since: None, has_waited: false, client: None, lent: None }
    }
}

impl Pace {
    pub(super) fn read_by(&mut self, client: &Rc<Client>) {
        self.client = Some(Rc::clone(client));
    }

    /// Nothing is there to read.
    pub(super) fn wait(&mut self) {
        self.has_waited = true;
    }

    /// `size` bytes are read: how many more the node may be ahead from now on.
    pub(super) fn take(&mut self, size: usize) -> u32 {
        self.taken = self.taken.saturating_add(size as u32);
        if self.taken < self.window || self.window >= NODE_STREAM_BYTES_MAX {
            return 0;
        }
        let now = Instant::now();
        let since = self.since.replace(now);
        self.taken = 0;
        let is_quick = since.is_some_and(|since| now.saturating_duration_since(since) < QUICK);
        let more = self.window;
        if !std::mem::take(&mut self.has_waited) || !is_quick || !self.borrow(more) {
            return 0;
        }
        self.window += more;
        more
    }

    fn borrow(&mut self, more: u32) -> bool {
        let Some(client) = &self.client else { return true };
        let Some(loan) = Loan::of(client, more as usize) else { return false };
        match &mut self.lent {
            Some(lent) => lent.add(loan),
            None => self.lent = Some(loan),
        }
        true
    }
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    client: Rc<Client>,
    bytes: u32,
}

impl Loan {
    /// So many bytes of what `client` has left; none if that is less.
    pub(crate) fn of(client: &Rc<Client>, bytes: usize) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        let left = &client.ahead.0;
        left.set(left.get().checked_sub(bytes)?);
        Some(Self { client: Rc::clone(client), bytes })
    }

    fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let left = &self.client.ahead.0;
        left.set(left.get() + self.bytes);
    }
}
