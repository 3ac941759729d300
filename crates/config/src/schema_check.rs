//! One walk over a file's tree against the schema: unknown keys, wrong types, words that are no choice, and values
//! whose text cannot be right whatever the variables say. All of them at once.

use super::diagnostic::Diagnostic;
use super::schema::{self, Shape, TableKind};
use super::toml_node::{Table, TomlNode, TomlValue};
use super::{examples, foreign_keys};
use devrun_model::suggest;
use devrun_model::{ByteSize, duration};

/// The walk.
pub(crate) struct SchemaCheck<'a> {
    out: &'a mut Vec<Diagnostic>,
    /// Inside `[modes.X]`: `false` may stand for anything.
    overlay: bool,
    /// What the key at hand is about.
    doc: &'static str,
}

/// Checks a whole file.
pub(crate) fn file(root: &Table, out: &mut Vec<Diagnostic>) {
    let mut base = root.clone();
    let modes = base.shift_remove("modes");
    let mut walk = SchemaCheck { out, overlay: false, doc: "" };
    walk.table(&base, TableKind::Root, "");
    let Some(modes) = modes else { return };
    let Some(table) = modes.table() else {
        out.push(Diagnostic::error(modes.span, "`modes` takes a table of overlays").help("write [modes.dev]"));
        return;
    };
    for (name, overlay) in table {
        let path = format!("modes.{name}");
        let Some(tree) = overlay.table() else {
            wrong_type(out, overlay, &path, "a table");
            continue;
        };
        for key in ["modes"] {
            if let Some(node) = tree.get(key) {
                out.push(Diagnostic::error(node.key, format!("`{key}` cannot stand in [{path}]")));
            }
        }
        let mut walk = SchemaCheck { out, overlay: true, doc: "" };
        walk.table(tree, TableKind::Root, &path);
    }
}

/// Checks the `[service]` table of a recipe file.
pub(crate) fn recipe_service(table: &Table, out: &mut Vec<Diagnostic>) {
    SchemaCheck { out, overlay: true, doc: "" }.table(table, TableKind::Service, "service");
}

fn wrong_type(out: &mut Vec<Diagnostic>, node: &TomlNode, path: &str, wanted: &str) {
    out.push(Diagnostic::error(node.span, format!("`{path}` takes {wanted}, not {}", node.kind())));
}

/// What a shape is called where it is wanted.
fn called(shape: Shape) -> String {
    match shape {
        Shape::Text => "a string".to_owned(),
        Shape::Scalar => "a string, a number or a boolean".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::Integer => "an integer".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Duration => "a duration such as \"10s\"".to_owned(),
        Shape::Size => "a size such as \"512M\"".to_owned(),
        Shape::Port => "a port number".to_owned(),
        Shape::Choice(words) => alternatives(words.iter().map(|word| format!("\"{word}\""))),
        Shape::List(inner) => match inner {
            Shape::Text | Shape::Scalar => "a list of strings".to_owned(),
            Shape::Integer => "a list of integers".to_owned(),
            _ => "a list".to_owned(),
        },
        Shape::Map(_) | Shape::Table(_) => "a table".to_owned(),
        Shape::Either(shapes) => alternatives(shapes.iter().map(|shape| called(*shape))),
        Shape::Any => "any value".to_owned(),
    }
}

/// `a, b or c`.
fn alternatives(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        Some((last, rest @ [_, ..])) => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Whether a value's TOML type could be this shape; its content is looked at afterwards.
fn fits(shape: Shape, value: &TomlValue) -> bool {
    match (shape, value) {
        (Shape::Any, _) => true,
        (Shape::Scalar, value) => !matches!(value, TomlValue::Array(_) | TomlValue::Table(_)),
        (Shape::Text | Shape::Duration | Shape::Size, TomlValue::Text(_)) => true,
        (Shape::Choice(words), TomlValue::Text(text)) => words.contains(&text.as_str()) || text.contains("${"),
        (Shape::Bool, TomlValue::Bool(_)) => true,
        (Shape::Integer | Shape::Number | Shape::Port, TomlValue::Integer(_)) => true,
        (Shape::Size, TomlValue::Integer(_)) | (Shape::Number, TomlValue::Float(_)) => true,
        // Numbers and flags may be placeholders, and are parsed after substitution.
        (Shape::Integer | Shape::Number | Shape::Port | Shape::Bool, TomlValue::Text(text)) => text.contains("${"),
        (Shape::Port, _) => false,
        (Shape::List(_), TomlValue::Array(_)) => true,
        (Shape::Map(_) | Shape::Table(_), TomlValue::Table(_)) => true,
        (Shape::Either(shapes), value) => shapes.iter().any(|shape| fits(*shape, value)),
        _ => false,
    }
}

impl SchemaCheck<'_> {
    fn table(&mut self, table: &Table, place: TableKind, path: &str) {
        for (name, node) in table {
            let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let Some(key) = schema::find(place, name) else {
                self.unknown(node, name, place, path);
                continue;
            };
            if let Some(help) = foreign_keys::build_context(place, name, node) {
                self.out.push(Diagnostic::error(node.span, format!("`{full}` takes a command, not a directory")).help(help));
            }
            self.doc = key.doc;
            self.value(node, key.shape, &full, place == TableKind::Service || place == TableKind::Ready);
        }
    }

    fn unknown(&mut self, node: &TomlNode, name: &str, place: TableKind, path: &str) {
        // Only so many are shown; the rest is junk, and not worth a search for what it might mean.
        if self.out.len() > 200 {
            self.out.push(Diagnostic::error(node.key, format!("unknown key `{name}`")));
            return;
        }
        let wherever = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in [{path}]") };
        let names = schema::keys_of(place).map(|key| key.name);
        let help = foreign_keys::key(name, place)
            .map(str::to_owned)
            .or_else(|| elsewhere(name, place))
            .or_else(|| suggest::nearest(name, names.clone()).map(|near| format!("did you mean `{near}`?")))
            .or_else(|| foreign_keys::misspelt(name, place).map(str::to_owned))
            .or_else(|| suggest::help(name, names));
        self.out.push(Diagnostic::error(node.key, format!("unknown key `{name}` {wherever}")).maybe_help(help));
    }

    fn value(&mut self, node: &TomlNode, shape: Shape, path: &str, removable: bool) {
        if node.is_false() && (self.overlay || removable) {
            return;
        }
        match (shape, &node.value) {
            (Shape::Table(place), TomlValue::Table(table)) => self.table(table, place, path),
            (Shape::Map(inner), TomlValue::Table(table)) => {
                for (name, child) in table {
                    // A variable or a header set to `false` is taken out, as everywhere.
                    let named = !matches!(inner, Shape::Scalar);
                    self.value(child, *inner, &format!("{path}.{name}"), !named || self.overlay);
                }
            }
            (Shape::List(inner), TomlValue::Array(elements)) => {
                for (index, child) in elements.iter().enumerate() {
                    self.value(child, *inner, &format!("{path}[{index}]"), false);
                }
            }
            (Shape::Either(shapes), value) => match shapes.iter().find(|shape| fits(**shape, value)) {
                Some(shape) => self.value(node, *shape, path, false),
                None => self.mismatch(node, shape, path),
            },
            (Shape::Choice(_), TomlValue::Text(_)) if !fits(shape, &node.value) => self.mismatch(node, shape, path),
            (Shape::Duration, TomlValue::Text(text)) if !text.contains('$') => {
                if let Err(error) = duration::parse(text) {
                    let reason = error.to_string();
                    let (reason, help) =
                        reason.split_once("; ").unwrap_or((&reason, "write \"10s\" or \"512M\", as the key takes"));
                    self.out.push(Diagnostic::error(node.span, format!("`{path}`: {reason}")).help(help));
                }
            }
            (Shape::Size, TomlValue::Text(text)) if !text.contains('$') => {
                if let Err(error) = ByteSize::parse(text) {
                    let reason = error.to_string();
                    let (reason, help) =
                        reason.split_once("; ").unwrap_or((&reason, "write \"10s\" or \"512M\", as the key takes"));
                    self.out.push(Diagnostic::error(node.span, format!("`{path}`: {reason}")).help(help));
                }
            }
            (Shape::Size | Shape::Integer, TomlValue::Integer(number)) if *number < 0 => {
                self.out.push(Diagnostic::error(node.span, format!("`{path}` cannot be negative")));
            }
            (Shape::Port, TomlValue::Integer(number)) if !(1..=65535).contains(number) => {
                let help = if *number == 0 { "write \"auto\" for a free one, or false for none" } else { "ports are 1 to 65535" };
                self.out.push(Diagnostic::error(node.span, format!("invalid port {number}")).help(help));
            }
            (Shape::Number, value) if fits(shape, value) => {
                let bad = match value {
                    TomlValue::Integer(number) => *number < 0,
                    TomlValue::Float(number) => !number.is_finite() || *number < 0.0,
                    _ => false,
                };
                if bad {
                    self.out.push(Diagnostic::error(node.span, format!("`{path}` takes a number from 0 up")));
                }
            }
            (shape, value) => {
                if !fits(shape, value) {
                    self.mismatch(node, shape, path);
                }
            }
        }
    }

    /// What the key at hand is about and what to write, as a help line.
    fn about(&self, node: &TomlNode, shape: Shape, path: &str) -> Option<String> {
        let key = path.rsplit('.').next().unwrap_or(path);
        let is_own = examples::is_own_name(path);
        let doc = (!self.doc.is_empty() && !is_own).then(|| format!("{key}: {}", self.doc));
        let example = examples::example(path, shape, node).map(|line| format!("write {line}"));
        let parts: Vec<String> = doc.into_iter().chain(example).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn mismatch(&mut self, node: &TomlNode, shape: Shape, path: &str) {
        let mut help = foreign_keys::value(path, node);
        let words: Vec<&str> = match shape {
            Shape::Choice(words) => words.to_vec(),
            Shape::Either(shapes) => shapes
                .iter()
                .flat_map(|shape| match shape {
                    Shape::Choice(words) => words.to_vec(),
                    _ => Vec::new(),
                })
                .collect(),
            _ => Vec::new(),
        };
        if let Some(text) = node.text() {
            if help.is_some() {
            } else if let Some(near) = suggest::nearest(text, words.iter().copied()) {
                help = Some(format!("did you mean \"{near}\"?"));
            } else if text.parse::<f64>().is_ok() || (words.is_empty() && (text == "true" || text == "false")) {
                help = Some(format!("without quotes: {text}"));
            }
            if help.is_none() && words.is_empty() && takes_list(shape) {
                let key = path.rsplit('.').next().unwrap_or(path);
                help = Some(format!("in brackets: {key} = [\"{text}\"]"));
            }
            if help.is_none() && shape == Shape::Bool {
                help = Some(format!("write {}", !matches!(text, "no" | "off" | "0" | "")));
            }
            let help = help.or_else(|| self.about(node, shape, path));
            let what = if words.is_empty() || help.as_deref().is_some_and(|help| help.starts_with("without")) {
                format!("`{path}` takes {}, not a string", called(shape))
            } else {
                format!("`{path}` takes {}, not {text:?}", called(shape))
            };
            self.out.push(Diagnostic::error(node.span, what).maybe_help(help));
            return;
        }
        match (shape, &node.value) {
            (Shape::Duration, TomlValue::Integer(number)) => help = Some(format!("did you mean \"{number}s\"?")),
            (Shape::Text, TomlValue::Integer(_) | TomlValue::Float(_) | TomlValue::Bool(_)) => {
                help = node.scalar().map(|text| format!("in quotes: \"{text}\""));
            }
            _ => {}
        }
        let help = help.or_else(|| self.about(node, shape, path));
        self.out.push(
            Diagnostic::error(node.span, format!("`{path}` takes {}, not {}", called(shape), node.kind())).maybe_help(help),
        );
    }
}

/// Whether a list would do.
fn takes_list(shape: Shape) -> bool {
    match shape {
        Shape::List(_) => true,
        Shape::Either(shapes) => shapes.iter().any(|shape| matches!(shape, Shape::List(_))),
        _ => false,
    }
}

/// A key that exists in another kind of table.
fn elsewhere(name: &str, place: TableKind) -> Option<String> {
    if schema::keys_of(place).count() < 4 {
        return None;
    }
    // A service's tables come before the project's: `timeout` beside `run` means a probe's.
    let owners = [
        (TableKind::Service, "[services.NAME]"),
        (TableKind::Ready, "`ready`"),
        (TableKind::Stop, "`stop`"),
        (TableKind::Backoff, "`backoff`"),
        (TableKind::Update, "`update`"),
        (TableKind::Log, "`log`"),
        (TableKind::Limits, "`limits`"),
        (TableKind::Task, "[tasks.NAME]"),
        (TableKind::Project, "[project]"),
        (TableKind::Secrets, "[secrets]"),
        (TableKind::Config, "[config]"),
        (TableKind::Root, "the top of the file"),
    ];
    let (_, owner) = owners.iter().find(|(owner, _)| *owner != place && schema::find(*owner, name).is_some())?;
    Some(format!("`{name}` belongs in {owner}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source_map::Text;

    fn messages(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        let table = super::super::toml_node::parse(0, &Text::new("f", text.to_owned()), &mut out);
        file(&table, &mut out);
        out.into_iter().map(|d| format!("{} | {}", d.message, d.help.unwrap_or_default())).collect()
    }

    #[test]
    fn every_problem_of_a_file_at_once() {
        let found = messages(
            "[project]\nnmae = \"x\"\ntimeout = 10\n[services.a]\nprot = 1\nport = 70000\nrun = 5\nready = { intervall = \"1s\" }\n",
        );
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(found[0].contains("unknown key `nmae` in [project] | did you mean `name`?"));
        assert!(found[1].contains("did you mean \"10s\"?"));
    }

    #[test]
    fn false_removes_in_services_and_overlays_only() {
        assert!(messages("[services.a]\nport = false\nready = false\nenv = { A = false }\n").is_empty());
        assert!(messages("[modes.x]\nenv.A = false\nservices.a = false\nproject.env_file = false\n").is_empty());
        assert_eq!(messages("[project]\nname = false\n").len(), 1);
    }
}
