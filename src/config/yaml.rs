//! YAML text into a tree that remembers where everything stood.
//!
//! The parser is serde-saphyr's (`granit_parser`); its events are kept as a tree of our own
//! instead of being read straight into structs, because a reader that stops at the first error
//! cannot tell every error at once, and because `${NAME}` must be put in per value: a variable
//! that contains `: ` or a newline is a value, never structure.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span as Marked, Tag};

use super::expand;
use super::report::{Code, Diagnostic, Place};

/// Bytes of a file. 10 000 routes with every key are about 5 MiB.
pub(super) const BYTES_MAX: usize = 16 << 20;
/// Values of a file, counted after aliases are followed, so that a few lines of nested aliases
/// cannot fill the memory.
const NODES_MAX: usize = 1_000_000;
/// Lists and maps inside each other.
const DEPTH_MAX: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Map(Map),
    Scalar(Scalar),
    Seq(Vec<Node>),
}

/// Keys in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Map {
    pub(super) entries: Vec<Entry>,
    /// Keys that were taken out after an error about them, so that their absence is not another.
    pub(super) pruned: Vec<String>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

/// Text, with the question whether it was quoted (and so is text even if it looks like a number).
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) plain: bool,
    /// What should stand here could not be put in, and that was told.
    pub(super) told: bool,
}

/// Reads one document. `env` answers `${NAME}`. An empty document is an empty map.
///
/// Syntax stops the reading; unset variables and doubled keys do not, so they come back beside
/// the tree.
pub(super) fn read(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Node, Vec<Diagnostic>), Diagnostic> {
    if text.len() > BYTES_MAX {
        return Err(too_large());
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut builder = Builder {
        text,
        env,
        stack: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        open_anchors: Vec::new(),
        nodes: 0,
        found: Vec::new(),
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let marker = error.marker();
            let place = Place::new(marker.line(), marker.col() + 1, 1);
            Diagnostic::new(Code::YamlSyntax, place, format!("this is not YAML: {}", error.info()))
        })?;
        builder.take(event, &span)?;
    }
    let empty = Node { place: Place::START, value: Value::Map(Map::default()) };
    Ok((builder.root.unwrap_or(empty), builder.found))
}

/// For more than [`BYTES_MAX`].
pub(super) fn too_large() -> Diagnostic {
    let sentence = format!("the file is larger than {} MiB", BYTES_MAX >> 20);
    Diagnostic::new(Code::TooLarge, Place::START, sentence)
}

struct Builder<'a> {
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    open_anchors: Vec<usize>,
    nodes: usize,
    found: Vec<Diagnostic>,
}

/// A list or map whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    body: Body,
}

enum Body {
    Map { map: Map, seen: HashMap<String, u32>, key: Option<(String, Place)>, merges: Vec<Node> },
    Seq(Vec<Node>),
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Marked) -> Result<(), Diagnostic> {
        let place = self.place(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(Diagnostic::new(
                Code::YamlSyntax,
                place,
                "one file is one document; take out this `---` and what follows",
            )),
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.as_deref(), place)?;
                let plain = style == ScalarStyle::Plain;
                let raw = span.slice(self.text).unwrap_or_default();
                let before = self.found.len();
                let text = if self.expects_key() {
                    text.into_owned()
                } else {
                    expand::expand(&text, raw, place, self.env, &mut self.found)
                };
                let told = self.found.len() != before;
                let value = Value::Scalar(Scalar { text, plain, told });
                self.put(Node { place, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_tag(tag.as_deref(), place)?;
                self.open(place, anchor, Body::Seq(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                no_tag(tag.as_deref(), place)?;
                self.open(place, anchor, Body::map())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, place),
            _ => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Open { body: Body::Map { key: None, .. }, .. }))
    }

    fn open(&mut self, place: Place, anchor: usize, body: Body) -> Result<(), Diagnostic> {
        if self.expects_key() {
            return Err(key_is_text(place));
        }
        self.count(1, place)?;
        self.open_anchors.push(anchor);
        self.stack.push(Open { place, anchor, body });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        self.open_anchors.pop();
        let Some(Open { place, anchor, body }) = self.stack.pop() else { return Ok(()) };
        let value = match body {
            Body::Seq(items) => Value::Seq(items),
            Body::Map { mut map, mut seen, merges, .. } => {
                for merge in merges {
                    merge_into(&mut map, &mut seen, merge)?;
                }
                Value::Map(map)
            }
        };
        self.attach(Node { place, value }, anchor)
    }

    /// Puts a scalar or an alias' copy where the parser is: as a key, or as a value.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        self.count(1, node.place)?;
        if let Some(Open { body: Body::Map { seen, key: key @ None, .. }, .. }) =
            self.stack.last_mut()
        {
            let Value::Scalar(scalar) = node.value else { return Err(key_is_text(node.place)) };
            if let Some(first) = seen.get(&scalar.text) {
                self.found.push(Diagnostic::new(
                    Code::DuplicateKey,
                    node.place,
                    format!("`{}` stands here twice; the first is on line {first}", scalar.text),
                ));
            }
            *key = Some((scalar.text, node.place));
            return Ok(());
        }
        self.attach(node, anchor)
    }

    fn attach(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|open| &mut open.body) {
            None => self.root = Some(node),
            Some(Body::Seq(items)) => items.push(node),
            Some(Body::Map { map, seen, key, merges }) => {
                let Some((key, key_place)) = key.take() else {
                    return Err(key_is_text(node.place));
                };
                if key == "<<" {
                    merges.push(node);
                } else if !seen.contains_key(&key) {
                    seen.insert(key.clone(), key_place.line);
                    map.entries.push(Entry { key, key_place, value: node });
                }
            }
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(), Diagnostic> {
        let Some(node) = self.anchors.get(&id).filter(|_| !self.open_anchors.contains(&id)) else {
            let sentence = "this alias stands inside the value it names";
            return Err(Diagnostic::new(Code::YamlSyntax, place, sentence));
        };
        // Errors point into the copy's origin: that is the text to mend.
        let node = node.clone();
        self.count(node.size(), place)?;
        self.put(node, 0)
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let sentence = format!("the file has more than {NODES_MAX} values, aliases counted");
            return Err(Diagnostic::new(Code::TooLarge, place, sentence));
        }
        Ok(())
    }

    fn place(&self, span: &Marked) -> Place {
        let raw = span.slice(self.text).unwrap_or_default();
        let width = raw.lines().next().unwrap_or_default().trim_end().chars().count();
        Place::new(span.start.line(), span.start.col() + 1, width)
    }
}

impl Body {
    fn map() -> Self {
        Self::Map { map: Map::default(), seen: HashMap::new(), key: None, merges: Vec::new() }
    }
}

impl Node {
    /// Whether what is wrong with it was told while it was read.
    pub(super) fn told(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.told)
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 1,
            Value::Seq(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(map) => {
                1 + map.entries.iter().map(|entry| 1 + entry.value.size()).sum::<usize>()
            }
        }
    }

    /// What stands at `path`, the deepest step first; an empty path is this node.
    pub(super) fn at(&self, path: &[usize]) -> Option<&Self> {
        path.iter().rev().try_fold(self, |node, &step| match &node.value {
            Value::Map(map) => map.entries.get(step).map(|entry| &entry.value),
            Value::Seq(items) => items.get(step),
            Value::Scalar(_) => None,
        })
    }

    /// Takes out what stands at `path` (the deepest step first) and remembers that it was there.
    /// None if nothing stands there.
    pub(super) fn prune(&mut self, path: &[usize], also_known_as: Option<&str>) -> Option<()> {
        let (&last, up) = path.split_first()?;
        let mut node = self;
        for &step in up.iter().rev() {
            node = match &mut node.value {
                Value::Map(map) => &mut map.entries.get_mut(step)?.value,
                Value::Seq(items) => items.get_mut(step)?,
                Value::Scalar(_) => return None,
            };
        }
        match &mut node.value {
            Value::Map(map) if last < map.entries.len() => {
                let entry = map.entries.remove(last);
                map.pruned.push(entry.key);
                map.pruned.extend(also_known_as.map(str::to_owned));
                Some(())
            }
            Value::Seq(items) if last < items.len() => {
                items.remove(last);
                Some(())
            }
            _ => None,
        }
    }
}

/// The merge key `<<` of YAML 1.1: keys that stand here win over merged ones.
fn merge_into(
    map: &mut Map,
    seen: &mut HashMap<String, u32>,
    from: Node,
) -> Result<(), Diagnostic> {
    match from.value {
        Value::Map(from) => {
            for entry in from.entries {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.key_place.line);
                    map.entries.push(entry);
                }
            }
            Ok(())
        }
        Value::Seq(items) => items.into_iter().try_for_each(|item| merge_into(map, seen, item)),
        Value::Scalar(_) => Err(Diagnostic::new(
            Code::YamlSyntax,
            from.place,
            "`<<` takes the alias of a map (`<<: *name`)",
        )),
    }
}

/// Only the tags that every YAML has (`!!str`) are let pass; they change nothing here.
fn no_tag(tag: Option<&Tag>, place: Place) -> Result<(), Diagnostic> {
    if tag.is_some_and(|tag| tag.core_suffix().is_none()) {
        let sentence = "tags (`!name`) mean nothing here; take it out";
        return Err(Diagnostic::new(Code::YamlSyntax, place, sentence));
    }
    Ok(())
}

fn key_is_text(place: Place) -> Diagnostic {
    Diagnostic::new(Code::YamlSyntax, place, "a key must be plain text")
}
