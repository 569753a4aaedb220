//! R13 and R14: an attack beside healthy clients, against the calm before it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::floods::FLOODS;
use crate::healthy::{Healthy, Window};
use crate::proxy::{Proxy, Wish};
use crate::report::Report;
use crate::slow::{self, Kind, Late, Patience};
use crate::tally::Attackers;
use crate::{Options, sleep, until};

/// The first requests pay for connections and for what is made once.
const WARM_UP: Duration = Duration::from_secs(2);

/// R13: as many as the descriptors of one process carry that has one towards the node for each.
const SLOW_CLIENTS: usize = 9_000;

/// CPU time of the proxy for each of an attacker's (R14), where it takes more than so much of a
/// core: an attack that takes less harms nobody, and cannot be told from the clock's steps.
const CPU_TIMES_MAX: f64 = 10.0;
const CPU_SHARE_MIN: f64 = 0.1;

/// An attack and the calm before it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) calm: Window,
    pub(crate) under: Window,
    /// Bytes resident at the end of the calm, and the most during the attack.
    before: u64,
    peak: u64,
    /// CPU time beyond what the healthy clients cost in the calm.
    proxy_cpu: Duration,
    attacker_cpu: Duration,
    pub(crate) sent: u64,
    pub(crate) connections: usize,
    pub(crate) most_open: usize,
}

impl Measured {
    pub(crate) fn grown(&self) -> f64 {
        self.peak.saturating_sub(self.before) as f64
    }
}

/// Measures `attack` on a fresh proxy's healthy clients.
fn measure(
    proxy: &Proxy,
    length: Duration,
    attack: impl FnOnce() -> Attackers,
    meanwhile: impl FnOnce(),
) -> Measured {
    let healthy = Healthy::start(proxy.plain);
    sleep(WARM_UP);
    let (calm, cpu) = (Instant::now(), proxy.cpu());
    sleep(length);
    let calm_cpu = proxy.cpu().saturating_sub(cpu);
    let before = proxy.resident();
    let watch = proxy.watch();
    let (under, cpu) = (Instant::now(), proxy.cpu());
    let attackers = attack();
    sleep(length);
    let proxy_cpu = proxy.cpu().saturating_sub(cpu + calm_cpu);
    meanwhile();
    let tally = std::sync::Arc::clone(&attackers.tally);
    let attacker_cpu = attackers.finish();
    let peak = watch.finish();
    let asks = healthy.finish();
    Measured {
        calm: asks.window(calm, length),
        under: asks.window(under, length),
        before,
        peak,
        proxy_cpu,
        attacker_cpu,
        sent: tally.sent(),
        connections: tally.connections.load(std::sync::atomic::Ordering::Relaxed),
        most_open: tally.most_open(),
    }
}

pub(crate) fn slow_clients(node: SocketAddr, options: &Options, report: &mut Report) {
    let seconds = Duration::from_secs;
    let (timeouts, patience) = if options.quick {
        let timeouts = "timeouts: {handshake: 3s, header: 4s, body: 6s},";
        let (tls, head, body) = (seconds(3), seconds(4), seconds(6));
        (timeouts, Patience { tls, proxy_header: seconds(5), head, body })
    } else {
        let (tls, head, body) = (seconds(5), seconds(10), seconds(30));
        ("", Patience { tls, proxy_header: seconds(5), head, body })
    };
    let proxy = Proxy::start(node, &Wish { timeouts, ..Wish::default() });
    let (late, to) = (Late::default(), slow::Addrs::from(&proxy));
    let idle = proxy.descriptors();
    let length = options.length.min(patience.longest() + seconds(2));
    let their = Late::clone(&late);
    let attack =
        || Attackers::start(move |tally| slow::run(to, SLOW_CLIENTS, patience, their, tally));
    let mut left = 0;
    let measured = measure(&proxy, length, attack, || {
        // Those that came last have their time too; the healthy ones and their node stay.
        let _ =
            until(patience.longest() + seconds(5), || !late.lock().expect("no panic").is_empty());
        left = proxy.descriptors().saturating_sub(idle);
    });
    let row = ("R13", "slow clients");
    let told = format!("{} open, {} made", measured.most_open, measured.connections);
    report.tell(row, "connections", "9000", told, measured.most_open >= SLOW_CLIENTS * 9 / 10);
    report.tell_of(row, &measured, (2.0, 100.0));
    let late = late.lock().expect("nobody panics with it");
    for kind in Kind::ALL {
        let over = late.iter().find_map(|(each, late)| (*each == kind).then_some(*late)).flatten();
        let case = format!("{kind:?}").to_lowercase();
        let told = match over {
            Some(over) => format!("{:.2} s", over.as_secs_f64()),
            None => "some were never cut".to_owned(),
        };
        let is_met = over.is_some_and(|over| over <= seconds(1));
        report.tell(("R13", &case), "cut after its timeout", "≤ 1 s", told, is_met);
    }
    report.tell(row, "descriptors left", "≤ 100", left.to_string(), left <= 100);
}

pub(crate) fn floods(node: SocketAddr, options: &Options, report: &mut Report) {
    for flood in FLOODS {
        let mut proxy = Proxy::start(node, &Wish::default());
        let to = proxy.plain;
        let attack = || Attackers::start(move |tally| flood.run(to, tally));
        let measured = measure(&proxy, options.length, attack, || {});
        let case = format!("{} {}", flood.row, flood.what);
        let row = ("R14", case.as_str());
        report.tell_of(row, &measured, (3.0, 64.0));
        let (theirs, ours) = (measured.attacker_cpu, measured.proxy_cpu);
        let times = ours.as_secs_f64() / theirs.as_secs_f64().max(0.001);
        let told = format!(
            "{:.2} s for {:.2} s, {} connections: {times:.1}×",
            ours.as_secs_f64(),
            theirs.as_secs_f64(),
            measured.connections
        );
        let is_met = times <= CPU_TIMES_MAX
            || ours.as_secs_f64() < options.length.as_secs_f64() * CPU_SHARE_MIN;
        let target = format!("≤ {CPU_TIMES_MAX}×, or {CPU_SHARE_MIN} of a core");
        report.tell(row, "CPU", target, told, is_met);
        report.tell(row, "alive", "yes", "", proxy.is_alive());
    }
}
