//! The environment of a workload: `[env]`, `env_from`, env files and its own variables, the later ones over the earlier.

use devrun_model::ServiceSpec;
use toml::Value;

use super::procfile_values::texts;
use super::references::{PlaceholderScope, References, shout};
use super::stack::Workload;
use super::template::{ExportText, Piece};
use crate::bind_names::names_bind_address;

/// The layers of a service's environment, the earlier ones only where no later one says the same.
pub(crate) fn fill(references: &References<'_>, name: &str, spec: &ServiceSpec, workload: &mut Workload) {
    let mut env: Vec<(String, ExportText)> = Vec::new();
    let own = |name: &str, key: &str| -> Vec<(String, ExportText)> {
        let table = references.table(name).and_then(|table| table.get("env")).and_then(Value::as_table);
        let scope = PlaceholderScope { service: name, key };
        table.into_iter().flatten().map(|(variable, value)| (variable.clone(), references.value(value, scope))).collect()
    };
    let is_server = workload.is_recipe || workload.is_gateway;
    let shared = references.source.merged.get("env").and_then(Value::as_table);
    for (variable, value) in shared.into_iter().flatten() {
        let key = format!("env.{variable}");
        set(&mut env, variable, references.value(value, PlaceholderScope { service: name, key: &key }));
    }
    let from = references.key(name, "env_from").map(|value| texts(Some(value))).unwrap_or_default();
    let path = format!("{}.env", references.path(name));
    for name in from.iter().map(String::as_str).chain([name]) {
        for (file, required) in env_files(references, name) {
            match generated(references, &file) {
                Some(text) => {
                    for (variable, value) in template_lines(&text) {
                        set(
                            &mut env,
                            &variable,
                            references.text(&value, PlaceholderScope { service: name, key: "config.template" }),
                        );
                    }
                }
                None => {
                    // A file's variables lie above `[env]`.
                    let text = (references.source.read)(&references.source.plan.root.join(&file)).unwrap_or_default();
                    for (variable, _) in template_lines(&text) {
                        env.retain(|(known, _)| *known != variable);
                    }
                    if !workload.env_files.contains(&(file.clone(), required)) {
                        workload.env_files.push((file, required));
                    }
                }
            }
        }
        for (variable, value) in own(name, &path) {
            set(&mut env, &variable, value);
        }
    }
    if !is_server && let Some(port) = references.port(name, "main") {
        set(&mut env, "PORT", port);
        for port in spec.ports.keys().filter(|port| *port != "main") {
            if let Some(inside) = references.port(name, port) {
                set(&mut env, &format!("PORT_{}", shout(port)), inside);
            }
        }
    }
    if !is_server {
        for (variable, value) in env.iter_mut().filter(|(variable, _)| names_own_address(variable)) {
            listen_on_all(references, &format!("{path}.{variable}"), [value]);
        }
    }
    if !references.is_strict {
        for (variable, value) in &mut env {
            if let Some(secret) = value.as_literal().and_then(|path| secret_at(references, spec, path)) {
                *value = ExportText::secret(secret);
                workload.secret_paths.push(variable.clone());
            }
        }
    }
    // What the image and the command need is said last: the procfile's `env` of the same name wins.
    let made = std::mem::take(&mut workload.env);
    workload.env = made.into_iter().filter(|(name, _)| !env.iter().any(|(known, _)| known == name)).collect();
    workload.env.extend(env);
}

/// The secret whose file a path names, as the service sees it.
fn secret_at(references: &References<'_>, spec: &ServiceSpec, path: &str) -> Option<String> {
    let mut absolute = std::path::PathBuf::new();
    for part in spec.dir.join(path).components() {
        match part {
            std::path::Component::ParentDir => drop(absolute.pop()),
            std::path::Component::CurDir => {}
            part => absolute.push(part),
        }
    }
    let files = &mut references.source.secret_files();
    files.find(|(_, file)| references.source.plan.root.join(file) == absolute).map(|(name, _)| name.to_owned())
}

/// Whether a variable holds the address that a program listens on: `FLASK_RUN_HOST` and `ADDRESS`, not `DB_HOST`.
fn names_own_address(variable: &str) -> bool {
    const SERVERS: [&str; 17] = [
        "DB",
        "DATABASE",
        "PG",
        "POSTGRES",
        "POSTGRESQL",
        "MYSQL",
        "MARIADB",
        "MONGO",
        "REDIS",
        "VALKEY",
        "CACHE",
        "SMTP",
        "MAIL",
        "AMQP",
        "RABBITMQ",
        "KAFKA",
        "S3",
    ];
    let upper = variable.to_ascii_uppercase();
    names_bind_address(&upper) && !upper.split('_').any(|part| SERVERS.contains(&part) || part.starts_with("PGHOST"))
}

/// In a container 127.0.0.1 can be reached by nothing outside it.
pub(crate) fn listen_on_all<'t>(references: &References<'_>, key: &str, words: impl IntoIterator<Item = &'t mut ExportText>) {
    for word in words {
        let Some(Piece::Literal(text)) = word.0.first_mut() else { continue };
        let is_address =
            text == "127.0.0.1" || text == "localhost" || text.starts_with("127.0.0.1:") || text.starts_with("localhost:");
        if is_address {
            *text = text.replacen("127.0.0.1", "0.0.0.0", 1).replacen("localhost", "0.0.0.0", 1);
            references.lose(key, "a container must listen on 0.0.0.0 to be reached; 127.0.0.1 was replaced");
        }
    }
}

fn set(env: &mut Vec<(String, ExportText)>, name: &str, value: ExportText) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some(entry) => entry.1 = value,
        None => env.push((name.to_owned(), value)),
    }
}

fn env_files(references: &References<'_>, name: &str) -> Vec<(String, bool)> {
    let list = match references.key(name, "env_file") {
        Some(Value::Array(list)) => list.clone(),
        Some(value) => vec![value.clone()],
        None => Vec::new(),
    };
    let one = |value: &Value| match value {
        Value::Table(table) => {
            Some((table.get("path")?.as_str()?.to_owned(), table.get("required").and_then(Value::as_bool) == Some(true)))
        }
        value => Some((value.as_str()?.to_owned(), false)),
    };
    list.iter().filter_map(one).collect()
}

/// The template of a file that `[config]` generates; the file itself names addresses of this machine.
fn generated(references: &References<'_>, file: &str) -> Option<String> {
    let config = references.source.merged.get("config")?.as_table()?;
    if config.get("output")?.as_str()?.trim_start_matches("./") != file.trim_start_matches("./") {
        return None;
    }
    (references.source.read)(&references.source.plan.root.join(config.get("template")?.as_str()?))
}

/// `NAME=VALUE` lines of an env file; quotes around a value are taken off.
pub(crate) fn template_lines(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let line = line.trim().strip_prefix("export ").unwrap_or(line.trim());
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        let is_name = !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
        let value = value.trim();
        let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value);
        is_name.then(|| (name.to_owned(), inner.to_owned()))
    };
    text.lines().filter_map(line).collect()
}
