//! Configuration files: read, or refused with a place; what is read is printed as it is read.

use gwproxy::config;

use super::text_of;

fn read(text: &str) -> Result<gwproxy::plan::Plan, config::Report> {
    // No variable but one: what the machine has in its environment must not matter.
    config::read(text, "fuzz.yaml", &|name| (name == "SET").then(|| "set".to_owned()))
}

/// Every complaint has its place in the file and is a sentence; a plan is printed as YAML that means
/// it, and that prints as itself.
pub(super) fn config(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    let plan = match read(text) {
        Ok(plan) => plan,
        Err(report) => return check(text, &report),
    };
    let Ok(printed) = config::print(&plan) else { return };
    match read(&printed) {
        Ok(again) => {
            assert_eq!(again, plan, "the print means something else:\n{printed}");
            assert_eq!(config::print(&again).as_deref(), Ok(&*printed));
        }
        Err(report) => panic!("what is printed is refused: {report}\n{printed}"),
    }
}

fn check(text: &str, report: &config::Report) {
    let all = report.diagnostics();
    assert!(!all.is_empty(), "refused without a reason");
    // To YAML a carriage return alone ends a line too (YAML 1.2.2 §5.4).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    for one in all {
        assert!(one.message.len() > 8, "{:?} is no sentence", one.message);
        let (line, column) = (one.place.line as usize, one.place.column as usize);
        assert!(line > 0, "no place: {one:?}");
        let found = lines.get(line - 1).map(|line| line.chars().count());
        assert!(found.is_some_and(|width| (1..=width + 1).contains(&column)), "outside: {one:?}");
    }
    assert!(report.to_string().lines().count() >= all.len());
    assert!(report.to_json().contains("\"line\""));
}
