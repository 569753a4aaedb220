use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, COOKIE, HOST, UPGRADE, VIA};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

/// As the parser of heads makes them.
fn parsed(head: &str) -> Fields {
    let head = Bytes::copy_from_slice(head.as_bytes());
    let mut lines = [httparse::EMPTY_HEADER; 16];
    let (_, lines) = httparse::parse_headers(&head, &mut lines).unwrap().unwrap();
    let mut read = Lines::with_capacity(lines.len());
    for line in lines {
        read.push(&head, line.name.as_bytes(), line.value);
    }
    read.of(head.clone(), false)
}

fn written(fields: &Fields, without: Seen) -> String {
    let mut out = BytesMut::new();
    fields.write(&mut out, without);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn what_nobody_changed_is_written_as_it_came() {
    let head = "Host: a\r\nX-One: 1\r\nx-one:  2 \r\nEMPTY:\r\nLast: z\r\n\r\n";
    let fields = parsed(head);
    let spaces = "Host: a\r\nX-One: 1\r\nx-one: 2\r\nEMPTY: \r\nLast: z\r\n";
    assert_eq!(written(&fields, Seen::default()), spaces);
    let without_host = spaces.strip_prefix("Host: a\r\n").unwrap();
    assert_eq!(written(&fields, Seen::HOST), without_host);
    assert_eq!(written(&Fields::new(), Seen::default()), "");
}

#[test]
fn a_changed_field_keeps_its_place_and_an_added_one_is_the_last() {
    let mut fields = parsed("Host: a\r\nX-One: 1\r\nCookie: c\r\nX-ONE: 2\r\nVia: v\r\n\r\n");
    fields.insert(HeaderName::from_static("x-one"), value("new"));
    fields.append(VIA, value("own"));
    fields.insert_if_absent(COOKIE, value("not this"));
    fields.insert_if_absent(UPGRADE, value("this"));
    let want = "Host: a\r\nX-One: new\r\nCookie: c\r\nVia: v\r\nvia: own\r\nupgrade: this\r\n";
    assert_eq!(written(&fields, Seen::default()), want);
    assert!(fields.remove(VIA) && !fields.remove(VIA));
    assert!(!fields.seen().has(Seen::VIA) && fields.seen().has(Seen::UPGRADE));
    assert_eq!(fields.get("X-oNe").unwrap(), "new");
    assert_eq!(fields.len(), 4);
    fields.remove_known(Seen::HOST.and(Seen::UPGRADE));
    assert_eq!(written(&fields, Seen::default()), "X-One: new\r\nCookie: c\r\n");
}

#[test]
fn secrets_stay_out_of_tables_and_logs() {
    let mut secret = value("hunter2");
    secret.set_sensitive(true);
    let mut fields = Fields::new();
    fields.append(COOKIE, &secret);
    let copy = fields.clone();
    let found = copy.get(COOKIE).unwrap();
    assert!(AsValue::is_sensitive(&found) && found.to_value().is_sensitive());
    assert!(!format!("{copy:?}").contains("hunter2"));
    fields.insert(COOKIE, value("open"));
    assert!(!AsValue::is_sensitive(&fields.get(COOKIE).unwrap()));
}

#[test]
fn text_is_ascii() {
    let fields: Fields =
        [("a", HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap())].into_iter().collect();
    assert_eq!(fields.get("a").unwrap().to_str(), Err(NotText));
    assert_eq!(fields.get("a").unwrap().as_bytes(), b"caf\xc3\xa9");
    assert_eq!(HeaderMap::from(&fields)["a"].as_bytes(), b"caf\xc3\xa9");
}

fn as_text(lines: &[(String, String)]) -> String {
    lines.iter().fold(String::new(), |text, (name, value)| text + &format!("{name}: {value}\r\n"))
}

/// What may happen to fields.
#[derive(Debug, Clone)]
enum Change {
    Append(usize, String),
    Insert(usize, String),
    InsertIfAbsent(usize, String),
    Remove(usize),
}

const NAMES: [&str; 6] = ["host", "x-one", "content-length", "connection", "x_two", "cookie"];

fn change() -> impl Strategy<Value = Change> {
    let (name, text) = (0..NAMES.len(), "[a-z]{0,4}");
    prop_oneof![
        (name.clone(), text).prop_map(|(name, text)| Change::Append(name, text)),
        (name.clone(), text).prop_map(|(name, text)| Change::Insert(name, text)),
        (name.clone(), text).prop_map(|(name, text)| Change::InsertIfAbsent(name, text)),
        name.prop_map(Change::Remove),
    ]
}

/// The same on a plain list.
fn model(lines: &mut Vec<(String, String)>, change: &Change) {
    let is = |line: &(String, String), name: &str| line.0.eq_ignore_ascii_case(name);
    let name_of = |number: &usize| NAMES[*number].to_owned();
    match change {
        Change::Append(name, text) => lines.push((name_of(name), text.clone())),
        Change::Insert(name, text) => {
            let name = name_of(name);
            match lines.iter().position(|line| is(line, &name)) {
                None => lines.push((name, text.clone())),
                Some(first) => {
                    lines[first].1.clone_from(text);
                    let mut at = 0;
                    lines.retain(|line| {
                        at += 1;
                        at <= first + 1 || !is(line, &name)
                    });
                }
            }
        }
        Change::InsertIfAbsent(name, text) => {
            let name = name_of(name);
            if !lines.iter().any(|line| is(line, &name)) {
                lines.push((name, text.clone()));
            }
        }
        Change::Remove(name) => lines.retain(|line| !is(line, NAMES[*name])),
    }
}

fn apply(fields: &mut Fields, change: &Change) {
    match change {
        Change::Append(name, text) => fields.append(NAMES[*name], value(text)),
        Change::Insert(name, text) => fields.insert(NAMES[*name], value(text)),
        Change::InsertIfAbsent(name, text) => fields.insert_if_absent(NAMES[*name], value(text)),
        Change::Remove(name) => {
            fields.remove(NAMES[*name]);
        }
    }
}

proptest! {
    /// Whatever is done to them, fields are the list that they look like.
    #[test]
    fn fields_are_a_list_of_lines(
        head in proptest::collection::vec((0..NAMES.len(), "[a-z]{0,4}", any::<bool>()), 0..8),
        changes in proptest::collection::vec(change(), 0..12),
    ) {
        let mut lines: Vec<(String, String)> = head
            .iter()
            .map(|(name, text, upper)| {
                let name = NAMES[*name];
                (if *upper { name.to_uppercase() } else { name.to_owned() }, text.clone())
            })
            .collect();
        let text = as_text(&lines);
        let mut fields = parsed(&format!("{text}\r\n"));
        for change in &changes {
            apply(&mut fields, change);
            model(&mut lines, change);
        }
        prop_assert_eq!(written(&fields, Seen::default()), as_text(&lines));
        let mut rest = lines.clone();
        rest.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        prop_assert_eq!(written(&fields, Seen::CONTENT_LENGTH), as_text(&rest));
        for name in NAMES {
            let of_name = || lines.iter().filter(|line| line.0.eq_ignore_ascii_case(name));
            let found: Vec<_> = fields.get_all(name).map(|value| value.to_str().unwrap()).collect();
            prop_assert_eq!(&found, &of_name().map(|line| &*line.1).collect::<Vec<_>>());
            prop_assert_eq!(fields.get(name).map(|one| one.to_str().unwrap()), found.first().copied());
            prop_assert_eq!(fields.contains_key(name), !found.is_empty());
        }
        prop_assert_eq!(fields.seen().has(Seen::HOST), fields.contains_key(HOST));
        prop_assert_eq!(fields.seen().has(Seen::CONTENT_LENGTH), fields.contains_key(CONTENT_LENGTH));
        let map = HeaderMap::from(&fields);
        prop_assert_eq!(map.len(), fields.len());
        prop_assert_eq!(Fields::from(&map).len(), fields.len());
    }
}
