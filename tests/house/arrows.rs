//! Who may name whom: crates by `cargo metadata`, rooms of `src/` by the paths they write.
//!
//! The table in ARCHITECTURE.md says why. A new crate or a new room of `src/` is one line here.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::lexer::{self, Path, Token};
use super::{File, assert_complains, assert_none, root, sources};

/// A package of the workspace, and the packages of the workspace it may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("fuzz", &["gwproxy", "gwproxy-core", "gwproxy-grpc", "gwproxy-http", "gwproxy-ws"]),
    ("gwproxy", &["gwproxy-core", "gwproxy-grpc", "gwproxy-http", "gwproxy-tcp", "gwproxy-ws"]),
    ("gwproxy-core", &[]),
    ("gwproxy-grpc", &["gwproxy-core", "gwproxy-http"]),
    ("gwproxy-http", &["gwproxy-core"]),
    ("gwproxy-tcp", &["gwproxy-core"]),
    ("gwproxy-ws", &["gwproxy-core", "gwproxy-http"]),
];

/// Everything that knows a header.
const HTTP: &[&str] = &[
    "h2",
    "headers",
    "http",
    "http-body",
    "http-body-util",
    "httparse",
    "hyper",
    "hyper-util",
    "prost",
    "tokio-tungstenite",
    "tonic",
    "tungstenite",
];
const CLI: &[&str] = &["clap", "clap_derive"];
const YAML: &[&str] = &["saphyr", "serde-saphyr", "serde_norway", "serde_yaml", "serde_yml"];

/// External crates a package never depends on, and why.
const NEVER: &[(&str, &[&str], &str)] = &[
    ("gwproxy-core", HTTP, "core does not know what a header is"),
    ("gwproxy-core", CLI, "flags are read in src/cli"),
    ("gwproxy-core", YAML, "files are read in src/config"),
    ("gwproxy-grpc", &["tokio-tungstenite", "tungstenite"], "WebSocket lives in protocols/ws"),
    ("gwproxy-grpc", CLI, "flags are read in src/cli"),
    ("gwproxy-grpc", YAML, "files are read in src/config"),
    ("gwproxy-http", &["tokio-tungstenite", "tonic", "tungstenite"], "they stand above http"),
    ("gwproxy-http", CLI, "flags are read in src/cli"),
    ("gwproxy-http", YAML, "files are read in src/config"),
    ("gwproxy-tcp", HTTP, "a TCP relay does not know what a header is"),
    ("gwproxy-tcp", CLI, "flags are read in src/cli"),
    ("gwproxy-tcp", YAML, "files are read in src/config"),
    ("gwproxy-ws", &["prost", "tonic"], "gRPC lives in protocols/grpc"),
    ("gwproxy-ws", CLI, "flags are read in src/cli"),
    ("gwproxy-ws", YAML, "files are read in src/config"),
];

/// A room of `src/`: a module at the top of the crate.
struct Room {
    name: &'static str,
    /// Rooms it may name. `*`: all.
    may: &'static [&'static str],
    /// Rooms of which it may name what ends in `Settings`, and nothing else: the struct that a
    /// user fills lies beside the code that obeys it.
    settings_of: &'static [&'static str],
    /// External crates that nobody else in `src/` names.
    owns: &'static [&'static str],
    /// Whether it may open sockets and start tasks or threads.
    acts: bool,
}

/// Rooms whose settings a user's file or flags may fill.
const OBEYING: &[&str] = &["admin", "discovery", "gateway", "telemetry"];

const ROOMS: &[Room] = &[
    Room { name: "admin", may: &[], settings_of: &[], owns: &[], acts: true },
    Room { name: "assemble", may: &["*"], settings_of: &[], owns: &[], acts: true },
    Room { name: "cli", may: &["config", "plan"], settings_of: OBEYING, owns: CLI, acts: false },
    Room { name: "config", may: &["plan"], settings_of: OBEYING, owns: YAML, acts: false },
    Room { name: "credentials", may: &["plan"], settings_of: &[], owns: &[], acts: true },
    Room { name: "devcert", may: &[], settings_of: &[], owns: &[], acts: false },
    Room { name: "discovery", may: &[], settings_of: &[], owns: &[], acts: true },
    Room { name: "echo", may: &[], settings_of: &[], owns: &[], acts: true },
    Room { name: "gateway", may: &["plan"], settings_of: &[], owns: &[], acts: true },
    Room { name: "health", may: &[], settings_of: &[], owns: &[], acts: true },
    Room { name: "logging", may: &["plan"], settings_of: &[], owns: &[], acts: false },
    Room { name: "main", may: &["*"], settings_of: &[], owns: &[], acts: true },
    Room { name: "plan", may: &[], settings_of: OBEYING, owns: &[], acts: false },
    Room { name: "process", may: &["*"], settings_of: &[], owns: &[], acts: true },
    Room { name: "reload", may: &["*"], settings_of: &[], owns: &[], acts: true },
    Room { name: "tools", may: &["*"], settings_of: &[], owns: &[], acts: true },
];

/// Rooms where everything meets: only `main`, each other and tests may name them.
const TOP: &[&str] = &["assemble", "process", "reload", "tools"];

/// Words that open a socket or start a task or thread.
const ACTS: &[&str] = &[
    "LocalRuntime",
    "TcpListener",
    "TcpSocket",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "socket2",
    "spawn",
    "spawn_blocking",
    "spawn_local",
    "spawn_scoped",
];

// === crates ===

/// A package and the names of what it depends on, of any kind (dev and build as well).
type Packages = BTreeMap<String, Vec<String>>;

fn packages() -> Packages {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let text = |value: &Value| value.as_str().expect("a name is a string").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let depends = list(&package["dependencies"]);
            let names = depends.iter().map(|dependency| text(&dependency["name"])).collect();
            (text(&package["name"]), names)
        })
        .collect()
}

fn forbidden_dependencies(packages: &Packages) -> Vec<String> {
    let mut complaints = Vec::new();
    for (package, depends) in packages {
        let Some((_, may)) = CRATES.iter().find(|(name, _)| name == package) else {
            complaints.push(format!("{package}: unknown; say in CRATES what it may depend on"));
            continue;
        };
        for on in depends {
            // A package may name itself among its dev-dependencies, for a feature.
            if packages.contains_key(on) && on != package && !may.contains(&on.as_str()) {
                complaints.push(format!("{package} must not depend on {on}"));
            }
            for (_, never, why) in NEVER.iter().filter(|(name, ..)| name == package) {
                if never.contains(&on.as_str()) {
                    complaints.push(format!("{package} must not depend on {on}: {why}"));
                }
            }
        }
    }
    complaints
}

#[test]
fn crates_depend_downward_only() {
    let packages = packages();
    for (name, _) in CRATES {
        assert!(packages.contains_key(*name), "{name} is in CRATES and not in the workspace");
    }
    assert_none(&forbidden_dependencies(&packages));
}

#[test]
fn a_forbidden_dependency_is_seen() {
    let with = |package: &str, on: &str| {
        let mut packages: Packages =
            CRATES.iter().map(|(name, _)| ((*name).into(), Vec::new())).collect();
        packages.insert(package.into(), vec![on.into()]);
        forbidden_dependencies(&packages)
    };
    assert_complains(&with("gwproxy-core", "hyper"), "gwproxy-core must not depend on hyper");
    assert_complains(&with("gwproxy-core", "gwproxy-http"), "gwproxy-core must not depend on");
    assert_complains(&with("gwproxy-http", "gwproxy-ws"), "gwproxy-http must not depend on");
    assert_complains(&with("gwproxy-ws", "gwproxy-grpc"), "gwproxy-ws must not depend on");
    assert_complains(&with("gwproxy-tcp", "http"), "gwproxy-tcp must not depend on http");
    assert_complains(&with("gwproxy", "fuzz"), "gwproxy must not depend on fuzz");
    assert_complains(&with("gwproxy-new", "bytes"), "say in CRATES");
    assert_none(&with("gwproxy-grpc", "gwproxy-http"));
}

// === words of core ===

/// Core's own words are checked as well: a dependency can come under another name, or through
/// the re-export of a third crate.
fn forbidden_words_of_core(file: &File) -> Vec<String> {
    let code = lexer::code(&file.text);
    let named = |word: &str| {
        let word = word.replace('_', "-");
        [HTTP, CLI, YAML].iter().any(|list| list.iter().any(|each| each.replace('_', "-") == word))
    };
    lexer::paths(&code)
        .into_iter()
        .filter(|path| path.segments.iter().any(|segment| named(segment)))
        .map(|path| complaint(file, &path, "core does not know what a header, a flag or YAML is"))
        .collect()
}

#[test]
fn core_knows_no_header() {
    let core: Vec<File> =
        sources().into_iter().filter(|file| file.path.starts_with("core/")).collect();
    assert!(core.len() > 10, "only {} sources of core", core.len());
    assert_none(&core.iter().flat_map(forbidden_words_of_core).collect::<Vec<_>>());
}

#[test]
fn a_header_in_core_is_seen() {
    for line in [
        "use hyper::body::Body;",
        "use {bytes::Bytes, http};",
        "fn f(x: &serde_saphyr::Error) {}",
        "macro_call! { tokio_tungstenite::accept(x) }",
    ] {
        let file = File::new("core/src/x.rs", line);
        assert_complains(&forbidden_words_of_core(&file), "core/src/x.rs:1");
    }
    let comment = File::new("core/src/x.rs", "//! `hyper::Body` is not known here.\nuse a::b;");
    assert_none(&forbidden_words_of_core(&comment));
}

// === rooms of src/ ===

/// The module path of a file below `src/`: `src/cli/http.rs` is `cli`, `http`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(String::from).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

/// What a path names inside the crate, from its root; none for what is outside.
fn resolve(module: &[String], path: &Path) -> Option<Vec<String>> {
    let mut from: Vec<String> = module.iter().chain(&path.inside).cloned().collect();
    let mut segments = path.segments.iter().peekable();
    match segments.next()?.as_str() {
        // `src/main.rs` names the library by the name of the package.
        "crate" | "gwproxy" => from.clear(),
        "self" => {}
        "super" => {
            from.pop();
        }
        _ => return None,
    }
    while segments.next_if(|segment| *segment == "super").is_some() {
        from.pop();
    }
    Some(from.into_iter().chain(segments.cloned()).collect())
}

fn forbidden_arrows_of_src(file: &File) -> Vec<String> {
    let module = module_of(&file.path);
    let Some(name) = module.first() else { return Vec::new() };
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!("{}: unknown room; say in ROOMS what it may name", file.path)];
    };
    let code = lexer::without_tests(&lexer::code(&file.text));
    let mut complaints = Vec::new();
    for path in lexer::paths(&code) {
        if let Some(why) = match resolve(&module, &path) {
            Some(target) => forbidden_room(room, &target),
            None => forbidden_crate(room, &path),
        } {
            complaints.push(complaint(file, &path, &why));
        }
    }
    if !room.acts {
        for (line, token) in lexer::tokens(&code) {
            if let Token::Ident(word) = token
                && ACTS.contains(&word.as_str())
            {
                let name = &file.path;
                complaints
                    .push(format!("{name}:{line}: `{word}`: this room opens and starts nothing"));
            }
        }
    }
    complaints
}

fn forbidden_room(room: &Room, target: &[String]) -> Option<String> {
    let first = target.first()?.as_str();
    if first == room.name {
        return None;
    }
    if ROOMS.iter().all(|known| known.name != first) {
        return Some(format!("`{first}` is no room of ROOMS"));
    }
    if room.may.contains(&"*") || room.may.contains(&first) {
        return None;
    }
    if TOP.contains(&first) {
        return Some(format!("only main and tests may name `{first}`"));
    }
    let is_settings = target.last().is_some_and(|last| last.ends_with("Settings"));
    if is_settings && room.settings_of.contains(&first) {
        return None;
    }
    Some(format!("`{}` must not name `{first}`", room.name))
}

fn forbidden_crate(room: &Room, path: &Path) -> Option<String> {
    let first = path.segments.first()?.replace('_', "-");
    let owner =
        ROOMS.iter().find(|each| each.owns.iter().any(|owned| owned.replace('_', "-") == first))?;
    (owner.name != room.name).then(|| format!("only src/{} names {first}", owner.name))
}

fn complaint(file: &File, path: &Path, why: &str) -> String {
    format!("{}:{}: `{}`: {why}", file.path, path.line, path.segments.join("::"))
}

#[test]
fn rooms_of_src_name_only_what_they_may() {
    let src: Vec<File> = sources()
        .into_iter()
        .filter(|file| file.path.starts_with("src/") && !file.is_test())
        .collect();
    assert!(src.len() > 1, "only {} sources of src", src.len());
    assert_none(&src.iter().flat_map(forbidden_arrows_of_src).collect::<Vec<_>>());
}

#[test]
fn a_forbidden_arrow_is_seen() {
    for (path, line, about) in [
        ("src/gateway/mod.rs", "use crate::config::File;", "must not name `config`"),
        ("src/gateway/mod.rs", "use crate::{admin, gateway};", "must not name `admin`"),
        ("src/gateway/router/mod.rs", "use super::super::cli::X;", "must not name `cli`"),
        ("src/discovery/dns.rs", "fn f() { crate::gateway::g() }", "must not name `gateway`"),
        ("src/plan/service.rs", "use crate::config::X;", "must not name `config`"),
        ("src/config/check.rs", "use crate::gateway::router::Router;", "must not name `gateway`"),
        ("src/cli/run.rs", "use crate::assemble::start;", "only main and tests"),
        ("src/cli/run.rs", "use serde_saphyr::from_str;", "only src/config names"),
        ("src/plan.rs", "#[derive(clap::Args)] struct X;", "only src/cli names clap"),
        ("src/config/file.rs", "use tokio::net::TcpStream;", "opens and starts nothing"),
        ("src/cli/http.rs", "fn f() { std::thread::spawn(g); }", "opens and starts nothing"),
        ("src/attic/mod.rs", "", "say in ROOMS"),
        ("src/cli/x.rs", "use crate::attic::X;", "no room of ROOMS"),
        ("src/plan.rs", "mod x { mod y { use super::super::super::cli::X; } }", "must not name"),
    ] {
        let complaints = forbidden_arrows_of_src(&File::new(path, line));
        assert_complains(&complaints, about);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }
    for (path, line) in [
        ("src/config/file.rs", "use crate::plan::{Plan, Route}; use serde_saphyr::Spanned;"),
        ("src/config/check.rs", "use crate::gateway::policy::CorsSettings;"),
        ("src/plan.rs", "mod tests { use super::Plan; use super::super::plan::Route; }"),
        ("src/plan.rs", "#[cfg(test)] mod tests { use crate::config::load; }"),
        ("src/main.rs", "use gwproxy::{assemble, cli};"),
    ] {
        assert_none(&forbidden_arrows_of_src(&File::new(path, line)));
    }
}
