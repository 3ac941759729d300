//! How far the hand-written env files have drifted from their sample: what is missing, what seems renamed, what nobody
//! reads any more.

use std::collections::BTreeSet;

use super::template::{self, Hole, Name, Operator, Part};
use super::toml_node::{TomlNode, TomlValue, get};
use super::{Document, Facts, dotenv};
use devrun_model::suggest;

/// Three lists of names; never values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// In the sample, and neither in an env file nor in the shell.
    pub missing: Vec<String>,
    /// The old name in an env file, and the sample's.
    pub renamed: Vec<(String, String)>,
    /// In an env file, and read by nobody.
    pub unused: Vec<String>,
}

impl Document {
    /// Compares `[project].env_file` with the text of its sample and with what the procfile reads.
    #[must_use]
    pub fn drift(&self, facts: &Facts, sample: Option<&str>) -> Drift {
        let project = get(&self.tree, "project").and_then(TomlNode::table);
        let files = project.and_then(|table| get(table, "env_file")).map(|node| self.env_files_of(node)).unwrap_or_default();
        let generated = self.generated_paths().map(|paths| paths.output);
        let names = |text: &str| -> BTreeSet<String> { dotenv::parse(text, &|_| None).0.into_keys().collect() };
        let mut have = BTreeSet::new();
        for file in files.iter().filter(|file| generated.as_ref() != Some(&file.path)) {
            have.extend(facts.env_files.get(&file.path).and_then(Option::as_deref).map(names).unwrap_or_default());
        }
        let wanted = sample.map(names).unwrap_or_default();
        let missing: Vec<String> =
            wanted.iter().filter(|name| !have.contains(*name) && !facts.shell.contains_key(*name)).cloned().collect();
        // A service that takes a whole file reads all of it.
        let whole = files.iter().any(|file| self.files_of_services().contains(&file.path));
        let read = self.read_names(facts);
        let unused: Vec<String> =
            have.iter().filter(|name| !whole && !read.contains(*name) && !wanted.contains(*name)).cloned().collect();
        let mut drift = Drift { missing, renamed: Vec::new(), unused };
        for name in drift.missing.clone() {
            let old = suggest::nearest(&name, have.iter().map(String::as_str).filter(|old| !wanted.contains(*old)));
            if let Some(old) = old.map(str::to_owned)
                && !drift.renamed.iter().any(|(taken, _)| *taken == old)
            {
                drift.missing.retain(|other| *other != name);
                drift.unused.retain(|other| *other != old);
                drift.renamed.push((old, name));
            }
        }
        drift
    }

    fn files_of_services(&self) -> BTreeSet<std::path::PathBuf> {
        let defaults = get(&self.tree, "defaults").and_then(TomlNode::table);
        let tables = ["services", "tasks"].iter().filter_map(|section| get(&self.tree, section)?.table());
        let own = tables.flat_map(|table| table.values()).filter_map(TomlNode::table);
        let nodes = own.chain(defaults).filter_map(|table| get(table, "env_file"));
        nodes.flat_map(|node| self.env_files_of(node)).map(|file| file.path).collect()
    }

    /// Every variable that a text of the project names.
    fn read_names(&self, facts: &Facts) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for node in self.tree.values() {
            walk(node, &mut names);
        }
        if let Some(required) = get(&self.tree, "project").and_then(TomlNode::table).and_then(|table| get(table, "required")) {
            names.extend(required.elements().iter().filter_map(TomlNode::text).map(str::to_owned));
        }
        for text in facts.recipe_files.values() {
            collect(&template::parse(text, true).unwrap_or_default(), &mut names);
        }
        names
    }
}

fn walk(node: &TomlNode, names: &mut BTreeSet<String>) {
    match &node.value {
        TomlValue::Text(text) => collect(&template::parse(text, true).unwrap_or_default(), names),
        TomlValue::Array(elements) => elements.iter().for_each(|element| walk(element, names)),
        TomlValue::Table(table) => table.values().for_each(|node| walk(node, names)),
        _ => {}
    }
}

fn collect(parts: &[Part], names: &mut BTreeSet<String>) {
    for part in parts {
        let Part::Hole(Hole { name, operator, .. }) = part else { continue };
        if let Name::Variable(name) = name {
            names.insert(name.clone());
        }
        if let Operator::Default(_, word) | Operator::Required(_, word) | Operator::Alternative(_, word) = operator {
            collect(word, names);
        }
    }
}
