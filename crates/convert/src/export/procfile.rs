//! The merged procfile as one procfile.

use toml::{Table, Value};

use crate::toml_writer::{Procfile, Section, Toml};

/// The merged procfile as text: modes and further files applied, placeholders as they were written.
#[must_use]
pub fn procfile(merged: &Table) -> String {
    let section = |value: &Value| Section {
        keys: value.as_table().into_iter().flatten().map(|(name, value)| (name.clone(), Toml::from_toml(value))).collect(),
        ..Section::default()
    };
    let group = |name: &str| -> Vec<(String, Section)> {
        merged
            .get(name)
            .and_then(Value::as_table)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), section(value)))
            .collect()
    };
    let mut out =
        Procfile { above: vec!["The merged procfile, written by `devrun export procfile`.".to_owned()], ..Procfile::default() };
    for (name, value) in merged {
        match name.as_str() {
            "project" => out.project = section(value),
            "env" => out.env = section(value),
            "secrets" => out.secrets = section(value),
            "volumes" => out.volumes = section(value),
            "services" => out.services = group("services"),
            "tasks" => out.tasks = group("tasks"),
            "modes" => {}
            _ => {
                out.rest.insert(name.clone(), section(value));
            }
        }
    }
    out.text()
}
