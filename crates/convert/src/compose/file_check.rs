//! What docker compose refuses in a file: unknown keys, values that a key does not take, names of nothing. Works on the merged files;
//! what was written in an anchor is judged once.
//!
//! Values are judged as they are filled in from `.env` and the shell; one that only the start can fill in is not judged. Rules of
//! compose without a meaning here, such as a `container_name` with replicas, are left to it.

use std::collections::BTreeSet;
use std::fmt;

use devrun_model::mask::{Masker, is_distinctive};
use devrun_model::secret_name::is_secret;
use devrun_model::suggest::{self, nearest};

use super::super::file_fault::FileFault;
use super::super::report::At;
use super::super::yaml::{Map, YamlNode, YamlValue, get};
use super::fault_list::FaultList;
use super::key_shapes::{FILE, KeyShape, KeyTable};
use super::values::Values;
use super::{named_things, value_check};

/// The faults of a project, in the order of its files.
pub(super) fn faults(tree: &Map, values: &Values) -> Vec<FileFault> {
    let mut found = FaultList::new(values);
    if let KeyShape::Table(table) = FILE {
        found.table(&KeyPath::default(), tree, table, None);
    }
    named_things::check(tree, &mut found);
    let mut faults = found.faults;
    faults.sort_by_key(|fault| fault.at);
    // A value may have come from a variable or an anchor, and what is filled in stands in the message.
    let masker = Masker::of_values(&secrets(tree, values), false);
    for fault in &mut faults {
        fault.message = shortened(masker.text(&fault.message));
        fault.help = shortened(masker.text(&fault.help));
    }
    faults
}

/// The secrets of a project: variables of that name in `.env`, in the shell and in environments.
fn secrets(tree: &Map, values: &Values) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = values.secrets().cloned().collect();
    let services = get(tree, "services").and_then(YamlNode::map).into_iter().flatten();
    for environment in services.filter_map(|(_, service)| service.get("environment")) {
        for (key, node) in environment.map().into_iter().flatten() {
            found.extend(node.scalar().filter(|_| is_secret(&key.name)).and_then(|text| values.fill(&text)));
        }
        for (entry, _) in environment.texts() {
            let value = entry.split_once('=').filter(|(name, _)| is_secret(name)).and_then(|(_, value)| values.fill(value));
            found.extend(value);
        }
    }
    found.retain(|value| is_distinctive(value));
    found
}

/// A text that quotes a long value, cut.
fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// In characters.
const LONGEST_MESSAGE: usize = 300;

impl FaultList<'_> {
    /// `at`: the place of the table's key; `None` for the whole file.
    fn table(&mut self, path: &KeyPath, map: &Map, table: &KeyTable, at: Option<At>) {
        for (key, node) in map {
            if key.name.starts_with("x-") {
                continue;
            }
            match table.shape(&key.name) {
                Some(shape) => self.value(&path.below(&key.name), key.at, node, shape),
                None => self.unknown_key(path, &key.name, key.at, node, table),
            }
        }
        let missing: Vec<&str> = table.required.iter().copied().filter(|name| get(map, name).is_none()).collect();
        if let (Some(at), false) = (at, missing.is_empty()) {
            let message = format!("{path}: missing key {}", suggest::list(missing.iter().copied()));
            let words = missing.first().and_then(|name| match table.shape(name) {
                Some(KeyShape::Words(words)) => Some(format!("{name}: {}", words.first().copied().unwrap_or_default())),
                _ => None,
            });
            self.add(at, message, words.unwrap_or_else(|| format!("add {}", suggest::list(missing))));
        }
    }

    fn unknown_key(&mut self, path: &KeyPath, name: &str, at: At, node: &YamlNode, table: &KeyTable) {
        let KeyPath { subject, inner } = path;
        let within = if inner.is_empty() { String::new() } else { format!(" in `{inner}`") };
        let message = format!("{subject}unknown key `{name}`{within}");
        let is_service = subject.is_empty() && inner.is_empty() && (node.get("image").is_some() || node.get("build").is_some());
        let near = nearest(name, table.keys.iter().map(|(name, _)| *name));
        let help = match near {
            _ if is_service => "services stand below `services:`".to_owned(),
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("remove it, or name it `x-{name}` to have it ignored"),
        };
        self.add(at, message, help);
    }

    fn value(&mut self, path: &KeyPath, key: At, node: &YamlNode, shape: KeyShape) {
        // An empty value is as good as none.
        if node.value == YamlValue::Null {
            return;
        }
        match (shape, &node.value) {
            (KeyShape::Any, _) => {}
            (KeyShape::Either(shapes), _) => match shapes.iter().find(|shape| has_kind(**shape, node)) {
                Some(shape) => self.value(path, key, node, *shape),
                None => self.wrong_kind(path, node, shape),
            },
            _ if !has_kind(shape, node) => self.wrong_kind(path, node, shape),
            (KeyShape::Table(table), YamlValue::Map(map)) => self.table(path, map, table, Some(key)),
            (KeyShape::Named(inner), YamlValue::Map(map)) => {
                for (name, node) in map.iter().filter(|(name, _)| !name.name.starts_with("x-")) {
                    self.value(&path.below(&name.name), name.at, node, *inner);
                }
            }
            (KeyShape::List(inner), YamlValue::List(list)) => {
                for item in list {
                    self.value(path, item.at, item, *inner);
                }
            }
            (KeyShape::HealthTest, YamlValue::List(list)) => {
                let first = list.first().and_then(YamlNode::scalar).and_then(|text| self.values.fill(&text));
                if let Some(first) = first.filter(|first| !matches!(first.as_str(), "CMD" | "CMD-SHELL" | "NONE")) {
                    let message = format!("{path} must begin with CMD, CMD-SHELL or NONE, not {first:?}");
                    let help = "test: [CMD, PROGRAM, ARGUMENT …], or a text for a shell";
                    self.add(list.first().map_or(node.at, |item| item.at), message, help);
                }
            }
            _ => {
                let Some(text) = node.scalar().and_then(|text| self.values.fill(&text)) else { return };
                if let Some((reason, help)) = value_check::fault(shape, &text) {
                    self.add(node.at, format!("{path}: {reason}"), help);
                }
            }
        }
    }

    fn wrong_kind(&mut self, path: &KeyPath, node: &YamlNode, shape: KeyShape) {
        let kinds = kinds(shape);
        let message = format!("{path} must be {}, not {}", kinds.join(" or "), node.kind());
        let name = path.last();
        let help = match (kinds.last(), node.scalar()) {
            (Some(&"a list"), Some(text)) if !text.contains(['"', '\n']) => format!("{name}: [{text:?}]"),
            (Some(&"a list"), _) => format!("begin each entry below `{name}` with `- `"),
            (Some(&"a table"), _) => format!("write `KEY: VALUE` lines below `{name}`"),
            _ => format!("{name}: VALUE"),
        };
        self.add(node.at, message, help);
    }
}

/// Whether a shape takes a value of this kind.
fn has_kind(shape: KeyShape, node: &YamlNode) -> bool {
    match (shape, &node.value) {
        (KeyShape::Any, _) | (_, YamlValue::Null) => true,
        (KeyShape::Either(shapes), _) => shapes.iter().any(|shape| has_kind(*shape, node)),
        (KeyShape::List(_) | KeyShape::HealthTest, value) => matches!(value, YamlValue::List(_)),
        (KeyShape::Table(_) | KeyShape::Named(_), value) => matches!(value, YamlValue::Map(_)),
        (_, value) => !matches!(value, YamlValue::List(_) | YamlValue::Map(_)),
    }
}

/// The kinds of value that a shape takes, in words.
fn kinds(shape: KeyShape) -> Vec<&'static str> {
    match shape {
        KeyShape::Either(shapes) => {
            let mut all: Vec<&str> = shapes.iter().flat_map(|shape| kinds(*shape)).collect();
            all.dedup();
            all
        }
        KeyShape::List(_) | KeyShape::HealthTest => vec!["a list"],
        KeyShape::Table(_) | KeyShape::Named(_) => vec!["a table"],
        KeyShape::Bool => vec!["true or false"],
        KeyShape::Integer | KeyShape::Number | KeyShape::PortNumber => vec!["a number"],
        _ => vec!["text"],
    }
}

/// Where a value stands, for messages.
#[derive(Debug, Default)]
struct KeyPath {
    /// ``service `web`: ``; empty for what belongs to the whole file.
    subject: String,
    /// The keys below that, with a dot between.
    inner: String,
}

impl KeyPath {
    fn below(&self, key: &str) -> Self {
        let Self { subject, inner } = self;
        if subject.is_empty() && SECTIONS.contains(&inner.as_str()) {
            return Self { subject: format!("{} `{key}`: ", inner.trim_end_matches('s')), inner: String::new() };
        }
        let inner = if inner.is_empty() { key.to_owned() } else { format!("{inner}.{key}") };
        Self { subject: subject.clone(), inner }
    }

    /// The last of its keys.
    fn last(&self) -> &str {
        self.inner.rsplit('.').next().unwrap_or_default()
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inner.is_empty() {
            f.write_str(self.subject.trim_end_matches(": "))
        } else {
            write!(f, "{}`{}`", self.subject, self.inner)
        }
    }
}

/// Keys at the top of a file below which names of the user's stand.
const SECTIONS: &[&str] = &["services", "models", "networks", "volumes", "secrets", "configs"];
