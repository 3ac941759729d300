//! The JSON Schema of a procfile, made from the table of its keys: for editors, which find it by the `#:schema` line that
//! `devrun init` writes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use devrun_config::schema::{KEYS, Key, Shape, TableKind, keys_of};
use devrun_model::recipe::RecipeBook;
use devrun_model::{Failure, FailureKind, Paths};
use devrun_runtime::recipes::RecipeRegistry;
use devrun_runtime::runtime_dir;

/// Where it is written, below the state directory.
pub const FILE: &str = "procfile.schema.json";

/// Writes it into the state directory, which git ignores.
///
/// # Errors
/// `Config` when it cannot be written.
pub fn write(places: &Paths) -> Result<(), Failure> {
    runtime_dir::prepare(places)?;
    let path = places.state.join(FILE);
    runtime_dir::replace(&path, schema_text().as_bytes())
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display())))
}

/// The JSON Schema, as it is kept in `docs/`.
#[must_use]
pub fn schema_text() -> String {
    let mut definitions = Map::new();
    for place in places() {
        definitions.insert(name_of(place).to_owned(), table(place));
    }
    let mut root = table(TableKind::Root);
    if let Some(object) = root.as_object_mut() {
        object.insert("type".to_owned(), json!("object"));
        object.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        object.insert("title".to_owned(), json!("procfile.toml"));
        object.insert("description".to_owned(), json!("A stack of native services for devrun"));
        object.insert("definitions".to_owned(), Value::Object(definitions));
    }
    let mut text = serde_json::to_string_pretty(&root).unwrap_or_default();
    text.push('\n');
    text
}

/// Every kind of table, in the order of the contract.
#[must_use]
pub fn places() -> Vec<TableKind> {
    let mut found: Vec<TableKind> = KEYS.iter().flat_map(|key| key.places.iter().copied()).collect();
    found.sort();
    found.dedup();
    found
}

/// What a kind of table is called in the schema.
#[must_use]
pub fn name_of(place: TableKind) -> &'static str {
    match place {
        TableKind::Root => "root",
        TableKind::Project => "project",
        TableKind::Requires => "requires",
        TableKind::EnvFile => "env_file",
        TableKind::Config => "config",
        TableKind::Secrets => "secrets",
        TableKind::Secret => "secret",
        TableKind::Volume => "volume",
        TableKind::Service => "service",
        TableKind::Task => "task",
        TableKind::Ready => "ready",
        TableKind::Backoff => "backoff",
        TableKind::Update => "update",
        TableKind::Stop => "stop",
        TableKind::Limits => "limits",
        TableKind::Reserve => "reserve",
        TableKind::Log => "log",
        TableKind::Dependency => "dependency",
        TableKind::Route => "route",
        TableKind::Bucket => "bucket",
        TableKind::Index => "index",
        TableKind::Model => "model",
        TableKind::Source => "source",
    }
}

/// A table of this kind, or the `false` that removes an inherited one. A value that is not a table is none of `properties`' business,
/// so that what else a key takes needs no `anyOf`: an editor marks the one key that is wrong.
fn table(place: TableKind) -> Value {
    let properties: Map<String, Value> = keys_of(place).map(|key| (key.name.to_owned(), property(place, key))).collect();
    json!({ "properties": properties, "additionalProperties": false })
}

fn property(place: TableKind, key: &Key) -> Value {
    let mut accepted = Accepted::default();
    accepted.add(key.shape);
    match (place, key.name) {
        (TableKind::Service, "use") => accepted.suggest(recipe_names(), &[r"^(NAMES)(@.+)?$", r"/|\.toml$"]),
        (TableKind::Service | TableKind::Task, "restart") => {
            let words = ["no", "on-failure", "always", "unless-stopped"].map(str::to_owned);
            accepted.suggest(words.to_vec(), &["^(NAMES)$", "^on-failure:[0-9]+$"]);
        }
        _ => {}
    }
    // `false` removes an inherited value, whatever the key takes.
    accepted.types.insert("boolean");
    let mut value = if key.shape == Shape::Any { Map::new() } else { accepted.schema() };
    let default = key.default.map(|default| format!(" [{default}]")).unwrap_or_default();
    value.insert("description".to_owned(), json!(format!("{}{default}", key.doc)));
    Value::Object(value)
}

fn recipe_names() -> Vec<String> {
    let registry = RecipeRegistry::new();
    registry.names().into_iter().map(str::to_owned).collect()
}

/// A text with a placeholder: what it becomes cannot be known here.
const PLACEHOLDER: &str = r"\$\{";

/// What a value may be: one schema for all its kinds.
#[derive(Default)]
struct Accepted {
    types: BTreeSet<&'static str>,
    /// Any text will do.
    is_free_text: bool,
    /// The words that a text may be.
    words: Vec<String>,
    /// Further texts that will do.
    patterns: Vec<String>,
    items: Option<Box<Accepted>>,
    /// What each key of a table with names of the user's own takes.
    values: Option<Box<Accepted>>,
    place: Option<TableKind>,
    maximum: Option<u16>,
}

impl Accepted {
    fn add(&mut self, shape: Shape) {
        match shape {
            Shape::Either(shapes) => shapes.iter().for_each(|shape| self.add(*shape)),
            Shape::Text => self.text(),
            Shape::Scalar => {
                self.text();
                self.types.extend(["number", "boolean"]);
            }
            Shape::Bool => self.kind("boolean", "^ *(true|false|yes|no|on|off|1|0)? *$"),
            Shape::Integer => self.kind("integer", "^ *[0-9]+ *$"),
            Shape::Number => self.kind("number", r"^ *[0-9.]+ *$"),
            Shape::Duration => self.kind("string", "^ *[0-9]"),
            Shape::Size => self.kind("integer", "^ *[0-9]"),
            Shape::Port => {
                self.kind("integer", "^ *[0-9]+ *$");
                self.maximum = Some(u16::MAX);
            }
            Shape::Choice(words) => {
                self.types.insert("string");
                self.words.extend(words.iter().map(|word| (*word).to_owned()));
            }
            Shape::List(inner) => {
                self.types.insert("array");
                self.items.get_or_insert_default().add(*inner);
            }
            Shape::Map(inner) => {
                self.types.insert("object");
                let values = self.values.get_or_insert_default();
                values.add(*inner);
                values.types.insert("boolean");
            }
            Shape::Table(place) => {
                self.types.insert("object");
                self.place = Some(place);
            }
            Shape::Any => {}
        }
    }

    fn text(&mut self) {
        self.types.insert("string");
        self.is_free_text = true;
    }

    /// A kind of value that may be written as a text too.
    fn kind(&mut self, kind: &'static str, text: &str) {
        self.types.extend([kind, "string"]);
        self.patterns.push(text.to_owned());
    }

    /// Words that are known, where the contract has any text. `NAMES` in a pattern stands for all of them.
    fn suggest(&mut self, words: Vec<String>, patterns: &[&str]) {
        self.is_free_text = false;
        self.patterns = patterns.iter().map(|pattern| pattern.replace("NAMES", &words.join("|"))).collect();
        self.words = words;
    }

    fn schema(&self) -> Map<String, Value> {
        let mut schema = Map::new();
        let types: Vec<&str> = self.types.iter().copied().collect();
        let types = if let [one] = types.as_slice() { json!(one) } else { json!(types) };
        schema.insert("type".to_owned(), types);
        if !self.words.is_empty() {
            // Holds for everything: an editor completes with the words.
            schema.insert("anyOf".to_owned(), json!([{ "enum": self.words }, {}]));
        }
        if self.types.contains("string") && !self.is_free_text {
            if self.patterns.is_empty() {
                // The error names the words.
                schema.insert("if".to_owned(), json!({ "pattern": PLACEHOLDER }));
                schema.insert("else".to_owned(), json!({ "enum": self.words }));
            } else {
                let words = (!self.words.is_empty()).then(|| format!("^({})$", self.words.join("|")));
                let all: Vec<String> = self.patterns.iter().cloned().chain(words).chain([PLACEHOLDER.to_owned()]).collect();
                schema.insert("pattern".to_owned(), json!(all.join("|")));
            }
        }
        if let Some(maximum) = self.maximum {
            schema.insert("minimum".to_owned(), json!(0));
            schema.insert("maximum".to_owned(), json!(maximum));
        }
        if let Some(items) = &self.items {
            schema.insert("items".to_owned(), Value::Object(items.schema()));
        }
        if let Some(values) = &self.values {
            schema.insert("additionalProperties".to_owned(), Value::Object(values.schema()));
        }
        if let Some(place) = self.place {
            schema.insert("allOf".to_owned(), json!([{ "$ref": format!("#/definitions/{}", name_of(place)) }]));
        }
        schema
    }
}
