//! Variables in the environment that look like ours and are nobody's.

use clap::{Arg, Command};
use gwproxy_core::suggest::closest;

use super::hints::named_elsewhere;

/// What the names of our variables begin with.
const PREFIX: &str = "GWPROXY_";

/// Variables that are no flags: where the development certificate is kept.
const OURS: [&str; 1] = ["GWPROXY_DATA_DIR"];

/// The most names told; the rest is a number.
const TOLD_MAX: usize = 8;

/// One sentence about variables that nobody reads, if there are any. `used`: those that the
/// configuration file takes values from.
pub(super) fn unread(
    grammar: &Command,
    variables: impl Iterator<Item = (String, String)>,
    used: &[String],
) -> Option<String> {
    let mut known: Vec<&str> = flags(grammar).map(|(_, name)| name).collect();
    known.extend(OURS);
    let mut strays: Vec<String> = variables
        .filter(|(name, value)| name.starts_with(PREFIX) && !is_cluster(name, value))
        .map(|(name, _)| name)
        .filter(|name| !known.contains(&&**name) && !used.contains(name))
        .collect();
    strays.sort();
    let more = strays.len().saturating_sub(TOLD_MAX);
    let told: Vec<String> =
        strays.iter().take(TOLD_MAX).map(|stray| guess(grammar, &known, stray)).collect();
    match told.as_slice() {
        [] => None,
        [one] => Some(format!("no flag has the environment variable {one}; it is ignored")),
        many if more == 0 => Some(format!(
            "no flags have the environment variables {}; they are ignored",
            many.join(", ")
        )),
        many => Some(format!(
            "no flags have the environment variables {} and {more} more; they are ignored",
            many.join(", ")
        )),
    }
}

/// Each flag of each command with the name of its variable.
fn flags(grammar: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    let all = grammar.get_subcommands().flat_map(Command::get_arguments);
    all.filter_map(|flag| Some((flag, flag.get_env()?.to_str()?)))
}

/// The name, and the one that was meant.
fn guess(grammar: &Command, known: &[&str], stray: &str) -> String {
    let word = stray.strip_prefix(PREFIX).unwrap_or(stray);
    let ours = named_elsewhere(word);
    let near = flags(grammar)
        .find(|(flag, _)| ours.is_some() && flag.get_long() == ours)
        .map(|(_, name)| name)
        .or_else(|| closest(stray, known.iter().copied()));
    match near {
        Some(near) => format!("{stray} (did you mean {near}?)"),
        None => stray.to_owned(),
    }
}

/// Kubernetes and Docker put these in for a service that is called `gwproxy`.
fn is_cluster(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    rest.starts_with("SERVICE_")
        || rest.starts_with("PORT_")
        || (rest == "PORT" && value.contains("://"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn told(names: &[(&str, &str)], used: &[&str]) -> Option<String> {
        let all = names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let used: Vec<String> = used.iter().map(|name| (*name).to_owned()).collect();
        unread(&crate::cli::Cli::command(), all, &used)
    }

    #[test]
    fn what_nobody_reads_is_told_with_what_was_meant() {
        for (name, value, says) in [
            ("GWPROXY_LISTN", ":80", Some("GWPROXY_LISTN (did you mean GWPROXY_LISTEN?)")),
            ("GWPROXY_PORT", "80", Some("GWPROXY_PORT (did you mean GWPROXY_LISTEN?)")),
            ("GWPROXY_LOG_LEVEL", "info", Some("GWPROXY_LOG_LEVEL (did you mean GWPROXY_LOG?)")),
            ("GWPROXY_COLOUR", "x", Some("variable GWPROXY_COLOUR; it is ignored")),
            ("GWPROXY_LISTEN", ":80", None),
            ("GWPROXY_CONFIG", "a.yaml", None),
            ("GWPROXY_DATA_DIR", "/x", None),
            ("GWPROXY_DB_PASSWORD", "x", None),
            ("GWPROXY_PORT", "tcp://10.0.0.1:80", None),
            ("GWPROXY_PORT_80_TCP_ADDR", "10.0.0.1", None),
            ("GWPROXY_SERVICE_HOST", "10.0.0.1", None),
            ("PATH", "/bin", None),
        ] {
            let told = told(&[(name, value)], &["GWPROXY_DB_PASSWORD"]);
            assert_eq!(told.is_some(), says.is_some(), "{name}: {told:?}");
            assert!(told.is_none_or(|told| told.contains(says.unwrap_or_default())), "{name}");
        }
        let many: Vec<String> = (0..10).map(|number| format!("GWPROXY_QQ{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (&**name, "")).collect();
        let told = told(&many, &[]).unwrap();
        assert!(told.contains("GWPROXY_QQ7 and 2 more; they are ignored"), "{told}");
    }
}
