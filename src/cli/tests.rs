//! What is typed, and what becomes of it.

use std::collections::HashSet;
use std::path::Path;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use clap::CommandFactory;
use proptest::prelude::*;

use super::*;
use crate::config;
use crate::plan::{Action, EchoKind, Protocol};

const HASH: &str = "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// Splits like a shell without quotes.
fn typed(line: &str) -> Invocation {
    parse(std::iter::once("gwproxy").chain(line.split_whitespace()), &mut std::io::empty())
}

fn plan(line: &str) -> Plan {
    match typed(line) {
        Invocation::Serve(plan, _) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

fn done(line: &str) -> Output {
    match typed(line) {
        Invocation::Done(output) => output,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    let output = done(line);
    assert_eq!((output.code, &*output.stdout), (EXIT_USAGE, ""), "{line}");
    output.stderr
}

/// One line for each flag and many of their combinations; a user's hash is put in for HASH.
const ONE_LINERS: &[&str] = &[
    "http --to http://localhost:3000",
    "http --to localhost:3000 --listen :8080",
    "http -l 8080 --to http://a:1=3 --to http://b:1=1",
    "http --to http://a:1,http://b:2 --balance least-connections",
    "http --to http://a:1=0 --to http://b:1=7 --balance consistent_hash --hash-by header:X-User",
    "http --to a:1,zone=a,metadata.version=v2 --to b:1=3,priority=1 --zone a,full_at=9 --sticky sid",
    "http --to a:1,metadata.version=v2 --slow-start 30s --panic-threshold 12.5% --subset version=v2",
    "http --to https://a --upstream-ca ca.pem --upstream-server-name b.example",
    "http --to https://a --upstream-danger-skip-verify --upstream-host node",
    "http --to h2c://a:1 --upstream-host www.example.com:8443",
    "http --to http://unix:/run/app.sock --listen unix:/run/proxy.sock",
    "http --to echo:http --listen [::1]:0",
    "http --to http://a:1 --tls-cert a.pem --tls-key a.key",
    "http --to http://a:1 --tls-cert a.pem --tls-key a.key --tls-cert b.pem --tls-key b.key",
    "http --to http://a:1 --tls-dev --client-ca ca.pem --client-auth optional",
    "http --to http://a:1 --tls-dev --client-ca ca.pem",
    "http --to http://a:1 --limit 100/s,burst=50,by=header:x-api-key",
    "http --to http://a:1 --limit 7/500ms,by=global --max-connections 12",
    "http --to http://a:1 --max-connections-per-ip 3 --memory-limit 512MiB",
    "tcp --to a:1 --max-connections-per-ip 0 --memory-limit off",
    "http --to http://a:1 --breaker 50%,window=10s,min=20,open=5s",
    "http --to http://a:1 --breaker 12.5%,consecutive=3,probes=2,buckets=7,probe_timeout=1m",
    "http --to http://a:1 --breaker 50%,max_open=1m,slow=1s,capacity=9 --node-breaker 30%",
    "tcp --to a:1 --outliers 5,gateway=3,eject=1m,share=50%,latency=2.5 --node-breaker 50%",
    "http --to http://a:1 --health /healthz",
    "grpc --to grpcs://a:1 --health grpc:a.B,interval=1s,jitter=0%",
    "tcp --to tls://a:1 --health tls",
    "http --to http://a:1 --health /h,interval=1s,timeout=500ms,rise=1,fall=1,method=HEAD,status=204",
    "http --to http://a:1 --timeout 1m30s --connect-timeout 250ms --idle-timeout 1h",
    "http --to http://a:1 --workers 3 --grace 0s --log off --admin 127.0.0.1:9000",
    "http --to http://a:1 --half-close allow",
    "http --to http://a:1 --max-body-size 0",
    "http --forward --max-body-size 1GiB",
    "grpc --to a:1 --max-body-size 4MiB",
    "http --forward --half-close abort",
    "http --to http://a:1 --access-log off",
    "http --to http://a:1 --access-log /var/log/a.log --access-log-format combined",
    "http --to http://a:1 --access-log-format combined",
    "http --to http://a:1 --trusted-proxy 10.0.0.0/8 --trusted-proxy 192.0.2.1,fd00::/8 --trusted-hops 2",
    "http --to http://a:1 --underscores keep",
    "http --to http://a:1 --proxy-protocol required --listen :80",
    "http --forward --proxy-protocol-from 10.0.0.0/8,192.0.2.1 --proxy-protocol-from fd00::/8",
    "tcp --to a:1 --proxy-protocol optional --proxy-protocol-from 10.0.0.1 --send-proxy v2",
    "grpc --to a:1 --send-proxy v1",
    "http --forward",
    "http --forward --allow *.example.com,10.0.0.0/8 --allow [::1]:80 --deny a.example.com:443",
    "http --forward --allow-private --allow-port 443,8443 --timeout 1s --connect-timeout 1s",
    "http --forward --listen :3128 --user ann:HASH",
    "http --forward --listen :3128 --unsafe-open",
    "ws --to ws://a:1 --ping 20s",
    "ws --to wss://a --to http://b:2 --ping 0s --max-message 0",
    "ws --to ws://a:1 --max-message 1MiB",
    "ws --forward --listen localhost:3128",
    "tcp --to localhost:5432",
    "tcp --to tls://a:1=2 --to tcp://b:2 --balance first --health tcp",
    "tcp --to unix:/run/postgres.sock --balance ip_hash --listen :0",
    "grpc --to localhost:50051",
    "grpc --to grpcs://a:1 --to h2c://b:2 --to http://c --to https://d --balance power_of_two",
];

/// Row B.3: the printed file behaves as the flags do, because it becomes the same plan.
#[test]
fn print_config_means_the_same_plan() {
    for line in ONE_LINERS {
        let line = line.replace("HASH", HASH);
        let meant = plan(&line);
        let printed = done(&format!("{line} --print-config"));
        assert_eq!((printed.code, &*printed.stderr), (0, ""), "{line}");
        let again = config::read(&printed.stdout, "printed.yaml", &|_| None);
        match again {
            Ok(again) => assert_eq!(meant, again, "{line}\n{}", printed.stdout),
            // Certificates of the table do not exist.
            Err(report) => {
                let files = |one: &config::Diagnostic| one.code == config::Code::FileUnreadable;
                let only = line.contains(".pem") && report.diagnostics().iter().all(files);
                assert!(only, "{line}: {report}\n{}", printed.stdout);
            }
        }
    }
}

/// Choices for each flag, the empty one among them, that can stand beside all others.
const ANY_PROXY: &[&[&str]] = &[
    // What a PROXY header may say depends on where one listens.
    &[
        "",
        "-l :8443 --proxy-protocol-from ::1,10.1.2.3/8",
        "-l [::1]:0 --proxy-protocol optional --proxy-protocol-from 192.0.2.0/24",
        "-l unix:/run/a,b.sock",
        "-l unix:/run/a,b.sock --proxy-protocol required",
    ],
    &["", "--tls-dev"],
    &["", "--max-connections 1"],
    &["", "--connect-timeout 1d"],
    &["", "--workers 1", "--workers 1024"],
    &["", "--grace 0s", "--log off", "--log trace"],
    &[
        "",
        "--access-log ./off --access-log-format combined",
        "--access-log off",
        "--access-log /a/${HOME}/$${b}$",
        "--access-log #:'\"{é",
    ],
    &["", "--admin unix:/run/admin.sock", "--admin :0"],
];

/// Where there are requests.
const REQUESTS: &[&[&str]] =
    &[&["", "--timeout 250us"], &["", "--trusted-proxy ::1,10.1.2.3/8", "--trusted-hops 255"]];

/// Where there are tunnels.
const TUNNELS: &[&[&str]] = &[&["", "--idle-timeout 0s", "--idle-timeout 1h1ms"]];

/// Where limits can count by what is in a request, and nodes see a host.
const HOSTS: &[&[&str]] = &[
    &["", "--limit 5/s", "--limit 7/500ms,burst=3,by=cookie:sid", "--limit 1/d,by=global"],
    &["", "--limit 5/s,shadow=true,id=a --limit 9,algorithm=concurrency,by=ip+user,headers=both"],
    &["", "--limit 5/s,algorithm=leaky-bucket,wait=2s", "--limit 1MiB/s,of=bytes,by=connection"],
    &["", "--upstream-host node", "--upstream-host [::1]:80", "--upstream-host Preserve.example"],
];

const HTTP: &[&[&str]] = &[&["", "--max-body-size 64KiB", "--max-body-size 0"]];

const UNDERSCORES: &[&[&str]] = &[&["", "--underscores keep", "--underscores refuse"]];

const WITH_NODES: &[&[&str]] = &[
    &["--to a:1", "--to a:1=0 --to [::1]:2=65535", "--to unix:/run/x.sock,b.example:2=3"],
    &["", "--balance round_robin", "--balance maglev --hash-by sni", "--balance random"],
    &["", "--slow-start 1ms --panic-threshold 100", "--to c:3,weight=2,priority=255,metadata.a=b"],
    &["", "--breaker 50%", "--breaker 0.01%,consecutive=1,window=1s,min=1,open=1s"],
    &["", "--node-breaker 50%,jitter=0%,timeout=1s,force=open", "--outliers 0,stdev=0"],
    &["", "--health tcp,interval=1s", "--health tcp"],
    &["", "--send-proxy v1", "--send-proxy v2"],
];

const FORWARD: &[&[&str]] = &[
    &["--forward --unsafe-open", "--forward --user ann:HASH --user yes:HASH"],
    &["", "--allow *.a.example,10.0.0.0/8 --allow [::1]:80", "--allow a:1"],
    &["", "--deny 169.254.169.254", "--deny ::/0"],
    &["", "--allow-private"],
    &["", "--allow-port 1", "--allow-port 443,8443"],
];

const WEBSOCKET: &[&[&str]] =
    &[&["", "--ping 0s", "--ping 1ms"], &["", "--max-message 0", "--max-message 64KiB"]];

/// A command line made of one choice for each flag.
fn command_line() -> impl Strategy<Value = String> {
    let picks = proptest::collection::vec(any::<proptest::sample::Index>(), 32);
    (0_usize..6, picks).prop_map(|(kind, picks)| {
        let (command, tables): (_, &[&[&[&str]]]) = match kind {
            0 => ("http", &[ANY_PROXY, WITH_NODES, TUNNELS, REQUESTS, HOSTS, HTTP, UNDERSCORES]),
            1 => ("ws", &[ANY_PROXY, WITH_NODES, TUNNELS, REQUESTS, HOSTS, WEBSOCKET]),
            2 => ("tcp", &[ANY_PROXY, WITH_NODES, TUNNELS]),
            3 => ("grpc", &[ANY_PROXY, WITH_NODES, REQUESTS, HOSTS]),
            4 => ("http", &[ANY_PROXY, FORWARD, TUNNELS, REQUESTS, HTTP]),
            _ => ("ws", &[ANY_PROXY, FORWARD, TUNNELS, REQUESTS, WEBSOCKET]),
        };
        let flags = tables.iter().copied().flatten().zip(&picks).map(|(all, pick)| *pick.get(all));
        let line = std::iter::once(command).chain(flags).collect::<Vec<_>>().join(" ");
        line.replace("HASH", HASH)
    })
}

proptest! {
    /// Row B.3 over combinations of flags; also that what is printed prints as itself again, and
    /// that it comes through a pipe.
    #[test]
    fn any_flags_print_a_file_that_means_the_same(line in command_line()) {
        let meant = plan(&line);
        let printed = done(&format!("{line} --print-config"));
        prop_assert_eq!((printed.code, &*printed.stderr), (0, ""), "{}", line);
        let typed = ["gwproxy", "run", "-"];
        let again = parse(typed, &mut printed.stdout.as_bytes());
        let Invocation::Serve(again, _) = again else { panic!("{line}: {again:?}") };
        prop_assert_eq!(&meant, &*again, "{}\n{}", line, printed.stdout);
        let typed = ["gwproxy", "run", "-", "--print-config"];
        let reprinted = parse(typed, &mut printed.stdout.as_bytes());
        let Invocation::Done(reprinted) = reprinted else { panic!("{line}: {reprinted:?}") };
        prop_assert_eq!(reprinted.stdout, printed.stdout);
    }
}

/// The lines with certificates, with files that exist.
#[test]
fn print_config_keeps_certificates() {
    let certs = config::tests::Certs::new();
    let root = &certs.dir();
    for line in [
        "http --to http://a:1 --tls-cert ROOT/server.pem --tls-key ROOT/server.key --tls-cert \
         ROOT/client.pem --tls-key ROOT/client.key --client-ca ROOT/ca.pem",
        "tcp --to tls://a:1 --tls-dev --client-ca ROOT/ca.pem --client-auth optional",
        "grpc --to grpcs://a:1 --upstream-ca ROOT/ca.pem --upstream-server-name 10.0.0.1",
    ] {
        let line = line.replace("ROOT", root);
        let yaml = done(&format!("{line} --print-config")).stdout;
        let again = config::read(&yaml, "printed.yaml", &|_| None);
        assert_eq!(plan(&line), again.unwrap_or_else(|report| panic!("{report}\n{yaml}")));
    }
}

/// What means nothing is refused with a sentence, whether typed or from the environment, and help
/// does not offer it; what means something is taken.
#[test]
fn a_flag_that_means_nothing_is_refused() {
    for (line, says) in [
        (
            "tcp --to a:1 --upstream-host node",
            "--upstream-host means nothing for tcp: TCP has no Host",
        ),
        ("tcp --to a:1 --timeout 5s", "--timeout means nothing for tcp: TCP has no requests"),
        (
            "tcp --to a:1 --trusted-proxy ::1",
            "--trusted-proxy means nothing for tcp: TCP has no X-F",
        ),
        ("tcp --to a:1 --trusted-hops 0", "--trusted-hops means nothing for tcp"),
        ("http --forward --limit 5/s,of=messages", "--limit: `of=messages` means nothing"),
        ("tcp --to a:1 --limit 5/s,of=messages", "--limit: `of=messages` means nothing for tcp"),
        ("http --to a:1 --limit 5/s,of=bytes,by=user", "--limit: `by=user` means nothing for"),
        ("tcp --to a:1 --limit 5/s,by=header:x", "--limit: `by=header:x` means nothing for tcp"),
        ("grpc --to a:1 --idle-timeout 5m", "--idle-timeout means nothing for grpc"),
        ("http --forward --underscores keep", "--underscores means nothing for a forward proxy"),
        ("http --to a:1 --upstream-ca a.pem", "--upstream-ca is about TLS to nodes, and none"),
        ("ws --to a:1 --upstream-server-name b", "theirs begin with `wss://` or `https://`"),
        ("tcp --to a:1 --upstream-danger-skip-verify", "theirs begin with `tls://`"),
        ("http --to a:1 --health tcp,status=204", "are for a check by a request"),
        ("tcp --to a:1 --sticky sid", "--sticky means nothing for tcp: TCP has no cookies"),
        ("http --forward --sticky sid", "--sticky"),
        ("http --to a:1 --hash-by ip", "--hash-by means nothing for `round_robin`: only"),
        ("http --to a:1 --balance ip_hash --hash-by ip", "goes by the client's address"),
        ("http --to a:1 --balance maglev --hash-by global", "sends everything to one node"),
        ("tcp --to a:1 --balance maglev --hash-by path", "hash by `ip` or, behind TLS, by `sni`"),
        ("tcp --to a:1 --limit 5/s,by=sni", "`by=sni` means nothing for tcp"),
        ("http --to a:1 --balance first --slow-start 1s", "--slow-start means nothing for `first`"),
        ("http --to a:1 --zone a", "write --to URL,zone=a"),
        ("http --to a:1 --subset version=v2", "--subset: no node has this metadata"),
        ("http --to zone=a", "invalid value 'zone=a' for '--to': `zone=` stands behind a node"),
        ("http --to a:1,priority=256", "`256` is not a priority"),
        ("http --to a:1,metadata.=b", "`zone=a` or `metadata.version=v2`"),
        ("http --to a:1 --sticky a;b", "is not the name of a cookie"),
    ] {
        let sentence = refused(line);
        assert!(sentence.contains(says), "{line}: {sentence}");
    }
    for line in [
        "tcp --to tls://a:1 --upstream-danger-skip-verify --upstream-server-name ::1",
        "tcp --to a:1 --limit 5/s,by=global --idle-timeout 5m --health /healthz,status=204",
        "ws --to wss://a --timeout 5s --trusted-hops 1 --upstream-host node",
        "http --forward --trusted-hops 1 --timeout 5s",
    ] {
        plan(line);
    }
    for (command, absent, present) in [
        ("tcp", &["--upstream-host", "--timeout", "--trusted-"][..], "--idle-timeout"),
        ("grpc", &["--idle-timeout"], "--trusted-proxy"),
        ("http", &[], "--underscores"),
    ] {
        let help = done(&format!("{command} --help")).stdout;
        assert!(help.contains(present), "{help}");
        for flag in absent {
            assert!(!help.contains(&format!(" {flag}")), "{command} offers {flag}:\n{help}");
        }
    }
}

/// Every flag of the table is a flag, every key a key.
#[test]
fn the_table_of_meanings_names_what_exists() {
    use crate::plan::meaning::SETTINGS;
    let grammar = Cli::command();
    let all = include_str!("../../tests/config/valid/every-key.yaml");
    assert!(SETTINGS.len() > 10);
    for setting in SETTINGS {
        if let Some(flag) = setting.flag {
            let mut flags = grammar.get_subcommands().flat_map(clap::Command::get_arguments);
            assert!(flags.any(|arg| arg.get_long() == Some(flag)), "{flag}");
        }
        for key in setting.key.iter().flat_map(|(_, path)| path.iter()) {
            assert!(all.contains(&format!("{key}:")), "{key}");
        }
    }
}

#[test]
fn a_one_liner_prints_as_a_person_would_write_it() {
    let yaml = done("http --to http://a:1=2 --to http://b:1 --limit 5/s --print-config").stdout;
    let want = "\
listeners:
- name: http
  protocol: http
  bind: 127.0.0.1:8080
  service: upstream
  limiter:
    rate: 5/s
services:
- id: upstream
  protocol: http
  nodes:
  - address: http://a:1
    weight: 2
  - http://b:1
  load_balancer: weighted_round_robin
";
    assert_eq!(yaml, want);
}

#[test]
fn every_flag_is_in_the_table_of_one_liners() {
    let all = ONE_LINERS.join(" ");
    let mut seen = 0;
    for name in ["http", "ws", "tcp", "grpc"] {
        let grammar = Cli::command();
        for flag in grammar.find_subcommand(name).unwrap().get_arguments() {
            let Some(long) = flag.get_long() else { continue };
            if !["help", "version", "print-config"].contains(&long) {
                assert!(all.contains(&format!("--{long} ")) || all.ends_with(long), "--{long}");
                seen += 1;
            }
        }
    }
    assert!(seen > 90, "{seen} flags");
}

#[test]
fn the_help_of_tcp_counts_by_what_tcp_has() {
    let limit = |command: &str| {
        let help = done(&format!("{command} --help")).stdout;
        help.lines().skip_while(|line| !line.contains("--limit")).take(4).collect::<String>()
    };
    assert!(limit("http").contains("cookie:NAME"), "{}", limit("http"));
    let tcp = limit("tcp");
    assert!(tcp.contains("ip, global") && !tcp.contains("cookie"), "{tcp}");
}

#[test]
fn help_names_every_algorithm() {
    let help = done("http --help").stdout;
    for (name, _) in gwproxy_core::balance::Algorithm::NAMES {
        assert!(help.contains(name), "{name}");
    }
}

/// The README's commands work as they stand there.
#[test]
fn the_commands_of_the_readme_are_understood() {
    let readme = include_str!("../../README.md");
    let commands: Vec<&str> = readme.lines().filter(|line| line.starts_with("gwproxy ")).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let command = command.split('#').next().unwrap();
        plan(command.trim().strip_prefix("gwproxy ").unwrap());
    }
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_its_environment_variable() {
    let mut seen = 0;
    for command in Cli::command().get_subcommands() {
        for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
            let long = flag.get_long().unwrap();
            if ["help", "version"].contains(&long) {
                continue;
            }
            let want = format!("GWPROXY_{}", long.to_uppercase().replace('-', "_"));
            let has = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(has, Some(want), "{} --{long}", command.get_name());
            assert!(flag.get_help().is_some(), "{} --{long} has no help", command.get_name());
            seen += 1;
        }
    }
    assert!(seen > 90, "{seen} flags");
}

/// Every example that help shows is one that works.
#[test]
fn the_examples_of_help_are_understood() {
    let mut seen = 0;
    let names: Vec<String> =
        Cli::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let names = [names, vec!["cert dev".to_owned(), "cert show".to_owned()]].concat();
    for name in names {
        let help = done(&format!("{name} --help"));
        assert_eq!(help.code, 0);
        let examples = help.stdout.split("Examples:").nth(1).unwrap_or_else(|| panic!("{name}"));
        let joined = examples.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            let Some(command) = line.strip_prefix("gwproxy ") else { continue };
            seen += 1;
            // What the shell would do, or files that are not there.
            let command = command.split(['<', '>', '|']).next().unwrap();
            if ["gateway.yaml", "$(", "hash-password"].iter().any(|part| command.contains(part)) {
                continue;
            }
            let output = typed(&command.replace('\'', ""));
            let wrong = matches!(&output, Invocation::Done(output) if output.code != 0);
            let quickstart = command.contains("quickstart.yaml") && !Path::new("examples").exists();
            assert!(!wrong || quickstart, "{command}: {output:?}");
        }
    }
    assert!(seen >= 25, "{seen} examples");
}

/// T31.
#[test]
fn what_is_wrong_is_said_and_pointed_at() {
    for (line, parts) in [
        ("http", &["where to?", "--to http://localhost:3000", "--forward"][..]),
        ("ws", &["--to ws://localhost:9001"]),
        ("http --forward --to http://a:1", &["--forward and --to exclude each other"]),
        ("http --to http://a:1/path", &["'http://a:1/path' for '--to'", "without a path"]),
        ("http --to http://a:1=heavy", &["'http://a:1=heavy'", "`heavy` is not a weight"]),
        ("http --to http://a:1=70000", &["`70000` is not a weight"]),
        ("http --to http://a:99999", &["1 to 65535"]),
        ("http --to ://", &["for '--to'"]),
        ("http --to http://a:1 --to http://a:1", &["twice", "=2"]),
        ("http --to ws://a:1", &["`ws://` is for ws"]),
        ("http --to grpc://a:1", &["`grpc://` is for grpc"]),
        ("ws --to tcp://a:1", &["`ws://`, `wss://`, `http://`, `https://`"]),
        ("tcp --to http://a:1", &["`tcp://`, `tls://`", "`http://` is for http"]),
        ("tcp --to a", &["the port is missing"]),
        ("grpc --to ws://a:1", &["`grpc://`, `grpcs://`, `h2c://`, `http://`, `https://`"]),
        ("http --to http://a:1 --limit 100", &["'100' for '--limit <LIMIT>'", "100/s"]),
        ("http --to http://a:1 --limit 1/s,bursts=2", &["did you mean `burst`?"]),
        ("http --to http://a:1 --breaker half", &["for '--breaker <BREAKER>'", "percentage"]),
        ("http --to http://a:1 --health healthz", &["for '--health <CHECK>'", "write a path"]),
        ("http --to http://a:1 --timeout 15", &["'15' for '--timeout <TIME>'", "`15s`"]),
        ("http --to http://a:1 --grace soon", &["for '--grace <TIME>'"]),
        ("http --to http://a:1 --balance rond_robin", &["did you mean `round_robin`?"]),
        ("http --to http://a:1 --listen example.com:80", &["for '--listen <ADDR>'", ":8080"]),
        ("http --to http://a:1 --workers 0", &["for '--workers <N>'", "1 to 1024"]),
        ("http --to http://a:1 --trusted-proxy 10.0.0.0/33", &["is not a network"]),
        ("http --to http://a:1 --lisen :1", &["--lisen", "'--listen'"]),
        ("http --to http://a:1 --log loud", &["possible values", "debug"]),
        ("htpp --to http://a:1", &["htpp", "'http'"]),
        ("http --to http://a:1 --tls-cert a.pem", &["each --tls-cert needs its --tls-key"]),
        ("http --to http://a:1 --tls-key a.key", &["each --tls-key needs its --tls-cert"]),
        ("http --to http://a:1 --tls-dev --tls-cert a --tls-key b", &["--tls-dev brings its own"]),
        ("http --to http://a:1 --client-ca ca.pem", &["need TLS in front"]),
        ("http --to http://a:1 --tls-dev --client-auth required", &["needs --client-ca"]),
        (
            "http --to https://a --upstream-ca a --upstream-danger-skip-verify",
            &["keep one of the two"],
        ),
        // T31
        ("http --forward --listen :3128", &["open forward proxy on :3128", "--unsafe-open"]),
        ("ws --forward --listen 0.0.0.0:1080", &["open forward proxy", "--user"]),
        ("tcp --forward", &["unexpected argument '--forward'"]),
        ("tcp", &["where to? Give nodes with --to (as `gwproxy tcp --to localhost:5432`)"]),
        ("http --forward --balance random", &["--balance is about the nodes of --to"]),
        ("http --forward --user ann:secret", &["gwproxy hash-password"]),
        ("http --to http://a:1 --user ann:HASH", &["--user is for forward proxies"]),
        ("http --to http://a:1 --allow a", &["--allow is for forward proxies"]),
        ("http --forward --allow http://a", &["is not a destination"]),
        ("http --forward --allow-port 0", &["'0' for '--allow-port <PORT>'", "from 1 to 65535"]),
        ("http --forward --allow-port 443,https", &["'https'", "is not a port", "with commas"]),
        ("tcp --to a:1=0 --to b:1=0", &["every node has the weight 0"]),
        ("http --to http://a:1 --trusted-hops 256", &["from 0 to 255"]),
        ("http --to 3000", &["port without a host; write `localhost:3000`"]),
        ("http --to http://a:1,b:x", &["'b:x' for '--to'"]),
        ("http --to http://a:1 --max-connections 0", &["from 1 up", "`10000`"]),
        ("http --to http://a:1 --max-connections 1k", &["`1k` is not a number"]),
        (
            "http --to https://a --upstream-server-name a/b",
            &["write for example `api.example.com`"],
        ),
        ("http --to http://a:1 --ping 1s", &["--ping"]),
        ("echo http -l unix:/x", &["'unix:/x' for '--listen'", "listens on TCP"]),
        ("echo udp", &["udp", "possible values"]),
        ("run", &["<FILE>"]),
        ("", &["Usage", "Commands"]),
    ] {
        let told = refused(&line.replace("HASH", HASH));
        for part in parts {
            assert!(told.contains(part), "{line}: {told}");
        }
    }
}

/// D16, D17.
#[test]
fn limits_that_are_none_are_pointed_at() {
    for (line, parts) in [
        (
            "http --to http://a:1 --max-connections-per-ip some",
            &["`some` is not a number", "`512`"][..],
        ),
        ("http --to http://a:1 --memory-limit 1MiB", &["at least 16MiB"]),
        ("http --to http://a:1 --memory-limit lots", &["`auto`", "`off`"]),
    ] {
        let told = refused(line);
        for part in parts {
            assert!(told.contains(part), "{line}: {told}");
        }
    }
}

#[test]
fn what_a_proxy_header_cannot_mean_is_said() {
    for (line, parts) in [
        (
            "tcp --to a:1 --proxy-protocol optional",
            &["claim any address", "--proxy-protocol-from"][..],
        ),
        (
            "tcp --to a:1 -l unix:/x --proxy-protocol-from 10.0.0.1",
            &["has no address", "take it out"],
        ),
        ("tcp --to a:1 --proxy-protocol v2", &["possible values: required, optional"]),
        ("tcp --to a:1 --proxy-protocol-from 10.0.0.0/33", &["is not a network"]),
        ("tcp --to a:1 --send-proxy", &["--send-proxy", "v1, v2"]),
        ("http --forward --send-proxy v2", &["--send-proxy is about the nodes of --to"]),
    ] {
        let told = refused(line);
        for part in parts {
            assert!(told.contains(part), "{line}: {told}");
        }
    }
}

/// T61.
#[test]
fn a_password_is_never_repeated() {
    let told = refused("http --forward --user ann:correct-horse");
    // clap names the value; what it names must not be the password.
    assert!(!told.contains("correct-horse"), "{told}");
    for node in ["http://ann:correct-horse@a:1", "ann:correct-horse@a:1", "http://correct@horse@a"]
    {
        let told = refused(&format!("http --to {node}"));
        assert!(!told.contains("correct") && told.contains("…@a"), "{told}");
    }
}

#[test]
fn flags_reach_the_plan() {
    let plan = plan(
        "ws --listen :9000 --to ws://a:1 --to wss://b:2=4 --limit 5/s --max-connections 7 \
         --idle-timeout 90s --connect-timeout 1s --timeout 3s --ping 0s --workers 2 --grace 4s \
         --upstream-host node --log debug --admin 127.0.0.1:1",
    );
    let [listener] = &plan.listeners[..] else { panic!() };
    let [service] = &plan.services[..] else { panic!() };
    assert_eq!((listener.protocol, &*listener.name), (Protocol::Ws, "ws"));
    assert_eq!(listener.bind.to_string(), ":9000");
    assert!(matches!(listener.action, Action::Serve(id) if id.index() == 0));
    assert_eq!(listener.limiter.iter().flat_map(gwproxy_core::limit::Limits::iter).count(), 1);
    assert_eq!((listener.max_connections, listener.timeouts.idle.as_secs()), (7, 90));
    assert_eq!(listener.websocket.ping, None);
    assert_eq!(service.nodes[1].target.to_string(), "wss://b:2");
    assert_eq!(service.nodes[1].weight.get(), 4);
    assert_eq!(service.timeouts.connect.as_secs(), 1);
    assert_eq!(service.timeouts.response, Some(std::time::Duration::from_secs(3)));
    assert_eq!((plan.workers, plan.grace.as_secs(), plan.log.as_str()), (2, 4, "debug"));
    assert_eq!(plan.admin.unwrap().to_string(), "127.0.0.1:1");
}

#[test]
fn tools() {
    let Invocation::Echo(echo) = typed("echo ws --listen :9001 --name one --tls-dev") else {
        panic!()
    };
    assert_eq!(
        (echo.kind, &*echo.name, echo.listen.to_string()),
        (EchoKind::Ws, "one", ":9001".into())
    );
    assert!(echo.tls.unwrap().dev);
    let Invocation::CertDev { names } = typed("cert dev a.test 10.0.0.1") else { panic!() };
    assert_eq!(names, ["a.test", "10.0.0.1"]);
    assert!(matches!(typed("cert show --ca"), Invocation::CertShow { ca_only: true }));
    assert!(matches!(typed("cert show"), Invocation::CertShow { ca_only: false }));
    assert_eq!(done("--version").code, 0);
}

fn hashed(password: &str) -> Output {
    match parse(["gwproxy", "hash-password"], &mut password.as_bytes()) {
        Invocation::Done(output) => output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hashed_password_is_what_user_takes() {
    let hash = hashed("correct horse\r\nnot this\n").stdout;
    let parsed = PasswordHash::new(hash.trim_end()).unwrap();
    assert!(Argon2::default().verify_password(b"correct horse", &parsed).is_ok());
    assert!(Argon2::default().verify_password(b"wrong", &parsed).is_err());
    let user = format!("ann:{}", hash.trim_end());
    let Action::Forward(rules) =
        &plan(&format!("http --forward --user {user}")).listeners[0].action
    else {
        panic!()
    };
    assert_eq!(rules.users[0].hash.expose(), hash.trim_end());
    assert_eq!(hashed("").code, EXIT_USAGE);
    assert_eq!(hashed("\n").code, EXIT_USAGE);
    assert_eq!(hashed(&"x".repeat(2000)).code, EXIT_USAGE);
    assert_eq!(hashed(&"x".repeat(1024)).code, 0);
}

#[test]
fn the_password_of_the_example_is_the_one_it_says() {
    let text = include_str!("../../examples/forward.yaml");
    let hash = text.split("ann:").nth(2).or_else(|| text.split("'ann:").nth(1)).unwrap();
    let hash = hash.split('\'').next().unwrap();
    let parsed = PasswordHash::new(hash).unwrap();
    assert!(Argon2::default().verify_password(b"secret", &parsed).is_ok());
}

fn example(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_tells_a_human_and_a_machine() {
    let right = example("examples/quickstart.yaml");
    let output = done(&format!("check {right}"));
    assert_eq!((output.code, &*output.stdout), (0, "ok: 4 listeners, 2 routes, 4 services\n"));
    assert_eq!(done(&format!("check {right} --format json")).stdout, "[]\n");

    let wrong = example("tests/config/invalid/unknown-key.yaml");
    let output = done(&format!("check {wrong}"));
    assert_eq!((output.code, &*output.stderr), (EXIT_USAGE, ""));
    let want = format!("{wrong}:2:5: there is no key `protocl` here; did you mean `protocol`?\n");
    assert!(output.stdout.starts_with(&want), "{}", output.stdout);
    let output = done(&format!("check --format json {wrong}"));
    assert_eq!(output.code, EXIT_USAGE);
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let keys: HashSet<_> = json[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["file", "line", "column", "code", "message"].map(String::from).into());
    assert_eq!(done("check no/such/file.yaml").code, EXIT_USAGE);
}

#[test]
fn run_loads_as_check_does_and_flags_win() {
    let file = example("examples/quickstart.yaml");
    let plain = plan(&format!("run {file}"));
    assert_eq!(plain, config::load(Path::new(&file), &|_| None).unwrap());
    let louder = plan(&format!("run {file} --log debug --workers 9 --access-log off"));
    assert_eq!((louder.log.as_str(), louder.workers), ("debug", 9));
    assert_eq!(louder.listeners, plain.listeners);
    let told = refused(&format!("run {}", example("tests/config/invalid/unknown-key.yaml")));
    assert!(told.contains("did you mean `protocol`?"), "{told}");
    let printed = done(&format!("run {file} --print-config --grace 7s")).stdout;
    assert_eq!(config::read(&printed, "x", &|_| None).unwrap().grace.as_secs(), 7);
}
