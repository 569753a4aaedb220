//! `--to URL[=WEIGHT][,priority=N][,zone=NAME][,metadata.KEY=VALUE]`: the nodes of a one-liner.

use std::borrow::Cow;

use std::collections::BTreeMap;

use gwproxy_core::units::{UnitError, Weight};

use super::Wrong;
use crate::plan::{Node, Protocol, Target};

/// Reads every `--to` of a command for this protocol.
pub(super) fn nodes(given: &[String], protocol: Protocol) -> Result<Vec<Node>, Wrong> {
    let mut nodes: Vec<Node> = Vec::with_capacity(given.len());
    for text in given {
        let invalid = |why: String| {
            let shown = without_user(text);
            Wrong(format!("invalid value '{shown}' for '--to': {why}"))
        };
        // A comma stands before the next node as well as before what is said of this one.
        if let Some((word, value)) = text.split_once('=').filter(|(word, _)| is_word(word)) {
            let node = nodes.last_mut();
            let node = node.ok_or_else(|| invalid(format!("`{word}=` stands behind a node")))?;
            set(node, word, value).map_err(invalid)?;
            continue;
        }
        let node = node(text, protocol).map_err(invalid)?;
        if nodes.iter().any(|there| there.target == node.target) {
            return Err(Wrong(format!(
                "--to {} stands there twice; to send it more, write --to {}=2",
                node.target, node.target
            )));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// What may be said of a node.
fn is_word(word: &str) -> bool {
    matches!(word, "priority" | "weight" | "zone") || word.starts_with("metadata.")
}

fn set(node: &mut Node, word: &str, value: &str) -> Result<(), String> {
    match word {
        "priority" => {
            node.priority = value.parse().map_err(|_| {
                format!("`{value}` is not a priority; write a number from 0 (first) to 255")
            })?;
        }
        "weight" => {
            node.weight = value.parse().map_err(|error: UnitError| error.to_string())?;
        }
        _ => {
            let key = word.strip_prefix("metadata.").unwrap_or(word);
            if key.is_empty() || value.is_empty() {
                return Err("write for example `zone=a` or `metadata.version=v2`".into());
            }
            node.metadata.insert(key.into(), value.into());
        }
    }
    Ok(())
}

/// What was typed, but for a user and a password that stand in it: those are not repeated.
fn without_user(text: &str) -> Cow<'_, str> {
    let Some((user, host)) = text.rsplit_once('@') else { return text.into() };
    let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
    let slashes = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{slashes}…@{host}").into()
}

fn node(text: &str, protocol: Protocol) -> Result<Node, String> {
    let (address, weight) = match text.rsplit_once('=') {
        Some((address, weight)) => {
            (address, weight.parse::<Weight>().map_err(|error| error.to_string())?)
        }
        None => (text, Weight::default()),
    };
    let target = Target::parse(address, protocol).map_err(|error| error.to_string())?;
    Ok(Node {
        id: target.name().into(),
        target,
        weight,
        priority: 0,
        enabled: true,
        metadata: BTreeMap::default(),
    })
}
