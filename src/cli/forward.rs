//! Flags of a forward proxy.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use std::num::NonZeroU16;

use clap::Args;
use gwproxy_core::net::ListenAddr;

use super::Wrong;
use super::flags::{NodeFlags, port, switch};
use crate::plan::{Destination, Forward, Ports, UpstreamTimeouts, User};

/// A forward proxy's rules.
#[derive(Debug, Args)]
#[command(next_help_heading = "Forward proxy")]
pub(super) struct ForwardFlags {
    /// Be a forward proxy: clients say where to
    #[arg(long, env = "GWPROXY_FORWARD", hide_env = true,
        value_parser = switch)]
    pub(super) forward: bool,
    /// Let only these users in; the hash is of `gwproxy hash-password` (repeat for more)
    // Hashes have commas and dollars in them; a line break separates in the environment.
    #[arg(
        long = "user",
        value_name = "NAME:HASH",
        env = "GWPROXY_USER",
        hide_env = true,
        hide_env_values = true,
        value_delimiter = '\n'
    )]
    users: Vec<String>,
    /// Let clients reach only these: HOST, HOST:PORT, *.DOMAIN or CIDR (repeat or use commas);
    /// private addresses only by the address itself (127.0.0.1:9000, 10.0.0.0/24), whatever name
    /// leads there, or with --allow-private
    #[arg(
        long,
        value_name = "DESTINATION",
        env = "GWPROXY_ALLOW",
        hide_env = true,
        value_delimiter = ','
    )]
    allow: Vec<Destination>,
    /// Never let clients reach these, written as those of --allow; wins over it
    #[arg(
        long,
        value_name = "DESTINATION",
        env = "GWPROXY_DENY",
        hide_env = true,
        value_delimiter = ','
    )]
    deny: Vec<Destination>,
    /// Let clients reach private, loopback, link-local and metadata addresses
    #[arg(long, env = "GWPROXY_ALLOW_PRIVATE", hide_env = true,
        value_parser = switch)]
    allow_private: bool,
    /// Only these ports (repeat or use commas)
    /// [default: CONNECT 443; plain requests 80, 443 and from 1024 up]
    #[arg(
        long = "allow-port",
        value_name = "PORT",
        env = "GWPROXY_ALLOW_PORT",
        hide_env = true,
        value_parser = port,
        value_delimiter = ','
    )]
    allow_ports: Vec<NonZeroU16>,
    /// DANGER: serve everyone who can reach the address, without users
    #[arg(long, env = "GWPROXY_UNSAFE_OPEN", hide_env = true,
        value_parser = switch)]
    unsafe_open: bool,
}

impl ForwardFlags {
    /// The first flag given that belongs to a forward proxy.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        [
            (!self.users.is_empty(), "--user"),
            (!self.allow.is_empty(), "--allow"),
            (!self.deny.is_empty(), "--deny"),
            (self.allow_private, "--allow-private"),
            (!self.allow_ports.is_empty(), "--allow-port"),
            (self.unsafe_open, "--unsafe-open"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }

    /// The rules, for a proxy on `listen`.
    pub(super) fn rules(
        &self,
        listen: &ListenAddr,
        nodes: &NodeFlags,
        timeouts: UpstreamTimeouts,
    ) -> Result<Forward, Wrong> {
        if let Some(flag) = nodes.first_given() {
            return Err(Wrong(format!(
                "{flag} is about the nodes of --to; a forward proxy has none"
            )));
        }
        let ports: Vec<u16> = self.allow_ports.iter().map(|port| port.get()).collect();
        // Parsed here and not by clap, which would repeat what may be a password.
        let users = self.users.iter().map(|text| text.parse::<User>());
        let users = users.collect::<Result<_, _>>();
        let rules = Forward {
            users: users.map_err(|why| Wrong(format!("invalid value for '--user': {why}")))?,
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            allow_private: self.allow_private,
            ports: if ports.is_empty() { Ports::Usual } else { Ports::Only(ports) },
            unsafe_open: self.unsafe_open,
            timeouts,
        };
        rules.check(listen).map_err(Wrong)?;
        Ok(rules)
    }
}
