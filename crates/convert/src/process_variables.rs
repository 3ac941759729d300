//! `vars` of process-compose: `{{.NAME}}` in commands, directories and probes, filled in when its file is read.

use super::replacement::replace;
use super::yaml::{Map, YamlNode, YamlValue, get};

/// Keys of a process whose texts are templates.
const TEMPLATES: &[&str] =
    &["command", "entrypoint", "working_dir", "description", "readiness_probe", "liveness_probe", "shutdown", "environment"];

/// Bytes of a text with its templates filled in; what would become larger stays as it is.
const LARGEST: usize = 1 << 20;

/// Names and values of a `vars`.
pub(super) fn values(node: &YamlNode) -> Vec<(String, String)> {
    node.map().into_iter().flatten().filter_map(|(key, value)| Some((key.name.clone(), value.scalar()?))).collect()
}

/// Fills in the templates of a process: its own `vars` win over those of the file.
pub(super) fn fill_process(process: &mut YamlNode, global: &[(String, String)]) {
    let own = process.get("vars").map(values).unwrap_or_default();
    let vars: Vec<(String, String)> = own.into_iter().chain(global.iter().cloned()).collect();
    let YamlValue::Map(map) = &mut process.value else { return };
    for (_, node) in map.iter_mut().filter(|(key, _)| TEMPLATES.contains(&key.name.as_str())) {
        fill_node(node, &vars);
    }
}

/// Whether a template is left in a process.
pub(super) fn is_left(process: &YamlNode) -> bool {
    let empty = Map::new();
    let map = process.map().unwrap_or(&empty);
    TEMPLATES.iter().filter_map(|key| get(map, key)).any(has_template)
}

fn has_template(node: &YamlNode) -> bool {
    match &node.value {
        YamlValue::Map(map) => map.iter().any(|(_, node)| has_template(node)),
        YamlValue::List(list) => list.iter().any(has_template),
        YamlValue::Text(text) => text.find("{{").is_some_and(|at| text[at..].contains("}}")),
        _ => false,
    }
}

fn fill_node(node: &mut YamlNode, vars: &[(String, String)]) {
    match &mut node.value {
        YamlValue::Map(map) => map.iter_mut().for_each(|(_, node)| fill_node(node, vars)),
        YamlValue::List(list) => list.iter_mut().for_each(|node| fill_node(node, vars)),
        YamlValue::Text(text) => *text = fill(text, vars),
        _ => {}
    }
}

/// A text with each `{{.NAME}}` that has a value; anything else of the template language stays.
fn fill(text: &str, vars: &[(String, String)]) -> String {
    replace(text, "{{", |out, rest| {
        let (inside, after) = rest[2..].split_once("}}")?;
        let name = inside.trim_matches(|char: char| char.is_whitespace() || char == '-').strip_prefix('.')?;
        let (_, value) = vars.iter().find(|(known, _)| known == name)?;
        (out.len() + value.len() <= LARGEST).then(|| (value.clone(), after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_value_are_filled_in() {
        let vars = [("PORT".to_owned(), "80".to_owned()), ("A".to_owned(), "{{.PORT}}".to_owned())];
        let table = [
            ("serve {{.PORT}}", "serve 80"),
            ("{{ .PORT }}{{- .PORT -}}", "8080"),
            ("{{.A}}", "{{.PORT}}"),
            ("{{.NONE}} {{ if .PORT }}", "{{.NONE}} {{ if .PORT }}"),
            ("{{", "{{"),
            ("a", "a"),
        ];
        for (text, expected) in table {
            assert_eq!(fill(text, &vars), expected, "{text}");
        }
    }
}
