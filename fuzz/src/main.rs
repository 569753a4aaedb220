//! `fuzz TARGET [--seconds N] [--seed N]`: mutations of a target's corpus for a while, on stable Rust.
//! Without a target: their names.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fuzz::mutate::{self, Rng};
use fuzz::{TARGETS, Target, corpus, target};

/// An input that takes longer than this is a finding as well (a quadratic parser).
const SLOW: Duration = Duration::from_secs(1);
/// Executions between two looks at the clock.
const ROUND: u32 = 256;

struct Order {
    target: &'static Target,
    time: Duration,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let order = match read(&arguments) {
        Ok(Some(order)) => order,
        Ok(None) => {
            for target in TARGETS {
                println!("{}", target.name);
            }
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("fuzz: {why}\nusage: fuzz [TARGET [--seconds N] [--seed N]]");
            return ExitCode::from(2);
        }
    };
    match run(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fuzz: {why}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<Option<Order>, String> {
    let Some((name, mut rest)) = arguments.split_first() else { return Ok(None) };
    let target = target(name).ok_or_else(|| format!("there is no target `{name}`"))?;
    let mut order = Order { target, time: Duration::from_mins(1), seed: 0 };
    while let [option, value, after @ ..] = rest {
        let number = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
        match option.as_str() {
            "--seconds" => order.time = Duration::from_secs(number),
            "--seed" => order.seed = number,
            _ => return Err(format!("there is no option `{option}`")),
        }
        rest = after;
    }
    match rest {
        [] => Ok(Some(order)),
        [option, ..] => Err(format!("`{option}` needs a number")),
    }
}

/// Whether the property holds.
fn holds(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
}

fn run(order: &Order) -> Result<(), String> {
    let target = order.target;
    let kept = corpus::load(target).map_err(|error| format!("the corpus: {error}"))?;
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    let mut rng = Rng::new(order.seed);
    let began = Instant::now();
    let (executions, slowest) = (Cell::new(0u64), Cell::new(Duration::ZERO));
    let report = || {
        let (count, took) = (executions.get(), began.elapsed());
        println!(
            "{}: {count} executions in {} s, {:.0} a second, slowest round of {ROUND} {:?}",
            target.name,
            took.as_secs(),
            count as f64 / took.as_secs_f64(),
            slowest.get()
        );
    };
    while began.elapsed() < order.time {
        let since = Instant::now();
        for _ in 0..ROUND {
            let input = mutate::mutate(target, &inputs, &mut rng);
            executions.set(executions.get() + 1);
            let started = Instant::now();
            if !holds(target, &input) {
                report();
                return Err(keep_failure(target, &input));
            }
            if started.elapsed() > SLOW && is_slow(target, &input) {
                let path = corpus::keep(target, "slow", &input).map_err(|e| e.to_string())?;
                return Err(format!("{} took more than {SLOW:?}", path.display()));
            }
        }
        slowest.set(slowest.get().max(since.elapsed()));
    }
    report();
    Ok(())
}

/// Whether it is the input that takes so long and not a machine with other things to do: then one
/// of three further runs is quick.
fn is_slow(target: &Target, input: &[u8]) -> bool {
    (0..3).all(|_| {
        let started = Instant::now();
        holds(target, input);
        started.elapsed() > SLOW
    })
}

fn keep_failure(target: &Target, input: &[u8]) -> String {
    panic::set_hook(Box::new(|_| {}));
    let small = mutate::shrink(input, |less| !holds(target, less));
    match corpus::keep(target, "crash", &small) {
        Ok(path) => {
            format!("kept {} ({} bytes): {}", path.display(), small.len(), small.escape_ascii())
        }
        Err(error) => format!("cannot keep it ({error}): {}", small.escape_ascii()),
    }
}
