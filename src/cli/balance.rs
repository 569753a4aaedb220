//! Flags for how nodes share the work.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use clap::Args;
use gwproxy_core::balance::Algorithm;
use gwproxy_core::key::By;
use gwproxy_core::units::{Percent, Span};

use super::Wrong;
use crate::plan::{
    BalanceSettings, CookieName, LoadBalancer, Node, Protocol, StickySettings, Subset,
    ZoneSettings, check_zone,
};

/// How nodes share the work.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct BalanceFlags {
    /// How a node is chosen: round_robin, weighted_round_robin, random, power_of_two,
    /// least_connections, peak_ewma, ip_hash, consistent_hash, maglev or first [default:
    /// round_robin, and weighted_round_robin where nodes have different weights]
    #[arg(long, value_name = "ALGORITHM", env = "GWPROXY_BALANCE", hide_env = true)]
    balance: Option<Algorithm>,
    /// What consistent_hash and maglev go by: ip, path, sni, header:NAME, cookie:NAME or
    /// query:NAME; who has none is spread at random [default: ip]
    #[arg(long, value_name = "KEY", env = "GWPROXY_HASH_BY", hide_env = true)]
    hash_by: Option<By>,
    /// Lead clients back to their node by a cookie of this name [default: no cookie]
    #[arg(long, value_name = "COOKIE", env = "GWPROXY_STICKY", hide_env = true)]
    sticky: Option<CookieName>,
    /// Let the share of a node that came back grow for so long, from a tenth of it; 0s: it has all
    /// of it at once [default: 0s]
    #[arg(long, value_name = "TIME", env = "GWPROXY_SLOW_START", hide_env = true)]
    slow_start: Option<Span>,
    /// Below this share of healthy nodes try all of them; 0%: never [default: 0%]
    #[arg(long, value_name = "PERCENT", env = "GWPROXY_PANIC_THRESHOLD", hide_env = true)]
    panic_threshold: Option<Percent>,
    /// Where this proxy is: nodes with the same zone come first, others when too few of these are
    /// well, or with a,full_at=100 have so much under way [default: zones do not matter]
    #[arg(long, value_name = "ZONE", env = "GWPROXY_ZONE", hide_env = true)]
    zone: Option<ZoneSettings>,
    /// Use only nodes with this metadata (repeat or use commas) [default: all]
    #[arg(
        long,
        value_name = "KEY=VALUE",
        env = "GWPROXY_SUBSET",
        hide_env = true,
        value_delimiter = ',',
        value_parser = word
    )]
    subset: Vec<(String, String)>,
}

impl BalanceFlags {
    /// How these nodes share the work.
    pub(super) fn load_balancer(
        &self,
        protocol: Protocol,
        nodes: &[Node],
    ) -> Result<LoadBalancer, Wrong> {
        let weighed = nodes.iter().any(|node| node.weight != nodes[0].weight);
        // Who writes weights means them.
        let algorithm = match (self.balance, weighed) {
            (Some(given), _) => given,
            (None, true) => Algorithm::WeightedRoundRobin,
            (None, false) => Algorithm::default(),
        };
        let balancer = LoadBalancer {
            balance: BalanceSettings {
                algorithm,
                hash_by: self.hash_by.clone(),
                slow_start: self.slow_start.unwrap_or_default(),
                panic_threshold: self.panic_threshold.unwrap_or_default(),
                zone: self.zone.clone(),
            },
            sticky: self.sticky.clone().map(StickySettings::named),
        };
        let told = |flag| move |sentence| Wrong(format!("{flag} {sentence}"));
        balancer.check_hash_by(protocol).map_err(told("--hash-by"))?;
        balancer.check_slow_start().map_err(told("--slow-start"))?;
        if self.zone.is_some() {
            check_zone(nodes).map_err(|_| {
                Wrong(
                    "--zone means nothing here: no node says its zone; write --to URL,zone=a"
                        .into(),
                )
            })?;
        }
        if let Some(sticky) = &balancer.sticky {
            sticky.check().map_err(told("--sticky:"))?;
        }
        Ok(balancer)
    }

    /// The nodes to choose from.
    pub(super) fn subset(&self) -> Subset {
        self.subset.iter().cloned().collect()
    }

    /// The first flag given.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        [
            (self.balance.is_some(), "--balance"),
            (self.hash_by.is_some(), "--hash-by"),
            (self.sticky.is_some(), "--sticky"),
            (self.slow_start.is_some(), "--slow-start"),
            (self.panic_threshold.is_some(), "--panic-threshold"),
            (self.zone.is_some(), "--zone"),
            (!self.subset.is_empty(), "--subset"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

/// A word of metadata.
fn word(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is no metadata; write for example `version=v2`")),
    }
}
