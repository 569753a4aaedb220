//! `--to URL[=WEIGHT]`: the nodes of a one-liner.

use std::collections::BTreeMap;

use gwproxy_core::units::Weight;

use super::Wrong;
use crate::plan::{Node, Protocol, Target};

/// Reads every `--to` of a command for this protocol.
pub(super) fn nodes(given: &[String], protocol: Protocol) -> Result<Vec<Node>, Wrong> {
    let mut nodes: Vec<Node> = Vec::with_capacity(given.len());
    for text in given {
        let node = node(text, protocol)
            .map_err(|why| Wrong(format!("invalid value '{text}' for '--to': {why}")))?;
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
