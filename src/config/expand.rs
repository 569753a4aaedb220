//! `${NAME}` and `${NAME:-default}`: values from the environment.

use super::report::{Code, Diagnostic, Place};

/// Puts the environment into one value. `$${` is a literal `${`; a `$` before anything else
/// stands for itself, so password hashes need no escaping.
///
/// `raw` is the value as it stands in the file, to find the column of what fails. Failures are
/// added to `found`; the text then keeps what could not be put in.
pub(super) fn expand(
    text: &str,
    raw: &str,
    place: Place,
    env: &dyn Fn(&str) -> Option<String>,
    found: &mut Vec<Diagnostic>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut nth = 0;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let body = &after[2..];
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = body;
        } else {
            out.push_str(before);
            let spot = spot(raw, nth, place);
            let Some((inside, after)) = body.split_once('}') else {
                let sentence = "`${` has no `}`; write `$${` for a literal `${`";
                found.push(Diagnostic::new(Code::InvalidValue, spot.wide(2), sentence));
                return out;
            };
            match lookup(inside, env) {
                Ok(value) => out.push_str(&value),
                Err((code, sentence)) => {
                    let width = inside.chars().count() + 3;
                    found.push(Diagnostic::new(code, spot.wide(width), sentence));
                }
            }
            rest = after;
        }
        nth += 1;
    }
    out.push_str(rest);
    out
}

fn lookup(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (Code, String)> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !valid {
        return Err((
            Code::InvalidValue,
            format!(
                "`${{{inside}}}` names no environment variable; write `${{NAME}}` or \
                 `${{NAME:-default}}`, or `$${{` for a literal `${{`"
            ),
        ));
    }
    // As in a shell, `:-` also stands in for a variable that is set but empty.
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            Code::EnvUnset,
            format!(
                "the environment variable `{name}` is not set; set it, or give a default as \
                 `${{{name}:-default}}`"
            ),
        )),
    }
}

/// Where the nth `${` of a value stands.
fn spot(raw: &str, nth: usize, place: Place) -> Place {
    let Some((at, _)) = raw.match_indices("${").nth(nth) else { return place };
    // A carriage return alone ends a line too (YAML 1.2.2 §5.4).
    let before = raw[..at].replace("\r\n", "\n");
    match before.rsplit_once(['\n', '\r']) {
        None => Place { column: place.column + before.chars().count() as u32, ..place },
        Some((lines, last)) => Place {
            line: place.line + 1 + lines.matches(['\n', '\r']).count() as u32,
            column: 1 + last.chars().count() as u32,
            ..place
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("9000".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${PORT}".into()),
            _ => None,
        }
    }

    fn run(text: &str) -> (String, Vec<(u32, u32, Code)>) {
        let mut found = Vec::new();
        let out = expand(text, text, Place::new(7, 10, 5), &env, &mut found);
        let found = found.into_iter().map(|d| (d.place.line, d.place.column, d.code));
        (out, found.collect())
    }

    #[test]
    fn what_is_put_in() {
        for (text, want) in [
            ("plain", "plain"),
            ("localhost:${PORT}", "localhost:9000"),
            ("${PORT}${PORT}", "90009000"),
            ("${NONE:-1.2.3.4:80}", "1.2.3.4:80"),
            ("${NONE:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("$${PORT}", "${PORT}"),
            ("$argon2id$v=19$m=1,t=2,p=1$x", "$argon2id$v=19$m=1,t=2,p=1$x"),
            // A value is a value: what it contains is not looked at again.
            ("${NESTED}", "${PORT}"),
        ] {
            assert_eq!(run(text), (want.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_fails_is_pointed_at() {
        assert_eq!(run("a${NONE}b${NIX}").1, [(7, 11, Code::EnvUnset), (7, 19, Code::EnvUnset)]);
        assert_eq!(run("x\n  ${NONE}").1, [(8, 3, Code::EnvUnset)]);
        assert_eq!(run("${PORT").1, [(7, 10, Code::InvalidValue)]);
        assert_eq!(run("${}").1, [(7, 10, Code::InvalidValue)]);
        assert_eq!(run("${a b}").1, [(7, 10, Code::InvalidValue)]);
        assert_eq!(run("$${PORT} ${NONE}").1, [(7, 19, Code::EnvUnset)]);
    }
}
