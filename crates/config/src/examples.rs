//! What a key's value looks like, to type: for the help line of a value of another type.

use super::schema::Shape;
use super::toml_node::{TomlNode, TomlValue};

/// Keys whose type alone does not say what to write, by their last name.
const OF_KEYS: &[(&str, &str)] = &[
    ("alive", "alive = { http = \"/live\" }"),
    ("backoff", "backoff = { initial = \"250ms\", max = \"30s\" }"),
    ("build", "build = \"npm install\""),
    ("config", "config = { template = \"env.template\" }"),
    ("defaults", "defaults = { restart = \"on-failure\" }"),
    ("depends_on", "depends_on = [\"db\"]"),
    ("dir", "dir = \"backend\""),
    ("env", "env = { NAME = \"value\" }"),
    ("env_file", "env_file = [\".env\"]"),
    ("env_from", "env_from = \"api\""),
    ("external", "external = \"postgres://HOST:5432/NAME\""),
    ("files", "files = { \"app.conf\" = \"TEXT\" }"),
    ("generate", "generate = [\"db-password\"]"),
    ("headers", "headers = { X-Name = \"value\" }"),
    ("http", "http = \"/health\""),
    ("limits", "limits = { memory = \"512M\" }"),
    ("links", "links = { Docs = \"/docs\" }"),
    ("log", "log = { format = \"json\" }"),
    ("modes", "[modes.NAME]"),
    ("password", "password = \"${secret.NAME}\""),
    ("ports", "ports = { metrics = 9100 }"),
    ("pre_start", "pre_start = \"npm run migrate\""),
    ("project", "project = { name = \"shop\" }"),
    ("queries", "queries = { NAME = \"SELECT 1\" }"),
    ("ready", "ready = { http = \"/health\" }"),
    ("render", "render = { \"app.conf.in\" = \"app.conf\" }"),
    ("requires", "requires = { memory = \"8G\" }"),
    ("reserve", "reserve = { memory = \"256M\" }"),
    ("routes", "routes = { \"/\" = \"web\" }"),
    ("run", "run = \"npm start\""),
    ("secrets", "secrets = { generate = [\"db-password\"] }"),
    ("services", "services.NAME = { run = \"COMMAND\" }"),
    ("set", "set = { NAME = \"value\" }"),
    ("sources", "sources.NAME = { path = \"/opt/NAME/bin\" }"),
    ("stop", "stop = { signal = \"TERM\", grace = \"10s\" }"),
    ("tasks", "tasks.NAME = { run = \"COMMAND\" }"),
    ("tiers", "tiers = { 1 = \"Infrastructure\" }"),
    ("update", "update = { order = \"stop-first\" }"),
    ("use", "use = \"postgres@16\""),
    ("volumes", "volumes = [\"media\"]"),
];

/// A line to type for the value at `path`, which takes `shape`.
pub(crate) fn example(path: &str, shape: Shape, node: &TomlNode) -> Option<String> {
    // In a mode the same keys stand below its name.
    let path = path.strip_prefix("modes.").and_then(|rest| Some(rest.split_once('.')?.1)).unwrap_or(path);
    let names: Vec<&str> = path.split('.').collect();
    match names.as_slice() {
        // The name is the user's own.
        ["services", name] => return Some(format!("{name} = {{ {} }}", service(node))),
        ["tasks", name] => return Some(format!("{name} = {{ {} }}", command(node))),
        ["volumes", name] => return Some(format!("{name} = {{ class = \"persistent\" }}")),
        ["sources", name] => return Some(format!("{name} = {{ path = \"/opt/{name}/bin\" }}")),
        ["modes", name] => return Some(format!("[modes.{name}]")),
        [.., "depends_on", on] => return Some(format!("depends_on = {{ {on} = {{ condition = \"{}\" }} }}", condition(node))),
        _ => {}
    }
    let key = names.last()?;
    let key = key.split('[').next().unwrap_or(key);
    if key == "volumes" && matches!(shape, Shape::Map(_)) {
        return Some("volumes.NAME = { class = \"persistent\" }".to_owned());
    }
    if let Some((_, line)) = OF_KEYS.iter().find(|(known, _)| *known == key && takes(shape, known)) {
        return Some((*line).to_owned());
    }
    value(shape).map(|value| format!("{key} = {value}"))
}

/// Whether the last name of a path is the user's own and not a key.
pub(crate) fn is_own_name(path: &str) -> bool {
    let path = path.strip_prefix("modes.").and_then(|rest| Some(rest.split_once('.')?.1)).unwrap_or(path);
    let names: Vec<&str> = path.split('.').collect();
    matches!(names.as_slice(), ["services" | "tasks" | "volumes" | "sources" | "modes", _] | [.., "depends_on", _])
}

/// Names that stand in several tables and take another shape there have no line of their own.
fn takes(shape: Shape, key: &str) -> bool {
    match key {
        "files" | "log" | "config" | "set" | "headers" => matches!(shape, Shape::Map(_) | Shape::Table(_)),
        "volumes" => !matches!(shape, Shape::Map(_)),
        _ => true,
    }
}

/// A value of this shape.
fn value(shape: Shape) -> Option<String> {
    Some(match shape {
        Shape::Text | Shape::Scalar => "\"TEXT\"".to_owned(),
        Shape::Bool => "true".to_owned(),
        Shape::Integer | Shape::Number => "1".to_owned(),
        Shape::Duration => "\"10s\"".to_owned(),
        Shape::Size => "\"512M\"".to_owned(),
        Shape::Port => "8080".to_owned(),
        Shape::Choice(words) => format!("\"{}\"", words.first()?),
        Shape::List(inner) => format!("[{}]", value(*inner)?),
        Shape::Map(inner) => format!("{{ NAME = {} }}", value(*inner)?),
        Shape::Either(shapes) => return shapes.iter().find_map(|shape| value(*shape)),
        Shape::Table(_) | Shape::Any => return None,
    })
}

/// What a service is made of, from the text that stands in the place of its table.
fn service(node: &TomlNode) -> String {
    let text = node.text().unwrap_or_default();
    match text.split_once([':', '@']) {
        Some((name, version)) if is_name(name) && is_name(version) => format!("use = \"{name}@{version}\""),
        _ => command(node),
    }
}

fn command(node: &TomlNode) -> String {
    match node.text() {
        Some(text) if !text.is_empty() && !text.contains(['"', '\\', '\n']) => format!("run = \"{text}\""),
        _ => "run = \"COMMAND\"".to_owned(),
    }
}

fn condition(node: &TomlNode) -> &str {
    let words = ["started", "healthy", "completed"];
    words.into_iter().find(|word| matches!(&node.value, TomlValue::Text(text) if text == word)).unwrap_or("healthy")
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::KEYS;
    use crate::source_map::Span;

    fn node(value: TomlValue) -> TomlNode {
        let span = Span { file: 0, start: 0, end: 0 };
        TomlNode { span, key: span, value }
    }

    #[test]
    fn what_stands_there_is_used() {
        let text = |text: &str| node(TomlValue::Text(text.to_owned()));
        for (path, wrong, expected) in [
            ("services.cache", "redis:7", "cache = { use = \"redis@7\" }"),
            ("services.web", "npm start", "web = { run = \"npm start\" }"),
            ("modes.dev.services.web", "npm start", "web = { run = \"npm start\" }"),
            ("tasks.seed", "make seed", "seed = { run = \"make seed\" }"),
            ("services.web.depends_on.db", "started", "depends_on = { db = { condition = \"started\" } }"),
            ("services.web.ready", "/health", "ready = { http = \"/health\" }"),
        ] {
            assert_eq!(example(path, Shape::Any, &text(wrong)).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn every_key_has_one_that_is_toml() {
        let wrong = node(TomlValue::Bool(true));
        // A key that takes anything has no wrong value.
        for key in KEYS.iter().filter(|key| key.shape != Shape::Any) {
            let line = example(&format!("services.x.{}", key.name), key.shape, &wrong);
            let line = line.unwrap_or_else(|| panic!("{} has no example", key.name));
            assert!(toml::from_str::<toml::Table>(&line).is_ok(), "{}: {line}", key.name);
        }
    }
}
