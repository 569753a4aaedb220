//! The table: figure, case, what was measured, the target, and whether it is met.

use std::fmt;

use crate::run::Measured;

/// R15: memory for each byte that clients sent, over all cases.
const AMPLIFICATION_MAX: f64 = 10.0;
/// R15: memory for each connection, in each case.
const PINNED_MAX: f64 = 4.0 * MIB;

/// Milliseconds that a thread may wait for its turn on a core that it shares with the attackers: less
/// says nothing of the proxy, however quick it was when all was calm.
const SLICE_MS: f64 = 5.0;

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    costs: Vec<Cost>,
}

#[derive(Debug)]
struct Row {
    figure: &'static str,
    case: String,
    what: &'static str,
    target: String,
    measured: String,
    is_met: bool,
}

/// What a case cost the proxy's memory and its clients' lines.
#[derive(Debug)]
struct Cost {
    case: String,
    grown: f64,
    sent: f64,
    open: f64,
    /// The same connections from beginning to end: what the process grew by is theirs. Where each is
    /// cut and another one comes, it is mostly what all of them leave behind together.
    is_held: bool,
}

impl Report {
    pub(crate) fn tell(
        &mut self,
        (figure, case): (&'static str, &str),
        what: &'static str,
        target: impl Into<String>,
        measured: impl Into<String>,
        is_met: bool,
    ) {
        let (case, target, measured) = (case.to_owned(), target.into(), measured.into());
        let mark = if is_met { "met" } else { "NOT MET" };
        eprintln!("{figure} {case}: {what}: {measured} ({target}): {mark}");
        self.rows.push(Row { figure, case, what, target, measured, is_met });
    }

    /// Health and memory, which R13 and R14 ask for alike.
    pub(crate) fn tell_of(
        &mut self,
        row: (&'static str, &str),
        measured: &Measured,
        (p99_times, grown_max): (f64, f64),
    ) {
        let Measured { calm, under, .. } = measured;
        let good = under.requests - under.failed;
        let told = format!("{good} of {}", under.requests);
        self.tell(row, "healthy", "100 %", told, under.failed == 0 && under.requests > 0);
        let (calm, under) = (calm.p99.as_secs_f64() * 1e3, under.p99.as_secs_f64() * 1e3);
        let told = format!("{under:.2} ms, calm {calm:.2} ms: {:.1}×", under / calm);
        let is_met = under <= calm * p99_times || under <= SLICE_MS;
        self.tell(row, "p99", format!("≤ {p99_times}×, or {SLICE_MS} ms"), told, is_met);
        let grown = measured.grown();
        let told = format!("{:.1} MiB", grown / MIB);
        self.tell(row, "memory", format!("≤ {grown_max} MiB"), told, grown <= grown_max * MIB);
        self.costs.push(Cost {
            case: row.1.to_owned(),
            grown,
            sent: measured.sent as f64,
            open: measured.most_open.max(1) as f64,
            is_held: measured.connections <= 2 * measured.most_open,
        });
    }

    /// R15, from all cases until now.
    pub(crate) fn amplification(&mut self) {
        let (grown, sent) = self
            .costs
            .iter()
            .fold((0.0, 0.0), |(grown, sent), cost| (grown + cost.grown, sent + cost.sent));
        let told =
            format!("{:.1} MiB for {:.1} MiB: {:.2}×", grown / MIB, sent / MIB, grown / sent);
        let is_met = grown <= sent * AMPLIFICATION_MAX;
        let target = format!("≤ {AMPLIFICATION_MAX}×");
        self.tell(("R15", "all cases"), "memory for each byte sent", target, told, is_met);
        let worst = self
            .costs
            .iter()
            .filter(|cost| cost.is_held)
            .max_by(|a, b| (a.grown / a.open).total_cmp(&(b.grown / b.open)));
        if let Some(Cost { case, grown, open, .. }) = worst {
            let each = grown / open;
            let told = format!("{:.0} KiB ({open} connections, {case})", each / 1024.0);
            let row = ("R15", "the worst case");
            self.tell(row, "memory for each connection", "≤ 4 MiB", told, each <= PINNED_MAX);
        }
    }

    pub(crate) fn is_met(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.is_met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| figure | case | what | target | measured | |\n|---|---|---|---|---|---|")?;
        for Row { figure, case, what, target, measured, is_met } in &self.rows {
            let mark = if *is_met { "met" } else { "**not met**" };
            writeln!(f, "| {figure} | {case} | {what} | {target} | {measured} | {mark} |")?;
        }
        let costs = self.costs.iter().filter(|cost| cost.sent > 0.0);
        writeln!(
            f,
            "\n| case | grown | sent | grown/sent | connections | each |\n|---|---|---|---|---|---|"
        )?;
        for Cost { case, grown, sent, open, .. } in costs {
            let (ratio, each) = (grown / sent, grown / open / 1024.0);
            let (grown, sent) = (grown / 1024.0, sent / 1024.0);
            writeln!(
                f,
                "| {case} | {grown:.0} KiB | {sent:.0} KiB | {ratio:.2} | {open} | {each:.1} KiB |"
            )?;
        }
        Ok(())
    }
}
