//! Reading on after an error: what fails is noted and taken out, the rest is read again.

use serde::de::DeserializeOwned;

use super::De;
use super::error::Kind;
use crate::config::file::ALIASES;
use crate::config::report::{Code, Diagnostic, Place};
use crate::config::yaml::{Node, Value};

/// Errors told of one file; a file with more has one cause.
const ERRORS_MAX: usize = 50;

/// Reads a whole tree, telling every error: what fails is noted, taken out of the tree, and the
/// rest is read again. `told` is what was wrong before. The value is what could be read; `None` if
/// nothing could.
pub(in crate::config) fn read_all<T: DeserializeOwned>(
    mut root: Node,
    told: Vec<Diagnostic>,
) -> (Option<T>, Found) {
    let mut found = Found { diagnostics: told, damaged: false, lost: false };
    loop {
        let error = match T::deserialize(De(&root)) {
            Ok(value) => return (Some(value), found),
            Err(error) => error,
        };
        let place = error.place.unwrap_or(root.place);
        let mut path = &error.path[..];
        match error.kind {
            Kind::Missing(field) => {
                if !was_pruned(&root, path, field) {
                    found.add(Code::MissingKey, place, error.message, false);
                }
                // Without its key the element cannot be had: take all of it.
                found.took(path);
                if root.prune(path, None).is_none() {
                    return (None, found);
                }
                continue;
            }
            Kind::Told => {}
            Kind::Other(code) => found.add(code, place, error.message, holds_secret(&root, path)),
        }
        // What cannot be taken out itself goes with what it is in.
        while root.prune(path, error.instead.as_deref()).is_none() {
            match path.split_first() {
                Some((_, up)) => path = up,
                None => return (None, found),
            }
        }
        found.took(path);
        if found.diagnostics.len() >= ERRORS_MAX {
            return (None, found);
        }
    }
}

/// What [`read_all`] found wrong.
pub(in crate::config) struct Found {
    pub(in crate::config) diagnostics: Vec<Diagnostic>,
    /// Whether anything was taken out, so that what is missing, empty or the same as another may
    /// be so through that.
    pub(in crate::config) damaged: bool,
    /// Whether a whole listener, route or service was, so that references to it dangle through no
    /// fault of theirs.
    pub(in crate::config) lost: bool,
}

impl Found {
    fn took(&mut self, path: &[usize]) {
        self.damaged = true;
        // `services` itself, or one of its elements.
        self.lost |= path.len() <= 2;
    }

    fn add(&mut self, code: Code, place: Place, message: String, secret: bool) {
        let mut one = Diagnostic::new(code, place, message);
        one.secret = secret;
        self.diagnostics.push(one);
    }
}

/// Keys whose values are not shown in a report.
const SECRETS: [&str; 6] = ["users", "password", "secret", "token", "hash", "api_key"];

fn holds_secret(root: &Node, path: &[usize]) -> bool {
    let mut node = root;
    for &step in path.iter().rev() {
        node = match &node.value {
            Value::Map(map) => match map.entries.get(step) {
                Some(entry) if SECRETS.contains(&entry.key.as_str()) => return true,
                Some(entry) => &entry.value,
                None => return false,
            },
            Value::Seq(items) => match items.get(step) {
                Some(item) => item,
                None => return false,
            },
            Value::Scalar(_) => return false,
        };
    }
    false
}

fn was_pruned(root: &Node, path: &[usize], field: &str) -> bool {
    let mut node = root;
    for &step in path.iter().rev() {
        let next = match &node.value {
            Value::Map(map) => map.entries.get(step).map(|entry| &entry.value),
            Value::Seq(items) => items.get(step),
            Value::Scalar(_) => None,
        };
        match next {
            Some(next) => node = next,
            None => return false,
        }
    }
    matches!(&node.value, Value::Map(map) if map.pruned.iter().any(|key| {
        key == field || ALIASES.iter().any(|(alias, name)| key == alias && *name == field)
    }))
}
