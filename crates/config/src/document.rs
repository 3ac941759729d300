//! The merged procfile: its tree, and what it says of files and secrets before any value is known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::absolute_path::absolute;
use super::diagnostic::{Diagnostic, place};
use super::source_map::{Sources, Span};
use super::template::{self, Name, Part};
use super::toml_node::{Table, TomlNode, TomlValue, get};
use super::{EnvSample, Facts, Options};
use devrun_model::{ProjectName, RecipeData};

/// The length of a generated secret.
pub(super) const SECRET_LENGTH: usize = 24;

/// The merged procfile, before any placeholder is resolved.
#[derive(Debug, Clone)]
pub struct Document {
    pub(super) tree: Table,
    /// The procfile's folder.
    pub(super) root: PathBuf,
    pub(super) project: ProjectName,
    pub(super) mode: Option<String>,
    /// The overlays that any of the files has.
    pub(super) modes: BTreeSet<String>,
    pub(super) options: Options,
    /// The recipes that are used, by name.
    pub(super) recipes: BTreeMap<String, RecipeData>,
    pub(super) recipe_names: Vec<String>,
    /// A plain `Procfile` is among the files: what such a file takes for granted need not be there.
    pub(super) plain: bool,
    pub(super) sources: Sources,
    pub(super) warnings: Vec<Diagnostic>,
}

/// One entry of an `env_file` list.
#[derive(Debug, Clone)]
pub(super) struct EnvFile {
    pub path: PathBuf,
    /// As written.
    pub text: String,
    pub required: bool,
    pub span: Span,
}

impl Document {
    /// The project's name.
    #[must_use]
    pub fn project(&self) -> &ProjectName {
        &self.project
    }
    /// The mode in force.
    #[must_use]
    pub fn mode(&self) -> Option<&str> {
        self.mode.as_deref()
    }
    /// The modes that there are.
    #[must_use]
    pub fn modes(&self) -> &BTreeSet<String> {
        &self.modes
    }
    /// Everything merged, placeholders as they were written: for exports.
    #[must_use]
    pub fn merged(&self) -> toml::Table {
        fn value(node: &TomlNode) -> toml::Value {
            match &node.value {
                TomlValue::Text(text) | TomlValue::Date(text) => toml::Value::String(text.clone()),
                TomlValue::Integer(number) => toml::Value::Integer(*number),
                TomlValue::Float(number) => toml::Value::Float(*number),
                TomlValue::Bool(flag) => toml::Value::Boolean(*flag),
                TomlValue::Array(list) => toml::Value::Array(list.iter().map(value).collect()),
                TomlValue::Table(entries) => toml::Value::Table(table(entries)),
            }
        }
        fn table(entries: &Table) -> toml::Table {
            entries.iter().map(|(name, node)| (name.clone(), value(node))).collect()
        }
        table(&self.tree)
    }

    /// The procfile's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a service or task says what it runs, as `FILE:LINE:COLUMN`; `None` where no file does.
    #[must_use]
    pub fn launch_place(&self, service: &str) -> Option<String> {
        let mut tables = ["services", "tasks"].into_iter().filter_map(|section| get(&self.tree, section)?.table());
        let table = tables.find_map(|table| get(table, service))?.table()?;
        let node = ["use", "run"].into_iter().find_map(|key| get(table, key))?;
        let text = self.sources.get(node.span.file).filter(|text| !text.layer)?;
        Some(place(text, node.span))
    }

    /// The file of a recipe, where `use` names one.
    pub(super) fn recipe_path(&self, text: &str) -> Option<PathBuf> {
        let is_file = text.starts_with("./") || text.starts_with("../") || text.starts_with('/') || text.ends_with(".toml");
        is_file.then(|| absolute(&self.root, text))
    }

    /// Env files, then recipe files and templates, to read into `Facts`; all absolute. Any of them may be absent.
    #[must_use]
    pub fn files(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut env = Vec::new();
        let mut others = Vec::new();
        let empty = Table::new();
        let project = get(&self.tree, "project").and_then(TomlNode::table).unwrap_or(&empty);
        let mut holders = vec![project];
        for section in ["defaults", "services", "tasks"] {
            let Some(table) = get(&self.tree, section).and_then(TomlNode::table) else { continue };
            if section == "defaults" {
                holders.push(table);
            } else {
                holders.extend(table.values().filter_map(TomlNode::table));
            }
        }
        for holder in holders {
            if let Some(node) = get(holder, "env_file") {
                env.extend(self.env_files_of(node).into_iter().map(|file| file.path));
            }
            if let Some(path) = get(holder, "use").and_then(TomlNode::text).and_then(|text| self.recipe_path(text)) {
                others.push(path);
            }
            for (from, node) in get(holder, "render").and_then(TomlNode::table).into_iter().flatten() {
                if !node.is_false() {
                    others.push(absolute(&self.root, from));
                }
            }
        }
        others.extend(self.secret_files().into_iter().map(|(_, path)| path));
        others.extend(self.generated_paths().and_then(|paths| paths.template));
        for list in [&mut env, &mut others] {
            let mut seen = BTreeSet::new();
            list.retain(|path| seen.insert(path.clone()));
        }
        (env, others)
    }

    /// `[project].env_sample`, and what is made from it.
    #[must_use]
    pub fn env_sample(&self) -> Option<EnvSample> {
        let project = get(&self.tree, "project")?.table()?;
        let from = self.early(get(project, "env_sample")?.text()?).ok()?;
        let to = self.env_files_of(get(project, "env_file")?).into_iter().next()?;
        Some(EnvSample { from: absolute(&self.root, &from), to: to.path })
    }

    // Files.

    /// The entries of an `env_file` key. Only what is known before any file is read may stand in their paths.
    pub(super) fn env_files_of(&self, node: &TomlNode) -> Vec<EnvFile> {
        let entry = |node: &TomlNode| -> Option<EnvFile> {
            let (text, required, span) = match &node.value {
                TomlValue::Text(text) => (text, false, node.span),
                TomlValue::Table(table) => {
                    let path = get(table, "path")?;
                    let TomlValue::Text(text) = &path.value else { return None };
                    let required = get(table, "required").is_some_and(|node| matches!(node.value, TomlValue::Bool(true)));
                    (text, required, path.span)
                }
                _ => return None,
            };
            let text = self.early(text).ok()?;
            Some(EnvFile { path: absolute(&self.root, &text), text, required, span })
        };
        node.elements().iter().filter_map(entry).collect()
    }

    /// Resolves a path's placeholders from what is known already; `Err` is the one that is not.
    pub(super) fn early(&self, text: &str) -> Result<String, String> {
        let parts = template::parse(text, false).map_err(|bad| bad.written)?;
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(&text),
                Part::Hole(hole) => match &hole.name {
                    Name::Variable(name) if name == "mode" => out.push_str(self.mode.as_deref().unwrap_or_default()),
                    Name::Variable(name) if name == "project" => out.push_str(self.project.as_str()),
                    Name::Variable(name) if name == "instance" => out.push_str(&self.options.instance),
                    _ => return Err(hole.written),
                },
            }
        }
        Ok(out)
    }

    pub(super) fn check_files(&self, out: &mut Vec<Diagnostic>) {
        let sections = ["services", "tasks"];
        let tables = sections.iter().filter_map(|section| get(&self.tree, section)?.table()).flat_map(|table| table.values());
        let holders = tables.chain(["project", "defaults"].iter().filter_map(|key| get(&self.tree, key)));
        for node in holders.filter_map(TomlNode::table).filter_map(|table| get(table, "env_file")) {
            for element in node.elements() {
                let path = match element.table() {
                    Some(table) => get(table, "path"),
                    None => Some(element),
                };
                match path {
                    None => out.push(
                        Diagnostic::error(element.span, "the env file has no path")
                            .help("write { path = \".env\", required = true }"),
                    ),
                    Some(path) => {
                        if let Some(Err(written)) = path.text().map(|text| self.early(text)) {
                            out.push(
                                Diagnostic::error(
                                    path.span,
                                    format!("`{written}` is not known yet where env files are looked for"),
                                )
                                .help("`${mode}`, `${project}` and `${instance}` may stand in their paths"),
                            );
                        }
                    }
                }
            }
        }
    }

    pub(super) fn check_required_files(&self, facts: &Facts, out: &mut Vec<Diagnostic>) {
        let node = get(&self.tree, "project").and_then(TomlNode::table).and_then(|project| get(project, "env_file"));
        for file in node.map(|node| self.env_files_of(node)).unwrap_or_default() {
            if file.required && !matches!(facts.env_files.get(&file.path), Some(Some(_))) {
                out.push(
                    Diagnostic::error(file.span, format!("cannot find env file {}", file.text))
                        .help("make it, or take `required` out"),
                );
            }
        }
        if let Some(path) = &facts.env_file_flag
            && !matches!(facts.env_files.get(path), Some(Some(_)))
        {
            out.push(
                Diagnostic::nowhere(format!("cannot find env file {}", path.display())).help("check the path after --env-file"),
            );
        }
    }

    // Secrets.

    /// The folder of the secrets, absolute.
    pub(super) fn secrets_dir(&self) -> PathBuf {
        let node = get(&self.tree, "secrets").and_then(TomlNode::table).and_then(|secrets| get(secrets, "dir"));
        let text = node.and_then(TomlNode::text).and_then(|text| self.early(text).ok());
        absolute(&self.root, text.as_deref().unwrap_or("secrets/infra"))
    }

    /// `[secrets].generate`: names and lengths.
    pub(super) fn generated_secrets(&self) -> Vec<(String, usize)> {
        let node = get(&self.tree, "secrets").and_then(TomlNode::table).and_then(|secrets| get(secrets, "generate"));
        let Some(node) = node else { return Vec::new() };
        match node.table() {
            Some(table) => table
                .iter()
                .filter(|(_, node)| !node.is_false())
                .map(|(name, node)| {
                    let length = node.table().and_then(|table| get(table, "length")).map(|node| &node.value);
                    let length = match length {
                        Some(TomlValue::Integer(length)) => usize::try_from(*length).unwrap_or(SECRET_LENGTH),
                        _ => SECRET_LENGTH,
                    };
                    (name.clone(), length)
                })
                .collect(),
            None => node.elements().iter().filter_map(TomlNode::text).map(|name| (name.to_owned(), SECRET_LENGTH)).collect(),
        }
    }

    /// `[secrets].files`: names and absolute paths.
    #[must_use]
    pub fn secret_files(&self) -> Vec<(String, PathBuf)> {
        let node = get(&self.tree, "secrets").and_then(TomlNode::table).and_then(|secrets| get(secrets, "files"));
        let files = node.and_then(TomlNode::table).into_iter().flatten();
        files.filter_map(|(name, node)| Some((name.clone(), absolute(&self.root, node.text()?)))).collect()
    }

    pub(super) fn check_secrets(&self, out: &mut Vec<Diagnostic>) {
        let Some(secrets) = get(&self.tree, "secrets").and_then(TomlNode::table) else { return };
        let generated = self.generated_secrets();
        for (name, node) in get(secrets, "files").and_then(TomlNode::table).into_iter().flatten() {
            if generated.iter().any(|(known, _)| known == name) {
                out.push(
                    Diagnostic::error(node.key, format!("secret `{name}` is both generated and read from a file"))
                        .help("take it out of `generate` or out of `files`"),
                );
            }
        }
        if let Some(dir) = get(secrets, "dir")
            && let Some(Err(written)) = dir.text().map(|text| self.early(text))
        {
            out.push(
                Diagnostic::error(dir.span, format!("`{written}` is not known yet where secrets are looked for"))
                    .help("`${mode}`, `${project}` and `${instance}` may stand in this path"),
            );
        }
        let Some(node) = get(secrets, "generate") else { return };
        let names: Vec<(&str, Span)> = match node.table() {
            Some(table) => table.iter().map(|(name, node)| (name.as_str(), node.key)).collect(),
            None => node.elements().iter().filter_map(|node| Some((node.text()?, node.span))).collect(),
        };
        for (name, span) in names {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(plain) || name.len() > 100 {
                out.push(
                    Diagnostic::error(span, format!("{name:?} cannot be a secret's name"))
                        .help("a secret is a file of that name: letters, digits, `_`, `-` and `.`"),
                );
            }
        }
        for (name, node) in node.table().into_iter().flatten() {
            if let Some(length) = node.table().and_then(|table| get(table, "length"))
                && let TomlValue::Integer(number) = length.value
                && !(8..=1024).contains(&number)
            {
                out.push(
                    Diagnostic::error(length.span, format!("the secret `{name}` cannot have {number} characters"))
                        .help("8 to 1024; 24 is the default"),
                );
            }
        }
    }
}
