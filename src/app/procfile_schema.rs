//! The JSON Schema of a procfile, made from the table of its keys: for editors, which find it by the `#:schema` line that
//! `devrun init` writes.

use serde_json::{Map, Value, json};

use devrun_config::schema::{KEYS, Key, Shape, TableKind, keys_of};
use devrun_model::{Failure, FailureKind, Paths};
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

fn table(place: TableKind) -> Value {
    let properties: Map<String, Value> = keys_of(place).map(|key| (key.name.to_owned(), property(key))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn property(key: &Key) -> Value {
    // `false` removes an inherited value, whatever the key takes.
    let mut alternatives = Vec::new();
    alternatives_of(key.shape, &mut alternatives);
    if !alternatives.iter().any(|one| one.get("type") == Some(&json!("boolean"))) && key.shape != Shape::Any {
        alternatives.push(json!({ "const": false }));
    }
    let mut value = match alternatives.len() {
        1 => alternatives.remove(0),
        _ => json!({ "anyOf": alternatives }),
    };
    if let Some(object) = value.as_object_mut() {
        let default = key.default.map(|default| format!(" [{default}]")).unwrap_or_default();
        let later = if key.in_effect { "" } else { " (not in effect yet)" };
        object.insert("description".to_owned(), json!(format!("{}{default}{later}", key.doc)));
    }
    value
}

fn alternatives_of(shape: Shape, out: &mut Vec<Value>) {
    let value = match shape {
        Shape::Either(shapes) => {
            shapes.iter().for_each(|shape| alternatives_of(*shape, out));
            return;
        }
        Shape::Text => json!({ "type": "string" }),
        Shape::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Bool => json!({ "type": ["boolean", "string"] }),
        Shape::Integer => json!({ "type": ["integer", "string"] }),
        Shape::Number => json!({ "type": ["number", "string"] }),
        // A size or duration may hold placeholders, so it is any text as far as a schema can tell.
        Shape::Duration => json!({ "type": "string", "examples": ["10s", "1m30s", "250ms"] }),
        Shape::Size => json!({ "type": ["string", "integer"], "examples": ["512M", "1G"] }),
        Shape::Port => json!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 65535 }, { "type": "string" }] }),
        Shape::Choice(words) => json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$\\{" }] }),
        Shape::List(inner) => {
            let mut items = Vec::new();
            alternatives_of(*inner, &mut items);
            let items = if items.len() == 1 { items.remove(0) } else { json!({ "anyOf": items }) };
            json!({ "type": "array", "items": items })
        }
        Shape::Map(inner) => {
            let mut values = Vec::new();
            alternatives_of(*inner, &mut values);
            values.push(json!({ "const": false }));
            json!({ "type": "object", "additionalProperties": { "anyOf": values } })
        }
        Shape::Table(place) => json!({ "$ref": format!("#/definitions/{}", name_of(place)) }),
        Shape::Any => json!({}),
    };
    if !out.contains(&value) {
        out.push(value);
    }
}
