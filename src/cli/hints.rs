//! What a refusal adds to clap's words: which flag was meant, and that a value was not typed at
//! all but came from the environment.

mod words;

use std::ffi::OsString;

use clap::builder::{PossibleValue, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use gwproxy_core::net::ListenAddr;
use gwproxy_core::suggest::closest;

use words::{COMMANDS, FLAGS, Words};

/// Puts hints into an error of clap's.
pub(super) fn put_into(error: &mut clap::Error, grammar: &mut Command, typed: &[OsString]) {
    grammar.build();
    let hints = Hints::new(grammar, typed);
    let mut tips: Vec<String> = hints.of_kind(error).into_iter().collect();
    if matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        // clap goes by the looks of a word, so that `--rate` is like `--grace`.
        let guesses =
            [ContextKind::Suggested, ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand];
        for kind in guesses {
            error.remove(kind);
        }
        let usage = hints.command.clone().render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    tips.extend(hints.of_environment(&error.to_string()));
    if !tips.is_empty() {
        let tips = tips.into_iter().map(StyledStr::from).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

/// Puts hints behind a sentence of our own.
pub(super) fn behind(sentence: String, grammar: &mut Command, typed: &[OsString]) -> String {
    grammar.build();
    let tips = Hints::new(grammar, typed).of_environment(&sentence);
    tips.into_iter().fold(sentence, |told, tip| told + "\n\n  tip: " + &tip)
}

struct Hints<'a> {
    root: &'a Command,
    /// The command that was typed, as far as it is one.
    command: &'a Command,
    typed: Vec<&'a str>,
}

impl<'a> Hints<'a> {
    fn new(root: &'a Command, typed: &'a [OsString]) -> Self {
        let typed: Vec<&str> = typed.iter().skip(1).filter_map(|word| word.to_str()).collect();
        let mut command = root;
        for word in &typed {
            match command.find_subcommand(word) {
                Some(below) => command = below,
                None => break,
            }
        }
        Self { root, command, typed }
    }

    fn of_kind(&self, error: &clap::Error) -> Option<String> {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        match error.kind() {
            ErrorKind::UnknownArgument => {
                let word = text(ContextKind::InvalidArg)?;
                let word = word.split_once('=').map_or(word, |(flag, _)| flag);
                if word.starts_with('-') { self.of_flag(word) } else { self.of_value(word) }
            }
            ErrorKind::InvalidSubcommand => self.of_command(text(ContextKind::InvalidSubcommand)?),
            ErrorKind::TooManyValues => {
                let flag = text(ContextKind::InvalidArg)?;
                Some(format!("{flag} takes no value: it is there or it is not"))
            }
            ErrorKind::MissingRequiredArgument => self.of_absence(),
            _ => None,
        }
    }

    /// The first argument that has a place instead of a name.
    fn of_absence(&self) -> Option<String> {
        let argument = self.command.get_positionals().next()?;
        let known = argument.get_possible_values();
        if known.is_empty() {
            return Some("give the file, or - to read it from standard input".into());
        }
        let known: Vec<&str> = known.iter().map(PossibleValue::get_name).collect();
        Some(format!("there are {}", known.join(", ")))
    }

    fn of_flag(&self, flag: &str) -> Option<String> {
        // `-to` is `-t` and `-o` to clap, and `--to` to whoever typed it.
        let whole = self.typed.iter().find(|word| word.starts_with(flag) && word.len() > 2);
        let flag = whole.filter(|_| flag.len() == 2).map_or(flag, |word| word);
        let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
        let word = flag.trim_start_matches('-');
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some("times, sizes and numbers are never negative here".into());
        }
        if word == "config" || ["-c", "-f", "--file", "--conf"].contains(&flag) {
            return Some("a configuration file has a command of its own: gwproxy run FILE".into());
        }
        if has_flag(self.command, word) {
            return Some(meant(&format!("--{word}"), ""));
        }
        if let Some(words) = find(FLAGS, word, |ours| has_flag(self.command, ours)) {
            return Some(meant(&format!("--{}", words.ours), words.note));
        }
        let elsewhere: Vec<&str> = self
            .root
            .get_subcommands()
            .filter(|command| has_flag(command, word))
            .map(Command::get_name)
            .collect();
        if !elsewhere.is_empty() {
            return Some(format!("{flag} is a flag of gwproxy {}", elsewhere.join(", ")));
        }
        let ours = || self.command.get_arguments().filter_map(Arg::get_long);
        let begins = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.starts_with('-'))
        };
        let near = closest(word, ours())
            .or_else(|| ours().find(|ours| begins(ours, word) || begins(word, ours)));
        near.map(|ours| meant(&format!("--{ours}"), ""))
    }

    /// A word where none belongs.
    fn of_value(&self, word: &str) -> Option<String> {
        if self.command.get_name() == "hash-password" {
            return Some(
                "the password is read from standard input, up to the first line end".into(),
            );
        }
        let at = self.typed.iter().position(|typed| *typed == word)?;
        let before = at.checked_sub(1).and_then(|before| self.typed.get(before));
        let switch = before.and_then(|flag| self.flag(flag.strip_prefix("--")?));
        if let (Some(before), Some(ArgAction::SetTrue)) = (before, switch.map(Arg::get_action)) {
            return Some(format!("{before} takes no value: it is there or it is not"));
        }
        let port = word.strip_prefix(':').unwrap_or(word).parse::<u16>().is_ok();
        if has_flag(self.command, "to") && word.contains([':', '.']) && !port {
            return Some(format!("a node is given with --to, as --to {word}"));
        }
        let address = word.parse::<ListenAddr>().is_ok();
        (has_flag(self.command, "listen") && address)
            .then(|| format!("where to listen is said with --listen {word}"))
    }

    fn of_command(&self, word: &str) -> Option<String> {
        let near = closest(word, self.command.get_subcommands().map(Command::get_name));
        if self.command.get_name() != self.root.get_name() {
            return near.map(|name| meant(name, ""));
        }
        let extension = std::path::Path::new(word).extension().and_then(|end| end.to_str());
        if extension.is_some_and(|end| ["yaml", "yml"].contains(&end)) {
            return Some(meant(&format!("gwproxy run {word}"), ""));
        }
        if word.contains("://") {
            return Some(meant(&format!("gwproxy http --to {word}"), ""));
        }
        if let Some(words) = find(COMMANDS, word, |_| true) {
            return Some(meant(&format!("gwproxy {}", words.ours), words.note));
        }
        near.map(|name| meant(name, ""))
    }

    /// The flags that a refusal speaks of and that nobody typed.
    fn of_environment(&self, told: &str) -> Vec<String> {
        let speaks_of = |long: &str| {
            let flag = format!("--{long}");
            told.match_indices(&flag).any(|(at, _)| {
                let next = told[at + flag.len()..].chars().next();
                !next.is_some_and(|next| next.is_alphanumeric() || next == '-')
            })
        };
        let mut tips = Vec::new();
        for flag in self.command.get_arguments() {
            let (Some(long), Some(name)) = (flag.get_long(), flag.get_env()) else { continue };
            if speaks_of(long) && std::env::var_os(name).is_some() && !self.is_typed(flag, long) {
                let name = name.display();
                tips.push(format!("--{long} was not typed: it is the environment's {name}"));
            }
        }
        tips
    }

    fn is_typed(&self, flag: &Arg, long: &str) -> bool {
        self.typed.iter().any(|word| {
            let rest = word.strip_prefix("--").and_then(|word| word.strip_prefix(long));
            let short = flag.get_short().is_some_and(|short| {
                word.strip_prefix('-').is_some_and(|word| word.starts_with(short))
            });
            short || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    }

    fn flag(&self, long: &str) -> Option<&Arg> {
        self.command.get_arguments().find(|flag| flag.get_long() == Some(long))
    }
}

/// Our flag for what other programs call `word`, in whatever case, with `_` for `-`.
pub(super) fn named_elsewhere(word: &str) -> Option<&'static str> {
    find(FLAGS, word, |_| true).map(|words| words.ours)
}

fn has_flag(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|flag| flag.get_long() == Some(long))
}

fn find(
    table: &'static [Words],
    word: &str,
    exists: impl Fn(&str) -> bool,
) -> Option<&'static Words> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    table.iter().find(|words| words.theirs.contains(&&*word) && exists(words.ours))
}

fn meant(ours: &str, note: &str) -> String {
    let gap = if note.is_empty() { "" } else { " " };
    format!("did you mean '{ours}'?{gap}{note}")
}

#[cfg(test)]
mod tests;
