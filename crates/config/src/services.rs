//! The services of the merged tree, each with its layers put together: recipe, `[defaults]`, its own table. What can be wrong
//! with one of them whatever the values are is checked here: names, recipes, edges.

use std::collections::BTreeSet;

use super::declared_service::{DeclaredService, DeclaredServices, Edge, GATEWAY, Used};
use super::diagnostic::Diagnostic;
use super::merge;
use super::recipe_names;
use super::routes;
use super::source_map::{Sources, Span, Text};
use super::toml_node::{self, Table, TomlNode, TomlValue, get};
use super::value_limits::MOST_VARIABLES;
use super::{Document, Facts, schema_check, user_scope};
use devrun_model::{Condition, RecipeData, ServiceName};

/// Keys of `[defaults]` that make no sense for a task.
const NOT_FOR_TASKS: &[&str] = &["restart", "ready", "alive", "backoff", "on_unhealthy", "port", "ports", "replicas", "data"];
/// Words that placeholders give a meaning of their own.
const RESERVED: &[&str] = &["secret", "dir", "replica", "project", "mode", "instance"];

/// Puts the layers together. Without `facts` recipe files are unknown yet, and what hangs on them is left for later.
pub(crate) fn assemble(
    document: &Document,
    facts: Option<&Facts>,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> DeclaredServices {
    let mut services = DeclaredServices::new();
    let empty = Table::new();
    let defaults = get(&document.tree, "defaults").and_then(TomlNode::table).unwrap_or(&empty);
    if let Some(excess) = too_many_variables(document, defaults) {
        out.push(excess);
        return services;
    }
    for (section, task) in [("services", false), ("tasks", true)] {
        let Some(table) = get(&document.tree, section).and_then(TomlNode::table) else { continue };
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
                let twin: &DeclaredService = twin;
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
                    FoundService::Recipe(found, layer) => {
                        recipe_layer = layer;
                        recipe = Some(*found);
                    }
                    FoundService::Pending => pending = true,
                    FoundService::Nothing => {}
                }
            }
            let mut defaults = defaults.clone();
            if task {
                defaults.retain(|key, _| !NOT_FOR_TASKS.contains(&key.as_str()));
            }
            let mut tree = merge::layered(&[&recipe_layer, &defaults, own]);
            if !task && !pending {
                user_scope::check(name, &merged, recipe.as_ref(), out);
                probe_main_port(&mut tree);
                if let Some((recipe, server)) = recipe.as_ref().zip(facts.and_then(|facts| facts.shared.get(name))) {
                    user_scope::apply(&mut tree, recipe, server);
                }
            }
            let texts = |key: &str| -> Vec<String> {
                get(&tree, key)
                    .map(|node| node.elements().iter().filter_map(TomlNode::text).map(str::to_owned).collect())
                    .unwrap_or_default()
            };
            let profiles = texts("profiles");
            let edges = edges(&tree, out);
            let service = DeclaredService {
                name: name.clone(),
                key: node.key,
                task,
                tree,
                recipe,
                pending,
                edges,
                profiles,
                active: false,
            };
            services.insert(name.clone(), service);
        }
    }
    routes::imply_edges(&mut services);
    activate(document, &mut services);
    services
}

/// Whether what `[env]` and `[defaults.env]` give to every service is too much, before it is copied to each.
fn too_many_variables(document: &Document, defaults: &Table) -> Option<Diagnostic> {
    let table = |tree: &Table, key: &str| get(tree, key).and_then(TomlNode::table).map_or(0, Table::len);
    let services = table(&document.tree, "services") + table(&document.tree, "tasks");
    let (each, of_all) = (table(defaults, "env"), table(&document.tree, "env"));
    if services.saturating_mul(each + of_all) <= MOST_VARIABLES {
        return None;
    }
    let from = if each > of_all { get(defaults, "env") } else { get(&document.tree, "env") };
    let message = format!(
        "{} variables for each of {services} services and tasks: more than {MOST_VARIABLES} environment variables together",
        each + of_all
    );
    let error = Diagnostic::error(from?.key, message);
    Some(error.help("give variables only to the services that need them: [services.NAME.env]"))
}

/// A service with a port and no probe is ready when it listens: `ready = { tcp = true }`, with the timings that were given.
/// `ready = false` opts out.
fn probe_main_port(tree: &mut Table) {
    let Some(port) = get(tree, "port").filter(|port| !port.is_false()).cloned() else { return };
    if get(tree, "external").is_some() {
        return;
    }
    let tcp = TomlNode { span: port.span, key: port.key, value: TomlValue::Bool(true) };
    match tree.get_mut("ready") {
        None => {
            let ready = Table::from([("tcp".to_owned(), tcp)]);
            tree.insert("ready".to_owned(), TomlNode { span: port.span, key: port.key, value: TomlValue::Table(ready) });
        }
        Some(TomlNode { value: TomlValue::Table(ready), .. }) => {
            let names_a_kind = super::schema::CHECK_KINDS.iter().any(|kind| get(ready, kind).is_some());
            if !names_a_kind {
                ready.insert("tcp".to_owned(), tcp);
            }
        }
        Some(_) => {}
    }
}

enum FoundService {
    Recipe(Box<Used>, Table),
    Pending,
    Nothing,
}

fn find_recipe(
    document: &Document,
    facts: Option<&Facts>,
    used: &TomlNode,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> FoundService {
    let Some(text) = used.text() else { return FoundService::Nothing };
    if let Some(path) = document.recipe_path(text) {
        let Some(facts) = facts else { return FoundService::Pending };
        let Some(content) = facts.recipe_files.get(&path) else {
            out.push(
                Diagnostic::error(used.span, format!("cannot find recipe file {}", path.display()))
                    .help("paths are relative to the procfile's directory"),
            );
            return FoundService::Nothing;
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
                Diagnostic::error(used.span, format!("invalid version {version:?}"))
                    .help(format!("write \"{name}\" for any version, or one such as \"{name}@7\" or \"{name}@7.2\"")),
            );
            return FoundService::Nothing;
        }
    }
    let Some(data) = document.recipes.get(name) else {
        if name == GATEWAY {
            return FoundService::Nothing;
        }
        let diagnostic = if name.is_empty() {
            Diagnostic::error(used.span, "`use` names no recipe")
                .help("write use = \"postgres@16\" or use = \"./my-recipe.toml\"")
        } else {
            Diagnostic::error(used.span, format!("unknown recipe `{name}`"))
                .help(recipe_names::help(name, &document.recipe_names))
        };
        out.push(diagnostic);
        return FoundService::Nothing;
    };
    let layer = sources.add_layer(format!("recipe {name}"));
    let table = toml_node::from_toml(&data.service, layer);
    FoundService::Recipe(Box::new(Used { data: data.clone(), version: version.map(str::to_owned) }), table)
}

fn parse_recipe(name: &str, content: &str, sources: &mut Sources, out: &mut Vec<Diagnostic>) -> FoundService {
    let file = sources.add(Text::new(name, content.to_owned()));
    let data: RecipeData = match toml::from_str(content) {
        Ok(data) => data,
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            out.push(
                Diagnostic::error(Span::new(file, error.span().unwrap_or(0..0)), message)
                    .help("a recipe has name, summary, port, argv, environment, render and [service]"),
            );
            return FoundService::Nothing;
        }
    };
    let mut ignored = Vec::new();
    let tree = match sources.get(file) {
        Some(text) => toml_node::parse(file, text, &mut ignored),
        None => Table::new(),
    };
    let layer = get(&tree, "service").and_then(TomlNode::table).cloned().unwrap_or_default();
    schema_check::recipe_service(&layer, out);
    FoundService::Recipe(Box::new(Used { data, version: None }), layer)
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
                    Some(TomlValue::Bool(flag)) => *flag,
                    _ => default,
                };
                let condition = options.and_then(|table| get(table, "condition")).and_then(TomlNode::text).and_then(condition);
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
    let TomlValue::Array(elements) = &node.value else { return edges };
    for element in elements {
        let Some(text) = element.text() else { continue };
        let (on, word) = match text.split_once(':') {
            Some((on, word)) => (on, Some(word)),
            None => (text, None),
        };
        if let Some(word) = word
            && condition(word).is_none()
        {
            out.push(Diagnostic::error(element.span, format!("unknown condition {word:?}")).help(
                devrun_model::suggest::nearest(word, ["started", "healthy", "completed"]).map_or_else(
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
        "started" | "service_started" => Condition::Started,
        "healthy" | "service_healthy" => Condition::Healthy,
        "completed" | "service_completed_successfully" => Condition::Completed,
        _ => return None,
    })
}

/// Which services take part: those without a profile, those whose profile is asked for, and, for a service that was
/// named, what it needs.
fn activate(document: &Document, services: &mut DeclaredServices) {
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
