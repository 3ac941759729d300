//! A procfile → compose YAML, or → one procfile with everything merged.
//!
//! The YAML is written here, every string in quotes, so that no reader can take one for something else and two exports
//! of the same procfile are the same text.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::export_images::{ImageRow, image_of};
use super::toml_writer::{Procfile, Section, Toml, quoted};
use devrun_model::percent;

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

/// Compose YAML and what could not be said in it.
#[must_use]
pub fn compose(merged: &Table, project: &str) -> (String, Vec<String>) {
    let mut export = Export { merged, out: String::new(), left: Vec::new() };
    export.whole(project);
    (export.out, export.left)
}

struct Export<'a> {
    merged: &'a Table,
    out: String,
    left: Vec<String>,
}

impl Export<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let _infallible = writeln!(self.out, "{:indent$}{text}", "", indent = depth * 2);
    }

    fn group(&self, name: &str) -> Vec<(String, Table)> {
        let group = self.merged.get(name).and_then(Value::as_table).into_iter().flatten();
        group.filter_map(|(name, value)| Some((name.clone(), value.as_table()?.clone()))).collect()
    }

    fn whole(&mut self, project: &str) {
        self.line(0, "# Written by `devrun export compose`.");
        self.line(0, &format!("name: {}", quoted(project)));
        self.line(0, "services:");
        let mut volumes = Vec::new();
        for (group, task) in [("services", false), ("tasks", true)] {
            for (name, service) in self.group(group) {
                self.service(&name, &service, task, &mut volumes);
            }
        }
        volumes.sort();
        volumes.dedup();
        if !volumes.is_empty() {
            self.line(0, "volumes:");
            for name in volumes {
                self.line(1, &format!("{}: {{}}", quoted(&name)));
            }
        }
        for key in ["config", "queries", "sources", "tiers"] {
            if self.merged.contains_key(key) {
                self.left.push(format!("[{key}]: compose has nothing like it"));
            }
        }
    }

    fn service(&mut self, name: &str, service: &Table, task: bool, volumes: &mut Vec<String>) {
        if service.contains_key("external") {
            self.left.push(format!("services.{name}: is somebody else's server; references hold its address"));
            return;
        }
        let row = image_of(service);
        if row.is_none() && !service.contains_key("run") {
            let group = if task { "tasks" } else { "services" };
            self.left.push(format!("{group}.{name}: only `run` and known recipes have an image"));
            return;
        }
        self.line(1, &format!("{}:", quoted(name)));
        let mut env: Vec<(String, String)> = Vec::new();
        match row {
            Some((_, image, _, folder, variables)) => {
                let tag = service
                    .get("use")
                    .and_then(Value::as_str)
                    .and_then(|text| text.split_once('@'))
                    .map_or("latest", |(_, tag)| tag);
                self.line(2, &format!("image: {}", quoted(&format!("{image}:{tag}"))));
                for (key, variable) in ["user", "password", "database"].iter().zip(variables) {
                    match service.get(*key).map(scalar) {
                        Some(value) if !variable.is_empty() => env.push(((*variable).to_owned(), self.text(&value, name))),
                        Some(_) if *key == "password" && matches!(*image, "redis" | "valkey/valkey") => {}
                        Some(_) => self.left.push(format!("services.{name}.{key}: write it into the image's own configuration")),
                        None if *key == "password" && *variable == "POSTGRES_PASSWORD" => {
                            env.push(((*variable).to_owned(), format!("${{{}_PASSWORD:?set it}}", shout(name))));
                        }
                        None => {}
                    }
                }
                if image == &"postgres" && !service.contains_key("user") {
                    env.push(("POSTGRES_USER".to_owned(), "postgres".to_owned()));
                }
                if !folder.is_empty() {
                    let data = service.get("data").map_or_else(|| name.to_owned(), scalar);
                    self.line(2, "volumes:");
                    self.line(3, &format!("- {}", quoted(&format!("{data}:{folder}"))));
                    for init in service.get("init").map(list).unwrap_or_default() {
                        let target = if init.ends_with(".sql") || init.ends_with(".sh") || init.ends_with(".gz") {
                            format!("/docker-entrypoint-initdb.d/{}", init.rsplit('/').next().unwrap_or(&init))
                        } else {
                            "/docker-entrypoint-initdb.d".to_owned()
                        };
                        self.line(3, &format!("- {}", quoted(&format!("./{}:{target}:ro", init.trim_start_matches("./")))));
                    }
                    volumes.push(data);
                }
                if let Some(set) = service.get("set").and_then(Value::as_table) {
                    self.settings(image, set, service, name);
                } else if matches!(*image, "redis" | "valkey/valkey") && service.contains_key("password") {
                    self.settings(image, &Table::new(), service, name);
                }
            }
            None => self.program(name, service),
        }
        self.edges(service);
        self.ports(name, service, row);
        let shared = self.merged.get("env").and_then(Value::as_table).cloned().unwrap_or_default();
        let own = service.get("env").and_then(Value::as_table).cloned().unwrap_or_default();
        for (key, value) in shared.iter().filter(|(key, _)| !own.contains_key(*key)).chain(own.iter()) {
            let text = self.text(&scalar(value), name);
            env.push((key.clone(), text));
        }
        if row.is_none()
            && let Some(port) = self.port(name)
            && !env.iter().any(|(key, _)| key == "PORT")
        {
            env.push(("PORT".to_owned(), port));
        }
        if !env.is_empty() {
            self.line(2, "environment:");
            for (key, value) in env {
                self.line(3, &format!("{}: {}", quoted(&key), quoted(&value)));
            }
        }
        self.env_files(service);
        self.health(name, service, row);
        self.policies(name, service, task);
    }

    fn program(&mut self, name: &str, service: &Table) {
        let dir = service.get("dir").map_or_else(|| ".".to_owned(), scalar);
        self.line(2, "build:");
        self.line(3, &format!("context: {}", quoted(&dir)));
        self.left.push(format!("services.{name}: needs a Dockerfile in {dir}"));
        match service.get("run") {
            Some(Value::Array(words)) => {
                self.line(2, "command:");
                for word in words {
                    let word = self.text(&scalar(word), name);
                    self.line(3, &format!("- {}", quoted(&word)));
                }
            }
            Some(run) => {
                let text = self.text(&scalar(run), name);
                let shell = text.contains(['|', '&', ';', '<', '>', '*', '(', ')', '`']);
                if shell {
                    self.line(2, &format!("command: [\"sh\", \"-c\", {}]", quoted(&text)));
                } else {
                    self.line(2, &format!("command: {}", quoted(&text)));
                }
            }
            None => {}
        }
    }

    fn settings(&mut self, image: &str, set: &Table, service: &Table, name: &str) {
        let mut words: Vec<String> = Vec::new();
        match image {
            "postgres" => {
                words.push("postgres".to_owned());
                for (key, value) in set {
                    words.push("-c".to_owned());
                    words.push(format!("{key}={}", self.text(&scalar(value), name)));
                }
            }
            "redis" | "valkey/valkey" => {
                words.push(if image == "redis" { "redis-server" } else { "valkey-server" }.to_owned());
                if let Some(password) = service.get("password") {
                    words.push("--requirepass".to_owned());
                    words.push(self.text(&scalar(password), name));
                }
                for (key, value) in set {
                    words.push(format!("--{key}"));
                    words.push(self.text(&scalar(value), name));
                }
            }
            _ => {
                self.left.push(format!("services.{name}.set: write it into the image's own configuration"));
                return;
            }
        }
        self.line(2, "command:");
        for word in words {
            self.line(3, &format!("- {}", quoted(&word)));
        }
    }

    fn edges(&mut self, service: &Table) {
        let mut edges: Vec<(String, String, bool, bool)> = Vec::new();
        match service.get("depends_on") {
            Some(Value::Table(table)) => {
                for (name, edge) in table {
                    let flag = |key: &str, usual| edge.get(key).and_then(Value::as_bool).unwrap_or(usual);
                    let condition = edge.get("condition").map(scalar).unwrap_or_default();
                    edges.push((name.clone(), condition, flag("required", true), flag("restart", false)));
                }
            }
            Some(value) => {
                for text in list(value) {
                    let (name, condition) = text.split_once(':').unwrap_or((&text, ""));
                    edges.push((name.to_owned(), condition.to_owned(), true, false));
                }
            }
            None => {}
        }
        let known = |name: &str| self.exported(name);
        edges.retain(|(name, ..)| known(name));
        if edges.is_empty() {
            return;
        }
        self.line(2, "depends_on:");
        for (name, condition, required, restart) in edges {
            let condition = match condition.as_str() {
                "started" => "service_started",
                "healthy" => "service_healthy",
                "completed" => "service_completed_successfully",
                _ if self.merged.get("tasks").is_some_and(|tasks| tasks.get(&name).is_some()) => "service_completed_successfully",
                _ if self.probed(&name) => "service_healthy",
                _ => "service_started",
            };
            self.line(3, &format!("{}:", quoted(&name)));
            self.line(4, &format!("condition: {}", quoted(condition)));
            if !required {
                self.line(4, "required: false");
            }
            if restart {
                self.line(4, "restart: true");
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Table> {
        ["services", "tasks"].iter().find_map(|group| self.merged.get(*group)?.get(name)?.as_table())
    }

    fn exported(&self, name: &str) -> bool {
        self.find(name).is_some_and(|service| {
            !service.contains_key("external") && (image_of(service).is_some() || service.contains_key("run"))
        })
    }

    /// Whether `health` writes a check for it.
    fn probed(&self, name: &str) -> bool {
        self.find(name).is_some_and(|service| check(service, image_of(service)).is_some())
    }

    fn ports(&mut self, name: &str, service: &Table, row: Option<&ImageRow>) {
        let mut lines = Vec::new();
        if let Some(port) = service.get("port").map(scalar).filter(|port| port != "false") {
            let inside = row.map_or_else(|| port.clone(), |row| row.2.to_string());
            match port.as_str() {
                "private" => {}
                "auto" => lines.push(inside),
                port => lines.push(format!("{}:{}", self.text(port, name), self.text(&inside, name))),
            }
        }
        for (key, port) in service.get("ports").and_then(Value::as_table).into_iter().flatten() {
            let port = scalar(port);
            if row.is_none() && !matches!(port.as_str(), "auto" | "private" | "false") {
                lines.push(format!("{port}:{port}"));
            } else {
                self.left.push(format!("services.{name}.ports.{key}: publish the image's own port"));
            }
        }
        if !lines.is_empty() {
            self.line(2, "ports:");
            for line in lines {
                self.line(3, &format!("- {}", quoted(&line)));
            }
        }
    }

    fn env_files(&mut self, service: &Table) {
        let files = match service.get("env_file") {
            Some(Value::Array(list)) => list.clone(),
            Some(value) => vec![value.clone()],
            None => return,
        };
        self.line(2, "env_file:");
        for file in files {
            let (path, required) = match &file {
                Value::Table(table) => (
                    table.get("path").map(scalar).unwrap_or_default(),
                    table.get("required").and_then(Value::as_bool).unwrap_or(false),
                ),
                value => (scalar(value), false),
            };
            self.line(3, &format!("- path: {}", quoted(&path)));
            self.line(3, &format!("  required: {required}"));
        }
    }

    fn health(&mut self, name: &str, service: &Table, row: Option<&ImageRow>) {
        let ready = service.get("ready").and_then(Value::as_table);
        let Some(test) = check(service, row) else {
            if ready.is_some() {
                self.left.push(format!("services.{name}.ready: compose only knows commands as checks"));
            }
            return;
        };
        self.line(2, "healthcheck:");
        let test: Vec<String> = test.into_iter().map(|word| self.text(&word, name)).collect();
        self.line(3, &format!("test: [{}]", test.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")));
        let mut timing = |key: &str| {
            if let Some(value) = ready.and_then(|ready| ready.get(key)) {
                let line = match value {
                    Value::Integer(number) => format!("{key}: {number}"),
                    value => format!("{key}: {}", quoted(&scalar(value))),
                };
                self.line(3, &line);
            }
        };
        for key in ["interval", "timeout", "retries", "start_period"] {
            timing(key);
        }
    }

    fn policies(&mut self, name: &str, service: &Table, task: bool) {
        match service.get("restart").map(scalar) {
            Some(policy) => self.line(2, &format!("restart: {}", quoted(&policy))),
            None if task => self.line(2, "restart: \"no\""),
            None => {}
        }
        let profiles = service.get("profiles").map(list).unwrap_or_default();
        if !profiles.is_empty() {
            self.line(
                2,
                &format!("profiles: [{}]", profiles.iter().map(|profile| quoted(profile)).collect::<Vec<_>>().join(", ")),
            );
        }
        if let Some(stop) = service.get("stop").and_then(Value::as_table) {
            if let Some(signal) = stop.get("signal").map(scalar) {
                self.line(2, &format!("stop_signal: {}", quoted(&format!("SIG{}", signal.trim_start_matches("SIG")))));
            }
            if let Some(grace) = stop.get("grace").map(scalar) {
                self.line(2, &format!("stop_grace_period: {}", quoted(&grace)));
            }
        }
        let replicas = service.get("replicas").and_then(Value::as_integer);
        let amounts = |key: &str| -> Vec<String> {
            let table = service.get(key).and_then(Value::as_table);
            let cpu = table.and_then(|table| table.get("cpu")).map(|value| format!("cpus: {}", quoted(&scalar(value))));
            let memory = table.and_then(|table| table.get("memory")).map(|value| format!("memory: {}", quoted(&scalar(value))));
            cpu.into_iter().chain(memory).collect()
        };
        let (limits, reserve) = (amounts("limits"), amounts("reserve"));
        if replicas.is_some() || !limits.is_empty() || !reserve.is_empty() {
            self.line(2, "deploy:");
            if let Some(replicas) = replicas {
                self.line(3, &format!("replicas: {replicas}"));
            }
            if !limits.is_empty() || !reserve.is_empty() {
                self.line(3, "resources:");
            }
            for (key, lines) in [("limits", limits), ("reservations", reserve)] {
                if !lines.is_empty() {
                    self.line(4, &format!("{key}:"));
                    lines.iter().for_each(|line| self.line(5, line));
                }
            }
        }
        for key in [
            "alive",
            "on_unhealthy",
            "backoff",
            "pre_start",
            "build",
            "migrations",
            "extensions",
            "render",
            "watch",
            "tier",
            "routes",
            "log_files",
            "volumes",
        ] {
            if service.contains_key(key) {
                self.left.push(format!("services.{name}.{key}: has no counterpart that compose would understand"));
            }
        }
    }

    /// References become the names and ports of compose's network.
    fn text(&self, text: &str, own: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = inner.find('}').unwrap_or(inner.len());
            let hole = &inner[..end];
            match hole.split_once('.').and_then(|(head, attribute)| self.attribute(head, attribute)) {
                Some(value) => {
                    out.push_str(&value);
                    rest = inner.get(end + 1..).unwrap_or_default();
                }
                None => {
                    out.push_str("${");
                    if hole == "PORT"
                        && let Some(port) = self.port(own)
                    {
                        out.truncate(out.len() - 2);
                        out.push_str(&port);
                        rest = inner.get(end + 1..).unwrap_or_default();
                    } else {
                        rest = inner;
                    }
                }
            }
        }
        out.push_str(rest);
        match self.port(own) {
            Some(port) => out.replace("$PORT", &port),
            None => out,
        }
    }

    fn port(&self, name: &str) -> Option<String> {
        let service = self.find(name)?;
        match image_of(service) {
            Some(row) => Some(row.2.to_string()),
            None => service.get("port").map(scalar).filter(|port| !matches!(port.as_str(), "auto" | "private" | "false")),
        }
    }

    fn attribute(&self, head: &str, attribute: &str) -> Option<String> {
        match head {
            "secret" => return Some(format!("${{{}}}", shout(attribute))),
            "dir" | "replica" => return None,
            _ => {}
        }
        let service = self.find(head)?;
        let port = || self.port(head);
        let value = |key: &str| service.get(key).map(scalar).map(|text| self.text(&text, head));
        match attribute.split(':').next().unwrap_or(attribute) {
            "host" => Some(head.to_owned()),
            "port" => port(),
            "addr" => Some(format!("{head}:{}", port()?)),
            "user" | "password" | "database" => value(attribute),
            "url" => {
                let row = image_of(service);
                let scheme = attribute.split_once(':').map(|(_, scheme)| scheme.to_owned()).unwrap_or_else(|| {
                    match row.map(|row| row.0) {
                        Some("postgres") => "postgres",
                        Some("redis" | "valkey") => "redis",
                        Some("mariadb") => "mysql",
                        Some("rabbitmq") => "amqp",
                        Some("nats") => "nats",
                        Some("neo4j") => "bolt",
                        _ => "http",
                    }
                    .to_owned()
                });
                let encoded = |key: &str| {
                    let text = value(key)?;
                    // A placeholder is compose's to fill in; what is known is encoded as a URL wants it.
                    Some(if text.contains("${") { text } else { percent::encode(&text.replace("$$", "$")) })
                };
                let unknown =
                    row.is_some_and(|row| row.0 == "postgres").then(|| format!("${{{}_PASSWORD:?set it}}", shout(head)));
                let login = match (encoded("user"), encoded("password").or(unknown)) {
                    (None, None) => String::new(),
                    (user, password) => {
                        let user = user.or_else(|| row.filter(|row| row.0 == "postgres").map(|_| "postgres".to_owned()));
                        format!(
                            "{}{}@",
                            user.unwrap_or_default(),
                            password.map(|password| format!(":{password}")).unwrap_or_default()
                        )
                    }
                };
                let login = if scheme == "http" || scheme == "bolt" { String::new() } else { login };
                let database = value("database").map(|name| format!("/{name}")).unwrap_or_default();
                Some(format!("{scheme}://{login}{head}:{}{database}", port()?))
            }
            _ => None,
        }
    }
}

/// The command of a check that compose can run.
fn check(service: &Table, row: Option<&ImageRow>) -> Option<Vec<String>> {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let ready = service.get("ready");
    if ready.and_then(Value::as_bool) == Some(false) {
        return None;
    }
    let ready = ready.and_then(Value::as_table);
    if let Some(command) = ready.and_then(|ready| ready.get("cmd")) {
        return Some(match command {
            Value::Array(list) => std::iter::once("CMD".to_owned()).chain(list.iter().map(scalar)).collect(),
            value => vec!["CMD-SHELL".to_owned(), scalar(value)],
        });
    }
    match row.map(|row| row.0) {
        Some("postgres") => return words(&["CMD-SHELL", "pg_isready -U $$POSTGRES_USER"]),
        Some("redis") => return words(&["CMD", "redis-cli", "ping"]),
        Some("valkey") => return words(&["CMD", "valkey-cli", "ping"]),
        Some("mariadb") => return words(&["CMD", "healthcheck.sh", "--connect", "--innodb_initialized"]),
        Some(_) => return None,
        None => {}
    }
    let http = scalar(ready?.get("http")?);
    let port = service.get("port").map(scalar)?;
    let url = if http.starts_with('/') { format!("http://127.0.0.1:{port}{http}") } else { http };
    Some(vec!["CMD-SHELL".to_owned(), format!("wget -q -O /dev/null '{url}' || curl -fsS -o /dev/null '{url}'")])
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Table(_) => String::new(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().map(scalar).collect(),
        value => vec![scalar(value)],
    }
}

/// A name as a variable's.
fn shout(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' }).collect()
}
