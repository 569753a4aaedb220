//! Words of other programs, and the tables that know them.

use std::collections::HashSet;

use clap::CommandFactory;

use super::super::{Cli, Invocation, parse};
use super::*;

/// The tip of a refusal; splits like a shell without quotes.
fn tip(line: &str) -> String {
    let typed = std::iter::once("gwproxy").chain(line.split_whitespace());
    match parse(typed, &mut std::io::empty()) {
        Invocation::Done(output) => {
            assert_eq!(output.code, super::super::EXIT_USAGE, "{line}: {}", output.stdout);
            let tips: Vec<&str> = output
                .stderr
                .lines()
                .filter_map(|line| line.trim().strip_prefix("tip: "))
                .collect();
            tips.join(" | ")
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn words_of_other_programs_are_known() {
    for (line, want) in [
        ("http --upstream http://a:1", "did you mean '--to'?"),
        ("tcp --backend a:1", "did you mean '--to'?"),
        ("http --to http://a:1 --port 80", "did you mean '--listen'?"),
        ("http --to http://a:1 -p 80", "did you mean '--listen'?"),
        ("http --to http://a:1 --bind=:80", "did you mean '--listen'?"),
        ("http --to http://a:1 --cert a --key b", "did you mean '--tls-cert'?"),
        ("http --to http://a:1 --key b", "did you mean '--tls-key'?"),
        ("echo http --cert a", "did you mean '--tls-cert'?"),
        ("http --to http://a:1 --https", "--tls-cert FILE"),
        ("http --to http://a:1 -k", "did you mean '--upstream-danger-skip-verify'?"),
        ("http --to http://a:1 --rate 5/s", "did you mean '--limit'?"),
        ("http --to http://a:1 --max_conns 5", "did you mean '--max-connections'?"),
        ("http --to http://a:1 --weight 5", "--to a:9000=3"),
        ("http --to http://a:1 -v", "did you mean '--log'?"),
        ("http --to http://a:1 --verbose", "did you mean '--log'?"),
        ("http --to http://a:1 --balnce x", "did you mean '--balance'?"),
        ("http --to http://a:1 --log-json", "did you mean '--log'?"),
        ("http --to http://a:1 --path /a", "did you mean '--print-config'?"),
        ("http --to http://a:1 --grace -5s", "never negative"),
        ("http --config a.yaml", "gwproxy run FILE"),
        ("-c a.yaml", "gwproxy run FILE"),
        ("http --to http://a:1 --ping 1s", "--ping is a flag of gwproxy ws"),
        ("run a.yaml --listen :80", "--listen is a flag of gwproxy http, ws, tcp, grpc, echo"),
        ("--to http://a:1", "--to is a flag of gwproxy http, ws, tcp, grpc"),
        ("http http://a:1", "a node is given with --to, as --to http://a:1"),
        ("tcp --listen :1 db:5432", "a node is given with --to, as --to db:5432"),
        ("http --to http://a:1 :8080", "--listen :8080"),
        ("echo http 9001", "--listen 9001"),
        ("http --to http://a:1 --tls-dev yes", "--tls-dev takes no value"),
        ("http --to http://a:1 --tls-dev=no", "--tls-dev takes no value"),
        ("cert dve", "did you mean 'dev'?"),
        ("htpp --to http://a:1", "did you mean 'http'?"),
        ("rn a.yaml", "did you mean 'run'?"),
        ("serve", "did you mean 'gwproxy run FILE'?"),
        ("validate a.yaml", "did you mean 'gwproxy check FILE'?"),
        ("reverse-proxy --from :80 --to :9000", "did you mean 'gwproxy http --to URL'?"),
        ("gateway.yaml", "did you mean 'gwproxy run gateway.yaml'?"),
        ("http://localhost:3000", "did you mean 'gwproxy http --to http://localhost:3000'?"),
        ("http -to http://a:1", "did you mean '--to'?"),
        ("http --to http://a:1 -tls-key b", "did you mean '--tls-key'?"),
        ("hash-password secret", "is read from standard input"),
        ("echo", "there are grpc, http, tcp, ws"),
        ("run", "or - to read it from standard input"),
    ] {
        let told = tip(line);
        assert!(told.contains(want), "{line}: {told:?}");
        assert!(!told.contains(" | "), "one hint, not several: {line}: {told}");
    }
    // Nothing is better than a guess.
    for line in ["http --to http://a:1 --zebra", "zebra", "cert zebra"] {
        assert_eq!(tip(line), "", "{line}");
    }
}

#[test]
fn the_tables_speak_of_what_exists() {
    let mut grammar = Cli::command();
    grammar.build();
    let proxies: Vec<_> = grammar.get_subcommands().filter(|one| has_flag(one, "to")).collect();
    assert_eq!(proxies.len(), 4);
    let flags = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        words.map(|word| word.trim_matches([';', ',', '.']).to_owned()).collect()
    };
    let is_flag = |long: &str| grammar.get_subcommands().any(|one| has_flag(one, long));
    let mut seen = HashSet::new();
    for words in FLAGS {
        assert!(is_flag(words.ours), "--{}", words.ours);
        assert!(flags(words.note).iter().all(|flag| is_flag(flag)), "{}", words.note);
        for theirs in words.theirs {
            assert!(seen.insert(*theirs), "`{theirs}` stands twice");
            // It would never be asked for where it exists, and be wrong where it does not.
            let known = proxies.iter().all(|one| has_flag(one, theirs));
            assert!(!known, "`{theirs}` is a flag of every proxy");
        }
    }
    for words in COMMANDS {
        let name = words.ours.split(' ').next().unwrap();
        let command = grammar.find_subcommand(name).unwrap_or_else(|| panic!("{name}"));
        assert!(flags(words.ours).iter().all(|flag| has_flag(command, flag)), "{}", words.ours);
        for theirs in words.theirs {
            assert!(grammar.find_subcommand(theirs).is_none(), "`{theirs}` is a command");
        }
    }
}
