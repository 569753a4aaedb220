//! The guards of the house: arrows between rooms, tidiness, and papers that agree with the code.
//!
//! Goal: what ARCHITECTURE.md promises stays true without anybody watching. Method: read
//! `cargo metadata`, the sources and the papers. A guard is a function from text to complaints,
//! so each one is also fed something forbidden and must complain; and each one that walks files
//! asserts that it saw some.

mod arrows;
mod lexer;
mod papers;
mod tidy;

use std::fs;
use std::path::{Path, PathBuf};

/// Where sources lie, from the root of the repository.
const SOURCE_DIRS: [&str; 5] = ["src", "core", "fuzz", "protocols", "tests"];

/// A text file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Whether the whole file is test code: the suites, and unit tests moved out of their module.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let full = root().join(path);
    fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// Every file below `dir` whose name ends so, in order of path. A directory that is not there has
/// no files; whoever needs some asserts so.
fn files(dir: &str, ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy();
            if path.is_dir() {
                // Build output and hidden directories are nobody's sources.
                if name != "target" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                let local = path.strip_prefix(root()).expect("below the root");
                let local = local.to_string_lossy().replace('\\', "/");
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{local}: {e}"));
                found.push(File { path: local, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust source of the workspace, with the build script.
fn sources() -> Vec<File> {
    let mut all: Vec<File> = SOURCE_DIRS.iter().flat_map(|dir| files(dir, ".rs")).collect();
    all.push(File { path: "build.rs".into(), text: read("build.rs") });
    assert!(all.len() > 40, "only {} sources found: the walk is broken", all.len());
    all
}

/// Fails with every complaint, one a line.
#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The proof that a guard can fail: it complained, and about the right thing.
#[track_caller]
fn assert_complains(complaints: &[String], about: &str) {
    assert!(
        complaints.iter().any(|complaint| complaint.contains(about)),
        "no complaint about `{about}` in {complaints:?}"
    );
}
