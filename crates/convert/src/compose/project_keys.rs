//! What stands at the top of a compose file: its name, volumes, networks, secrets, configs.

use super::super::report::At;
use super::super::toml_writer::Toml;
use super::super::yaml::{Map, YamlNode, get};
use super::draft::Draft;
use super::importer::{Importer, our_name};

impl Importer<'_> {
    pub(super) fn top_level(&mut self) {
        let tree: Map = std::mem::take(&mut self.tree);
        for (key, node) in &tree {
            match key.name.as_str() {
                "services" => {}
                "version" => self.report.dropped(key.at, "version", "compose itself ignores it"),
                "name" => self.name(key.at, node),
                "volumes" => self.named_volumes(node),
                "networks" => self.report.dropped(
                    key.at,
                    "networks",
                    "everything is on loopback; two copies of a stack go side by side with --instance",
                ),
                "secrets" => self.file_secrets(node),
                // What became of each is said where a service names it.
                "configs" => {}
                "models" => {
                    self.report.not_mapped(key.at, "models", "use = \"ollama\" and a task with models = [\"NAME\"] does the like")
                }
                other => self.report.not_mapped(key.at, other.to_owned(), "unknown key"),
            }
        }
        self.name_of_environment();
        self.tree = tree;
        for name in self.volumes.clone() {
            if !self.out.volumes.has(&name) {
                self.out.volumes.set(&name, Toml::Table(vec![("class".to_owned(), Toml::text("persistent"))]));
            }
        }
    }

    /// `COMPOSE_PROJECT_NAME` wins over `name`.
    fn name_of_environment(&mut self) {
        let Some(text) = self.values.get("COMPOSE_PROJECT_NAME").filter(|text| !text.is_empty()) else { return };
        let name = project_name(text);
        if !name.is_empty() {
            self.out.project.set("name", Toml::text(name));
        }
    }

    fn name(&mut self, at: At, node: &YamlNode) {
        let text = node.scalar().and_then(|text| self.values.fill(&text)).unwrap_or_default();
        let name = project_name(&text);
        if name.is_empty() {
            self.report.not_mapped(at, "name", "invalid project name: the directory's name is used");
        } else {
            self.report.mapped(at, "name", format!("[project] name = \"{name}\""));
            self.out.project.set("name", Toml::text(name));
        }
    }

    fn named_volumes(&mut self, node: &YamlNode) {
        for (key, node) in node.map().into_iter().flatten() {
            let name = our_name(&key.name);
            let what = format!("volumes.{}", key.name);
            if !self.volumes.contains(&name) {
                self.report.dropped(key.at, what, "no service that came along uses it");
                continue;
            }
            if node.get("external").is_some_and(|node| node.truth() != Some(false)) {
                self.report.not_mapped(key.at, what, "belongs to another project: the data in it does not come along");
                continue;
            }
            let device = node.get("driver_opts").and_then(|node| node.get("device")).and_then(YamlNode::scalar);
            if let Some(device) = device {
                self.report.not_mapped(
                    key.at,
                    what,
                    format!(
                        "Docker keeps it in {device}; devrun uses a directory of its own (path = \"DIRECTORY\" sets another one)"
                    ),
                );
                continue;
            }
            self.report.mapped(key.at, what, "a persistent volume; Docker's data in it does not come along");
        }
    }

    /// A service's path of a secret → the file that the secret is made from.
    pub(super) fn secret_paths(&mut self, draft: &Draft, name: &str, at: At, text: String) -> String {
        let Some(start) = text.find("/run/secrets/") else { return text };
        let rest = &text[start + "/run/secrets/".len()..];
        let end = rest.find(|char: char| !(char.is_ascii_alphanumeric() || "._-".contains(char))).unwrap_or(rest.len());
        let file = get(&self.tree, "secrets").and_then(|node| node.get(&rest[..end])).and_then(|node| {
            let file = node.get("file")?;
            Some((file.scalar()?, file.at))
        });
        match file.and_then(|(file, place)| self.absolute(&file, place)) {
            Some(path) => {
                let here = super::importer::relative(&draft.dir, &path);
                format!("{}{here}{}", &text[..start], &rest[end..])
            }
            None => {
                self.report.not_mapped(
                    at,
                    draft.what(&format!("environment.{name}")),
                    "names a file of the container: the program must find the secret elsewhere",
                );
                text
            }
        }
    }

    /// Secrets out of files: where they lie decides whether ours can be those very files.
    fn file_secrets(&mut self, node: &YamlNode) {
        for (key, node) in node.map().into_iter().flatten() {
            let what = format!("secrets.{}", key.name);
            let used = self.secrets.contains(&key.name);
            match (node.get("file").and_then(YamlNode::scalar), node.get("environment").and_then(YamlNode::scalar)) {
                (Some(file), _) if self.secret_files.contains_key(&key.name) => {
                    let path = self.path(&file, node.at);
                    self.report.mapped(key.at, what, format!("[secrets] files: read from {path}, which stays yours"));
                }
                (Some(file), _) if used => {
                    let path = self.path(&file, node.at);
                    self.report.mapped(
                        key.at,
                        what,
                        format!("generated unless secrets/infra/{} is there: copy {path} to it to keep its value", key.name),
                    );
                }
                (Some(file), _) => {
                    let path = self.path(&file, node.at);
                    self.report.mapped(key.at, what, format!("the file itself: {path}"));
                }
                (None, Some(variable)) if self.secret_variables.contains(&variable) => {
                    self.report.mapped(key.at, what, format!("${{{variable}}} stands where it is wanted"));
                }
                (None, Some(variable)) => self.report.not_mapped(key.at, what, format!("use ${{{variable}}} where it is wanted")),
                (None, None) => self.report.not_mapped(key.at, what, "is kept by a swarm: put it into a file"),
            }
        }
    }
}

/// A project's name as compose makes it out of a text.
fn project_name(text: &str) -> String {
    let name: String = text
        .to_ascii_lowercase()
        .chars()
        .filter(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || matches!(char, '_' | '-'))
        .collect();
    name.trim_start_matches(['_', '-']).to_owned()
}
