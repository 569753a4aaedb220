//! What the compiler and clippy do not see: module comments, lengths, words, manifests.

use super::lexer::{self, Token};
use super::{File, assert_complains, assert_none, files, read, sources};

/// Lines of a file without its tests. The aim is 400; past this a file hides a second room.
const LINES_MAX: usize = 600;
/// Characters of a line. The aim is 100, which rustfmt keeps for code; it leaves strings and
/// comments alone, and gives up on an expression that holds a long one.
const COLUMNS_MAX: usize = 120;
/// Lines of `src/main.rs` that are not blank or comment: parse, run, exit code.
const MAIN_LINES_MAX: usize = 40;

/// Macros that never reach the main branch.
const BANNED_MACROS: &[&str] = &["dbg", "todo", "unimplemented"];

/// Kernels: bytes or numbers in, a verdict out, `now` an argument. They read no clock and do no
/// I/O, so that their tests need neither a sleep nor a socket.
const KERNELS: &[&str] = &[
    "core/src/balance",
    "core/src/breaker",
    "core/src/health/thresholds",
    "core/src/limit",
    "core/src/retry",
    "protocols/http/src/forward/policy",
    "protocols/http/src/h1/head",
    "protocols/ws/src/frames",
    "protocols/ws/src/handshake",
];
/// What a kernel does not name.
const CLOCKS_AND_IO: &[&[&str]] = &[
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["std", "fs"],
    &["std", "net", "TcpListener"],
    &["std", "net", "TcpStream"],
    &["std", "thread", "sleep"],
    &["thread", "sleep"],
    &["tokio"],
];

fn untidy(file: &File) -> Vec<String> {
    let (path, text) = (&file.path, &file.text);
    let mut complaints = Vec::new();
    let opens = text.lines().find(|line| !line.trim().is_empty());
    // Tests that were moved out of a module belong to that module's comment.
    let is_moved = path.ends_with("/tests.rs");
    if !is_moved && !opens.is_some_and(|line| line.starts_with("//!")) {
        complaints.push(format!("{path}: does not open with `//!`: say what the module is for"));
    }
    let code = lexer::code(text);
    let lines = lexer::without_tests(&code).trim_end().lines().count();
    let in_tests = text.lines().count().saturating_sub(lines);
    if !file.is_test() && lines > LINES_MAX {
        complaints.push(format!(
            "{path}: {lines} lines before its tests ({in_tests}), more than {LINES_MAX}: find the \
             second room in it and move it out"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !line.contains("://") {
            complaints.push(format!("{path}:{}: {columns} columns", number + 1));
        }
    }
    let tokens = lexer::tokens(&code);
    for pair in tokens.windows(2) {
        if let [(line, Token::Ident(word)), (_, Token::Punct(mark))] = pair {
            if *mark == '!' && BANNED_MACROS.contains(&word.as_str()) {
                complaints.push(format!("{path}:{line}: `{word}!` is not for keeps"));
            }
            if *mark == '=' && word == "path" && code_line(&code, *line).contains("#[path") {
                complaints.push(format!("{path}:{line}: `#[path]` hides a module from the tree"));
            }
        }
    }
    complaints
}

fn code_line(code: &str, number: usize) -> &str {
    code.lines().nth(number - 1).unwrap_or_default()
}

fn impure(file: &File) -> Vec<String> {
    let code = lexer::without_tests(&lexer::code(&file.text));
    let mut complaints = Vec::new();
    for path in lexer::paths(&code) {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let named = |banned: &&[&str]| match banned {
            // A single name is a crate and stands first; longer ones may follow a module path.
            [_] => segments.starts_with(banned),
            _ => segments.windows(banned.len()).any(|part| *part == **banned),
        };
        if CLOCKS_AND_IO.iter().any(named) {
            complaints.push(format!(
                "{}:{}: `{}`: a kernel takes `now` as an argument and does no I/O",
                file.path,
                path.line,
                segments.join("::")
            ));
        }
    }
    complaints
}

fn is_kernel(file: &File) -> bool {
    let path = file.path.trim_end_matches(".rs");
    !file.is_test()
        && KERNELS.iter().any(|kernel| {
            path.strip_prefix(kernel).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// Whether a manifest takes the lints of the workspace; Cargo inherits nothing by itself.
fn takes_workspace_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let line = line.split('#').next().unwrap_or_default().replace(' ', "");
        (section == "[lints]" && line == "workspace=true") || line == "lints.workspace=true"
    })
}

/// `lib.rs` of the root names the rooms and nothing else: a re-export would hide an arrow.
fn beyond_a_list_of_rooms(lib: &str) -> Vec<String> {
    lexer::code(lib)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter(|line| !line.starts_with("pub mod ") && !line.starts_with("mod "))
        .map(|line| format!("src/lib.rs: `{line}`: it names the rooms, nothing else"))
        .collect()
}

#[test]
fn sources_are_tidy() {
    assert_none(&sources().iter().flat_map(untidy).collect::<Vec<_>>());
}

#[test]
fn an_untidy_source_is_seen() {
    let of = |path: &str, text: &str| untidy(&File::new(path, text));
    assert_complains(&of("core/src/x.rs", "use a::b;\n"), "does not open with");
    assert_complains(&of("core/src/x.rs", "//! x\nfn f() { todo!() }"), "x.rs:2: `todo!`");
    assert_complains(&of("core/src/x.rs", "//! x\nfn f() { dbg!(1); }"), "`dbg!`");
    assert_complains(&of("tests/x.rs", "//! x\nfn f() { unimplemented!() }"), "`unimplemented!`");
    assert_complains(&of("core/src/x.rs", "//! x\n#[path = \"y.rs\"]\nmod z;"), "hides a module");
    let long = format!("//! x\n// {}", "x".repeat(118));
    assert_complains(&of("core/src/x.rs", &long), "x.rs:2: 121 columns");
    let lines = format!("//! x\n{}", "fn f() {}\n".repeat(LINES_MAX));
    assert_complains(&of("core/src/x.rs", &lines), "601 lines before its tests (0)");

    let tests = "fn f() {}\n".repeat(LINES_MAX);
    assert_none(&of("core/src/x.rs", &format!("//! x\n#[cfg(test)]\nmod t {{\n{tests}}}\n")));
    assert_none(&of("core/src/x/tests.rs", &lines.replace("//! x", "use super::x;")));
    assert_none(&of(
        "core/src/x.rs",
        "//! x\n// todo!() is a word here\nconst X: &str = \"dbg!\";",
    ));
}

#[test]
fn kernels_read_no_clock_and_do_no_io() {
    let sources = sources();
    let kernels: Vec<&File> = sources.iter().filter(|file| is_kernel(file)).collect();
    for kernel in KERNELS {
        let there = kernels.iter().any(|file| file.path.starts_with(kernel));
        assert!(there, "{kernel} is in KERNELS and not in the tree");
    }
    assert_none(&kernels.into_iter().flat_map(impure).collect::<Vec<_>>());
}

#[test]
fn a_clock_in_a_kernel_is_seen() {
    let of = |line: &str| impure(&File::new("core/src/limit/x.rs", line));
    assert_complains(&of("fn f() { Instant::now() }"), "limit/x.rs:1: `Instant::now`");
    assert_complains(&of("fn f() { std::time::Instant::now() }"), "std::time::Instant::now");
    assert_complains(&of("use tokio::time::sleep;"), "tokio::time::sleep");
    assert_complains(&of("fn f() { std::thread::sleep(x) }"), "std::thread::sleep");
    assert_none(&of("use std::time::Instant;\n#[cfg(test)]\nmod t { fn f() { Instant::now() } }"));
}

#[test]
fn every_member_takes_the_workspace_lints() {
    let mut manifests: Vec<File> =
        ["core", "fuzz", "protocols"].iter().flat_map(|dir| files(dir, "Cargo.toml")).collect();
    manifests.push(File { path: "Cargo.toml".into(), text: read("Cargo.toml") });
    assert!(manifests.len() >= 7, "only {} manifests", manifests.len());
    for manifest in manifests {
        let path = &manifest.path;
        assert!(takes_workspace_lints(&manifest.text), "{path}: add `[lints] workspace = true`");
    }
}

#[test]
fn a_member_without_lints_is_seen() {
    assert!(takes_workspace_lints("[package]\n[lints]\nworkspace = true # all\n"));
    assert!(takes_workspace_lints("lints.workspace = true\n[package]\n"));
    assert!(!takes_workspace_lints("[package]\nname = \"x\"\nworkspace = true\n"));
    assert!(!takes_workspace_lints("[lints]\n# workspace = true\n"));
}

#[test]
fn lib_names_rooms_and_main_is_short() {
    assert_none(&beyond_a_list_of_rooms(&read("src/lib.rs")));
    assert_complains(&beyond_a_list_of_rooms("pub mod a;\npub use a::B;"), "pub use a::B;");
    let main = lexer::code(&read("src/main.rs"));
    let lines = main.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= MAIN_LINES_MAX, "src/main.rs has {lines} lines, more than {MAIN_LINES_MAX}");
}

/// Rooms through which a stranger's bytes go: nothing in them may end a worker.
const DATA_PATH: [&str; 6] = [
    "core/src/lib.rs",
    "protocols/grpc/src/lib.rs",
    "protocols/http/src/lib.rs",
    "protocols/tcp/src/lib.rs",
    "protocols/ws/src/lib.rs",
    "src/gateway/mod.rs",
];

#[test]
fn the_data_path_denies_what_panics() {
    let denied = "#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, \
                  clippy::panic)]";
    for path in DATA_PATH {
        assert!(read(path).lines().any(|line| line == denied), "{path}: {denied}");
    }
}
