//! Flags that are given where they mean nothing.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::Wrong;
use crate::plan::Protocol;
use crate::plan::meaning::{SETTINGS, Setting, Use};

/// A TCP connection has no requests to count by.
const LIMIT_OF_TCP: &str = "Rate limit of new connections, for example 100/s,burst=50,by=ip (by: \
                            ip, global), or of those at a \
                            time: 100,algorithm=concurrency; repeat for more [default: none]";

/// The commands that proxy.
const PROXIES: [Protocol; 4] = [Protocol::Grpc, Protocol::Http, Protocol::Tcp, Protocol::Ws];

/// Takes flags out of the help of commands for which they mean nothing.
pub(super) fn hide(grammar: Command) -> Command {
    grammar.mut_subcommands(|command| {
        let name = command.get_name();
        let Some(protocol) = PROXIES.into_iter().find(|protocol| protocol.as_str() == name) else {
            return command;
        };
        command.mut_args(|arg| {
            let setting = flags().find(|(_, flag)| arg.get_long() == Some(flag));
            let idle = setting.is_some_and(|(setting, flag)| {
                let means = |there| setting.check(flag, there).is_ok();
                !means(Use::Serve(protocol)) && !means(Use::Forward(protocol))
            });
            if idle {
                arg.hide(true)
            } else if protocol == Protocol::Tcp && arg.get_long() == Some("limit") {
                arg.help(LIMIT_OF_TCP)
            } else {
                arg
            }
        })
    })
}

/// Refuses the first flag that was given, typed or in the environment, and means nothing.
pub(super) fn check(grammar: &Command, matches: &ArgMatches) -> Result<(), Wrong> {
    let Some((name, given)) = matches.subcommand() else { return Ok(()) };
    let protocol = PROXIES.into_iter().find(|protocol| protocol.as_str() == name);
    let (Some(protocol), Some(command)) = (protocol, grammar.find_subcommand(name)) else {
        return Ok(());
    };
    let forward = arg(command, "forward").is_some_and(|arg| given.get_flag(arg.get_id().as_str()));
    let there = if forward { Use::Forward(protocol) } else { Use::Serve(protocol) };
    for (setting, flag) in flags() {
        let Some(arg) = arg(command, flag) else { continue };
        let source = given.value_source(arg.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            setting.check(&format!("--{flag}"), there).map_err(Wrong)?;
        }
    }
    Ok(())
}

fn flags() -> impl Iterator<Item = (&'static Setting, &'static str)> {
    SETTINGS.iter().filter_map(|setting| Some((setting, setting.flag?)))
}

fn arg<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(long))
}
