//! Passive health: nodes are judged by how their calls end, and the worst are left out for a while.
//!
//! The rules are Envoy's outlier detection. Failures in a row are seen as they happen, by the
//! worker that has the call; every interval the control runtime compares the nodes with each other
//! ([`watch`]). An ejection ends by itself.

mod settings;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::clock;
use crate::units::Span;
use crate::upstream::endpoint::changed;
use crate::upstream::{Cluster, Endpoint, Outcome};
pub use settings::{OutlierError, OutlierSettings};

/// What the calls of a node tell. Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Record {
    in_a_row: AtomicU32,
    gateway_in_a_row: AtomicU32,
    /// Calls of this interval above [`CALL`], failed ones below: one addition counts both.
    calls: AtomicU64,
    /// Nanoseconds that the timed calls of this interval took.
    nanos: AtomicU64,
    /// How many were timed.
    timed: AtomicU32,
    /// Moment ([`clock::nanos`]) until which it is out; 0: in.
    until: AtomicU64,
    /// How many times as long as the first the last ejection was; falls with good intervals.
    times: AtomicU32,
    ejections: AtomicU64,
}

/// One call in [`Record::calls`].
const CALL: u64 = 1 << 32;

/// Judges the nodes of a service.
#[derive(Debug)]
pub(crate) struct Outliers {
    settings: OutlierSettings,
    /// Held by who ejects, so that the bound on their share is exact. Nobody waits for it.
    busy: AtomicBool,
}

/// Why a node is ejected.
#[derive(Debug, Clone, Copy)]
enum Why {
    FailurePercentage,
    GatewayInARow,
    InARow,
    Latency,
    SuccessRate,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::FailurePercentage => "failure_percentage",
            Self::GatewayInARow => "consecutive_gateway_failures",
            Self::InARow => "consecutive_failures",
            Self::Latency => "latency",
            Self::SuccessRate => "success_rate",
        }
    }
}

impl Record {
    /// Whether it was ejected and nobody noticed the end of that yet.
    pub(crate) fn is_marked(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// The moment until which the node is out, if it is at `now`.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<u64> {
        let until = self.until.load(Ordering::Relaxed);
        (until != 0 && clock::nanos(now) < until).then_some(until)
    }

    /// Whether an ejection that is over has not been noticed yet: true for one caller.
    pub(crate) fn comes_back(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0
            && clock::nanos(now) >= until
            && self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Ejections since the start.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Calls, failed ones and the mean latency of the interval that ends here.
    fn take(&self) -> Sample {
        let packed = self.calls.swap(0, Ordering::Relaxed);
        let (nanos, timed) =
            (self.nanos.swap(0, Ordering::Relaxed), self.timed.swap(0, Ordering::Relaxed));
        let latency = if timed == 0 { 0.0 } else { nanos as f64 / f64::from(timed) };
        Sample { calls: packed / CALL, failures: packed % CALL, latency }
    }

    fn forget(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.gateway_in_a_row.store(0, Ordering::Relaxed);
        let _ = self.take();
    }
}

/// One interval of one node.
#[derive(Debug, Clone, Copy)]
struct Sample {
    calls: u64,
    failures: u64,
    /// In nanoseconds.
    latency: f64,
}

impl Sample {
    fn success_rate(self) -> f64 {
        1.0 - self.failures as f64 / self.calls as f64
    }
}

impl Outliers {
    pub(crate) fn new(settings: OutlierSettings) -> Self {
        Self { settings, busy: AtomicBool::new(false) }
    }

    pub(crate) fn wants_latency(&self) -> bool {
        !self.settings.latency_factor.is_zero()
    }

    /// Notes how a call ended; `took`: how long its answer took, if that is known. `nodes`: all of
    /// the service, asked for only when one may have to go.
    pub(crate) fn note(
        &self,
        node: &Endpoint,
        outcome: Outcome,
        took: Option<Duration>,
        nodes: impl FnOnce() -> Arc<[Arc<Endpoint>]>,
        now: Instant,
    ) {
        let record = node.record();
        if let Some(took) = took.filter(|_| self.wants_latency()) {
            record.nanos.fetch_add(clock::span(took), Ordering::Relaxed);
            record.timed.fetch_add(1, Ordering::Relaxed);
        }
        match outcome {
            // Neither speaks for the node nor against it.
            Outcome::Cancelled | Outcome::Limited => return,
            Outcome::Success => {
                record.calls.fetch_add(CALL, Ordering::Relaxed);
                // Read first: a store on every call would bounce the cache line between workers.
                for count in [&record.in_a_row, &record.gateway_in_a_row] {
                    if count.load(Ordering::Relaxed) != 0 {
                        count.store(0, Ordering::Relaxed);
                    }
                }
                return;
            }
            Outcome::ConnectFailed | Outcome::Failure | Outcome::GatewayFailure => {}
        }
        record.calls.fetch_add(CALL + 1, Ordering::Relaxed);
        let in_a_row = record.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let gateway = if outcome == Outcome::Failure {
            record.gateway_in_a_row.store(0, Ordering::Relaxed);
            0
        } else {
            record.gateway_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
        };
        let reached = |count: u32, limit: u32| limit != 0 && count >= limit;
        if reached(in_a_row, self.settings.consecutive_failures) {
            self.eject(node, &nodes(), Why::InARow, now);
        } else if reached(gateway, self.settings.consecutive_gateway_failures) {
            self.eject(node, &nodes(), Why::GatewayInARow, now);
        }
    }

    /// Compares the nodes by the interval that ends here, and begins the next one.
    pub(crate) fn compare(&self, nodes: &[Arc<Endpoint>], now: Instant) {
        let mut samples = Vec::with_capacity(nodes.len());
        for node in nodes {
            let record = node.record();
            let sample = record.take();
            if record.ejected_until(now).is_some() {
                continue;
            }
            if record.comes_back(now) {
                node.welcome();
            } else {
                let less = |times: u32| Some(times.saturating_sub(1));
                let _ = record.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
            if sample.calls >= u64::from(self.settings.min_calls.max(1)) {
                samples.push((node, sample));
            }
        }
        if samples.len() < usize::from(self.settings.min_nodes.get()) {
            return;
        }
        let bounds = self.bounds(&samples);
        // The worst first: the share that may go may be less than those who should.
        samples.sort_by(|a, b| a.1.success_rate().total_cmp(&b.1.success_rate()));
        for (node, sample) in samples {
            if let Some(why) = bounds.broken_by(sample) {
                self.eject(node, nodes, why, now);
            }
        }
    }

    fn bounds(&self, samples: &[(&Arc<Endpoint>, Sample)]) -> Bounds {
        let count = samples.len() as f64;
        let rates = || samples.iter().map(|(_, sample)| sample.success_rate());
        let mean = rates().sum::<f64>() / count;
        let variance = rates().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
        let mut latencies: Vec<f64> = samples.iter().map(|(_, sample)| sample.latency).collect();
        latencies.sort_by(f64::total_cmp);
        let median = latencies.get((latencies.len() - 1) / 2).copied().unwrap_or_default();
        let on = |factor: f64| (factor > 0.0).then_some(factor);
        let settings = &self.settings;
        Bounds {
            success_rate: on(settings.success_rate_stdev_factor.get())
                .map(|factor| mean - factor * variance.sqrt()),
            failures: settings
                .failure_percentage_threshold
                .map(|share| f64::from(share.basis_points()) / 1e4),
            latency: on(settings.latency_factor.get()).map(|factor| {
                (factor * median).max(clock::span(settings.latency_floor.get()) as f64)
            }),
        }
    }

    /// Takes the node out, unless it is or too many are.
    #[cold]
    fn eject(&self, node: &Endpoint, nodes: &[Arc<Endpoint>], why: Why, now: Instant) {
        let record = node.record();
        if record.ejected_until(now).is_some() || self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let out = nodes.iter().filter(|one| one.record().ejected_until(now).is_some()).count();
        let share = self.settings.max_ejection_percent.basis_points() as usize;
        let may = (nodes.len() * share / 10_000).max(1).min(nodes.len().saturating_sub(1));
        if out < may {
            let times = record.times.load(Ordering::Relaxed).saturating_add(1);
            let base = self.settings.base_ejection_time.get();
            let most = self.settings.max_ejection_time.get().max(base);
            let time = base.saturating_mul(times).min(most);
            let until = clock::nanos(now).saturating_add(clock::span(time));
            record.times.store(times, Ordering::Relaxed);
            record.forget();
            record.until.store(until, Ordering::Relaxed);
            record.ejections.fetch_add(1, Ordering::Relaxed);
            changed();
            tracing::warn!(
                node = %node.name, why = why.as_str(),
                "the node does worse than it may and is left out for {}", Span::new(time),
            );
        }
        self.busy.store(false, Ordering::Release);
    }
}

/// What a node must keep to.
struct Bounds {
    success_rate: Option<f64>,
    failures: Option<f64>,
    latency: Option<f64>,
}

impl Bounds {
    fn broken_by(&self, sample: Sample) -> Option<Why> {
        let rate = sample.success_rate();
        if self.failures.is_some_and(|share| sample.failures > 0 && 1.0 - rate >= share) {
            return Some(Why::FailurePercentage);
        }
        // The margin keeps rounding from ejecting one of equals.
        if self.success_rate.is_some_and(|least| rate < least - 1e-9) {
            return Some(Why::SuccessRate);
        }
        self.latency.is_some_and(|most| sample.latency > most).then_some(Why::Latency)
    }
}

/// Compares the nodes of a service every interval until it is dropped. On the control runtime.
pub async fn watch(cluster: Weak<Cluster>) {
    let Some((mut changes, interval)) = cluster.upgrade().and_then(|cluster| {
        Some((cluster.changes(), cluster.settings().outliers.as_ref()?.interval.get()))
    }) else {
        return;
    };
    let mut next = tokio::time::Instant::now() + interval;
    // The service is not held across a wait, or it could never go.
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(next) => {
                let Some(cluster) = cluster.upgrade() else { return };
                cluster.compare_nodes(Instant::now());
                next += interval;
            }
        }
    }
}

#[cfg(test)]
mod tests;
