//! Connections to nodes between requests, per worker: no lock, no sharing.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use gwproxy_core::timer::{Deadline, Moment, Timer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval};

use crate::h1::client::Connection;
use crate::h2::Conn;

/// Idle connections kept for one node on one worker.
const IDLE_MAX: usize = 256;
/// How often idle connections are looked over. Looks that find one idle are counted, and no clock is
/// read for each request.
const SWEEP: Duration = Duration::from_secs(1);
/// Requests one HTTP/1.1 connection serves before it is replaced.
pub(crate) const SERVED_MAX: u32 = 10_000;
/// How old a connection becomes, plus or minus a tenth (D08): after it a request goes to a fresh one,
/// and with it to where the node's name leads by then.
pub(crate) const AGE_MAX: Duration = Duration::from_hours(1);
/// Requests at a time on one HTTP/2 connection before another one is opened.
pub(crate) const STREAMS_MAX: usize = 100;

/// How often a connection is replaced because it refused a stream (`REFUSED_STREAM`): a node that
/// refuses everything must not be asked on ever new ones.
const REPLACE_EVERY: Duration = Duration::from_secs(1);

/// The connections of one worker, by node.
#[derive(Debug, Default)]
pub struct Pool {
    homes: RefCell<HashMap<u64, Rc<Home>, foldhash::fast::RandomState>>,
}

/// The connections to one node.
#[derive(Debug)]
pub(crate) struct Home {
    idle: RefCell<VecDeque<Idle>>,
    shared: RefCell<Vec<Rc<Multiplexed>>>,
    /// How many looks may find a connection idle; the next one closes it.
    looks_max: u64,
    /// One HTTP/2 connect at a time: those who wait for it share it.
    pub(crate) connecting: Semaphore,
    /// When one was last replaced because it refused a stream.
    replaced: Cell<Option<Instant>>,
    /// The node chose HTTP/2 the last time it could choose (ALPN).
    pub(crate) speaks_h2: Cell<Option<bool>>,
}

#[derive(Debug)]
struct Idle {
    conn: Box<Connection>,
    /// Looks that found it here.
    sweeps: u64,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Multiplexed {
    conn: Rc<Conn>,
    timer: Deadline,
    /// From when on it takes no further stream.
    retires: Moment,
    streams: Cell<usize>,
    /// Streams it has carried.
    served: Cell<u64>,
    /// Looks in a row that found no stream on it.
    sweeps: Cell<u64>,
}

/// One stream of an HTTP/2 connection, counted until its response is over.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    at: Rc<Multiplexed>,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Closes what has idled too long; runs for as long as the pool is in use.
    pub async fn sweep(pool: Weak<Self>) {
        let mut ticks = interval(SWEEP);
        loop {
            ticks.tick().await;
            let Some(pool) = pool.upgrade() else { return };
            // Nodes that are gone (reload, changed addresses) leave no empty home behind.
            pool.homes.borrow_mut().retain(|_, home| {
                home.sweep();
                Rc::strong_count(home) > 1 || !home.is_empty()
            });
        }
    }

    /// The connections to the node with this id, each kept for `keep_alive` while nothing uses it.
    pub(crate) fn home(&self, endpoint: u64, keep_alive: Duration) -> Rc<Home> {
        let mut homes = self.homes.borrow_mut();
        Rc::clone(homes.entry(endpoint).or_insert_with(|| Home::keeping(keep_alive)))
    }
}

impl Home {
    /// A home that no pool knows: what is kept in it goes with it. For connections that are one
    /// client's.
    pub(crate) fn apart() -> Rc<Self> {
        Self::keeping(Duration::MAX)
    }

    fn keeping(keep_alive: Duration) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            shared: RefCell::default(),
            // One each second; a part of one is a whole one.
            looks_max: keep_alive.as_secs().saturating_add((keep_alive.subsec_nanos() > 0).into()),
            connecting: Semaphore::new(1),
            replaced: Cell::new(None),
            speaks_h2: Cell::new(None),
        })
    }

    /// An idle HTTP/1.1 connection that still works, the latest used first: it is the least
    /// likely to be closed by the node, and those not needed can age.
    pub(crate) fn take_h1(&self) -> Option<Box<Connection>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop_back()?;
            if idle.conn.is_usable() {
                return Some(idle.conn);
            }
        }
    }

    /// Keeps a connection whose exchange is over.
    pub(crate) fn put_h1(&self, conn: Box<Connection>) {
        let mut idle = self.idle.borrow_mut();
        if !conn.is_old() && idle.len() < IDLE_MAX && self.looks_max > 0 {
            idle.push_back(Idle { conn, sweeps: 0 });
        }
    }

    /// A place on an open HTTP/2 connection.
    pub(crate) fn take_h2(&self) -> Option<StreamSlot> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|at| at.conn.is_open() && !at.timer.is_past(at.retires));
        let has_room = |at: &&Rc<Multiplexed>| {
            // Uploads can go on after their answers: what is open counts, and what is to be.
            at.streams.get().max(at.conn.streams_open()) < STREAMS_MAX.min(at.conn.streams_max())
        };
        shared.iter().find(has_room).map(|at| StreamSlot::new(Rc::clone(at)))
    }

    /// Adds an HTTP/2 connection and takes the first place on it.
    pub(crate) fn add_h2(&self, conn: Rc<Conn>, timer: &Timer) -> StreamSlot {
        let at = Rc::new(Multiplexed {
            conn,
            timer: timer.deadline(),
            retires: timer.about(AGE_MAX),
            streams: Cell::new(0),
            served: Cell::new(0),
            sweeps: Cell::new(0),
        });
        self.shared.borrow_mut().push(Rc::clone(&at));
        StreamSlot::new(at)
    }

    /// Whether a fresh connection may be tried because one refused a stream. Each answer of yes
    /// uses it up for a while.
    pub(crate) fn may_replace_h2(&self) -> bool {
        let now = Instant::now();
        let is_due = self.replaced.get().is_none_or(|last| now - last >= REPLACE_EVERY);
        if is_due {
            self.replaced.set(Some(now));
        }
        is_due
    }

    /// Forgets a connection that refused a request.
    pub(crate) fn forget_h2(&self, conn: &Rc<Conn>) {
        self.shared.borrow_mut().retain(|at| !Rc::ptr_eq(&at.conn, conn));
    }

    fn sweep(&self) {
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.sweeps += 1;
            idle.sweeps < self.looks_max && idle.conn.is_usable()
        });
        self.shared.borrow_mut().retain(|at| {
            let sweeps = if at.streams.get() > 0 { 0 } else { at.sweeps.get() + 1 };
            at.sweeps.set(sweeps);
            sweeps < self.looks_max.max(1) && at.conn.is_open()
        });
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }
}

impl StreamSlot {
    fn new(at: Rc<Multiplexed>) -> Self {
        at.streams.set(at.streams.get() + 1);
        at.served.set(at.served.get() + 1);
        Self { at }
    }

    pub(crate) fn conn(&self) -> &Rc<Conn> {
        &self.at.conn
    }

    /// Whether the connection had served others before.
    pub(crate) fn is_used(&self) -> bool {
        self.at.served.get() > 1
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.at.streams.set(self.at.streams.get() - 1);
        self.at.sweeps.set(0);
    }
}

impl Drop for Multiplexed {
    /// Nobody can use it any more.
    fn drop(&mut self) {
        self.conn.leave();
    }
}
