//! Which nodes an algorithm chooses among: subset, level, zone, panic, in this order, for all
//! algorithms alike.
//!
//! A [`View`] is a subset of a service's nodes, cut into groups of one level and one side (near or
//! far), each with a kernel of its own. Each choice falls on a group first:
//!
//! 1. **Levels** (`priority`, 0 first). A level takes `min(1, 1.4 × healthy / all)` of the traffic,
//!    by weight, and the next level what is left: spares fill in by degrees, before the last of the
//!    main nodes is lost (Envoy's overprovisioning factor).
//! 2. **Zones.** Of a level's traffic the near nodes take `min(1, 1.4 × healthy / all)` of theirs,
//!    and the far ones the rest. Near nodes with too much under way are full and pass on.
//! 3. **Panic.** Where all levels together cannot take all the traffic and fewer nodes are healthy
//!    than the threshold says, health is not asked any more and every group takes its weight.
//!
//! If no node of that group can be had (all were tried), the next group's turn comes; at last nodes
//! that lately refused connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::field::Field;
use super::kernel::Kernel;
use super::ramp::Ramp;
use super::{Ask, BalanceSettings, Subset, ZoneSettings, rng};
use crate::clock;
use crate::upstream::Endpoint;
use crate::upstream::endpoint;

/// How much more than its part of the traffic a level or zone is trusted to take: 1.4, Envoy's.
const OVERPROVISIONING: f64 = 1.4;

/// Keeps the choice of a group apart from the choice within it.
const SALT: u64 = 0x6c65_7665_6c73_2121;

/// A subset of a service's nodes, ready to be chosen from.
#[derive(Debug)]
pub(super) struct View {
    /// In the order of level and nearness. Never empty but for a view without nodes.
    groups: Box<[Group]>,
    /// What the groups take as things are; none where one group takes all.
    standing: Option<ArcSwap<Standing>>,
    /// Nodes by their marks, in order, where marks are in use.
    marks: Box<[(u64, Arc<Endpoint>)]>,
    ramp: Option<Ramp>,
    /// In hundredths of a percent.
    panic_below: u32,
    alarm: Arc<Alarm>,
}

/// Whether a node may be chosen.
type Test<'a> = &'a dyn Fn(&Endpoint) -> bool;

/// Nodes of one level and side.
#[derive(Debug)]
struct Group {
    level: u32,
    is_far: bool,
    /// Exchanges under way for each 1 of weight from which on a node is full.
    full_at: Option<u32>,
    nodes: Box<[Arc<Endpoint>]>,
    kernel: Kernel,
}

/// What the groups take, true until a node changes or a time is over.
#[derive(Debug, Default)]
struct Standing {
    changes: u64,
    until: u64,
    /// For each group, the parts of 2^32 that it and those before it take; below 2^32 only for
    /// a rest that nobody could take.
    bounds: Box<[u64]>,
    is_panic: bool,
}

/// Whether a view is in panic: it outlives the versions of the list of nodes.
#[derive(Debug)]
pub(crate) struct Alarm {
    title: Arc<str>,
    subset: String,
    is_on: AtomicBool,
}

impl Alarm {
    pub(crate) fn new(title: Arc<str>, subset: &Subset) -> Arc<Self> {
        Arc::new(Self { title, subset: shown(subset), is_on: AtomicBool::new(false) })
    }

    /// Tells of a change, once however many workers see it.
    fn set(&self, is_on: bool, healthy: f64) {
        if self.is_on.swap(is_on, Ordering::Relaxed) == is_on {
            return;
        }
        let (title, subset, percent) = (&self.title, &self.subset, (healthy * 100.0).floor());
        if is_on {
            tracing::warn!(
                subset,
                "{percent} % of the nodes of {title} are healthy, which is below its panic \
                 threshold: all its nodes are tried"
            );
        } else {
            tracing::info!(
                subset,
                "{percent} % of the nodes of {title} are healthy: only these are tried again"
            );
        }
    }
}

/// `version=v2,zone=a`; empty for all nodes.
pub(crate) fn shown(subset: &Subset) -> String {
    subset.iter().map(|(word, value)| format!("{word}={value}")).collect::<Vec<_>>().join(",")
}

impl View {
    /// The nodes of `subset` among `nodes`. `old`: the view of the list before.
    pub(super) fn new(
        settings: &BalanceSettings,
        subset: &Subset,
        nodes: &[Arc<Endpoint>],
        alarm: Arc<Alarm>,
        old: Option<&Self>,
    ) -> Self {
        let zone = settings.zone.as_ref();
        let side = |node: &Endpoint| (node.priority(), zone.is_some_and(|zone| is_far(node, zone)));
        let is_in = |node: &&Arc<Endpoint>| {
            subset.iter().all(|(word, value)| node.metadata.get(word) == Some(value))
        };
        let mut all: Vec<_> = nodes.iter().filter(is_in).map(Arc::clone).collect();
        let mut marks: Vec<_> = all.iter().map(|node| (node.mark(), Arc::clone(node))).collect();
        marks.retain(|(mark, _)| *mark != 0);
        marks.sort_by_key(|(mark, _)| *mark);
        // Stable: within a group the order of the list stays.
        all.sort_by_key(|node| side(node));
        let groups: Box<[Group]> = all
            .chunk_by(|a, b| side(a) == side(b))
            .map(|nodes| {
                let (level, is_far) = nodes.first().map_or((0, false), |node| side(node));
                let full_at = zone.and_then(|zone| zone.full_at).filter(|_| !is_far);
                let kernel = Kernel::new(settings.algorithm, nodes);
                if let Some(was) = old.and_then(|old| old.group(level, is_far)) {
                    kernel.continue_from(&was.kernel);
                }
                let full_at = full_at.map(std::num::NonZero::get);
                Group { level, is_far, full_at, nodes: nodes.into(), kernel }
            })
            .collect();
        let panic_below = settings.panic_threshold.basis_points();
        let is_plain = groups.len() <= 1 && panic_below == 0;
        Self {
            standing: (!is_plain).then(ArcSwap::default),
            ramp: Ramp::new(settings.slow_start),
            marks: marks.into(),
            groups,
            panic_below,
            alarm,
        }
    }

    fn group(&self, level: u32, is_far: bool) -> Option<&Group> {
        self.groups.iter().find(|group| (group.level, group.is_far) == (level, is_far))
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.nodes.len()).sum()
    }

    /// Whether health is not asked at `now`.
    pub(super) fn is_panic(&self, now: Instant) -> bool {
        let kept = self.standing.as_ref().filter(|_| self.panic_below != 0);
        kept.is_some_and(|kept| self.standing(kept, now, |standing| standing.is_panic))
    }

    /// The node that serves next.
    pub(super) fn choose(&self, ask: &Ask<'_>, now: Instant) -> Option<&Arc<Endpoint>> {
        let (first, is_panic) = match &self.standing {
            None => (0, false),
            Some(kept) => {
                self.standing(kept, now, |standing| (standing.draw(ask.key), standing.is_panic))
            }
        };
        let fit = |node: &Endpoint| {
            (is_panic || node.is_healthy()) && !ask.tried.contains(node.id) && !node.is_shut(now)
        };
        let best = |node: &Endpoint| fit(node) && (is_panic || !node.is_avoided(now));
        if (ask.mark.is_some() || ask.is_known.is_some())
            && let Some(node) = self.known(ask, &fit, &best)
        {
            return Some(node);
        }
        let (chosen, ramp) = (self.groups.get(first)?, self.ramp);
        chosen
            .pick(ask.key, ramp, now, best)
            .or_else(|| self.elsewhere(first, ask.key, now, (&best, &fit)))
    }

    /// A node of another group, or one that is full or lately refused connections.
    #[cold]
    fn elsewhere(
        &self,
        first: usize,
        key: Option<u64>,
        now: Instant,
        (best, fit): (Test<'_>, Test<'_>),
    ) -> Option<&Arc<Endpoint>> {
        let next = self.groups.iter().enumerate().filter(|(index, _)| *index != first);
        next.map(|(_, group)| group)
            .find_map(|group| group.pick(key, self.ramp, now, best))
            .or_else(|| self.groups.iter().find_map(|group| group.last(key, now, best)))
            .or_else(|| self.groups.iter().find_map(|group| group.last(key, now, fit)))
    }

    /// The node that has the client's connections, else the one its mark names.
    fn known(&self, ask: &Ask<'_>, fit: Test<'_>, best: Test<'_>) -> Option<&Arc<Endpoint>> {
        let takes_work = |node: &Endpoint| node.weight() > 0;
        if let Some(is_known) = ask.is_known {
            let may = |node: &&Arc<Endpoint>| is_known(node.id) && takes_work(node) && fit(node);
            if let Some(node) = self.groups.iter().flat_map(|group| &group.nodes).find(may) {
                return Some(node);
            }
        }
        let mark = ask.mark?;
        let from = self.marks.partition_point(|(other, _)| *other < mark);
        let same = self.marks.iter().skip(from).take_while(|(other, _)| *other == mark);
        same.map(|(_, node)| node).find(|node| takes_work(node) && best(node))
    }

    /// What stands at `now`.
    fn standing<T>(
        &self,
        kept: &ArcSwap<Standing>,
        now: Instant,
        look: impl Fn(&Standing) -> T,
    ) -> T {
        let changes = endpoint::changes();
        let known = kept.load();
        if known.changes == changes && clock::nanos(now) < known.until {
            return look(&known);
        }
        // Several workers may do this at once; what they find is the same.
        let fresh = self.look_around(changes, now);
        let told = look(&fresh);
        kept.store(Arc::new(fresh));
        told
    }

    #[cold]
    fn look_around(&self, changes: u64, now: Instant) -> Standing {
        let counts: Vec<Count> = self.groups.iter().map(|group| group.count(now)).collect();
        let until = counts.iter().map(|count| count.until).min().unwrap_or(u64::MAX);
        let all: f64 = counts.iter().map(|count| count.all).sum();
        let healthy: f64 = counts.iter().map(|count| count.healthy).sum();
        let mut parts = vec![0.0; counts.len()];
        let mut left = 1.0;
        let levels = self.groups.chunk_by(|a, b| a.level == b.level).map(<[Group]>::len);
        let mut at = 0;
        for sides in levels {
            let (from, to) = (at, at + sides);
            at = to;
            let level = counts.get(from..to).unwrap_or_default();
            let takes = capacity(level).min(left);
            left -= takes;
            if let Some(parts) = parts.get_mut(from..to) {
                share_out(takes, level, parts);
            }
        }
        let taken = 1.0 - left;
        let below = f64::from(self.panic_below) / 1e4;
        let healthy_part = if all > 0.0 { healthy / all } else { 1.0 };
        let is_panic = taken < 1.0 && healthy_part < below;
        self.alarm.set(is_panic, healthy_part);
        let part_of = |(part, count): (&f64, &Count)| match (is_panic, taken > 0.0) {
            (true, _) => count.all / all,
            (false, true) => part / taken,
            (false, false) => 0.0,
        };
        let mut sum = 0.0;
        let bounds = parts.iter().zip(&counts).map(|one| {
            sum += part_of(one);
            // Rounding must not leave a gap before 2^32.
            if sum > 1.0 - 1e-9 { 1 << 32 } else { (sum * 4_294_967_296.0) as u64 }
        });
        Standing { changes, until, bounds: bounds.collect(), is_panic }
    }
}

/// What is to be known of a group, by weight.
struct Count {
    healthy: f64,
    all: f64,
    /// When a node that is kept out comes back.
    until: u64,
}

/// The part of all traffic that these can take.
fn capacity(counts: &[Count]) -> f64 {
    let all: f64 = counts.iter().map(|count| count.all).sum();
    let healthy: f64 = counts.iter().map(|count| count.healthy).sum();
    if all > 0.0 { (OVERPROVISIONING * healthy / all).min(1.0) } else { 0.0 }
}

/// Shares what a level takes out to its sides, the near one first.
fn share_out(takes: f64, level: &[Count], parts: &mut [f64]) {
    match (level, parts) {
        ([_], [all]) => *all = takes,
        ([near, far], [to_near, to_far]) => {
            let stays = if far.healthy > 0.0 { capacity(std::slice::from_ref(near)) } else { 1.0 };
            *to_near = takes * stays;
            *to_far = takes * (1.0 - stays);
        }
        _ => {}
    }
}

impl Standing {
    /// The number of a group by what each takes; by the key where there is one, so that a key
    /// changes its group only when the parts do.
    fn draw(&self, key: Option<u64>) -> usize {
        if self.bounds.len() <= 1 {
            return 0;
        }
        let number = key.map_or_else(rng::next, |key| rng::mix(key ^ SALT)) >> 32;
        self.bounds.iter().position(|bound| number < *bound).unwrap_or(0)
    }
}

impl Group {
    /// A node that is `best` and not full.
    fn pick(
        &self,
        key: Option<u64>,
        ramp: Option<Ramp>,
        now: Instant,
        best: impl Fn(&Endpoint) -> bool,
    ) -> Option<&Arc<Endpoint>> {
        let index = match self.full_at {
            None => self.kernel.pick(&Field { nodes: &self.nodes, usable: best, ramp, now }, key),
            Some(full_at) => {
                let usable = |node: &Endpoint| !is_full(node, full_at) && best(node);
                let usable: Test<'_> = &usable;
                self.kernel.pick(&Field { nodes: &self.nodes, usable, ramp, now }, key)
            }
        };
        self.nodes.get(index?)
    }

    /// A node, full or not.
    fn last(&self, key: Option<u64>, now: Instant, usable: Test<'_>) -> Option<&Arc<Endpoint>> {
        let field = Field { nodes: &self.nodes, usable, ramp: None, now };
        self.nodes.get(self.kernel.pick(&field, key)?)
    }

    fn count(&self, now: Instant) -> Count {
        let mut count = Count { healthy: 0.0, all: 0.0, until: u64::MAX };
        for node in &self.nodes {
            let weight = f64::from(node.weight());
            count.all += weight;
            let until = node.avoided_until(now);
            count.until = count.until.min(until.unwrap_or(u64::MAX));
            if node.is_healthy() && until.is_none() {
                count.healthy += weight;
            }
        }
        count
    }
}

fn is_full(node: &Endpoint, full_at: u32) -> bool {
    u64::from(node.in_flight()) >= u64::from(full_at) * u64::from(node.weight())
}

fn is_far(node: &Endpoint, zone: &ZoneSettings) -> bool {
    node.metadata.get(ZoneSettings::WORD).is_none_or(|theirs| *theirs != zone.name)
}
