//! The variables of a service: `environment`, and those of its env files whose values mean something only in compose.
//!
//! An env file stays the user's and is handed over as it is. A value in it that names a service, the machine or all its
//! interfaces is written into `env` as well, which wins over the file.

use std::collections::BTreeSet;

use super::super::bind_names::names_bind_address;
use super::super::report::{At, shorten};
use super::super::toml_writer::{Section, Toml, TomlEntries};
use super::super::yaml::{YamlNode, YamlValue};
use super::draft::{Draft, NativeKind, port_name};
use super::hostnames::{self, HostMatch};
use super::importer::Importer;
use super::loopback::bind_addresses;
use super::ports::replace_port;
use super::syntax;
use super::values::env_lines;

/// A variable, its value as written, and its place. A name without a value takes the caller's.
pub(super) type ComposeVariable = (String, Option<String>, At);

/// Endings of names that hold a host, and the port's ending beside them.
const HOSTS: &[&str] = &["HOST", "HOSTNAME", "SERVER", "ADDRESS", "ADDR"];
const PASSWORDS: &[&str] = &["PASSWORD", "PASS", "PWD", "PASSWD"];

impl Importer<'_> {
    /// The variables as pairs, with their places; a name without a value has none.
    pub(super) fn variables(&mut self, draft: &Draft) -> Vec<ComposeVariable> {
        let Some(node) = draft.get("environment") else { return Vec::new() };
        match &node.value {
            YamlValue::Map(map) => map
                .iter()
                .filter_map(|(key, value)| {
                    if matches!(value.value, YamlValue::List(_) | YamlValue::Map(_)) {
                        self.report.not_mapped(
                            key.at,
                            draft.what("environment"),
                            format!("{} is {} where a text is wanted", key.name, value.kind()),
                        );
                        return None;
                    }
                    Some((key.name.clone(), value.scalar(), key.at))
                })
                .collect(),
            _ => node
                .texts()
                .into_iter()
                .map(|(text, at)| match text.split_once('=') {
                    Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned()), at),
                    None => (text.trim().to_owned(), None, at),
                })
                .collect(),
        }
    }

    pub(super) fn environment(&mut self, draft: &Draft, section: &mut Section) {
        let skip = self.recipe_variables(draft, section);
        let recipe = matches!(draft.kind, NativeKind::Recipe { .. });
        let variables = self.variables(draft);
        let mut env: TomlEntries = match section.take("env") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        let mut from_files = self.env_file_lines(draft);
        for line in self.mounted_dotenv(draft) {
            if !from_files.iter().any(|((name, _), _)| *name == line.0.0) {
                from_files.push(line);
            }
        }
        let mut all: Vec<(String, String)> =
            variables.iter().filter_map(|(name, value, _)| Some((name.clone(), value.clone()?))).collect();
        for (line, ..) in &from_files {
            if !variables.iter().any(|(name, ..)| *name == line.0) {
                all.push(line.clone());
            }
        }
        let mut passed = Vec::new();
        let container = draft.ports.first().map(|(port, _)| port.container.clone());
        for (name, value, at) in &variables {
            if skip.contains(name) {
                continue;
            }
            if name.is_empty() || name.contains(char::is_whitespace) {
                self.report.not_mapped(*at, draft.what("environment"), format!("invalid variable name {name:?}"));
                continue;
            }
            let what = draft.what(&format!("environment.{name}"));
            let Some(value) = value else {
                if self.values.in_file(name) {
                    let text = self.value(draft, name, &format!("${{{name}}}"), *at, false);
                    env.push((name.clone(), Toml::text(text)));
                } else if recipe {
                    passed.push(name.clone());
                }
                self.report.mapped(*at, what, "from the caller's environment");
                continue;
            };
            let is_own = |port: &String| port == value || self.values.fill(value).as_ref() == Some(port);
            if name == "PORT" && !draft.task && container.as_ref().is_some_and(is_own) {
                self.report.mapped(*at, what, "`port` sets it");
                continue;
            }
            let text = match self.sibling(name, value, &all) {
                Some(text) => text,
                None => {
                    let text = self.value(draft, name, value, *at, false);
                    self.own_port(draft, name, value, text)
                }
            };
            if text != *value {
                self.report.mapped(*at, what, shorten(&text));
            }
            put(&mut env, name, text);
        }
        if let Some(node) = draft.get("environment").filter(|_| !env.is_empty()) {
            self.report.mapped(node.at, draft.what("environment"), format!("env: {} variables", env.len()));
        }
        self.move_into_env(draft, &skip, &from_files, &all, &mut env);
        self.ports_beside_hosts(draft, &skip, &all, &mut env);
        if !env.is_empty() {
            section.set("env", Toml::Table(env));
        }
        if !passed.is_empty() {
            section.set("pass_env", Toml::texts(passed));
        }
        self.env_files(draft, section);
    }

    /// An address to listen on that was one of all interfaces, or the bare number of a port: it is one of the service's own, which
    /// has another number here.
    fn own_port(&self, draft: &Draft, name: &str, written: &str, text: String) -> String {
        let mut text = text;
        let filled = self.values.fill(written).unwrap_or_else(|| written.to_owned());
        let binds = bind_addresses(&filled, names_bind_address(name)).is_some();
        let is_server = matches!(draft.kind, NativeKind::Recipe { .. });
        for (index, (port, _)) in draft.ports.iter().enumerate() {
            if draft.task || is_server || !self.is_moved(draft, port) {
                continue;
            }
            let ours = match index {
                0 => format!("${{{}.port}}", draft.name),
                _ => format!("${{{}.ports.{}}}", draft.name, port_name(&port.container)),
            };
            if text == port.container && self.is_own_port_name(draft, name) {
                return ours;
            }
            if let Some(number) = port.container.parse().ok().filter(|_| binds) {
                text = replace_port(&text, number, &ours);
            }
        }
        text
    }

    /// Whether a variable of this name can hold the port that a program listens on: `SERVER_PORT`, and not `DB_PORT`.
    fn is_own_port_name(&self, draft: &Draft, name: &str) -> bool {
        let upper = name.to_ascii_uppercase();
        let Some(stem) = upper.strip_suffix("PORT").or_else(|| upper.strip_suffix("PORTS")) else { return false };
        let stem = stem.trim_end_matches(['_', '.', '-']);
        let is_other = |host: &String| {
            let host = host.to_ascii_uppercase().replace('-', "_");
            stem == host || stem.ends_with(&format!("_{host}"))
        };
        !self.targets.iter().filter(|target| target.name != draft.name).any(|target| target.hosts.iter().any(is_other))
    }

    /// `DB_PORT`, or an empty `DB_PASSWORD`, beside a `DB_HOST` that names a service.
    fn sibling(&self, name: &str, value: &str, all: &[(String, String)]) -> Option<String> {
        let beside = |stem: &str| {
            let host = HOSTS.iter().find_map(|end| all.iter().find(|(other, _)| *other == format!("{stem}{end}")))?;
            let host = self.values.fill(&host.1)?;
            self.targets.iter().find(|target| target.hosts.contains(&host) && target.present && target.has_port)
        };
        if let Some(stem) = name.strip_suffix("PORT") {
            let target = beside(stem)?;
            let number = self.values.fill(value)?.parse::<u16>().ok()?;
            let port = target.port(number)?;
            // A default stays a default.
            let hole =
                syntax::placeholder(value).filter(|(hole, after)| after.is_empty() && self.values.get(hole.name).is_none());
            return Some(match hole {
                Some((hole, _)) => format!("${{{}:-{port}}}", hole.name),
                None => port,
            });
        }
        let stem = PASSWORDS.iter().find_map(|end| name.strip_suffix(end))?;
        let target = beside(stem).filter(|target| target.open)?;
        (self.values.fill(value).unwrap_or_default().is_empty()).then(|| format!("${{{}.password}}", target.name))
    }

    /// The lines of the env files of a service that count: a later file wins.
    fn env_file_lines(&mut self, draft: &Draft) -> Vec<((String, String), At)> {
        let mut found: Vec<((String, String), At)> = Vec::new();
        for (path, at, _) in env_file_entries(draft) {
            let Some(absolute) = self.absolute(&path, at) else { continue };
            let Some(text) = (self.read)(&absolute) else { continue };
            let file = self.file_index(&absolute);
            for line in env_lines(&text) {
                let value = if line.literal { line.value.replace('$', "$$") } else { line.value };
                found.retain(|((name, _), _)| *name != line.name);
                found.push(((line.name, value), At { file, line: line.line, column: 1 }));
            }
        }
        found
    }

    /// The `.env` of a directory that is mounted into the service, where no `env_file` names it: frameworks read it themselves, and
    /// what the environment holds wins over it.
    fn mounted_dotenv(&mut self, draft: &Draft) -> Vec<((String, String), At)> {
        let given = env_file_entries(draft).into_iter().filter_map(|(path, at, _)| self.absolute(&path, at)).collect::<Vec<_>>();
        let mut found = Vec::new();
        if !matches!(draft.kind, NativeKind::Run { .. }) {
            return found;
        }
        for item in draft.get("volumes").and_then(YamlNode::list).unwrap_or_default() {
            let Some(source) = self.mount(item).filter(|mount| mount.bind).and_then(|mount| mount.source) else { continue };
            let Some(folder) = self.absolute(&source, item.at) else { continue };
            let path = folder.join(".env");
            // Of a directory that may not be read nothing is said.
            if self.lister.is_some() && !self.list(&folder).contains(&path) {
                continue;
            }
            let Some(text) = (self.read)(&path).filter(|_| !given.contains(&path)) else { continue };
            let file = self.file_index(&path);
            for line in env_lines(&text).into_iter().filter(|line| !line.literal) {
                found.push(((line.name, line.value), At { file, line: line.line, column: 1 }));
            }
        }
        found
    }

    /// The index of a file among those that places name.
    pub(super) fn file_index(&mut self, path: &std::path::Path) -> u32 {
        let index = self.files.iter().position(|known| known == path).unwrap_or_else(|| {
            self.files.push(path.to_path_buf());
            self.report.files.push(path.strip_prefix(self.root).unwrap_or(path).display().to_string());
            self.files.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Values of env files that mean something else here: they go into `env`.
    fn move_into_env(
        &mut self,
        draft: &Draft,
        skip: &BTreeSet<String>,
        lines: &[((String, String), At)],
        all: &[(String, String)],
        env: &mut TomlEntries,
    ) {
        for ((name, value), at) in lines {
            let given = env.iter().any(|(known, _)| known == name) || draft.variable(name).is_some();
            if given || skip.contains(name) {
                continue;
            }
            let what = format!("env_file.{name}");
            let text = match self.sibling(name, value, all) {
                Some(text) => text,
                None => {
                    // What is as it was stays in its file.
                    let inlined = self.inline_addresses(draft, name, value);
                    let plain = syntax::placeholders(&inlined, &mut |_| true);
                    let is_same = inlined == *value && self.translated(draft, name, &plain, &mut HostMatch::new()) == plain;
                    // `PORT` is the service's own in any case.
                    if is_same && (name == "PORT" || self.own_port(draft, name, value, plain.clone()) == plain) {
                        continue;
                    }
                    let text = self.value_of(draft, name, value, (*at, &what), false);
                    self.own_port(draft, name, value, text)
                }
            };
            self.report.mapped(
                *at,
                draft.what(&what),
                format!("env.{name} = {}: it wins over the file", shorten(&Toml::text(text.clone()).line())),
            );
            put(env, name, text);
        }
    }

    /// A server that listens on another port than its usual one must be named with it.
    fn ports_beside_hosts(&mut self, draft: &Draft, skip: &BTreeSet<String>, all: &[(String, String)], env: &mut TomlEntries) {
        for (name, value) in all {
            let Some(host) = self.values.fill(value) else { continue };
            let target = self.targets.iter().find(|target| target.remapped.is_some() && target.hosts.contains(&host));
            let Some(target) = target.filter(|_| hostnames::wants_host(name)).cloned() else { continue };
            let Some(stem) = HOSTS.iter().find_map(|end| name.strip_suffix(end)) else { continue };
            let port = format!("{stem}PORT");
            // What a recipe takes from the variable holds the port.
            if target.name == draft.name || skip.contains(name) || all.iter().any(|(other, _)| *other == port) {
                continue;
            }
            let (usual, here) = (target.main.unwrap_or_default(), target.remapped.clone().unwrap_or_default());
            let at = draft.get("environment").or(draft.get("env_file")).map_or(draft.key.at, |node| node.at);
            let text = format!(
                "`{}` listens on {here} here, not on {usual}: {port} = \"${{{}.port}}\" is added; does {} read it?",
                target.name, target.name, draft.name
            );
            self.report.not_mapped(at, draft.what(&format!("environment.{name}")), text);
            put(env, &port, format!("${{{}.port}}", target.name));
        }
    }

    fn env_files(&mut self, draft: &Draft, section: &mut Section) {
        let mut files = Vec::new();
        for (path, at, required) in env_file_entries(draft) {
            let what = draft.what("env_file");
            let there = self.absolute(&path, at).is_some_and(|path| self.exists(&path));
            let path = self.path(&path, at);
            if !there && required {
                self.report.not_mapped(at, what, format!("{path} is not a file here yet: without it its variables are missing"));
            } else {
                self.report.mapped(at, what, format!("env_file: {path}"));
            }
            files.push(path);
        }
        if !files.is_empty() {
            section.set("env_file", Toml::texts(files));
        }
    }
}

/// The env files of a service: path, place, and whether it must be there.
pub(super) fn env_file_entries(draft: &Draft) -> Vec<(String, At, bool)> {
    let Some(node) = draft.get("env_file") else { return Vec::new() };
    let entries: Vec<YamlNode> = node.list().map_or_else(|| vec![node.clone()], <[YamlNode]>::to_vec);
    entries
        .iter()
        .filter_map(|entry| {
            let (path, required) = match &entry.value {
                YamlValue::Map(_) => (
                    entry.get("path").and_then(YamlNode::scalar),
                    entry.get("required").and_then(YamlNode::truth).unwrap_or(true),
                ),
                _ => (entry.scalar(), true),
            };
            Some((path?, entry.at, required))
        })
        .collect()
}

fn put(env: &mut TomlEntries, name: &str, text: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = Toml::text(text),
        None => env.push((name.to_owned(), Toml::text(text))),
    }
}
