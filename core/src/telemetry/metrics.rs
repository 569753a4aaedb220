//! Counters on cache lines of their own, one set per worker, summed when someone asks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::access_log::Dropped;
use super::panics;
use super::refused::Refused;
use crate::Code;
use crate::breaker::{Breaker, State};
use crate::limit::Limiter;
use crate::memory::{self, Memory};
use crate::upstream::Cluster;

/// Upper bounds of the duration buckets, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    names: Vec<Arc<str>>,
    workers: Vec<Arc<Cells>>,
    dropped: Option<Dropped>,
    limits: Vec<(String, Arc<Limiter>)>,
    services: Vec<Arc<Cluster>>,
    breakers: Vec<Arc<Breaker>>,
}

/// One worker's share. Only that worker writes, so no increment waits for another core.
#[derive(Debug)]
pub struct Cells {
    services: Box<[Service]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Service {
    classes: [AtomicU64; 5],
    errors: [AtomicU64; Code::ALL.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    bytes: AtomicU64,
}

impl Metrics {
    /// Cells for `workers` workers and the named services; the last name takes what belongs to
    /// no service.
    pub fn new(workers: usize, names: Vec<Arc<str>>) -> Self {
        let cells =
            || Arc::new(Cells { services: names.iter().map(|_| Service::default()).collect() });
        let workers = (0..workers).map(|_| cells()).collect();
        let (limits, services, breakers) = (Vec::new(), Vec::new(), Vec::new());
        Self { names, workers, dropped: None, limits, services, breakers }
    }

    /// Tells of the access log's lost lines as well.
    #[must_use]
    pub fn with_log(self, dropped: Option<Dropped>) -> Self {
        Self { dropped, ..self }
    }

    /// Tells of these limits as well, each with the place where it stands.
    #[must_use]
    pub fn with_limits(self, limits: Vec<(String, Arc<Limiter>)>) -> Self {
        Self { limits, ..self }
    }

    /// Tells of the nodes of these services as well.
    #[must_use]
    pub fn with_services(self, services: Vec<Arc<Cluster>>) -> Self {
        Self { services, ..self }
    }

    /// Tells of these breakers as well, beside those of the services and their nodes.
    #[must_use]
    pub fn with_breakers(self, breakers: Vec<Arc<Breaker>>) -> Self {
        Self { breakers, ..self }
    }

    /// A worker's cells; for a worker beyond the count, cells that nobody sums.
    pub fn cells(&self, worker: usize) -> Arc<Cells> {
        self.workers.get(worker).cloned().unwrap_or_else(|| Arc::new(Cells { services: [].into() }))
    }

    /// The Prometheus text exposition (version 0.0.4).
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(4096);
        Self::family(&mut out, "gwproxy_requests_total", "counter", "Exchanges that ended.");
        for (index, name) in self.names.iter().enumerate() {
            for class in 0..5 {
                let sum = self.sum(index, |service| service.classes.get(class));
                let label = class + 1;
                let _ = writeln!(
                    out,
                    "gwproxy_requests_total{{service=\"{name}\",class=\"{label}xx\"}} {sum}"
                );
            }
        }
        Self::family(&mut out, "gwproxy_errors_total", "counter", "Answers of the proxy's own.");
        for (index, name) in self.names.iter().enumerate() {
            for (at, code) in Code::ALL.iter().enumerate() {
                let sum = self.sum(index, |service| service.errors.get(at));
                if sum > 0 {
                    let _ = writeln!(
                        out,
                        "gwproxy_errors_total{{service=\"{name}\",code=\"{code}\"}} {sum}"
                    );
                }
            }
        }
        Self::family(
            &mut out,
            "gwproxy_response_bytes_total",
            "counter",
            "Content sent to clients.",
        );
        for (index, name) in self.names.iter().enumerate() {
            let sum = self.sum(index, |service| Some(&service.bytes));
            let _ = writeln!(out, "gwproxy_response_bytes_total{{service=\"{name}\"}} {sum}");
        }
        self.durations(&mut out);
        self.limited(&mut out);
        self.nodes(&mut out);
        self.breakers(&mut out);
        if let Some(dropped) = &self.dropped {
            const NAME: &str = "gwproxy_access_log_dropped_total";
            Self::family(&mut out, NAME, "counter", "Lines of the access log that were lost.");
            let _ = writeln!(out, "{NAME} {}", dropped.count());
        }
        Self::refused(&mut out);
        Self::family(&mut out, "gwproxy_panics_total", "counter", "Bugs that ended a request.");
        let _ = writeln!(out, "gwproxy_panics_total {}", panics::count());
        Self::memory(&mut out, memory::look());
        out
    }

    fn limited(&self, out: &mut String) {
        const NAME: &str = "gwproxy_limit_refused_total";
        if !self.limits.is_empty() {
            Self::family(out, NAME, "counter", "Refused by a limit; in shadow mode, would be.");
        }
        for (place, limiter) in &self.limits {
            let settings = limiter.settings();
            let (limit, shadow) = (settings.to_string(), settings.shadow);
            // Names of fields may have what would end a label.
            let limit = limit.replace('\\', "\\\\").replace('"', "\\\"");
            let refused = limiter.refused();
            let _ = writeln!(
                out,
                "{NAME}{{place=\"{place}\",limit=\"{limit}\",shadow=\"{shadow}\"}} {refused}"
            );
        }
    }

    fn memory(out: &mut String, Memory { used, limit, pressure, refused }: Memory) {
        if limit == 0 {
            return;
        }
        for (name, kind, help, value) in [
            ("used_bytes", "gauge", "In use, as the memory guard counts it.", used),
            ("limit_bytes", "gauge", "What the memory guard keeps to.", limit),
            (
                "pressure",
                "gauge",
                "1: new requests are refused for want of memory; 2: connections too.",
                pressure.into(),
            ),
            ("refused_total", "counter", "What was refused for want of memory.", refused),
        ] {
            let name = format!("gwproxy_memory_{name}");
            Self::family(out, &name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        }
    }

    fn refused(out: &mut String) {
        const NAME: &str = "gwproxy_connections_refused_total";
        let help = "Connections that ended or had to wait before or beside their requests.";
        Self::family(out, NAME, "counter", help);
        for (reason, name) in Refused::ALL {
            let _ = writeln!(out, "{NAME}{{reason=\"{name}\"}} {}", reason.counted());
        }
    }

    fn durations(&self, out: &mut String) {
        const NAME: &str = "gwproxy_request_duration_seconds";
        Self::family(out, NAME, "histogram", "From the request's head to the last byte.");
        for (index, name) in self.names.iter().enumerate() {
            let mut count = 0;
            for at in 0..=BOUNDS.len() {
                count += self.sum(index, |service| service.buckets.get(at));
                let le = BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                let _ = writeln!(out, "{NAME}_bucket{{service=\"{name}\",le=\"{le}\"}} {count}");
            }
            let seconds = self.sum(index, |service| Some(&service.micros)) as f64 / 1e6;
            let _ = writeln!(out, "{NAME}_sum{{service=\"{name}\"}} {seconds}");
            let _ = writeln!(out, "{NAME}_count{{service=\"{name}\"}} {count}");
        }
    }

    /// What the balancers see. A node that is listed twice is told once, as both together.
    fn nodes(&self, out: &mut String) {
        const FAMILIES: [(&str, &str, &str); 5] = [
            ("gwproxy_node_picks_total", "counter", "Exchanges that a node was chosen for."),
            ("gwproxy_node_in_flight", "gauge", "Exchanges under way on a node."),
            ("gwproxy_node_healthy", "gauge", "Whether the health check holds a node for usable."),
            ("gwproxy_node_ejected", "gauge", "Whether passive health leaves a node out."),
            ("gwproxy_node_ejections_total", "counter", "Ejections of a node by passive health."),
        ];
        const PANIC: &str = "gwproxy_service_panic";
        let lists: Vec<_> = self.services.iter().map(|one| (one, told(one))).collect();
        for (at, (family, kind, help)) in FAMILIES.into_iter().enumerate() {
            Self::family(out, family, kind, help);
            for (cluster, nodes) in &lists {
                for (node, numbers) in nodes {
                    let (service, number) = (cluster.name(), numbers.get(at).unwrap_or(&0));
                    let _ = write!(out, "{family}{{service=\"{service}\",node=\"");
                    push_label(out, node);
                    let _ = writeln!(out, "\"}} {number}");
                }
            }
        }
        let help = "Whether so few nodes are healthy that all are tried.";
        Self::family(out, PANIC, "gauge", help);
        let now = Instant::now();
        for (cluster, _) in &lists {
            let (service, panics) = (cluster.name(), u8::from(cluster.is_panic(now)));
            let _ = writeln!(out, "{PANIC}{{service=\"{service}\"}} {panics}");
        }
    }

    /// Where breakers are and what happened to them.
    fn breakers(&self, out: &mut String) {
        const STATE: &str = "gwproxy_breaker_state";
        const EVENTS: &str = "gwproxy_breaker_events_total";
        const REFUSED: &str = "gwproxy_breaker_refused_total";
        let mut all = self.breakers.clone();
        for cluster in &self.services {
            all.extend(cluster.breaker().cloned());
            all.extend(cluster.endpoints().iter().filter_map(|node| node.breaker().cloned()));
        }
        let label = |out: &mut String, family: &str, breaker: &Breaker| {
            let _ = write!(out, "{family}{{scope=\"{}\",name=\"", breaker.scope().as_str());
            push_label(out, breaker.name());
            out.push('"');
        };
        Self::family(out, STATE, "gauge", "Where a breaker is: 1 for that state.");
        for breaker in &all {
            let now = breaker.state();
            for state in [State::Closed, State::HalfOpen, State::Open] {
                label(out, STATE, breaker);
                let (name, is) = (state.as_str(), u8::from(state == now));
                let _ = writeln!(out, ",state=\"{name}\"}} {is}");
            }
        }
        Self::family(out, EVENTS, "counter", "Changes of a breaker's state, by the new one.");
        for breaker in &all {
            let told = breaker.told();
            for (state, count) in [
                (State::Closed, told.closed),
                (State::HalfOpen, told.half_opened),
                (State::Open, told.opened),
            ] {
                label(out, EVENTS, breaker);
                let _ = writeln!(out, ",event=\"{}\"}} {count}", state.as_str());
            }
        }
        Self::family(out, REFUSED, "counter", "Calls that a breaker refused.");
        for breaker in &all {
            label(out, REFUSED, breaker);
            let _ = writeln!(out, "}} {}", breaker.told().refused);
        }
    }

    fn family(out: &mut String, name: &str, kind: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sum<'a>(&'a self, index: usize, cell: impl Fn(&'a Service) -> Option<&'a AtomicU64>) -> u64 {
        self.workers
            .iter()
            .filter_map(|worker| worker.services.get(index).and_then(&cell))
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum()
    }
}

/// Picks, exchanges under way, health, ejections; by the name of the node.
fn told(cluster: &Cluster) -> BTreeMap<Arc<str>, [u64; 5]> {
    let now = Instant::now();
    let mut nodes = BTreeMap::new();
    for node in cluster.endpoints().iter() {
        let numbers: &mut [u64; 5] = nodes.entry(Arc::clone(&node.name)).or_default();
        let healthy = u64::from(node.is_healthy());
        let [picks, in_flight, health, ejected, ejections] = numbers;
        *picks += node.picks();
        *in_flight += u64::from(node.in_flight());
        *health = healthy.max(*health);
        *ejected = u64::from(node.is_ejected(now)).max(*ejected);
        *ejections += node.ejections();
    }
    nodes
}

/// The value of a label as the text exposition wants it.
fn push_label(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
    }
}

impl Cells {
    /// Counts an exchange that ended. `status` is the one the client saw.
    pub fn record(
        &self,
        service: usize,
        status: u16,
        error: Option<Code>,
        bytes: u64,
        took: Duration,
    ) {
        let Some(service) = self.services.get(service).or_else(|| self.services.last()) else {
            return;
        };
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        add(service.classes.get(class), 1);
        add(service.buckets.get(bucket), 1);
        add(Some(&service.micros), took.as_micros() as u64);
        add(Some(&service.bytes), bytes);
        if let Some(error) = error {
            service.count(error);
        }
    }

    /// Counts a connection that ended before it had an exchange; it belongs to no service.
    pub fn refuse(&self, error: Code) {
        if let Some(none) = self.services.last() {
            none.count(error);
        }
    }
}

impl Service {
    fn count(&self, error: Code) {
        let at = Code::ALL.iter().position(|&code| code == error);
        add(at.and_then(|at| self.errors.get(at)), 1);
    }
}

/// One writer per cell: a load and a store instead of a locked add.
fn add(cell: Option<&AtomicU64>, amount: u64) {
    if let Some(cell) = cell {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let metrics = Metrics::new(2, vec!["api".into(), "-".into()]);
        for worker in 0..2 {
            let cells = metrics.cells(worker);
            cells.record(0, 200, None, 10, Duration::from_millis(2));
            cells.record(9, 502, Some(Code::UpstreamRefused), 1, Duration::from_secs(20));
        }
        let text = metrics.render();
        for line in [
            "gwproxy_requests_total{service=\"api\",class=\"2xx\"} 2",
            "gwproxy_requests_total{service=\"-\",class=\"5xx\"} 2",
            "gwproxy_errors_total{service=\"-\",code=\"upstream_refused\"} 2",
            "gwproxy_response_bytes_total{service=\"api\"} 20",
            "gwproxy_request_duration_seconds_bucket{service=\"api\",le=\"0.001\"} 0",
            "gwproxy_request_duration_seconds_bucket{service=\"api\",le=\"0.0025\"} 2",
            "gwproxy_request_duration_seconds_bucket{service=\"-\",le=\"10\"} 0",
            "gwproxy_request_duration_seconds_bucket{service=\"-\",le=\"+Inf\"} 2",
            "gwproxy_request_duration_seconds_sum{service=\"api\"} 0.004",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} is not in:\n{text}");
        }
    }
}
