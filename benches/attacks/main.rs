//! Attacks beside healthy traffic: the figures R13 to R17, each with its target, on one table.
//!
//! `cargo bench --bench attacks [-- --quick] [-- --only r13,r16] [-- --seconds 20]`. What is
//! measured and how stands in `benches/README.md`. Exit code 1: a target was missed; 2: usage.

mod descriptors;
mod floods;
mod frames;
mod healthy;
mod memory;
mod node;
mod proxy;
mod report;
mod run;
mod slow;
mod tally;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use report::Report;

/// What was asked for.
#[derive(Debug, Clone)]
struct Options {
    /// Each attack lasts so long, and so does the calm before it.
    length: Duration,
    quick: bool,
    /// Empty: all.
    only: Vec<String>,
}

const FIGURES: [&str; 5] = ["r13", "r14", "r15", "r16", "r17"];

const USAGE: &str =
    "usage: cargo bench --bench attacks -- [--quick] [--seconds N] [--only r13,…]\n";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(sentence) => {
            eprint!("{sentence}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    raise_descriptors();
    let node = node::start();
    let mut report = Report::default();
    if options.wants("r13") || options.wants("r15") {
        run::slow_clients(node, &options, &mut report);
    }
    if options.wants("r14") || options.wants("r15") {
        run::floods(node, &options, &mut report);
    }
    if options.wants("r15") {
        report.amplification();
    }
    if options.wants("r16") {
        descriptors::run(node, &options, &mut report);
    }
    if options.wants("r17") {
        memory::run(node, &options, &mut report);
    }
    print!("{report}");
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { length: Duration::from_mins(1), quick: false, only: Vec::new() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--quick" => {
                    options.quick = true;
                    options.length = Duration::from_secs(5);
                }
                "--seconds" => {
                    let seconds = value()?.parse().ok().filter(|seconds| *seconds >= 2);
                    let seconds = seconds.ok_or("--seconds wants a number from 2 up")?;
                    options.length = Duration::from_secs(seconds);
                }
                "--only" => options.only.extend(value()?.split(',').map(str::to_lowercase)),
                _ => return Err(format!("`{word}` is no option")),
            }
        }
        match options.only.iter().find(|each| !FIGURES.contains(&each.as_str())) {
            Some(unknown) => Err(format!("`{unknown}` is none of {}", FIGURES.join(", "))),
            None => Ok(options),
        }
    }

    fn wants(&self, figure: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|each| each == figure)
    }
}

/// The runtime of one thread.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[expect(clippy::disallowed_methods, reason = "threads that do nothing else, and measure time")]
fn sleep(length: Duration) {
    std::thread::sleep(length);
}

/// Asks again and again for so long; after how long it came true.
fn until(patience: Duration, mut is_true: impl FnMut() -> bool) -> Option<Duration> {
    let began = Instant::now();
    loop {
        if is_true() {
            return Some(began.elapsed());
        }
        if began.elapsed() > patience {
            return None;
        }
        sleep(Duration::from_millis(10));
    }
}

/// The value below which this share of them is.
fn quantile(mut values: Vec<Duration>, share: f64) -> Duration {
    values.sort_unstable();
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// This program and the proxy, which inherits it, may have as many as the system allows.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
