//! What a child gets, later wins: inherited (as far as `pass_env` lets it), `[env]`, `env_from`, its `env_file`, its
//! `env`, ours. And what of it must never be printed.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::{Resolved, Resolver, Scope};
use super::reader::Reader;
use super::template::{self, Hole, Operator, Part};
use super::toml_node::{TomlNode, get};
use super::variable_names::{names_secret, port_variable};
use super::variables::Declared;
use super::{dotenv, local_ca, service_url, telemetry};
use devrun_model::client_env::Addressed;
use devrun_model::mask::is_distinctive;
use devrun_model::percent;
use devrun_model::secret_name::is_secret;

/// What every child gets of the caller's environment, whatever `pass_env` says.
const ALWAYS: &[&str] = &["PATH", "HOME", "LANG", "TERM", "TMPDIR", "USER", "SHELL"];
/// The evidence mark is set at the spawn, and one of an outer stack must not be handed on.
const RUN_ID: &str = "DEVRUN_RUN_ID";

/// The whole environment of one copy.
pub(crate) fn of(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    replica: u32,
    ports: &BTreeMap<String, u16>,
) -> Resolved<BTreeMap<String, String>> {
    let (declared, removed) = resolver.declared(service, replica, 0)?;
    resolver.count_variables(service, &declared)?;
    no_zero_bytes(resolver, &declared)?;
    let mut env = inherited(resolver, service);
    // What `pass_env` names is passed on purpose.
    if service.get("pass_env").is_none() {
        let mut addressed = references(resolver, service);
        declared.iter().for_each(|(name, (value, _))| addressed.variable(name, value));
        env.retain(|name, _| !addressed.is_overridden_by(name));
    }
    for name in &removed {
        env.remove(name);
    }
    // Of the caller's own they hold everything; what the procfile says about them counts.
    let mut trusted = local_ca::variables(resolver, service)?;
    trusted.retain(|name, _| !declared.contains_key(name) && !removed.contains(name));
    env.extend(declared.into_iter().map(|(name, (value, _))| (name, value)));
    if !removed.iter().any(|name| name == "PYTHONUNBUFFERED") {
        env.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
    }
    for (name, port) in ports {
        let variable = if name == "main" { "PORT".to_owned() } else { format!("PORT_{}", port_variable(name)) };
        env.insert(variable, port.to_string());
    }
    let document = resolver.document;
    for (name, value) in [
        ("DEVRUN_PROJECT", document.project.to_string()),
        ("DEVRUN_SERVICE", service.name.clone()),
        ("DEVRUN_REPLICA", replica.to_string()),
        ("DEVRUN_INSTANCE", document.options.instance.clone()),
    ] {
        env.insert(name.to_owned(), value);
    }
    // Whoever names another receiver means that one.
    if !env.contains_key(telemetry::ENDPOINT) && !removed.iter().any(|name| name == telemetry::ENDPOINT) {
        for (name, value) in telemetry::variables(resolver, service, replica)? {
            if !removed.iter().any(|removed| removed == name) {
                env.entry(name.to_owned()).or_insert(value);
            }
        }
    }
    env.extend(trusted);
    env.remove(RUN_ID);
    if !own_path(resolver, service, replica)? {
        tool_dirs(resolver, service, replica, &mut env);
    }
    Ok(env)
}

/// A variable ends at the first zero byte, so that none can hold one (execve(2)).
fn no_zero_bytes(resolver: &Resolver<'_>, declared: &Declared) -> Resolved<()> {
    let mut result = Ok(());
    for (name, (value, span)) in declared {
        if value.contains('\0') {
            let message = format!("the variable {name} cannot hold a zero byte");
            result =
                Err(resolver
                    .report(Diagnostic::error(*span, message).help("write it into a file, and name that in the variable")));
        }
    }
    result
}

/// Whether the procfile gives a service a PATH.
fn own_path(resolver: &Resolver<'_>, service: &DeclaredService, replica: u32) -> Resolved<bool> {
    let (declared, removed) = resolver.declared(service, replica, 0)?;
    Ok(declared.contains_key("PATH") || removed.iter().any(|name| name == "PATH"))
}

/// Where Python and Node put the programs of a project. They are on PATH whether they exist or not: a task of this very start
/// may make them, and a service must not be restarted because of it.
fn tool_dirs(resolver: &Resolver<'_>, service: &DeclaredService, replica: u32, env: &mut BTreeMap<String, String>) {
    let Some(path) = env.get("PATH").filter(|path| !path.is_empty() && service.get("run").is_some()) else { return };
    let root = &resolver.facts.places.root;
    let keys = Reader { resolver, table: &service.tree, scope: Scope::of(&service.name, replica) };
    // A `dir` with an error in it is reported where it is read.
    let dir = keys.path("dir").ok().flatten().unwrap_or_else(|| root.clone());
    let mut dirs: Vec<String> = Vec::new();
    for top in [&dir, root] {
        for tools in [".venv/bin", "node_modules/.bin"] {
            let text = top.join(tools).display().to_string();
            if !dirs.contains(&text) && !text.contains(':') {
                dirs.push(text);
            }
        }
    }
    dirs.push(path.clone());
    env.insert("PATH".to_owned(), dirs.join(":"));
}

/// The servers of this stack whose attributes stand in what a service runs, or in its `env`.
fn references(resolver: &Resolver<'_>, service: &DeclaredService) -> Addressed {
    let mut addressed = Addressed::default();
    let mut texts = Vec::new();
    for key in ["run", "env", "pre_start", "build"] {
        service.get(key).iter().for_each(|node| collect(node, &mut texts));
    }
    texts.iter().for_each(|text| addressed.text(text));
    for other in resolver.services.values() {
        let start = format!("${{{}.", other.name);
        if !texts.iter().any(|text| text.contains(&start)) {
            continue;
        }
        if let Some(used) = &other.recipe {
            used.data.exports.keys().for_each(|name| addressed.named(name));
            addressed.text(&format!("{}://", used.data.scheme));
        }
        if let Some(node) = other.get("external")
            && let Ok(Some(parts)) = resolver.external(other, node.span)
        {
            addressed.text(&format!("{}://", parts.scheme));
        }
    }
    addressed
}

/// The texts of a value: one, those of a list, or those of a table's values.
fn collect<'a>(node: &'a TomlNode, texts: &mut Vec<&'a str>) {
    match node.table() {
        Some(table) => table.values().for_each(|inner| collect(inner, texts)),
        None => texts.extend(node.elements().iter().filter_map(TomlNode::text)),
    }
}

/// The variables of `env` that nobody declared: they only came along from the caller's shell.
pub(crate) fn undeclared(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    replica: u32,
    env: &BTreeMap<String, String>,
) -> Resolved<BTreeSet<String>> {
    let (declared, _) = resolver.declared(service, replica, 0)?;
    let came = inherited(resolver, service);
    Ok(came
        .into_iter()
        .filter(|(name, value)| {
            // What is put before PATH is the same from every shell.
            let unchanged = |there: &String| there == value || name == "PATH" && there.ends_with(&format!(":{value}"));
            !declared.contains_key(name) && env.get(name).is_some_and(unchanged)
        })
        .map(|(name, _)| name)
        .collect())
}

fn inherited(resolver: &Resolver<'_>, service: &DeclaredService) -> BTreeMap<String, String> {
    let globs: Option<Vec<&str>> =
        service.get("pass_env").map(|node| node.elements().iter().filter_map(TomlNode::text).collect());
    let all = globs.is_none() && service.get("run").is_some();
    let passes = |name: &str| {
        all || ALWAYS.contains(&name) || globs.iter().flatten().any(|pattern| glob(pattern.as_bytes(), name.as_bytes()))
    };
    resolver.facts.shell.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `*` is any run of characters, `?` one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Values that are masked wherever they are printed, in every form in which they may be written. A value that is too short
/// or too common, or that also names something of the project, would take too much of any output with it; it is masked
/// where its own variable is shown.
#[derive(Debug, Default)]
pub(crate) struct Masks(BTreeSet<String>);

impl Masks {
    pub(crate) fn add(&mut self, value: &str) {
        if value.is_empty() {
            return;
        }
        if let Some(password) = service_url::password(value) {
            self.0.insert(password);
        }
        // Of a key in several lines each line tells something.
        for line in value.lines().filter(|line| line.len() >= 16 && line.len() < value.len() && !line.starts_with("-----")) {
            self.0.insert(line.to_owned());
        }
        self.0.insert(value.to_owned());
    }
    pub(crate) fn add_env(&mut self, env: &BTreeMap<String, String>) {
        for (name, value) in env {
            if is_secret(name) {
                self.add(value);
            } else if let Some(password) = service_url::password(value) {
                self.0.insert(password);
            }
        }
    }
    /// Every form; `names` are those of the project.
    pub(crate) fn finish(self, names: &BTreeSet<&str>) -> BTreeSet<String> {
        let mut forms = BTreeSet::new();
        for value in self.0 {
            if !is_distinctive(&value) || names.contains(value.as_str()) {
                continue;
            }
            forms.insert(percent::encode(&value));
            let encoded = BASE64.encode(&value);
            forms.insert(encoded.trim_end_matches('=').to_owned());
            forms.insert(encoded);
            // As JSON and TOML write it.
            let json = serde_json::Value::from(value.as_str()).to_string();
            forms.insert(json.trim_matches('"').to_owned());
            forms.insert(value);
        }
        forms.retain(|form| !form.is_empty());
        forms
    }
}

/// The variables that are made from secrets, directly or through others, wherever they are defined.
pub(crate) fn derived(resolver: &Resolver<'_>) -> BTreeSet<String> {
    let mut definitions: Vec<(String, Vec<Part>)> = Vec::new();
    let global = get(&resolver.document.tree, "env").and_then(TomlNode::table);
    let own = resolver.services.values().filter_map(|service| service.tree.get("env").and_then(TomlNode::table));
    for (name, node) in global.into_iter().chain(own).flatten() {
        if let Some(parts) = node.text().and_then(|text| template::parse(text, false).ok()) {
            definitions.push((name.clone(), parts));
        }
    }
    for text in resolver.facts.env_files.values().flatten() {
        for entry in dotenv::entries(text).0.into_iter().filter(|entry| !entry.literal) {
            if let Ok(parts) = template::parse(&entry.value, true) {
                definitions.push((entry.name, parts));
            }
        }
    }
    let mut derived = BTreeSet::new();
    loop {
        let more: Vec<String> = definitions
            .iter()
            .filter(|(name, parts)| !derived.contains(name) && carries(parts, &derived))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return derived;
        }
        derived.extend(more);
    }
}

/// Whether a text has a secret in it once its placeholders are filled in.
pub(crate) fn carries(parts: &[Part], derived: &BTreeSet<String>) -> bool {
    parts.iter().any(|part| match part {
        Part::Literal(_) => false,
        Part::Hole(Hole { name, operator, .. }) => {
            let word = match operator {
                Operator::Default(_, word) | Operator::Alternative(_, word) => carries(word, derived),
                Operator::None | Operator::Required(..) | Operator::Scheme(_) => false,
            };
            // `:+` says whether there is a value, not which.
            word || (!matches!(operator, Operator::Alternative(..)) && names_secret(name, derived))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, matches) in [
            ("AWS_*", "AWS_REGION", true),
            ("AWS_*", "AW", false),
            ("*", "X", true),
            ("A?C", "ABC", true),
            ("*_KEY*", "MY_KEY_ID", true),
            ("A", "AB", false),
            ("", "A", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn masks_know_the_encoded_forms_and_leave_what_is_too_common() {
        let mut masks = Masks::default();
        for value in ["abc", "#ThawZin2k77!", "postgres", "shop", "redis://:p%40ss1@h", "a\"b\\c", "12345"] {
            masks.add(value);
        }
        let masks = masks.finish(&BTreeSet::from(["shop"]));
        for form in ["%23ThawZin2k77%21", "I1RoYXdaaW4yazc3IQ==", "p@ss1", "p%40ss1", "a\\\"b\\\\c"] {
            assert!(masks.contains(form), "{form}: {masks:?}");
        }
        for form in ["abc", "postgres", "shop", "12345"] {
            assert!(!masks.contains(form), "{form}");
        }
    }
}
