//! The file, read and printed: golden pairs, every key, hostile input.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gwproxy_core::units::Size;
use proptest::prelude::*;

use super::*;
use crate::plan::{Action, Ambiguous, HostPolicy, Protocol};

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("9000".into()),
        "SECRET" => Some("hunter2: {".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// The files that `examples/tls.yaml` names: one certificate that signed itself, for all of them.
pub(crate) struct Certs(tempfile::TempDir);

impl Certs {
    pub(crate) fn new() -> Self {
        let certs = Self(tempfile::tempdir().unwrap());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for stem in ["ca", "server", "client"] {
            std::fs::write(certs.0.path().join(format!("{stem}.pem")), made.cert.pem()).unwrap();
            let key = made.signing_key.serialize_pem();
            std::fs::write(certs.0.path().join(format!("{stem}.key")), key).unwrap();
        }
        certs
    }

    pub(crate) fn dir(&self) -> String {
        self.0.path().display().to_string()
    }

    /// The environment of [`env`], with these.
    fn env(&self, name: &str) -> Option<String> {
        if name == "CERTS" { Some(self.dir()) } else { env(name) }
    }
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = std::fs::read_dir(&directory).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn read_at(path: &Path) -> Result<Plan, Report> {
    let name = path.file_name().unwrap().to_str().unwrap();
    read(&std::fs::read_to_string(path).unwrap(), name, &env)
}

/// A file that is there and no certificate, and a key that is not of its certificate: told at the
/// path that is wrong, as a start would tell it.
#[test]
fn certificates_are_judged_as_a_start_does() {
    let (ours, theirs) = (Certs::new(), Certs::new());
    let (ours, theirs) = (ours.dir(), theirs.dir());
    std::fs::write(format!("{ours}/torn.pem"), "-----BEGIN CERTIFICATE-----\nAA").unwrap();
    for (tls, places) in [
        (format!("{{cert: {ours}/server.pem, key: {ours}/server.key}}"), &[][..]),
        (format!("{{cert: {ours}/torn.pem, key: {ours}/ca.pem}}"), &["torn.pem", "ca.pem"][..]),
        (format!("{{cert: {ours}/server.pem, key: {theirs}/server.key}}"), &["server.key"][..]),
    ] {
        let text =
            format!("listeners:\n- {{bind: ':1', forward: {{}}, tls: {{certificates: [{tls}]}}}}");
        let text = text.replace("':1'", "'127.0.0.1:1'");
        let report = read(&text, "a.yaml", &env).err();
        let told: Vec<_> = report.iter().flat_map(Report::diagnostics).collect();
        assert_eq!(told.len(), places.len(), "{told:?}");
        let line = text.lines().nth(1).unwrap();
        for (one, path) in told.iter().zip(places) {
            assert_eq!((one.code, one.place.line), (Code::FileUnreadable, 2), "{}", one.message);
            let (column, width) = (one.place.column as usize - 1, one.place.width as usize);
            assert!(line[column..column + width].ends_with(path), "{one:?}");
        }
    }
}

/// T31, T62: `name.yaml` must give exactly `name.txt`. With `GWPROXY_BLESS=1` the texts are written
/// instead, to be read before they are committed.
#[test]
fn wrong_files_are_told_as_they_were() {
    let files = files("tests/config/invalid", "yaml");
    assert!(files.len() >= 25, "{} files", files.len());
    for path in files {
        let told = read_at(&path).map(|_| ()).expect_err(&path.display().to_string()).to_string();
        let golden = path.with_extension("txt");
        if std::env::var_os("GWPROXY_BLESS").is_some() {
            std::fs::write(&golden, &told).unwrap();
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(told, want, "{}", path.display());
    }
}

#[test]
fn right_files_load_and_print_to_the_same_plan() {
    let mut files = files("tests/config/valid", "yaml");
    assert!(files.len() >= 3, "{} files", files.len());
    let examples = self::files("examples", "yaml");
    assert!(examples.len() >= 8, "{} examples", examples.len());
    files.extend(examples);
    let certs = Certs::new();
    let env = |name: &str| certs.env(name);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let plan = read(&text, &path.display().to_string(), &env);
        let plan = plan.unwrap_or_else(|report| panic!("{report}"));
        let printed = print(&plan).unwrap();
        let again = read(&printed, "printed.yaml", &env)
            .unwrap_or_else(|report| panic!("{}: {report}\n{printed}", path.display()));
        assert_eq!(plan, again, "{}\n{printed}", path.display());
    }
}

#[test]
fn every_code_of_a_report_is_told_by_some_file() {
    let mut seen = std::collections::HashSet::new();
    for path in files("tests/config/invalid", "yaml") {
        let report = read_at(&path).unwrap_err();
        seen.extend(report.diagnostics().iter().map(|one| one.code));
    }
    for code in Code::ALL {
        // A file past the size limit is too large to keep as a fixture; it is tested below.
        assert!(code == Code::TooLarge || seen.contains(&code), "{code:?} is told by no file");
    }
}

#[test]
fn every_key_reaches_the_plan() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/every-key.yaml");
    let (certs, text) = (Certs::new(), std::fs::read_to_string(&path).unwrap());
    let plan = read(&text, "every-key.yaml", &|name| certs.env(name));
    let plan = plan.unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((plan.workers, plan.grace), (3, Duration::from_secs(10)));
    assert_eq!(plan.admin.as_ref().unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!((plan.trusted_proxies.networks.len(), plan.trusted_proxies.hops), (2, 1));
    let [web, proxy, raw] = &plan.listeners[..] else { panic!("{:?}", plan.listeners) };
    assert_eq!((web.protocol, &web.action), (Protocol::Http, &Action::Route));
    assert_eq!((web.max_connections, web.max_connections_per_ip), (500, Some(20)));
    assert_eq!(plan.memory_limit, "512MiB".parse().unwrap());
    let proxied = web.proxy_protocol.as_ref().unwrap();
    assert_eq!((proxied.from.len(), proxied.want), (2, crate::plan::Want::Optional));
    assert_eq!((web.encoded_slash, web.underscores), (Ambiguous::Keep, Ambiguous::Keep));
    assert_eq!(web.timeouts.header, Duration::from_secs(7));
    assert_eq!(web.half_close, crate::plan::HalfClose::Allow);
    assert_eq!(web.timeouts.max_age, Some(Duration::from_hours(2)));
    assert_eq!(web.max_body_size, Some(Size::bytes(2 << 20)));
    assert_eq!(plan.routes[0].max_body_size, Some(Size::bytes(1 << 30)));
    assert_eq!(web.websocket.ping, Some(Duration::from_secs(20)));
    assert_eq!(web.tls.as_ref().unwrap().settings.certificates.len(), 1);
    let Action::Forward(forward) = &proxy.action else { panic!("{:?}", proxy.action) };
    assert_eq!((forward.users.len(), forward.allow.len(), forward.deny.len()), (1, 2, 1));
    assert_eq!(forward.timeouts.connect, Duration::from_secs(1));
    assert!(matches!(raw.action, Action::Serve(id) if id.index() == 1));
    assert_eq!(plan.routes.len(), 2, "a disabled route is left out");
    assert_eq!(plan.routes[0].rewrite_prefix.as_ref().unwrap().as_str(), "/v2");
    assert_eq!(plan.routes[1].rewrite_prefix.as_ref().unwrap().as_str(), "/");
    let limits: Vec<_> = plan.routes[0].limiter.as_ref().unwrap().iter().collect();
    assert_eq!(limits[0].to_string(), "5/min,burst=10,by=ip");
    let app = &plan.services[0];
    assert_eq!(app.nodes[0].metadata["zone"], "a");
    assert_eq!(app.nodes[0].weight.get(), 3);
    assert!(!app.nodes[1].enabled);
    assert_eq!(app.nodes[2].target.to_string(), "http://10.0.0.3:9000");
    assert_eq!((app.nodes[0].priority, app.nodes[2].priority), (0, 2));
    let balance = &app.load_balancer.balance;
    assert_eq!(balance.algorithm.as_str(), "maglev");
    assert_eq!(balance.hash_by.as_ref().unwrap().to_string(), "header:x-user");
    assert_eq!(balance.slow_start.get(), Duration::from_secs(30));
    assert_eq!(balance.panic_threshold.basis_points(), 5_000);
    assert_eq!(balance.zone.as_ref().unwrap().to_string(), "a,full_at=100");
    let sticky = app.load_balancer.sticky.as_ref().unwrap();
    assert!(!sticky.http_only && sticky.secure == Some(true) && sticky.secret.is_some());
    assert_eq!((&*app.subset["version"], &*plan.routes[0].subset["zone"]), ("1.10", "a"));
    assert_eq!(app.upstream_host, HostPolicy::Fixed("internal.example".into()));
    assert_eq!((app.max_attempts, app.timeouts.response), (4, Some(Duration::from_secs(9))));
    assert_eq!(app.proxy_protocol, Some(crate::plan::ProxyVersion::V2));
    assert_eq!(app.grpc.max_deadline.get(), Duration::from_mins(1));
    assert!(plan.services[1].tls.danger_skip_verify && app.tls.certificate.is_some());
    assert!(app.tls.ca.is_some() && app.breaker.is_some() && app.health_check.is_some());

    // A key of the skeleton that this file does not use is a key without a test.
    let skeleton = include_str!("file.rs");
    let keys: Vec<_> = skeleton
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(": "))
        .map(|(key, _)| key)
        .filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        assert!(text.contains(&format!("{key}:")), "`{key}` is not in {}", path.display());
    }
}

#[test]
fn json_is_one_array_of_places() {
    let report =
        read("listeners:\n  - binf: :80\n    protocol: forward\n", "a.yaml", &env).unwrap_err();
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let [one] = &json.as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(
        (&one["file"], &one["line"], &one["column"]),
        (&"a.yaml".into(), &2.into(), &5.into())
    );
    assert_eq!(one["code"], "unknown_key");
    assert_eq!(one["message"], "there is no key `binf` here; did you mean `bind`?");
}

#[test]
fn the_environment_is_a_value_and_never_structure() {
    let text = "listeners: [{bind: ':80', service: a}]\nservices: [{id: a, nodes: ['b:1'], \
                upstream_host: '${SECRET}'}]\n";
    let report = read(text, "a.yaml", &env).unwrap_err().to_string();
    assert!(report.contains("is not a host"), "{report}");
    let text = "max: 1\nlisteners:\n  - bind: 127.0.0.1:${PORT}\n    service: a\n    \
                max_connections: ${PORT}\nservices: [{id: a, nodes: ['b:1']}]\n";
    let plan = read(&text["max: 1\n".len()..], "a.yaml", &env).unwrap();
    assert_eq!(plan.listeners[0].bind.to_string(), "127.0.0.1:9000");
    assert_eq!(plan.listeners[0].max_connections, 9000);
}

/// T61.
#[test]
fn secrets_of_a_line_are_not_shown() {
    let text = "listeners:\n  - protocol: forward\n    bind: 127.0.0.1:1\n    forward:\n      \
                users: ['ann:hunter2']\n";
    let report = read(text, "a.yaml", &env).unwrap_err();
    assert!(report.to_string().contains("hash-password"), "{report}");
    for shown in [report.to_string(), report.to_json()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn files_that_cannot_be_read_are_told() {
    for (path, part) in [("no/such.yaml", "no such file"), ("/", "is a directory")] {
        let report = load(Path::new(path), &env).unwrap_err().to_string();
        assert!(report.starts_with(path) && report.contains(part), "{report}");
    }
}

/// T62.
#[test]
fn bounds_hold() {
    let told = |text: &str| read(text, "a.yaml", &env).unwrap_err().diagnostics()[0].code;
    assert_eq!(told(&"#".repeat((16 << 20) + 1)), Code::TooLarge);
    let endless = load_from(&mut std::io::repeat(b'#'), "endless", &env).unwrap_err();
    assert_eq!(endless.diagnostics()[0].code, Code::TooLarge);
    assert_eq!(told(&"[".repeat(10_000)), Code::YamlSyntax);
    let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for i in 1..9 {
        let alias = format!("*a{}", i - 1);
        writeln!(bomb, "a{i}: &a{i} [{}]", vec![alias; 10].join(", ")).unwrap();
    }
    assert_eq!(told(&bomb), Code::TooLarge);
    assert_eq!(told("a: &a [*a]\n"), Code::YamlSyntax);
    // As many errors as there are told, not one more each time the file is read.
    let many = (0..200).map(|i| format!("key{i}: 1")).collect::<Vec<_>>().join("\n");
    assert_eq!(read(&many, "a.yaml", &env).unwrap_err().diagnostics().len(), 50);
}

/// T62, R25's size. That it ends is the test: a check of every pair of routes would not in this
/// lifetime of a test run.
#[test]
fn a_hundred_thousand_routes_are_read() {
    let mut text =
        "listeners: [{bind: ':80'}]\nservices: [{id: a, nodes: ['b:1']}]\nroutes:\n".to_owned();
    for i in 0..100_000 {
        writeln!(text, "- {{hosts: [h{i}.example.com], path: /p{}, service: a}}", i % 7).unwrap();
    }
    assert_eq!(read(&text, "a.yaml", &env).unwrap().routes.len(), 100_000);
}

#[test]
fn what_editors_leave_in_a_file_is_taken() {
    let text = "\u{feff}listeners:\r\n  - bind: :80\r\n    service: a\r\nservices:\r\n  - id: a\r\n    \
                nodes: [b:1]\r\n";
    assert!(read(text, "a.yaml", &env).is_ok());
    assert_eq!(read("", "a.yaml", &env).unwrap_err().diagnostics()[0].code, Code::Empty);
}

proptest! {
    /// T62.
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text, "a.yaml", &env);
    }

    /// T62: wrong values in right places go deeper than noise.
    #[test]
    fn no_value_panics(
        line in 0_usize..200,
        value in prop_oneof![
            Just("[]".to_owned()), Just("{}".to_owned()), Just("~".to_owned()),
            Just("-1".to_owned()), Just("1e400".to_owned()), Just("${NONE}".to_owned()),
            Just("'${'".to_owned()), Just("&a *a".to_owned()), Just("!x y".to_owned()),
            Just("<<".to_owned()), "[a-z0-9:/*.$-]{0,20}",
        ],
    ) {
        let mut lines: Vec<_> =
            include_str!("../../tests/config/valid/every-key.yaml").lines().collect();
        let at = line % lines.len();
        let changed = match lines[at].split_once(": ") {
            Some((key, _)) => format!("{key}: {value}"),
            None => value,
        };
        lines[at] = &changed;
        if let Err(report) = read(&lines.join("\n"), "a.yaml", &env) {
            prop_assert!(!report.diagnostics().is_empty());
            let _ = (report.to_string(), report.to_json());
        }
    }
}
