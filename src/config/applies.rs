//! Settings that are written where they mean nothing. This looks at the file as it was typed: a
//! default that somebody wrote down is written all the same.

use super::report::{Code, Diagnostic};
use super::yaml::{Entry, Node, Value};
use crate::plan::Protocol;
use crate::plan::meaning::{SETTINGS, Section, Use};

/// Everything that is written where it means nothing.
pub(super) fn check(root: &Node, found: &mut Vec<Diagnostic>) {
    for (name, section) in [("listeners", Section::Listeners), ("services", Section::Services)] {
        let Some(Entry { value: Node { value: Value::Seq(elements), .. }, .. }) = entry(root, name)
        else {
            continue;
        };
        for element in elements {
            // What is no protocol is told where protocols are read.
            let Some(there) = what_for(element, section) else { continue };
            check_one(element, section, there, found);
        }
    }
}

fn check_one(element: &Node, section: Section, there: Use, found: &mut Vec<Diagnostic>) {
    for setting in SETTINGS {
        let Some((_, path)) = setting.key.filter(|(at, _)| *at == section) else { continue };
        let Some((first, rest)) = path.split_first() else { continue };
        let first = entry(element, first);
        let at = rest.iter().fold(first, |at, key| entry(&at?.value, key));
        let Some(at) = at else { continue };
        if let Err(sentence) = setting.check(&format!("`{}`", at.key), there) {
            found.push(Diagnostic::new(Code::WrongProtocol, at.key_place, sentence));
        }
    }
}

fn what_for(element: &Node, section: Section) -> Option<Use> {
    let named = match entry(element, "protocol") {
        Some(Entry { value: Node { value: Value::Scalar(scalar), .. }, .. }) => &*scalar.text,
        Some(_) => return None,
        None => "http",
    };
    let forward = entry(element, "forward").is_some();
    let protocol = match named {
        "forward" => return Some(Use::Forward(Protocol::Http)),
        "grpc" => Protocol::Grpc,
        "http" => Protocol::Http,
        "tcp" => Protocol::Tcp,
        "ws" => Protocol::Ws,
        _ => return None,
    };
    let serves = ["service", "service_id"].iter().any(|key| entry(element, key).is_some());
    Some(match section {
        Section::Services => Use::Serve(protocol),
        Section::Listeners if forward => Use::Forward(protocol),
        Section::Listeners if serves || protocol == Protocol::Tcp => Use::Serve(protocol),
        Section::Listeners => Use::Route(protocol),
    })
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Entry> {
    let Value::Map(map) = &node.value else { return None };
    map.entries.iter().find(|entry| entry.key == key)
}
