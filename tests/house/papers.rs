//! Papers that agree with the tree: coverage rows, examples, packages, and every path and name
//! that a document mentions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lexer::{self, Token};
use super::{File, assert_complains, assert_none, files, read, root, sources};

/// Families of coverage rows and how many each has. Nothing is ever removed.
const ROWS: &[(char, u8)] =
    &[('0', 6), ('1', 7), ('2', 9), ('3', 5), ('4', 23), ('B', 12), ('C', 3)];

/// Every example, and what the binary's `check` says of it. The tests of `src/config` look into
/// them; here they are read as a user would have them read.
const EXAMPLES: &[(&str, &str)] = &[
    ("balancing.yaml", "4 listeners, 2 routes, 4 services"),
    ("breaking.yaml", "3 listeners, 2 routes, 4 services"),
    ("forward.yaml", "1 listener, 0 routes, 0 services"),
    ("grpc.yaml", "1 listener, 2 routes, 2 services"),
    ("limits.yaml", "2 listeners, 2 routes, 2 services"),
    ("proxy-protocol.yaml", "2 listeners, 0 routes, 2 services"),
    ("quickstart-tls.yaml", "3 listeners, 2 routes, 4 services"),
    ("quickstart.yaml", "4 listeners, 2 routes, 4 services"),
    ("reverse.yaml", "1 listener, 4 routes, 2 services"),
    ("tcp.yaml", "2 listeners, 0 routes, 2 services"),
    ("tls.yaml", "2 listeners, 0 routes, 1 service"),
    ("ws.yaml", "1 listener, 0 routes, 1 service"),
];

const COVERAGE: &str = "docs/COVERAGE.md";
const CONFORMANCE: &str = "docs/CONFORMANCE.md";
const THREAT_MODEL: &str = "docs/threat-model.md";

/// Rows of [`CONFORMANCE`]: attacks (T) and rules (P). Nothing is ever removed.
const CONFORMANCE_ROWS: &[(char, &[RangeInclusive<u8>])] = &[
    ('T', &[1..=43, 47..=48, 55..=59, 61..=63, 65..=66, 69..=69]),
    ('P', &[1..=36, 44..=52, 54..=54, 56..=56, 58..=58, 60..=62, 65..=65, 70..=76]),
];

/// Programs the tests start, and the Debian package of each; `test.sh` installs them.
const PACKAGES: &str = "tests/packages.txt";

/// Directories at the root whose paths a document may mention.
const TOP_DIRS: &[&str] =
    &[".ci", "benches", "certs", "core", "docs", "examples", "fuzz", "protocols", "src", "tests"];

// === coverage ===

fn expected_rows() -> BTreeSet<String> {
    ROWS.iter().flat_map(|(family, n)| (1..=*n).map(move |i| format!("{family}.{i}"))).collect()
}

/// Names of functions in test code: the only proofs that a row may point at.
fn tests_in(sources: &[File]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources {
        let tokens = lexer::tokens(&lexer::code(&file.text));
        for pair in tokens.windows(2) {
            if let [(_, Token::Ident(word)), (_, Token::Ident(name))] = pair
                && word == "fn"
            {
                names.insert(name.clone());
            }
        }
    }
    names
}

/// The rows are `| id | words | state |`, the state one or more of `issue N`, `later`,
/// `part: tests` and `done: tests`, with `;` between; tests stand in backticks.
fn wrong_rows(coverage: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut missing = expected_rows();
    for (number, line) in coverage.lines().enumerate() {
        let at = format!("{COVERAGE}:{}", number + 1);
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let &[id, words, state] = cells.as_slice() else { continue };
        if id == "id" {
            continue;
        }
        if !missing.remove(id) {
            complaints.push(format!("{at}: `{id}` is no row, or stands here twice"));
        }
        if words.is_empty() {
            complaints.push(format!("{at}: `{id}` says nothing"));
        }
        for part in state.split(';').map(str::trim) {
            if let Some(proofs) = part.strip_prefix("done:").or_else(|| part.strip_prefix("part:"))
            {
                let named: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
                if named.is_empty() {
                    complaints.push(format!("{at}: `{id}` is done and names no test"));
                }
                for proof in named {
                    let function = proof.rsplit("::").next().unwrap_or(proof);
                    if !tests.contains(function) {
                        complaints.push(format!("{at}: `{id}`: there is no test `{proof}`"));
                    }
                }
            } else if part != "later" && !is_issue(part) {
                complaints.push(format!("{at}: `{id}`: `{part}` is no state"));
            }
        }
    }
    complaints.extend(missing.iter().map(|id| format!("{COVERAGE}: row `{id}` is missing")));
    complaints
}

fn is_issue(state: &str) -> bool {
    let number = state.strip_prefix("issue ").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

#[test]
fn every_coverage_row_has_a_state_and_every_proof_exists() {
    let tests: Vec<File> = sources().into_iter().filter(has_tests).collect();
    let tests = tests_in(&tests);
    assert!(tests.len() > 50, "only {} functions in test code", tests.len());
    assert_none(&wrong_rows(&read(COVERAGE), &tests));
}

#[test]
fn a_wrong_coverage_row_is_seen() {
    let tests = BTreeSet::from(["it_works".to_owned()]);
    let with = |row: &str| {
        let others = expected_rows();
        let others = others.iter().filter(|id| *id != "0.1");
        let rows: Vec<String> = others.map(|id| format!("| {id} | words | issue 2 |")).collect();
        wrong_rows(
            &format!("| id | row | state |\n|---|---|---|\n{}\n{row}\n", rows.join("\n")),
            &tests,
        )
    };
    assert_none(&with("| 0.1 | words | part: `http::it_works`; issue 3; later |"));
    assert_complains(&with(""), "row `0.1` is missing");
    assert_complains(&with("| 0.1 | words | done: `x::it_fails` |"), "no test `x::it_fails`");
    assert_complains(&with("| 0.1 | words | done: |"), "names no test");
    assert_complains(&with("| 0.1 | words | done: surely |"), "names no test");
    assert_complains(&with("| 0.1 | words | soon |"), "`soon` is no state");
    assert_complains(&with("| 0.1 | words | issue |"), "`issue` is no state");
    assert_complains(&with("| 0.1 |  | issue 2 |"), "says nothing");
    assert_complains(
        &with("| 0.1 | words | later |\n| 0.2 | words | later |"),
        "stands here twice",
    );
    assert_complains(&with("| 9.1 | words | later |"), "`9.1` is no row");
}

fn has_tests(file: &File) -> bool {
    file.is_test() || file.text.contains("#[cfg(test)]")
}

// === conformance and threat model ===

/// A row of a table that has a column `tests`.
struct Row<'a> {
    line: usize,
    cells: Vec<&'a str>,
    tests: &'a str,
}

impl<'a> Row<'a> {
    /// What stands in backticks in the column.
    fn named(&self) -> Vec<&'a str> {
        self.tests.split('`').skip(1).step_by(2).collect()
    }
}

/// The rows of all tables with a column `tests`.
fn rows_with_tests(document: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut column: Option<usize> = None;
    for (number, line) in document.lines().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !line.starts_with('|') {
            column = None;
        } else if let Some(tests) = column.and_then(|column| cells.get(column).copied()) {
            rows.push(Row { line: number + 1, cells, tests });
        } else if column.is_none() {
            column = cells.iter().position(|cell| *cell == "tests");
        }
    }
    rows
}

/// Tests named in a table that do not exist, and rows that name none and do not say so by `–`.
fn wrong_proofs(file: &File, tests: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for row in rows_with_tests(&file.text) {
        let at = format!("{}:{}", file.path, row.line);
        let named = row.named();
        if named.is_empty() && row.tests != "–" {
            complaints.push(format!("{at}: the row names no test; `–` says that there is none"));
        }
        let gone = named.iter().filter(|name| !tests.contains(**name));
        complaints.extend(gone.map(|name| format!("{at}: there is no test `{name}`")));
    }
    complaints
}

/// Each function of test code with the ids (`T01`) in its name and in the comment above it.
fn ids_of_tests(sources: &[File]) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::<String, String>::new();
    for file in sources {
        let mut above = String::new();
        for line in file.text.lines().map(str::trim_start) {
            let head = line.trim_start_matches("pub(crate) ").trim_start_matches("async ");
            if line.starts_with("//") {
                above.push_str(line);
            } else if let Some(rest) = head.strip_prefix("fn ") {
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                let known = ids.entry(name.to_owned()).or_default();
                *known += &format!("{above} {name} ").to_uppercase();
                above.clear();
            } else if !line.starts_with("#[") {
                above.clear();
            }
        }
    }
    ids
}

/// The rows are `| id | source | rule | tests | state |`; the state is `proved`, `part:`,
/// `missing:` or `not applicable:`, but for the first with words behind it.
fn wrong_rules(table: &str, ids: &BTreeMap<String, String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let expected = CONFORMANCE_ROWS.iter().flat_map(|(family, ranges)| {
        let numbers = ranges.iter().flat_map(Clone::clone);
        numbers.map(move |number| format!("{family}{number:02}"))
    });
    let mut missing: BTreeSet<String> = expected.collect();
    for row in rows_with_tests(table) {
        let (at, named) = (format!("{CONFORMANCE}:{}", row.line), row.named());
        let &[id, _, _, _, state] = row.cells.as_slice() else {
            complaints.push(format!("{at}: a row has five cells"));
            continue;
        };
        if !missing.remove(id) {
            complaints.push(format!("{at}: `{id}` is no row, or stands here twice"));
        }
        let has_state = match state.split_once(": ") {
            Some(("part", words)) => !words.is_empty() && !named.is_empty(),
            Some(("missing", words)) => !words.is_empty() && named.is_empty(),
            Some(("not applicable", words)) => !words.is_empty(),
            _ => state == "proved" && !named.is_empty(),
        };
        if !has_state {
            complaints.push(format!("{at}: `{id}`: `{state}` is no state of such a row"));
        }
        for name in named {
            if ids.get(name).is_some_and(|known| !known.contains(id)) {
                complaints.push(format!("{at}: `{name}` and its comment do not say `{id}`"));
            }
        }
    }
    complaints.extend(missing.iter().map(|id| format!("{CONFORMANCE}: row `{id}` is missing")));
    complaints
}

#[test]
fn every_rule_and_every_promise_names_tests_that_exist() {
    let sources: Vec<File> = sources().into_iter().filter(has_tests).collect();
    let tests = tests_in(&sources);
    for path in [CONFORMANCE, THREAT_MODEL] {
        let file = File { path: path.into(), text: read(path) };
        assert!(rows_with_tests(&file.text).len() > 40, "{path}: the walk is broken");
        assert_none(&wrong_proofs(&file, &tests));
    }
    assert_none(&wrong_rules(&read(CONFORMANCE), &ids_of_tests(&sources)));
}

#[test]
fn a_wrong_rule_is_seen() {
    let source = File::new("tests/x.rs", "/// T01: holds.\n#[test]\nfn holds() {}\nfn p02_b() {}");
    let ids = ids_of_tests(&[source]);
    let table = |row: &str| {
        format!("| id | source | rule | tests | state |\n|---|---|---|---|---|\n{row}\n")
    };
    let with = |row: &str| wrong_rules(&table(row), &ids);
    assert_complains(&with("| T01 | a | b | `holds` | proved |"), "row `T02` is missing");
    let wrong = |row: &str| {
        let mut complaints = with(row);
        complaints.retain(|complaint| !complaint.contains("is missing"));
        complaints
    };
    assert_none(&wrong("| T01 | a | b | `holds` | part: c |\n| P02 | a | b | `p02_b` | proved |"));
    assert_none(&wrong(
        "| T01 | a | b | – | missing: c |\n| T02 | a | b | – | not applicable: c |",
    ));
    for state in ["done", "part: ", "proved: c", "missing: c"] {
        assert_complains(&wrong(&format!("| T01 | a | b | `holds` | {state} |")), "is no state");
    }
    assert_complains(&wrong("| T01 | a | b | – | proved |"), "is no state");
    assert_complains(&wrong("| T44 | a | b | – | not applicable: c |"), "`T44` is no row");
    assert_complains(&wrong("| P01 | a | b | `holds` | proved |"), "do not say `P01`");
    assert_complains(&wrong("| T01 | a | `holds` | proved |"), "five cells");
    let tests = BTreeSet::from(["holds".to_owned()]);
    let of = |text: &str| wrong_proofs(&File::new("docs/x.md", text), &tests);
    assert_none(&of(&table("| T01 | `a` | b | `holds` | c |\n| T02 | a | b | – | c |")));
    assert_complains(&of(&table("| T01 | a | b | `fails` | c |")), "docs/x.md:3: there is no test");
    assert_complains(&of(&table("| T01 | a | b | surely | c |")), "names no test");
    assert_none(&of("| a | b |\n|---|---|\n| `fails` | b |\n"));
}

// === examples ===

/// Examples that are not in `known`, and names in it that are no examples.
fn unknown_examples(examples: &[File], known: &[&str]) -> Vec<String> {
    let there: Vec<&str> =
        examples.iter().map(|file| file.path.trim_start_matches("examples/")).collect();
    let unknown = there.iter().filter(|name| !known.contains(name));
    let gone = known.iter().filter(|name| !there.contains(name));
    unknown
        .map(|name| format!("examples/{name}: no test names it; add it to EXAMPLES"))
        .chain(gone.map(|name| format!("examples/{name}: in EXAMPLES and not in the tree")))
        .collect()
}

/// What the binary's `check` of an example says, and its exit code. `certs` is where the examples
/// that name certificates look for them.
fn check(name: &str, certs: &Path) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_gwproxy"))
        .args(["check", &format!("examples/{name}")])
        .env("CERTS", certs)
        .current_dir(root())
        .output()
        .expect("the binary runs");
    let told = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&told).into_owned(), output.status.code())
}

/// Certificates for the examples, made by the script that README tells users to run.
fn made_certs() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certs-{}", std::process::id()));
    let made = Command::new("sh")
        .args(["certs/generate.sh", "--dir"])
        .arg(&dir)
        .current_dir(root())
        .output()
        .expect("a shell runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

#[test]
fn every_example_is_known_and_checks() {
    let examples = files("examples", ".yaml");
    assert!(!examples.is_empty(), "no examples found");
    let known: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
    assert_none(&unknown_examples(&examples, &known));
    let certs = made_certs();
    for (name, says) in EXAMPLES {
        assert_eq!(check(name, &certs), (format!("ok: {says}\n"), Some(0)), "{name}");
    }
    fs::remove_dir_all(&certs).expect("our own directory");
}

#[test]
fn an_unknown_example_is_seen() {
    let examples = [File::new("examples/a.yaml", ""), File::new("examples/b.yaml", "")];
    let complaints = unknown_examples(&examples, &["a.yaml", "c.yaml"]);
    assert_complains(&complaints, "examples/b.yaml: no test names it");
    assert_complains(&complaints, "examples/c.yaml: in EXAMPLES and not in the tree");
    assert_eq!(complaints.len(), 2);
    let (told, code) = check("gone.yaml", Path::new("certs"));
    assert!(code == Some(2) && told.contains("gone.yaml"), "{code:?}: {told}");
}

// === packages ===

/// Programs by the first word of each line.
fn programs(list: &str) -> BTreeSet<&str> {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .flat_map(|word| word.split('|'))
        .collect()
}

fn unlisted_programs(tests: &[File], listed: &BTreeSet<&str>) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tests {
        // Suites start programs by `support::tool`; the other is for those without the harness.
        let calls = ["Command::new(\"", "tool(\""];
        for call in calls.iter().flat_map(|call| file.text.split(call).skip(1)) {
            let program = call.split('"').next().unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or(program);
            if !listed.contains(name) {
                complaints
                    .push(format!("{}: starts `{program}`: list it in {PACKAGES}", file.path));
            }
        }
    }
    complaints
}

#[test]
fn every_program_a_test_starts_is_installed_by_test_sh() {
    let list = read(PACKAGES);
    let listed = programs(&list);
    assert!(listed.len() > 3, "only {} programs", listed.len());
    let tests: Vec<File> = sources()
        .into_iter()
        .filter(has_tests)
        .filter(|file| file.path != "tests/house/papers.rs")
        .collect();
    assert!(!tests.is_empty());
    assert_none(&unlisted_programs(&tests, &listed));
    assert!(read("test.sh").contains(PACKAGES), "test.sh does not read {PACKAGES}");
}

#[test]
fn an_unlisted_program_is_seen() {
    let listed = programs("# comment\nnginx nginx a server\nchromium|chrome chromium a browser\n");
    let file = |program: &str| [File::new("tests/x.rs", &format!("Command::new(\"{program}\")"))];
    assert_none(&unlisted_programs(&file("/usr/sbin/nginx"), &listed));
    assert_none(&unlisted_programs(&file("chrome"), &listed));
    assert_complains(&unlisted_programs(&file("squid"), &listed), "starts `squid`");
    let by_tool = [File::new("tests/x.rs", "tool(\"squid\")")];
    assert_complains(&unlisted_programs(&by_tool, &listed), "starts `squid`");
}

// === documents ===

/// What stands in single backticks outside of code blocks, with its line.
fn quoted(document: &str) -> Vec<(usize, &str)> {
    let mut in_block = false;
    let mut found = Vec::new();
    for (number, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(|word| (number + 1, word)));
        }
    }
    found
}

/// Paths in backticks that do not exist. A word is a path when it begins with a directory of the
/// root, or with `./` or `../`, and holds nothing that a pattern or a command would.
fn dead_paths(file: &File, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let plain = |c: char| c.is_alphanumeric() || "._-/".contains(c);
    quoted(&file.text)
        .into_iter()
        .filter(|(_, word)| word.chars().all(plain))
        .filter(|(_, word)| {
            word.split_once('/').is_some_and(|(first, _)| TOP_DIRS.contains(&first))
        })
        .filter(|(_, word)| !exists(word))
        .map(|(line, word)| format!("{}:{line}: `{word}` does not exist", file.path))
        .collect()
}

/// Items in backticks (`module::item`, `function()`) whose last name no source has.
fn dead_names(file: &File, words: &BTreeSet<String>) -> Vec<String> {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    quoted(&file.text)
        .into_iter()
        .filter_map(|(line, word)| {
            let item = word.strip_suffix("()").unwrap_or(word);
            let is_item = (item.contains("::") || item != word) && item.chars().all(plain);
            let last = item.rsplit("::").next().filter(|_| is_item)?;
            (!words.contains(last)).then(|| format!("{}:{line}: no source has `{word}`", file.path))
        })
        .collect()
}

/// Every document that describes the tree. The change log tells of what is gone as well.
fn documents() -> Vec<File> {
    let mut found: Vec<File> = TOP_DIRS.iter().flat_map(|dir| files(dir, ".md")).collect();
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        found.push(File { path: name.into(), text: read(name) });
    }
    found
}

#[test]
fn documents_name_what_exists() {
    let documents = documents();
    assert!(documents.len() > 5, "only {} documents", documents.len());
    let words: BTreeSet<String> = sources()
        .iter()
        .flat_map(|file| lexer::tokens(&lexer::code(&file.text)))
        .filter_map(|(_, token)| match token {
            Token::Ident(word) => Some(word),
            _ => None,
        })
        .collect();
    let mut complaints = Vec::new();
    for file in &documents {
        complaints.extend(dead_paths(file, |path| root().join(path).exists()));
        complaints.extend(dead_names(file, &words));
    }
    assert_none(&complaints);
}

#[test]
fn a_dead_path_or_name_is_seen() {
    let text = "see `core/src/gone.rs`, `src/here`, `tests/*.rs` and `src → core`\n\
                ```\n`core/not/looked/at`\n```\n`net::Stream`, `relay()`, `gone::Item`, `fled()`";
    let file = File::new("docs/x.md", text);
    let paths = dead_paths(&file, |path| path == "src/here");
    assert_complains(&paths, "docs/x.md:1: `core/src/gone.rs`");
    assert_eq!(paths.len(), 1, "{paths:?}");
    let names = dead_names(&file, &BTreeSet::from(["Stream".to_owned(), "relay".to_owned()]));
    assert_complains(&names, "docs/x.md:5: no source has `gone::Item`");
    assert_complains(&names, "`fled()`");
    assert_eq!(names.len(), 2, "{names:?}");
}
