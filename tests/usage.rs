//! Bad input, on the command line and in files: one sentence that points at the value and says
//! what to write instead, and an exit code that scripts can rely on.

use serde_json::Value;

use crate::support::{
    Conn, Origin, Proxy, echo, eventually, gwproxy, gwproxy_with, home, run, wrapped,
};

/// Runs it; wrong usage, with all of this in what it says, and nothing on standard output.
#[track_caller]
fn refused(arguments: &[&str], says: &[&str]) {
    let done = gwproxy(arguments);
    assert_eq!(done.code, Some(2), "{arguments:?}: {}{}", done.stderr, done.text());
    for part in says {
        assert!(done.stderr.contains(part), "{arguments:?} does not say `{part}`: {}", done.stderr);
    }
    assert!(done.stdout.is_empty(), "{arguments:?}: {}", done.text());
}

#[test]
fn where_to_is_asked_for_once() {
    for (protocol, node) in [("http", "http://127.0.0.1:9"), ("ws", "ws://127.0.0.1:9")] {
        refused(&[protocol], &["where to?", "--to", "--forward", &format!("gwproxy {protocol}")]);
        let both = [protocol, "--forward", "--to", node];
        refused(&both, &["--forward and --to exclude each other"]);
    }
    // What is no forward proxy does not speak of it.
    for protocol in ["tcp", "grpc"] {
        let done = gwproxy(&[protocol]);
        assert_eq!(done.code, Some(2));
        assert!(done.stderr.contains(&format!("gwproxy {protocol} --to")), "{}", done.stderr);
        assert!(!done.stderr.contains("--forward"), "{}", done.stderr);
    }
}

#[test]
fn a_malformed_value_is_pointed_at() {
    let to = |value| ["http", "--to", value];
    for (value, why) in [
        ("a:b:c", "host:port"),
        ("http://127.0.0.1:99999", "1 to 65535"),
        ("http://", "the host is not a name"),
        ("ftp://127.0.0.1:9", "nodes are `http://`, `https://`, `h2c://`"),
        ("ws://127.0.0.1:9", "`ws://` is for ws"),
        ("http://127.0.0.1:9/path", "without a path"),
        ("http://127.0.0.1:9=x", "`x` is not a weight"),
        ("http://127.0.0.1:9=-1", "`-1` is not a weight"),
        ("http://127.0.0.1:9=65536", "`65536` is not a weight"),
    ] {
        refused(&to(value), &[&format!("invalid value '{value}' for '--to'"), why]);
    }
    // A password is not repeated into logs and terminals.
    let secret = gwproxy(&to("http://ann:hunter2@127.0.0.1:9"));
    assert_eq!(secret.code, Some(2));
    assert!(!secret.stderr.replace("'http://ann:hunter2@127.0.0.1:9'", "").contains("hunter2"));
    for (flag, value, why) in [
        ("--limit", "100", "the time is missing"),
        ("--limit", "x/s", "`x/s` is not a rate"),
        ("--limit", "100/s,brust=5", "did you mean `burst`?"),
        ("--limit", "100/s,by=colour", "colour"),
        ("--timeout", "5", "add a unit"),
        ("--timeout", "5q", "units are"),
        ("--timeout", "-5s", "`-5s`"),
        ("--breaker", "150%", "`150%` is not a percentage"),
        ("--breaker", "50%,widnow=1s", "did you mean `window`?"),
        ("--balance", "randm", "did you mean `random`?"),
        ("--health", "healthz", "write a path as `/healthz`"),
        ("--listen", "1.2.3.4:99999", "is not an address to listen on"),
        ("--workers", "0", "from 1 to 1024"),
        ("--workers", "two", "`two`"),
        ("--log", "loud", "possible values: off, error"),
        ("--max-connections", "0", "0"),
        ("--trusted-proxy", "10.0.0.0/33", "10.0.0.0/33"),
        ("--upstream-host", "a b", "a b"),
    ] {
        let joined = format!("{flag}={value}");
        let arguments = ["http", "--to", "http://127.0.0.1:9", &joined];
        refused(&arguments, &[&format!("invalid value '{value}' for '{flag}"), why]);
    }
}

#[test]
fn a_misspelt_word_is_recognised() {
    refused(&["htp", "--to", "http://127.0.0.1:9"], &["'htp'", "'http'"]);
    let flag = ["http", "--to", "http://127.0.0.1:9", "--balnce", "random"];
    refused(&flag, &["'--balnce'", "'--balance'"]);
    refused(&["echo", "htttp"], &["'htttp'", "http"]);
}

#[test]
fn flags_that_do_not_go_together_are_told() {
    let with = |more: &[&'static str]| {
        let mut all = vec!["http", "--to", "http://127.0.0.1:9"];
        all.extend(more);
        all
    };
    refused(&with(&["--tls-cert", "x.pem"]), &["needs its --tls-key"]);
    refused(&with(&["--tls-key", "x.key"]), &["needs its --tls-cert"]);
    refused(
        &with(&["--tls-dev", "--tls-cert", "x.pem", "--tls-key", "x.key"]),
        &["--tls-dev brings its own certificate"],
    );
    refused(&with(&["--client-ca", "x.pem"]), &["client certificates need TLS in front"]);
    refused(&with(&["--allow", "a.test"]), &["--allow is for forward proxies"]);
    refused(&with(&["--to", "http://127.0.0.1:9"]), &["stands there twice"]);
    // T31: no stranger is served by accident.
    refused(&["http", "--forward", "--listen", ":3128"], &["open forward proxy", "--unsafe-open"]);
    refused(&["http", "--forward", "--listen", "0.0.0.0:3128"], &["--user NAME:HASH"]);
}

/// Every flag has its environment variable, and what is typed wins.
#[test]
fn the_environment_stands_for_flags() {
    let print = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut all = arguments.to_vec();
        all.push("--print-config");
        gwproxy_with(&all, environment).ok().text()
    };
    let flags =
        print(&["http", "--to", "http://127.0.0.1:9=2", "--limit", "5/s", "--timeout", "3s"], &[]);
    let environment = [
        ("GWPROXY_TO", "http://127.0.0.1:9=2"),
        ("GWPROXY_LIMIT", "5/s"),
        ("GWPROXY_TIMEOUT", "3s"),
    ];
    assert_eq!(print(&["http"], &environment), flags);
    assert_ne!(print(&["http", "--timeout", "4s"], &environment), flags);
    let wrong = gwproxy_with(&["http"], &[("GWPROXY_TO", "ftp://a:1")]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("ftp://a:1"), "{}", wrong.stderr);
}

/// A variable that nobody reads does not stop a start; it is told in one line of the log. One that
/// the file takes a value from is read.
#[test]
fn a_variable_that_nobody_reads_is_told() {
    let home = home();
    let mut command = wrapped(&["env"], &home);
    command.args(["run", "-"]).env("GWPROXY_LISTN", ":1").env("GWPROXY_OF_MINE", "127.0.0.1:0");
    let file = "listeners: [{bind: '${GWPROXY_OF_MINE}', service: a}]\n\
                services: [{id: a, nodes: ['no.such.host.invalid:1']}]";
    let done = run(&mut command, file.as_bytes());
    let told: Vec<&str> = done.stderr.lines().filter(|line| line.contains("WARN")).collect();
    let [line] = &told[..] else { panic!("{}", done.stderr) };
    assert!(line.contains("GWPROXY_LISTN (did you mean GWPROXY_LISTEN?); it is ignored"), "{line}");
    // It went on to start.
    assert_eq!(done.code, Some(1), "{}", done.stderr);
}

/// A node that is down does not flood the log: of what fails alike the first is told, then how
/// many more there were. The access log has them all.
#[test]
fn failures_of_one_kind_are_told_once_a_second() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = closed.local_addr().expect("an address").to_string();
    drop(closed);
    for (protocol, said) in [("http", "upstream_refused"), ("tcp", "upstream_refused")] {
        let arguments = [protocol, "--listen", "127.0.0.1:0", "--to", &to, "--access-log", "-"];
        let proxy = Proxy::start(&arguments);
        let mut sent = 0;
        eventually("some are left out", || {
            for _ in 0..20 {
                let mut conn = Conn::open(proxy.addr(0));
                conn.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                let _ = std::io::Read::read_to_end(&mut conn.stream, &mut Vec::new());
                sent += 1;
            }
            proxy.stderr().contains(&format!("more failed like that: {said}")).then_some(())
        });
        let log = proxy.stderr();
        let lines = log.lines().filter(|line| line.contains("WARN")).count();
        assert!(lines < sent, "{lines} lines for {sent} failures:\n{log}");
        proxy.wait_lines(sent);
    }
}

/// B.3: what `check` says is a place and a sentence; its exit code is the verdict.
#[test]
fn b_3_check_points_into_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let good = file(
        "good.yaml",
        "listeners: [{bind: ':8080'}]\nroutes: [{id: a, path: /, service: b}]\n\
         services: [{id: b, nodes: ['127.0.0.1:9']}]\n",
    );
    let done = gwproxy(&["check", &good]).ok();
    assert_eq!(done.text(), "ok: 1 listener, 1 route, 1 service\n");
    assert_eq!(gwproxy(&["check", &good, "--format", "json"]).json(), Value::Array(Vec::new()));

    let bad = file(
        "bad.yaml",
        "listeners: [{bind: ':8080'}]\nroutes:\n  - {id: a, pth: /, service: c}\n\
         services:\n  - id: b\n    nodes: ['127.0.0.1:9']\n    timeouts: {connect: 5}\n",
    );
    let done = gwproxy(&["check", &bad]);
    assert_eq!(done.code, Some(2));
    let said = done.text();
    for part in [
        format!("{bad}:3:13: "),
        "did you mean `path`?".into(),
        format!("{bad}:7:25: "),
        "`5`".into(),
    ] {
        assert!(said.contains(&part), "no `{part}` in {said}");
    }
    let done = gwproxy(&["check", &bad, "--format", "json"]);
    assert_eq!(done.code, Some(2));
    let found: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let first = &found[0];
    assert_eq!((&first["line"], &first["column"]), (&3.into(), &13.into()));
    assert_eq!((&first["code"], &first["file"]), (&"unknown_key".into(), &bad.clone().into()));
    assert!(found.as_array().expect("a list").len() >= 2, "all at once: {found}");

    // `run` says the same, and starts nothing.
    let run = gwproxy(&["run", &bad]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains(&format!("{bad}:3:13: ")), "{}", run.stderr);
    for command in ["run", "check"] {
        let done = gwproxy(&[command, "/no/such/file.yaml"]);
        assert_eq!(done.code, Some(2));
        let said = done.text() + &done.stderr;
        assert!(said.contains("/no/such/file.yaml") && said.contains("no such file"), "{said}");
    }
}

/// B.3: the file that flags mean is accepted, means the same again, and says so for every command.
#[test]
fn b_3_print_config_is_a_file_that_runs() {
    let authority = crate::support::Authority::new();
    let pair = authority.leaf("server", &["localhost"]).flags();
    let pair = pair.each_ref().map(String::as_str);
    let node = ["--to", "127.0.0.1:9=3", "--to", "127.0.0.1:10", "--balance", "random"];
    let shared = [
        "--listen",
        "127.0.0.1:0",
        "--limit",
        "5/s,burst=9",
        "--breaker",
        "40%,min=7",
        "--health",
        "tcp,interval=3s",
        "--connect-timeout",
        "300ms",
        "--max-connections",
        "77",
        "--workers",
        "3",
        "--access-log",
        "off",
        "--grace",
        "4s",
        "--log",
        "warn",
        "--admin",
        "127.0.0.1:0",
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let mut commands = Vec::new();
    for protocol in ["http", "ws", "tcp", "grpc"] {
        let plain: Vec<&str> = [&[protocol][..], &node[..]].concat();
        let full: Vec<&str> = [&[protocol], &node[..], &shared[..], &pair[..]].concat();
        commands.extend([plain, full]);
        // What means something for some of them only.
        if protocol != "tcp" {
            let requests = ["--timeout", "3s", "--trusted-proxy", "10.0.0.0/8"];
            commands.push([&[protocol], &node[..], &requests[..]].concat());
        }
        if protocol != "grpc" {
            commands.push([&[protocol], &node[..], &["--idle-timeout", "9s"]].concat());
        }
    }
    for protocol in ["http", "ws"] {
        let forward = [protocol, "--forward", "--listen", "127.0.0.1:0", "--allow", "*.test"];
        commands.push(forward.to_vec());
    }
    commands.push(vec!["http", "--to", "https://127.0.0.1:9", "--upstream-danger-skip-verify"]);
    commands.push(vec!["ws", "--to", "ws://127.0.0.1:9", "--ping", "7s", "--max-message", "1MiB"]);
    for (number, command) in commands.iter().enumerate() {
        let mut printing = command.clone();
        printing.push("--print-config");
        let printed = gwproxy(&printing);
        assert_eq!(printed.code, Some(0), "{command:?}: {}", printed.stderr);
        let path = dir.path().join(format!("{number}.yaml"));
        std::fs::write(&path, &printed.stdout).expect("a file can be written");
        let path = path.to_str().expect("UTF-8");
        let checked = gwproxy(&["check", path]);
        assert_eq!(checked.code, Some(0), "{command:?}: {}", checked.text());
        let again = gwproxy(&["run", path, "--print-config"]).ok();
        assert_eq!(again.text(), printed.text(), "{command:?}");
        for stdin in ["-", "/dev/stdin"] {
            let home = home();
            let mut piped = wrapped(&[], &home);
            piped.args(["run", stdin, "--print-config"]);
            let again = run(&mut piped, &printed.stdout).ok();
            assert_eq!(again.text(), printed.text(), "{stdin}: {command:?}");
        }
    }
}

/// B.3: and it behaves the same, down to the limit and the weights.
#[test]
fn b_3_the_printed_file_behaves_as_the_flags() {
    let (one, two) = (echo("http", &["--name", "one"]), echo("http", &["--name", "two"]));
    let (to_one, to_two) = (one.url("http", "") + "=2", two.url("http", ""));
    let flags = [
        "http",
        "--listen",
        "127.0.0.1:0",
        "--to",
        &to_one,
        "--to",
        &to_two,
        "--limit",
        "6/h,burst=6",
        "--upstream-host",
        "node",
        "--access-log",
        "off",
    ];
    let answers = |proxy: &Proxy| {
        let mut answers = Vec::new();
        for _ in 0..7 {
            let answer = Conn::open(proxy.addr(0)).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let left = answer.fields.get("x-ratelimit-remaining").unwrap_or("-").to_owned();
            let node = answer.fields.get("x-echo-node").unwrap_or("-").to_owned();
            answers.push((answer.status(), left, node));
        }
        answers
    };
    let by_flags = answers(&Proxy::start(&flags));
    let mut printing = flags.to_vec();
    printing.push("--print-config");
    let yaml = gwproxy(&printing).ok().text();
    let by_file = answers(&Proxy::run_file(&yaml));
    assert_eq!(by_file, by_flags);
    assert_eq!(by_flags.iter().filter(|(status, ..)| *status == 200).count(), 6);
    assert_eq!(by_flags.iter().filter(|(.., node)| node == "one").count(), 4);
    assert_eq!(by_flags.last().map(|(status, ..)| *status), Some(429));
}

/// `${NAME}` in a file is the environment; one that is not set is an error with its name.
#[test]
fn a_file_reads_the_environment() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("gateway.yaml");
    let yaml = "listeners: [{bind: '${BIND:-127.0.0.1:0}', service: app}]\n\
                services: [{id: app, nodes: ['${NODE}']}]\n";
    std::fs::write(&path, yaml).expect("a file can be written");
    let path = path.to_str().expect("UTF-8");
    let unset = gwproxy(&["check", path]);
    assert_eq!(unset.code, Some(2));
    assert!(unset.text().contains("NODE") && unset.text().contains(":2:"), "{}", unset.text());
    let set = gwproxy_with(&["check", path], &[("NODE", &origin.url())]);
    assert_eq!(set.code, Some(0), "{}", set.text());
}

/// Every command says what it is for, with an example; nothing of it needs a terminal.
#[test]
fn help_has_an_example_for_every_command() {
    let help = gwproxy(&["--help"]).ok().text();
    let commands = ["http", "ws", "tcp", "grpc", "run", "check", "echo", "cert", "hash-password"];
    for command in commands {
        assert!(help.contains(&format!("  {command} ")), "{help}");
        let help = gwproxy(&[command, "--help"]).ok().text();
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains(&format!("gwproxy {command}")), "{command}: {help}");
    }
    assert_eq!(gwproxy(&["help", "http"]).ok().text(), gwproxy(&["http", "--help"]).ok().text());
    // What an echo server can be asked for stands in its own help.
    for (kind, control) in [("http", "/status/503"), ("ws", "/push"), ("tcp", ""), ("grpc", "")] {
        let help = gwproxy(&["echo", kind, "--help"]).ok().text();
        assert!(help.contains(&format!("What echo {kind} can be asked for:")), "{help}");
        assert!(help.contains(control), "{help}");
    }
    assert!(gwproxy(&["--version"]).ok().text().starts_with("gwproxy "));
}

/// A refusal of what nobody typed says where it comes from; what is typed wins.
#[test]
fn a_value_of_the_environment_is_said_to_be_one() {
    let to = ["http", "--to", "http://127.0.0.1:9"];
    for (arguments, name, value, flag, why) in [
        (&to[..], "GWPROXY_TIMEOUT", "15", "--timeout", "add a unit"),
        (&to, "GWPROXY_TLS_DEV", "maybe", "--tls-dev", "`true` or `false`"),
        (&to, "GWPROXY_MAX_CONNECTIONS", "0", "--max-connections", "from 1 up"),
        (&to, "GWPROXY_LOG", "loud", "--log", "possible values: off, error"),
        (&to, "GWPROXY_FORWARD", "1", "--forward", "exclude each other"),
        (&to, "GWPROXY_ALLOW", "a.test", "--allow", "is for forward proxies"),
        (&to, "GWPROXY_TLS_CERT", "a.pem", "--tls-cert", "needs its --tls-key"),
        (&to, "GWPROXY_CLIENT_CA", "a.pem", "--client-ca", "need TLS in front"),
        (&["http"], "GWPROXY_TO", "ftp://a:1", "--to", "`ftp://a:1` does not fit http"),
        (&["http", "--forward"], "GWPROXY_USER", "ann:hunter2", "--user", "must be a hash"),
        (&["run", "examples/quickstart.yaml"], "GWPROXY_WORKERS", "0", "--workers", "1 to 1024"),
    ] {
        let done = gwproxy_with(arguments, &[(name, value)]);
        assert_eq!(done.code, Some(2), "{name}: {}", done.stderr);
        let tip = format!("tip: {flag} was not typed: it is the environment's {name}");
        assert!(done.stderr.contains(why) && done.stderr.contains(&tip), "{}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    }
    // `--timeout` is typed here, so the variable had no say.
    for typed in [&["--timeout", "7"][..], &["--timeout=7"]] {
        let done = gwproxy_with(&[&to, typed].concat(), &[("GWPROXY_TIMEOUT", "15")]);
        assert_eq!(done.code, Some(2));
        assert!(!done.stderr.contains("GWPROXY_TIMEOUT"), "{}", done.stderr);
    }
}
