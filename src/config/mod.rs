//! The configuration file: YAML in, a [`Plan`] or everything that is wrong with it out.
//!
//! ```text
//! text ─ yaml ─▶ tree with places ─ expand ─▶ ${NAME} put in
//!      ─ de ───▶ what was typed (file)  ─ check ─▶ what is true (Plan)
//! Plan ─ print ─▶ YAML that means it
//! ```
//! Each step tells all it finds wrong and goes on with the rest. Nothing here opens a socket;
//! files that the configuration names are opened to see whether they can be, and closed.

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

use std::path::Path;

use crate::plan::Plan;

pub(crate) use file::{Network, Workers};
pub use print::print;
pub use report::{Code, Diagnostic, Place, Report};

/// Reads a file. `${NAME}` comes from the environment of this process.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub fn load(path: &Path) -> Result<Plan, Report> {
    let name = path.display().to_string();
    let unreadable = |why: &str| {
        let sentence = format!("cannot read it: {why}");
        let one = Diagnostic::new(Code::FileUnreadable, Place::FILE, sentence);
        Report::new(&name, "", vec![one])
    };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => unreadable("there is no such file"),
        std::io::ErrorKind::PermissionDenied => unreadable("this user may not read it"),
        std::io::ErrorKind::IsADirectory => unreadable("it is a directory"),
        _ => unreadable(&error.to_string()),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.split(|byte| *byte == b'\n').skip(1).count();
        unreadable(&format!("line {line} has bytes that are not UTF-8"))
    })?;
    read(&text, &name, &|name| std::env::var(name).ok())
}

/// Reads the text of a file called `name`; `env` answers `${NAME}`.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub fn read(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Report> {
    // A byte order mark is what some editors put first; it says nothing.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (tree, told) = yaml::read(text, env).map_err(|one| Report::new(name, text, vec![one]))?;
    let (file, mut found) = de::read_all(tree, told);
    let plan = file.map(|file| check::check(file, &mut found));
    match plan {
        Some(plan) if found.diagnostics.is_empty() => Ok(plan),
        _ => Err(Report::new(name, text, found.diagnostics)),
    }
}

#[cfg(test)]
mod tests;
