//! The services of the merged tree, each with its layers put together: recipe, `[defaults]`, its own table. What can be
//! checked without values is checked here: names, edges, cycles, profiles, volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::merge;
use super::raw::{self, Node, Table, Value, get};
use super::source::{Sources, Span, Text};
use super::suggest;
use super::{Document, Facts, check};
use crate::model::{Condition, RecipeData, ServiceName, VolumeName, graph};

/// The recipe behind a service.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    /// What the book or the file says.
    pub data: RecipeData,
    /// The part after `@`.
    pub version: Option<String>,
}

/// One edge as written.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub on: String,
    pub condition: Option<Condition>,
    pub required: bool,
    pub restart: bool,
    pub span: Span,
}

/// One service or task with all its layers.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub name: String,
    /// Where its name stands.
    pub key: Span,
    pub task: bool,
    /// Recipe, defaults and its own keys, merged.
    pub tree: Table,
    pub recipe: Option<Used>,
    /// Its recipe is a file that was not read yet.
    pub pending: bool,
    pub edges: Vec<Edge>,
    pub profiles: Vec<String>,
    pub active: bool,
}

impl Service {
    /// A key of it; `false` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Node> {
        get(&self.tree, key)
    }
    /// What messages call it.
    pub fn label(&self) -> String {
        if self.task { format!("task `{}`", self.name) } else { format!("service `{}`", self.name) }
    }
    /// Whether its `ready` names a check; timings alone are none.
    pub fn probed(&self) -> bool {
        self.get("ready")
            .and_then(Node::table)
            .is_some_and(|table| super::schema::CHECK_KINDS.iter().any(|kind| get(table, kind).is_some()))
    }
    /// The volume of its data: its own word, or a recipe's default.
    pub fn data(&self) -> Option<String> {
        match self.tree.get("data") {
            Some(node) if node.is_false() => None,
            Some(node) => node.text().map(str::to_owned),
            None => self.recipe.as_ref().filter(|used| used.data.keeps_data).map(|_| self.name.clone()),
        }
    }
    /// Whether another server of this kind is meant by a task's key.
    pub fn serves(&self, kind: &str) -> bool {
        let Some(used) = &self.recipe else { return false };
        let (name, scheme) = (used.data.name.as_str(), used.data.scheme.as_str());
        match kind {
            "sql" => scheme.starts_with("postgres") || name == "postgres",
            "cypher" => matches!(name, "neo4j" | "memgraph") || matches!(scheme, "bolt" | "neo4j"),
            "buckets" => matches!(name, "minio" | "seaweedfs" | "garage") || scheme == "s3",
            "collections" => name == "qdrant",
            "models" => name == "ollama",
            "indexes" => name == "meilisearch",
            _ => false,
        }
    }
}

/// Keys of `[defaults]` that make no sense for a task.
const NOT_FOR_TASKS: &[&str] = &["restart", "ready", "alive", "backoff", "on_unhealthy", "port", "ports", "replicas", "data"];
/// Words that placeholders give a meaning of their own.
const RESERVED: &[&str] = &["secret", "dir", "replica", "project", "mode", "instance"];

/// The recipe of the built-in gateway.
const GATEWAY: &str = "gateway";

/// All services and tasks by name.
pub(crate) type Services = BTreeMap<String, Service>;

/// Puts the layers together. Without `facts` recipe files are unknown yet, and what hangs on them is left for later.
pub(crate) fn assemble(document: &Document, facts: Option<&Facts>, sources: &mut Sources, out: &mut Vec<Diagnostic>) -> Services {
    let mut services = Services::new();
    let empty = Table::new();
    let defaults = get(&document.tree, "defaults").and_then(Node::table).unwrap_or(&empty);
    for (section, task) in [("services", false), ("tasks", true)] {
        let Some(table) = get(&document.tree, section).and_then(Node::table) else { continue };
        for (name, node) in table {
            let Some(own) = node.table() else { continue };
            if let Err(bad) = ServiceName::new(name.clone()) {
                out.push(Diagnostic::error(node.key, bad.to_string()).help("letters, digits, `_` and `-`, up to 63 of them"));
                continue;
            }
            if RESERVED.contains(&name.as_str()) {
                out.push(
                    Diagnostic::error(
                        node.key,
                        format!("`{name}` cannot be a service's name: `${{{name}.…}}` has a meaning already"),
                    )
                    .help("choose another name"),
                );
                continue;
            }
            if let Some(twin) = services.get(name) {
                let twin: &Service = twin;
                out.push(
                    Diagnostic::error(node.key, format!("`{name}` is a service and a task"))
                        .note(twin.key, "the service")
                        .help("give one of them another name"),
                );
                continue;
            }
            let mut recipe_layer = Table::new();
            let mut recipe = None;
            let mut pending = false;
            let merged = merge::layered(&[defaults, own]);
            if !task && let Some(used) = get(&merged, "use") {
                match find_recipe(document, facts, used, sources, out) {
                    Found::Recipe(found, layer) => {
                        recipe_layer = layer;
                        recipe = Some(*found);
                    }
                    Found::Pending => pending = true,
                    Found::Nothing => {}
                }
            }
            let mut defaults = defaults.clone();
            if task {
                defaults.retain(|key, _| !NOT_FOR_TASKS.contains(&key.as_str()));
            }
            let tree = merge::layered(&[&recipe_layer, &defaults, own]);
            let texts = |key: &str| -> Vec<String> {
                get(&tree, key)
                    .map(|node| node.elements().iter().filter_map(Node::text).map(str::to_owned).collect())
                    .unwrap_or_default()
            };
            let profiles = texts("profiles");
            let edges = edges(&tree, out);
            let service =
                Service { name: name.clone(), key: node.key, task, tree, recipe, pending, edges, profiles, active: false };
            services.insert(name.clone(), service);
        }
    }
    activate(document, &mut services);
    services
}

enum Found {
    Recipe(Box<Used>, Table),
    Pending,
    Nothing,
}

/// Whether `use` names a file.
pub(crate) fn recipe_path(document: &Document, text: &str) -> Option<PathBuf> {
    let is_file = text.starts_with("./") || text.starts_with("../") || text.starts_with('/') || text.ends_with(".toml");
    is_file.then(|| absolute(&document.root, text))
}

fn find_recipe(
    document: &Document,
    facts: Option<&Facts>,
    used: &Node,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Found {
    let Some(text) = used.text() else { return Found::Nothing };
    if let Some(path) = recipe_path(document, text) {
        let Some(facts) = facts else { return Found::Pending };
        let Some(content) = facts.recipe_files.get(&path) else {
            out.push(
                Diagnostic::error(used.span, format!("there is no recipe file {}", path.display()))
                    .help("paths are relative to the procfile's folder"),
            );
            return Found::Nothing;
        };
        return parse_recipe(text, content, sources, out);
    }
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    if let Some(version) = version {
        let good =
            !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+'));
        if !good {
            out.push(
                Diagnostic::error(used.span, format!("{version:?} is no version"))
                    .help(format!("write \"{name}\" for any version, or one such as \"{name}@7\" or \"{name}@7.2\"")),
            );
            return Found::Nothing;
        }
    }
    let Some(data) = document.recipes.get(name) else {
        if name == GATEWAY {
            return Found::Nothing;
        }
        let diagnostic = if name.is_empty() {
            Diagnostic::error(used.span, "`use` names no recipe")
                .help("write use = \"postgres@16\" or use = \"./my-recipe.toml\"")
        } else {
            let known: Vec<&str> = document.recipe_names.iter().map(String::as_str).collect();
            Diagnostic::error(used.span, format!("there is no recipe `{name}`"))
                .maybe_help(suggest::help(name, known))
                .maybe_help(
                    suggest::nearest(name, document.recipe_names.iter().map(String::as_str))
                        .map(|near| format!("did you mean \"{near}\"?")),
                )
        };
        out.push(diagnostic);
        return Found::Nothing;
    };
    let layer = sources.add_layer(format!("recipe {name}"));
    let table = raw::from_toml(&data.service, layer);
    Found::Recipe(Box::new(Used { data: data.clone(), version: version.map(str::to_owned) }), table)
}

fn parse_recipe(name: &str, content: &str, sources: &mut Sources, out: &mut Vec<Diagnostic>) -> Found {
    let file = sources.add(Text::new(name, content.to_owned()));
    let data: RecipeData = match toml::from_str(content) {
        Ok(data) => data,
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            out.push(
                Diagnostic::error(Span::new(file, error.span().unwrap_or(0..0)), message)
                    .help("a recipe has name, summary, port, argv, environment, render and [service]"),
            );
            return Found::Nothing;
        }
    };
    let mut ignored = Vec::new();
    let tree = match sources.get(file) {
        Some(text) => raw::parse(file, text, &mut ignored),
        None => Table::new(),
    };
    let layer = get(&tree, "service").and_then(Node::table).cloned().unwrap_or_default();
    check::recipe_service(&layer, out);
    Found::Recipe(Box::new(Used { data, version: None }), layer)
}

/// Both forms of `depends_on`.
fn edges(tree: &Table, out: &mut Vec<Diagnostic>) -> Vec<Edge> {
    let Some(node) = get(tree, "depends_on") else { return Vec::new() };
    if let Some(table) = node.table() {
        return table
            .iter()
            .filter(|(_, node)| !node.is_false())
            .map(|(name, node)| {
                let options = node.table();
                let flag = |key: &str, default: bool| match options.and_then(|table| table.get(key)).map(|node| &node.value) {
                    Some(raw::Value::Bool(flag)) => *flag,
                    _ => default,
                };
                let condition = options.and_then(|table| get(table, "condition")).and_then(Node::text).and_then(condition);
                Edge {
                    on: name.clone(),
                    condition,
                    required: flag("required", true),
                    restart: flag("restart", false),
                    span: node.key,
                }
            })
            .collect();
    }
    let mut edges: Vec<Edge> = Vec::new();
    let Value::Array(elements) = &node.value else { return edges };
    for element in elements {
        let Some(text) = element.text() else { continue };
        let (on, word) = match text.split_once(':') {
            Some((on, word)) => (on, Some(word)),
            None => (text, None),
        };
        if let Some(word) = word
            && condition(word).is_none()
        {
            out.push(Diagnostic::error(element.span, format!("{word:?} is no condition")).help(
                suggest::nearest(word, ["started", "healthy", "completed"]).map_or_else(
                    || format!("write \"{on}:started\", \"{on}:healthy\" or \"{on}:completed\""),
                    |near| format!("did you mean \"{on}:{near}\"?"),
                ),
            ));
            continue;
        }
        edges.push(Edge {
            on: on.to_owned(),
            condition: word.and_then(condition),
            required: true,
            restart: false,
            span: element.span,
        });
    }
    edges
}

fn condition(word: &str) -> Option<Condition> {
    Some(match word {
        "started" => Condition::Started,
        "healthy" => Condition::Healthy,
        "completed" => Condition::Completed,
        _ => return None,
    })
}

/// Which services take part: those without a profile, those whose profile is asked for, and, for a service that was
/// named, what it needs.
fn activate(document: &Document, services: &mut Services) {
    let wanted = |profiles: &[String]| {
        profiles.is_empty() || profiles.iter().any(|p| document.options.profiles.iter().any(|asked| asked == "*" || asked == p))
    };
    let mut queue: Vec<String> = document
        .options
        .named
        .iter()
        .map(|named| named.split('.').next().unwrap_or(named).to_owned())
        .filter(|named| services.contains_key(named))
        .collect();
    let mut named = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if let Some(service) = services.get(&name)
            && named.insert(name)
        {
            queue.extend(service.edges.iter().map(|edge| edge.on.clone()));
        }
    }
    for service in services.values_mut() {
        service.active = wanted(&service.profiles) || named.contains(&service.name);
    }
}

/// A path relative to the procfile's folder, without `.` and with `..` resolved by name.
pub(crate) fn absolute(root: &Path, text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in root.join(text).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}

/// What can be wrong between services whatever the values are.
pub(crate) fn validate(document: &Document, services: &Services, out: &mut Vec<Diagnostic>) {
    for profile in &document.options.profiles {
        let known: BTreeSet<&str> = services.values().flat_map(|service| service.profiles.iter().map(String::as_str)).collect();
        if profile != "*" && !profile.is_empty() && !known.contains(profile.as_str()) {
            out.push(
                Diagnostic::nowhere(format!("no service is in the profile `{profile}`"))
                    .maybe_help(suggest::help(profile, known.iter().copied())),
            );
        }
    }
    for service in services.values() {
        what_it_is(service, out);
        gateway(service, out);
        needs(service, services, out);
    }
    cycles(services, out);
    tiers(document, services, out);
    volumes(document, services, out);
}

/// The keys of which a task has one.
pub(crate) const WORK: &[&str] = &["run", "sql", "cypher", "buckets", "collections", "models", "indexes"];

fn what_it_is(service: &Service, out: &mut Vec<Diagnostic>) {
    let label = service.label();
    let keys: &[&str] = if service.task { WORK } else { &["run", "use", "external"] };
    let given: Vec<(&str, Span)> = keys.iter().filter_map(|key| service.get(key).map(|node| (*key, node.key))).collect();
    match given.as_slice() {
        [] if service.task => out.push(
            Diagnostic::error(service.key, format!("{label} does nothing"))
                .help("give it run = \"…\", sql = \"FILE.sql\", or one of cypher, buckets, collections, models and indexes"),
        ),
        [] => out.push(
            Diagnostic::error(service.key, format!("{label} says neither `run` nor `use`"))
                .help("run = \"COMMAND\" for a program of yours, use = \"postgres@16\" for a recipe"),
        ),
        [_] | [("use", _), ("external", _)] => {}
        [(first, _), (second, span), ..] => out.push(
            Diagnostic::error(*span, format!("{label} says both `{first}` and `{second}`"))
                .note(given[0].1, "the other one")
                .help("keep one of the two"),
        ),
    }
    for key in ["run", "pre_start", "build"] {
        if let Some(node) = service.get(key) {
            let empty = match &node.value {
                raw::Value::Text(text) => text.trim().is_empty(),
                raw::Value::Array(words) => words.is_empty(),
                _ => false,
            };
            if empty {
                out.push(
                    Diagnostic::error(node.span, format!("`{key}` of {label} is empty")).help(format!("{key} = \"COMMAND\"")),
                );
            }
        }
    }
}

/// The gateway is refused where it would be started, as long as its routes are without effect.
fn gateway(service: &Service, out: &mut Vec<Diagnostic>) {
    let built = super::schema::find(super::schema::Place::Service, "routes").is_some_and(|key| key.in_effect);
    if let Some(node) = service.get("use")
        && node.text().is_some_and(|text| text.split('@').next() == Some(GATEWAY))
        && service.active
        && !built
    {
        out.push(
            Diagnostic::error(node.span, "`use = \"gateway\"` is not built yet")
                .help("use = \"caddy\" or use = \"nginx\" with `render` does the same today"),
        );
    }
}

fn needs(service: &Service, services: &Services, out: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for edge in &service.edges {
        if let Some(first) = seen.insert(&edge.on, edge.span) {
            out.push(
                Diagnostic::error(edge.span, format!("`{}` stands twice in depends_on", edge.on))
                    .note(first, "first here")
                    .help("keep one of the two"),
            );
        }
        let Some(target) = services.get(&edge.on) else {
            let known = services.keys().map(String::as_str).filter(|name| *name != service.name);
            out.push(
                Diagnostic::error(edge.span, format!("{} depends on `{}`, which does not exist", service.label(), edge.on))
                    .maybe_help(suggest::help(&edge.on, known)),
            );
            continue;
        };
        match edge.condition {
            Some(Condition::Healthy) if !target.task && !target.probed() && !target.pending => out.push(
                Diagnostic::error(edge.span, format!("`{}` has no probe, so it can never be healthy", edge.on))
                    .note(target.key, "no `ready` here")
                    .help(format!("write \"{}:started\", or give it ready = {{ tcp = true }}", edge.on)),
            ),
            Some(Condition::Healthy) if target.task => out.push(
                Diagnostic::error(edge.span, format!("`{}` is a task: it completes and is never healthy", edge.on))
                    .help(format!("write \"{}\" or \"{}:completed\"", edge.on, edge.on)),
            ),
            Some(Condition::Completed) if !target.task => out.push(
                Diagnostic::error(edge.span, format!("`{}` is a service: it stays up and never completes", edge.on))
                    .help(format!("write \"{}\", or make it a task: [tasks.{}]", edge.on, edge.on)),
            ),
            _ => {}
        }
        if service.active && !target.active && edge.required {
            let profiles = &target.profiles;
            out.push(
                Diagnostic::error(edge.span, format!("`{}` is in no active profile, and {} needs it", edge.on, service.label()))
                    .help(format!(
                        "start with --profile {}, or do without it: depends_on = {{ {} = {{ required = false }} }}",
                        profiles.first().map_or("NAME", String::as_str),
                        edge.on
                    )),
            );
        }
    }
    if let Some(node) = service.get("env_from")
        && let Some(from) = node.text()
        && !services.contains_key(from)
    {
        out.push(
            Diagnostic::error(node.span, format!("`env_from` names `{from}`, which does not exist"))
                .maybe_help(suggest::help(from, services.keys().map(String::as_str))),
        );
    }
    if let Some(node) = service.get("on")
        && let Some(on) = node.text()
        && services.get(on).is_none_or(|target| target.task)
    {
        out.push(Diagnostic::error(node.span, format!("`on` names `{on}`, which is no service")).maybe_help(suggest::help(
            on,
            services.values().filter(|service| !service.task).map(|service| service.name.as_str()),
        )));
    }
}

fn cycles(services: &Services, out: &mut Vec<Diagnostic>) {
    let mut edges: BTreeMap<&str, Vec<&str>> = services
        .values()
        .map(|service| {
            let targets = service.edges.iter().map(|edge| edge.on.as_str()).filter(|on| services.contains_key(*on));
            (service.name.as_str(), targets.collect())
        })
        .collect();
    // Each loop found is cut, so that a second one is reported as well.
    for _ in 0..10 {
        let Some(cycle) = graph::find_cycle(&edges) else { break };
        let span = |from: &str, to: &str| {
            services.get(from).and_then(|service| service.edges.iter().find(|edge| edge.on == to)).map(|edge| edge.span)
        };
        let Some(first) = span(cycle[0], cycle[1]) else { break };
        let mut diagnostic = Diagnostic::error(first, format!("services wait for one another: {}", cycle.join(" → ")))
            .help("take one of these edges out; a service that retries by itself needs none");
        for pair in cycle.windows(2).skip(1) {
            if let Some(span) = span(pair[0], pair[1]) {
                diagnostic = diagnostic.note(span, format!("`{}` waits for `{}`", pair[0], pair[1]));
            }
        }
        out.push(diagnostic);
        if let Some(targets) = edges.get_mut(cycle[0]) {
            targets.retain(|target| *target != cycle[1]);
        }
    }
    let from: BTreeMap<&str, Vec<&str>> =
        services.values().filter_map(|service| Some((service.name.as_str(), vec![service.get("env_from")?.text()?]))).collect();
    if let Some(cycle) = graph::find_cycle(&from)
        && let Some(node) = services.get(cycle[0]).and_then(|service| service.get("env_from"))
    {
        out.push(
            Diagnostic::error(node.span, format!("`env_from` goes in a circle: {}", cycle.join(" → ")))
                .help("put the shared variables into [env]"),
        );
    }
}

/// The number of a tier.
pub(crate) fn tier(service: &Service) -> Option<(u32, Span)> {
    let node = service.get("tier")?;
    match &node.value {
        raw::Value::Integer(number) => u32::try_from(*number).ok().map(|number| (number, node.span)),
        raw::Value::Text(text) => text.parse().ok().map(|number| (number, node.span)),
        _ => None,
    }
}

fn tiers(document: &Document, services: &Services, out: &mut Vec<Diagnostic>) {
    if let Some(table) = get(&document.tree, "tiers").and_then(Node::table) {
        for (name, node) in table {
            if name.parse::<u32>().is_err() {
                out.push(
                    Diagnostic::error(node.key, format!("`{name}` is no tier's number")).help("write 1 = \"Infrastructure\""),
                );
            }
        }
    }
    // A service without a number hands on what it waits for, so a contradiction may lie behind several edges.
    for service in services.values() {
        let Some((own, own_span)) = tier(service) else { continue };
        let mut seen = BTreeSet::new();
        let mut queue: Vec<(&str, &str, Span)> =
            service.edges.iter().map(|edge| (edge.on.as_str(), edge.on.as_str(), edge.span)).collect();
        while let Some((on, through, span)) = queue.pop() {
            let Some(target) = services.get(on) else { continue };
            if !seen.insert(on) {
                continue;
            }
            match tier(target) {
                Some((higher, higher_span)) if higher > own => out.push(
                    Diagnostic::error(
                        span,
                        format!("{} is in tier {own} and needs `{on}` of tier {higher}, which starts later", service.label()),
                    )
                    .note(own_span, format!("`{}` is in tier {own}", service.name))
                    .note(higher_span, format!("`{on}` is in tier {higher}"))
                    .help(format!("give `{}` tier = {higher} or more, or `{on}` tier = {own} or less", service.name)),
                ),
                Some(_) => {}
                None => queue.extend(target.edges.iter().map(|edge| (edge.on.as_str(), through, span))),
            }
        }
    }
}

/// The names of all volumes: declared ones, and those that are somebody's data.
pub(crate) fn volume_names(document: &Document, services: &Services) -> BTreeSet<String> {
    let declared = get(&document.tree, "volumes").and_then(Node::table);
    declared
        .into_iter()
        .flat_map(|table| table.iter().filter(|(_, node)| !node.is_false()).map(|(name, _)| name.clone()))
        .chain(services.values().filter_map(Service::data))
        .collect()
}

fn volumes(document: &Document, services: &Services, out: &mut Vec<Diagnostic>) {
    if let Some(table) = get(&document.tree, "volumes").and_then(Node::table) {
        for (name, node) in table {
            if let Err(bad) = VolumeName::new(name.clone()) {
                out.push(Diagnostic::error(node.key, bad.to_string()).help("letters, digits, `_` and `-`"));
            }
            if let Some(volume) = node.table()
                && get(volume, "class").and_then(Node::text) == Some("source")
                && get(volume, "path").is_none()
            {
                out.push(
                    Diagnostic::error(node.key, format!("volume `{name}` is used in place and says not where"))
                        .help(format!("{name} = {{ class = \"source\", path = \"FOLDER\" }}")),
                );
            }
        }
    }
    let known = volume_names(document, services);
    let pending = services.values().any(|service| service.pending);
    let mut owners: BTreeMap<String, &Service> = BTreeMap::new();
    for service in services.values() {
        if let Some(data) = service.data() {
            let span = service.get("data").map_or(service.key, |node| node.span);
            if let Err(bad) = VolumeName::new(data.clone()) {
                out.push(
                    Diagnostic::error(span, bad.to_string())
                        .help("`data` names a volume; its folder stands in [volumes]: NAME = { path = \"…\" }"),
                );
            }
            // Services of different profiles may be alternatives over the same data.
            if service.active
                && let Some(other) = owners.insert(data.clone(), service)
            {
                out.push(
                    Diagnostic::error(
                        span,
                        format!("`{}` and `{}` keep their data in one volume, `{data}`", other.name, service.name),
                    )
                    .note(other.get("data").map_or(other.key, |node| node.span), "the other one")
                    .help("give each its own: data = \"NAME\""),
                );
            }
        }
        for node in service.get("volumes").map(Node::elements).unwrap_or_default() {
            if let Some(name) = node.text()
                && !known.contains(name)
            {
                let near = suggest::nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                out.push(
                    Diagnostic::error(node.span, format!("there is no volume `{name}`"))
                        .help(near.unwrap_or_else(|| format!("declare it: [volumes] {name} = {{ class = \"persistent\" }}"))),
                );
            }
        }
        if let Some(node) = service.get("once")
            && let Some(text) = node.text()
        {
            once(node, text, &known, pending, out);
        }
    }
}

fn once(node: &Node, text: &str, known: &BTreeSet<String>, pending: bool, out: &mut Vec<Diagnostic>) {
    let Some((volume, name)) = text.split_once('/') else {
        out.push(
            Diagnostic::error(node.span, "`once` names a volume and a file in it")
                .help(format!("write once = \"VOLUME/.{text}\"")),
        );
        return;
    };
    if !known.contains(volume) && !pending {
        out.push(
            Diagnostic::error(node.span, format!("there is no volume `{volume}`"))
                .maybe_help(suggest::help(volume, known.iter().map(String::as_str)))
                .maybe_help(known.is_empty().then(|| "`once` takes a declared volume, or the data of a service".to_owned())),
        );
    }
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        out.push(
            Diagnostic::error(node.span, format!("{name:?} cannot be the sentinel's name"))
                .help(format!("write once = \"{volume}/.initialized\"")),
        );
    }
}
