//! The memory guard: new work is refused before the system ends the process for its memory (D17,
//! R17).
//!
//! At 90 % of the limit new requests are refused, and what is under way goes on. At 95 % new
//! connections are refused as well, and uploads over HTTP/2 of which much waits for its node are
//! given up, the only thing that could still grow by megabytes: everything else holds a read or two
//! at most, so that to stop reading it would free nothing. Below 85 % all is as before.
//!
//! Workers ask [`is_short`] and [`is_out`], one relaxed load each; one task of the control plane
//! looks at the system. The state is the process's, as its memory is.

mod cgroup;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::units::MemoryLimit;
use crate::{Code, Error};
use cgroup::Cgroups;

/// Time between two looks, while less than half of the limit is in use.
const EVERY: Duration = Duration::from_millis(100);
/// The same above that: thousands of uploads that begin at once take hundreds of megabytes a second.
const SOON: Duration = Duration::from_millis(10);
/// A block for which the allocator takes a page, and frees it.
const TIDY_BYTES: usize = 1024 * 1024;
/// When a client may come again.
const RETRY: Duration = Duration::from_secs(1);

/// Percent of the limit at which requests are refused, at which connections are, and below which
/// all is as before. Envoy has 95 and 98 for its heap; what we look at has the stacks, the code and
/// the kernel's buffers in it too.
const SHORT: u64 = 90;
const OUT: u64 = 95;
const CALM: u64 = 85;

static PRESSURE: AtomicU8 = AtomicU8::new(Pressure::Calm as u8);
static USED: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// How much of the limit is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Pressure {
    Calm,
    Short,
    Out,
}

/// A look at the system: bytes in use, and the limit they count against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    used: u64,
    limit: u64,
}

/// What the guard has seen and done, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in use at the last look.
    pub used: u64,
    /// The limit they count against, in bytes; 0: there is none.
    pub limit: u64,
    /// 0: calm; 1: new requests are refused; 2: new connections too.
    pub pressure: u8,
    /// Requests, streams and connections that were refused.
    pub refused: u64,
}

/// Whether new requests are to be refused.
pub fn is_short() -> bool {
    PRESSURE.load(Ordering::Relaxed) >= Pressure::Short as u8
}

/// Whether new connections are to be refused, and uploads that hold much.
pub fn is_out() -> bool {
    PRESSURE.load(Ordering::Relaxed) >= Pressure::Out as u8
}

/// Counts something that was refused.
pub fn refused() {
    REFUSED.fetch_add(1, Ordering::Relaxed);
}

/// Lets a new request pass unless memory is short.
///
/// # Errors
/// [`Code::Overloaded`], which is counted.
pub fn admit() -> Result<(), Error> {
    if !is_short() {
        return Ok(());
    }
    refused();
    Err(Error::new(Code::Overloaded, "the proxy is short of memory").retry_in(RETRY).unsent())
}

/// What there is to tell.
pub fn look() -> Memory {
    Memory {
        used: USED.load(Ordering::Relaxed),
        limit: LIMIT.load(Ordering::Relaxed),
        pressure: PRESSURE.load(Ordering::Relaxed),
        refused: REFUSED.load(Ordering::Relaxed),
    }
}

/// Watches over the memory of the process until the future is dropped. With nothing to hold it to
/// there is nothing to watch, and it ends.
pub async fn watch(limit: MemoryLimit) {
    let cgroups = Cgroups::of_this_process();
    if limit == MemoryLimit::Off || (limit == MemoryLimit::Auto && cgroups.is_empty()) {
        return;
    }
    let mut pressure = Pressure::Calm;
    let mut wait = EVERY;
    loop {
        tokio::time::sleep(wait).await;
        let Some(reading) = read(limit, &cgroups) else { continue };
        wait = if reading.permille() < 500 { EVERY } else { SOON };
        let before = pressure;
        pressure = before.after(reading);
        USED.store(reading.used, Ordering::Relaxed);
        LIMIT.store(reading.limit, Ordering::Relaxed);
        PRESSURE.store(pressure as u8, Ordering::Relaxed);
        if before != pressure {
            tell(pressure, reading);
        }
        if pressure > Pressure::Calm {
            tidy_up();
        }
    }
}

/// Makes the allocator look whether there is something to give back to the system. mimalloc does so
/// a second after memory was freed at the earliest, and only when it takes or frees a page; where
/// all requests are refused nobody else makes it do either. The block is too large for a page that
/// is there already, and nothing is written to it.
fn tidy_up() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(TIDY_BYTES)));
}

/// The tightest of all limits there are.
fn read(limit: MemoryLimit, cgroups: &Cgroups) -> Option<Reading> {
    let own = match limit {
        MemoryLimit::Bytes(limit) => resident().map(|used| Reading { used, limit: limit.get() }),
        MemoryLimit::Auto | MemoryLimit::Off => None,
    };
    own.into_iter().chain(cgroups.readings()).max_by_key(|reading| reading.permille())
}

/// Bytes of the process that are resident.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn tell(pressure: Pressure, Reading { used, limit }: Reading) {
    let [used, limit] = [used, limit].map(|bytes| bytes / (1024 * 1024));
    let what = match pressure {
        Pressure::Calm => "everybody is served again",
        Pressure::Short => "new requests are refused",
        Pressure::Out => "new requests and connections are refused",
    };
    tracing::warn!("{used} MiB of memory are in use, of {limit} MiB: {what}");
}

impl Reading {
    fn is_from(self, percent: u64) -> bool {
        u128::from(self.used) * 100 >= u128::from(self.limit) * u128::from(percent)
    }

    fn permille(self) -> u128 {
        u128::from(self.used) * 1000 / u128::from(self.limit).max(1)
    }
}

impl Pressure {
    fn after(self, reading: Reading) -> Self {
        if reading.is_from(OUT) || (self == Self::Out && reading.is_from(SHORT)) {
            Self::Out
        } else if reading.is_from(SHORT) || (self >= Self::Short && reading.is_from(CALM)) {
            Self::Short
        } else {
            Self::Calm
        }
    }
}

#[cfg(test)]
mod tests;
