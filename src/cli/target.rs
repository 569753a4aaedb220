//! `--to URL[=WEIGHT]`: the nodes of a one-liner.

use std::borrow::Cow;

use std::collections::BTreeMap;

use gwproxy_core::units::Weight;

use super::Wrong;
use crate::plan::{Node, Protocol, Target};

/// Reads every `--to` of a command for this protocol.
pub(super) fn nodes(given: &[String], protocol: Protocol) -> Result<Vec<Node>, Wrong> {
    let mut nodes: Vec<Node> = Vec::with_capacity(given.len());
    for text in given {
        let node = node(text, protocol).map_err(|why| {
            let shown = without_user(text);
            Wrong(format!("invalid value '{shown}' for '--to': {why}"))
        })?;
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
        enabled: true,
        metadata: BTreeMap::default(),
    })
}
