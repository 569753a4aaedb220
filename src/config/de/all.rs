//! Reading on after an error: what fails is noted and taken out, the rest is read again.

use std::collections::HashSet;

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
    let mut found = Found { diagnostics: told, damage: Damage::default() };
    loop {
        let error = match T::deserialize(De(&root)) {
            Ok(value) => return (Some(value), found),
            Err(error) => error,
        };
        let place = error.place.unwrap_or(root.place);
        let mut path = &error.path[..];
        let unknown = matches!(error.kind, Kind::Other(Code::UnknownKey));
        match error.kind {
            Kind::Missing(field) => {
                if !was_pruned(&root, path, field) {
                    found.add(Code::MissingKey, place, error.message, false);
                }
                // Without its key the element cannot be had: take all of it.
                found.damage.take(&root, path, None, false);
                if root.prune(path, None).is_none() {
                    return (None, found);
                }
                continue;
            }
            Kind::Told => {}
            Kind::Other(code) => found.add(code, place, error.message, holds_secret(&root, path)),
        }
        // What cannot be taken out itself goes with what it is in.
        while root.at(path).is_none() {
            path = path.split_first().map_or(&[], |(_, up)| up);
        }
        found.damage.take(&root, path, error.instead.as_deref(), unknown);
        if root.prune(path, error.instead.as_deref()).is_none() {
            return (None, found);
        }
        if found.diagnostics.len() >= ERRORS_MAX {
            return (None, found);
        }
    }
}

/// What [`read_all`] found wrong.
pub(in crate::config) struct Found {
    pub(in crate::config) diagnostics: Vec<Diagnostic>,
    pub(in crate::config) damage: Damage,
}

/// What was taken out, so that what only seems missing, empty or unknown through that is not told.
#[derive(Default)]
pub(in crate::config) struct Damage {
    /// A key at the top that could have been meant for any of those there are.
    unknown: bool,
    /// Keys at the top of which something was taken out whole.
    sections: HashSet<String>,
    /// Keys of listeners, routes and services that were taken out, whole or in part, with where
    /// the element begins. An empty one could have been meant for any key there is.
    keys: HashSet<(Place, String)>,
    /// The ids of services that were taken out whole; none if one had no id to be read.
    services: Option<HashSet<String>>,
}

impl Damage {
    /// Whether the listener, route or service that begins here stands as it was typed.
    pub(in crate::config) fn spares(&self, element: Place) -> bool {
        self.keys.iter().all(|(at, _)| *at != element)
    }

    /// Whether these keys of an element stand as they were typed, be it not at all.
    pub(in crate::config) fn spares_keys(&self, element: Place, keys: &[&str]) -> bool {
        let lost = |key: &str| self.keys.contains(&(element, key.to_owned()));
        !lost("") && !keys.iter().any(|key| lost(key))
    }

    /// Whether nothing of the list at the top of the file was taken out whole.
    pub(in crate::config) fn spares_all(&self, section: &str) -> bool {
        !self.unknown && !self.sections.contains(section)
    }

    /// Whether a service of this id may have been among what was taken out.
    pub(in crate::config) fn may_hold(&self, service: &str) -> bool {
        !self.spares_all("services")
            && self.services.as_ref().is_none_or(|known| known.contains(service))
    }

    /// Notes what is about to go. `meant`: the key it should have been; `unknown`: it is no key.
    fn take(&mut self, root: &Node, path: &[usize], meant: Option<&str>, unknown: bool) {
        let (Some((&top, _)), Value::Map(map)) = (path.split_last(), &root.value) else { return };
        let Some(entry) = map.entries.get(top) else { return };
        let element = match &entry.value.value {
            Value::Seq(_) => path.len().checked_sub(2).and_then(|at| root.at(&path[at..])),
            Value::Map(_) | Value::Scalar(_) => None,
        };
        let services = self.sections.contains("services");
        match (path.len(), element) {
            (0 | 1, _) | (2, None) => {
                self.unknown |= unknown && meant.is_none();
                self.sections.insert(meant.unwrap_or(&entry.key).to_owned());
                if meant.unwrap_or(&entry.key) == "services" {
                    self.services = None;
                }
            }
            (2, Some(element)) => {
                if entry.key == "services" {
                    let known = if services { self.services.take() } else { Some(HashSet::new()) };
                    self.services = known.zip(id(element)).map(|(mut known, id)| {
                        known.insert(id.to_owned());
                        known
                    });
                }
                self.sections.insert(entry.key.clone());
            }
            (depth, Some(element)) => {
                let key = match (&element.value, path.get(depth - 3)) {
                    (Value::Map(map), Some(&at)) => map.entries.get(at).map(|entry| &*entry.key),
                    _ => None,
                };
                let key = match (key, depth) {
                    (_, 3) if unknown => meant,
                    (key, _) => key,
                };
                self.keys.insert((element.place, canonical(key.unwrap_or_default()).to_owned()));
            }
            (_, None) => {}
        }
    }
}

/// The name of a key that has others.
fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name)
}

fn id(element: &Node) -> Option<&str> {
    let Value::Map(map) = &element.value else { return None };
    let entry = map.entries.iter().find(|entry| entry.key == "id")?;
    match &entry.value.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        Value::Map(_) | Value::Seq(_) => None,
    }
}

impl Found {
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
    let Some(Node { value: Value::Map(map), .. }) = root.at(path) else { return false };
    map.pruned.iter().any(|key| {
        key == field || ALIASES.iter().any(|(alias, name)| key == alias && *name == field)
    })
}
