//! The configuration file: YAML in, a [`Plan`] or everything that is wrong with it out.
//!
//! ```text
//! text ─ yaml ─▶ tree with places ─ expand ─▶ ${NAME} put in
//!      ─ de ───▶ what was typed (file)  ─ check ─▶ what is true (Plan)
//! Plan ─ print ─▶ YAML that means it
//! ```
//! Each step tells all it finds wrong and goes on with the rest. Nothing here opens a socket;
//! files that the configuration names are opened to see whether they can be, and closed.

mod applies;
mod balance;
mod breaker;
mod check;
mod de;
mod expand;
mod file;
mod listener;
mod print;
mod report;
mod service;
mod short;
mod yaml;

use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::plan::Plan;

pub(crate) use file::{Network, Workers};
pub use print::print;
pub use report::{Code, Diagnostic, Place, Report};

/// What answers `${NAME}`.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a file; `env` answers `${NAME}`.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub fn load(path: &Path, env: Env<'_>) -> Result<Plan, Report> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(mut file) => load_from(&mut file, &name, env),
        Err(error) => Err(unreadable(&name, &error)),
    }
}

/// Reads what comes from `source`, called `name`, as [`load`] reads a file.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn load_from(source: &mut dyn Read, name: &str, env: Env<'_>) -> Result<Plan, Report> {
    let mut bytes = Vec::new();
    // One byte more than is taken, so that too much is seen to be too much.
    let limit = yaml::BYTES_MAX as u64 + 1;
    source.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() > yaml::BYTES_MAX {
        return Err(Report::new(name, "", vec![yaml::too_large()]));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.split(|byte| *byte == b'\n').skip(1).count();
        cannot_read(name, &format!("line {line} has bytes that are not UTF-8"))
    })?;
    read(&text, name, env)
}

fn unreadable(name: &str, error: &std::io::Error) -> Report {
    match error.kind() {
        ErrorKind::NotFound => cannot_read(name, "there is no such file"),
        ErrorKind::PermissionDenied => cannot_read(name, "this user may not read it"),
        ErrorKind::IsADirectory => cannot_read(name, "it is a directory"),
        _ => cannot_read(name, &error.to_string()),
    }
}

fn cannot_read(name: &str, why: &str) -> Report {
    let sentence = format!("cannot read it: {why}");
    Report::new(name, "", vec![Diagnostic::new(Code::FileUnreadable, Place::FILE, sentence)])
}

/// Reads the text of a file called `name`; `env` answers `${NAME}`.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub fn read(text: &str, name: &str, env: Env<'_>) -> Result<Plan, Report> {
    // A byte order mark is what some editors put first; it says nothing.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (tree, mut told) =
        yaml::read(text, env).map_err(|one| Report::new(name, text, vec![one]))?;
    applies::check(&tree, &mut told);
    let (file, mut found) = de::read_all(tree, told);
    let plan = file.map(|file| check::check(file, &mut found));
    match plan {
        Some(plan) if found.diagnostics.is_empty() => Ok(plan),
        _ => Err(Report::new(name, text, found.diagnostics)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
