//! Configuration files of servers that recipes take: mounts, `configs`, and options on the command line.
//!
//! Files are written into the procfile's `files` with the addresses and paths of this machine; lines of `redis.conf` and
//! `my.cnf` become `set`.

use std::path::Path;

use super::super::report::At;
use super::super::toml_writer::{Section, Toml, TomlEntries};
use super::super::yaml::{YamlNode, get};
use super::draft::{Draft, NativeKind};
use super::hostnames::{self, HostMatch};
use super::importer::Importer;
use super::known_image::KnownImage;
use super::loopback;

/// Folders of images whose files a recipe reads below its run directory: recipe, folder, folder here.
const FOLDERS: &[(&str, &str, &str)] = &[
    ("prometheus", "/etc/prometheus", ""),
    ("alertmanager", "/etc/alertmanager", ""),
    ("grafana", "/etc/grafana/provisioning", "provisioning/"),
    ("blackbox_exporter", "/etc/blackbox_exporter", ""),
    ("debezium_server", "/debezium/config", ""),
    ("debezium_server", "/debezium/conf", ""),
];
/// A folder of configuration has fewer files than this.
const MOST_FILES: usize = 200;
/// Options of MySQL's server that MariaDB's does not start with.
const ONLY_MYSQL: &[&str] = &[
    "default_authentication_plugin",
    "authentication_policy",
    "mysql_native_password",
    "gtid_mode",
    "enforce_gtid_consistency",
    "innodb_redo_log_capacity",
    "mysqlx",
    "log_error_suppression_list",
    "caching_sha2_password_auto_generate_rsa_keys",
    "skip_host_cache",
    "upgrade",
    "innodb_dedicated_server",
    "default_table_encryption",
];
/// Options that keys of the procfile stand for.
const OWN_MYSQL: &[&str] = &[
    "port",
    "bind_address",
    "datadir",
    "socket",
    "user",
    "skip_networking",
    "pid_file",
    "log_error",
    "skip_name_resolve",
    "tmpdir",
    "basedir",
    "require_secure_transport",
];

impl Importer<'_> {
    /// What a mount or an inline config gives the recipe to read.
    pub(super) fn config_files(&mut self, draft: &Draft, known: &KnownImage, section: &mut Section) {
        let mut files: TomlEntries = match section.take("files") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        let mut texts: Vec<(String, String, At)> = Vec::new();
        for (_, folder, here) in FOLDERS.iter().filter(|(recipe, ..)| *recipe == known.recipe) {
            for (target, source) in &draft.mounts {
                let Some(inside) = target.strip_prefix(folder) else { continue };
                let at = draft.get("volumes").or(draft.get("build")).map_or(draft.key.at, |node| node.at);
                let mut found = Vec::new();
                self.texts_of(source, inside.trim_start_matches('/'), &mut found, 0);
                texts.extend(found.into_iter().map(|(name, text)| {
                    // The name that the recipe reads may be another one than the image's.
                    let path = format!("{folder}/{name}");
                    let ours = known.config.iter().find(|(known, _)| *known == path).map(|(_, name)| (*name).to_owned());
                    (ours.unwrap_or_else(|| format!("{here}{name}")), text, at)
                }));
            }
        }
        for (target, name, text, at) in self.inline_configs(draft) {
            let of_folder = FOLDERS.iter().find_map(|(recipe, folder, here)| {
                let inside = target.strip_prefix(folder)?.strip_prefix('/')?;
                (*recipe == known.recipe).then(|| format!("{here}{inside}"))
            });
            let of_recipe = known.config.iter().find(|(path, _)| *path == target).map(|(_, name)| (*name).to_owned());
            match of_recipe.or(of_folder).filter(|_| !matches!(known.recipe, "nginx" | "caddy")) {
                Some(file) => {
                    self.report.mapped(at, draft.what("configs"), format!("{name} → files.\"{file}\""));
                    texts.push((file, text, at));
                }
                None if section.has("files") || !files.is_empty() => {
                    self.report.mapped(at, draft.what("configs"), format!("{name}: a part of its files"))
                }
                None => self.keep_config(draft, &target, &name, &text, at, section),
            }
        }
        let mut found = HostMatch::new();
        for (name, text, at) in texts {
            let ours = self.for_this_machine(draft, &text, &mut found);
            self.names_found(draft, at, "volumes", &std::mem::take(&mut found));
            if !files.iter().any(|(known, _)| *known == name) {
                files.push((name, Toml::text(ours)));
            }
        }
        if !files.is_empty() {
            section.set("files", Toml::Table(files));
        }
    }

    /// A configuration as a template of ours: service names, the machine's names and mounted paths are those of here.
    fn for_this_machine(&self, draft: &Draft, text: &str, found: &mut HostMatch) -> String {
        let text = text.replace("$$", "$$$$").replace("${", "$${");
        let text = if super::stack_images::reads_properties(draft) {
            super::stack_images::properties(&text, &self.targets, found)
        } else {
            text
        };
        let text = hostnames::rewrite(&text, false, &self.targets, found);
        let text = loopback::this_machine(&text, &draft.machine_names).unwrap_or(text);
        self.paths(draft, &text)
    }

    /// The text files at a path here and below it.
    fn texts_of(&self, source: &Path, name: &str, out: &mut Vec<(String, String)>, depth: usize) {
        if out.len() >= MOST_FILES || depth > 5 {
            return;
        }
        if !name.is_empty()
            && let Some(text) = (self.read)(source)
        {
            out.push((name.to_owned(), text));
            return;
        }
        for path in self.list(source) {
            let Some(file) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
            let inside = if name.is_empty() { file } else { format!("{name}/{file}") };
            self.texts_of(&path, &inside, out, depth + 1);
        }
    }

    /// The texts that ask for other services: of the configuration of a server, and of env files.
    pub(super) fn texts_of_files(&self, draft: &Draft) -> Vec<String> {
        let mut found = Vec::new();
        if let NativeKind::Recipe { known, .. } = &draft.kind {
            for (target, source) in &draft.mounts {
                if FOLDERS.iter().any(|(recipe, folder, _)| *recipe == known.recipe && target.starts_with(folder)) {
                    self.texts_of(source, target.rsplit('/').next().unwrap_or(target), &mut found, 0);
                } else if target.starts_with("/etc/nginx") || target.starts_with("/etc/caddy") {
                    self.web_files(source, &mut found, 0);
                }
            }
        }
        let of_env = super::environment::env_file_entries(draft).into_iter();
        let of_env = of_env.filter_map(|(path, at, _)| (self.read)(&self.absolute(&path, at)?));
        found.into_iter().map(|(_, text)| text).chain(of_env).collect()
    }

    /// The configuration of a web server at a path here and below it, without its certificates and keys.
    fn web_files(&self, source: &Path, out: &mut Vec<(String, String)>, depth: usize) {
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if out.len() >= MOST_FILES || depth > 3 {
            return;
        }
        if name.ends_with(".conf") || name.ends_with(".template") || name.contains("Caddyfile") {
            out.extend((self.read)(source).map(|text| (name, text)));
            return;
        }
        for path in self.list(source) {
            self.web_files(&path, out, depth + 1);
        }
    }

    /// The inline configs of a service: target in the container, name, content, place.
    fn inline_configs(&self, draft: &Draft) -> Vec<(String, String, String, At)> {
        let mut found = Vec::new();
        for item in draft.get("configs").and_then(YamlNode::list).unwrap_or_default() {
            let Some(name) = item.get("source").and_then(YamlNode::scalar).or_else(|| item.scalar()) else { continue };
            let target = item.get("target").and_then(YamlNode::scalar).unwrap_or_else(|| format!("/{name}"));
            let Some(node) = get(&self.tree, "configs").and_then(|node| node.get(&name)) else { continue };
            let content = node.get("content").and_then(YamlNode::scalar).map(|text| self.values.fill(&text).unwrap_or(text));
            let file = node.get("file").and_then(YamlNode::scalar).and_then(|file| (self.read)(&self.absolute(&file, node.at)?));
            if let Some(text) = content.or(file) {
                found.push((target, name, text, item.at));
            }
        }
        found
    }

    /// A config that nothing here reads by itself stays beside the service as a comment.
    pub(super) fn keep_config(&mut self, draft: &Draft, target: &str, name: &str, text: &str, at: At, section: &mut Section) {
        self.report.not_mapped(at, draft.what("configs"), format!("{name}: the container had it as {target}: its content stands in a comment; write it to a file and point the program there"));
        section.below.push(format!("{name}, which the container had as {target}:"));
        section.below.extend(text.lines().map(|line| format!("  {line}")));
    }

    /// `--name=value` of MySQL's and MariaDB's server, and the `[mysqld]` part of mounted files.
    pub(super) fn mariadb_options(&mut self, draft: &Draft, words: &[String], at: At, section: &mut Section) {
        let mut options: Vec<(String, String, At, String)> = Vec::new();
        let mut rest = words
            .iter()
            .filter(|word| !matches!(word.rsplit('/').next(), Some("mysqld" | "mariadbd" | "docker-entrypoint.sh")))
            .peekable();
        let mut left = Vec::new();
        while let Some(word) = rest.next() {
            let Some(option) = word.strip_prefix("--") else {
                left.push(word.clone());
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (option.to_owned(), rest.next_if(|word| !word.starts_with('-')).cloned().unwrap_or_default()),
            };
            options.push((name, value, at, draft.what("command")));
        }
        for (target, source) in &draft.mounts {
            let config = target.starts_with("/etc/mysql") || target.ends_with("my.cnf");
            let mut found = Vec::new();
            if config {
                self.texts_of(source, if target.ends_with(".cnf") { "my.cnf" } else { "" }, &mut found, 0);
            }
            let at = draft.get("volumes").map_or(draft.key.at, |node| node.at);
            for (_, text) in found {
                options.extend(ini_of_server(&text).into_iter().map(|(name, value)| (name, value, at, draft.what("volumes"))));
            }
        }
        let mut set: TomlEntries = match section.take("set") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        for (name, value, at, what) in options {
            let plain = name.replace('-', "_").to_ascii_lowercase();
            if OWN_MYSQL.contains(&plain.as_str()) {
                self.report.dropped(at, what, format!("{name}: the recipe decides it itself"));
            } else if ONLY_MYSQL.contains(&plain.as_str()) {
                self.report.not_mapped(at, what, format!("{name} is an option of MySQL that MariaDB does not have"));
            } else if !set.iter().any(|(known, _)| *known == plain) {
                let value = self.text(&value, at, true);
                self.report.mapped(at, what, format!("set.{plain} = {value:?}"));
                set.push((plain, Toml::text(value)));
            }
        }
        if !set.is_empty() {
            section.set("set", Toml::Table(set));
        }
        if !left.is_empty() {
            self.report.not_mapped(at, draft.what("command"), format!("left out: {}", left.join(" ")));
        }
    }

    /// The lines of a mounted `redis.conf` as options of the command line.
    pub(super) fn redis_file(&self, draft: &Draft, path: &str) -> Option<Vec<(String, String)>> {
        let text = self.text_at(draft, path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(lines.map(pair).collect())
    }

    /// The management pages of RabbitMQ, where the image has them and their port is published or asked for.
    pub(super) fn rabbitmq_management(&mut self, draft: &Draft, section: &mut Section) {
        if !self.targets.iter().any(|target| target.name == draft.name && target.knows(MANAGEMENT)) {
            return;
        }
        let published = draft.ports.iter().find(|(port, _)| port.container == "15672").cloned();
        let at = published.as_ref().map_or(draft.key.at, |(_, at)| *at);
        let value = match published.and_then(|(port, at)| Some((port.host?, at))) {
            Some((host, at)) => self.claim(draft, at, &host),
            None => Toml::text("auto"),
        };
        let mut ports: TomlEntries = match section.take("ports") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        self.report.mapped(at, draft.what("ports"), format!("ports.management = {}", value.line()));
        ports.push(("management".to_owned(), value));
        section.set("ports", Toml::Table(ports));
        section.set("set", Toml::Table(vec![("plugins".to_owned(), Toml::text("rabbitmq_management"))]));
    }

    /// Whether the image of a RabbitMQ has the management pages and they are published, or one of `texts` asks for them.
    pub(super) fn has_management(&self, draft: &Draft, texts: &[String]) -> bool {
        let tag = draft.get("image").and_then(YamlNode::scalar).and_then(|image| self.values.fill(&image)).unwrap_or_default();
        let is_there = tag.contains("management") || tag.contains("bitnami");
        let published = draft.ports.iter().any(|(port, _)| port.container == "15672");
        is_there && (published || texts.iter().any(|text| text.contains("15672")))
    }
}

/// The port of RabbitMQ's management pages in its image.
pub(super) const MANAGEMENT: u16 = 15672;

/// The options of the server's parts of an option file.
fn ini_of_server(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            ours = matches!(name, "mysqld" | "mariadbd" | "mariadb" | "server")
                || name.starts_with("mysqld-")
                || name.starts_with("mariadb-");
        } else if ours && !line.is_empty() && !line.starts_with(['#', ';', '!']) {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            found.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    found
}

/// `configs` of a program: files are where they are, content is kept.
pub(super) fn configs(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode, section: &mut Section) {
    let handled = importer.report.lines.iter().any(|line| line.what == draft.what("configs"));
    if handled {
        return;
    }
    let found = importer.inline_configs(draft);
    if found.is_empty() {
        importer.report.not_mapped(
            node.at,
            draft.what("configs"),
            "a file of the container: the program must read it where it lies here",
        );
    }
    for (target, name, text, at) in found {
        let file = get(&importer.tree, "configs")
            .and_then(|node| node.get(&name))
            .and_then(|node| node.get("file"))
            .and_then(YamlNode::scalar);
        match file {
            Some(file) => {
                let here = importer.path(&file, at);
                importer.report.not_mapped(
                    at,
                    draft.what("configs"),
                    format!("{name}: what the container knew as {target} is {here}: the program must read it there"),
                );
            }
            None => importer.keep_config(draft, &target, &name, &text, at, section),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_part_of_an_option_file_counts() {
        let text =
            "[client]\nport=1\n[mysqld]\nmax_connections = 44 # many\nskip-log-bin\n# c\n!includedir /x\n[mysqldump]\nquick\n";
        let found = ini_of_server(text);
        // `mysqldump` begins like the server's name and is another program.
        assert_eq!(found[..2], [("max_connections".to_owned(), "44".to_owned()), ("skip-log-bin".to_owned(), String::new())]);
        assert_eq!(found.len(), 2);
    }
}
