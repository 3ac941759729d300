//! `[tasks.X]`: the work, the server it speaks to, and the sentinel.

use std::path::PathBuf;
use std::time::Duration;

use super::absolute_path::absolute;
use super::declared_service::{DeclaredService, WORK};
use super::diagnostic::Diagnostic;
use super::interpolate::{Resolved, Resolver, Scope};
use super::reader::Reader;
use super::toml_node::{TomlNode, TomlValue, get};
use devrun_model::{OnChange, Once, ServiceId, ServiceName, TaskSpec, VolumeName, Work};

/// Lowers a task's own keys.
pub(crate) fn lower(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<TaskSpec> {
    let keys = Reader { resolver, table: &service.tree, scope: Scope::of(&service.name, 1) };
    let work = work(resolver, &keys);
    let on = server(resolver, service);
    let timeout = keys.duration("timeout");
    let on_change = keys.choice("on_change", &[("warn", OnChange::Warn), ("rerun", OnChange::Rerun), ("fail", OnChange::Fail)]);
    let idempotent = keys.flag("idempotent", false);
    let once = keys.text("once");
    let input_globs = keys.texts("inputs");
    let work = work?;
    let inputs = match &work {
        Some(Work::Sql { files, .. } | Work::Cypher { files }) => files.clone(),
        Some(Work::Models { models }) => models.iter().filter_map(|(_, from)| from.clone()).collect(),
        _ => Vec::new(),
    };
    let once = once?.and_then(|text| {
        let (volume, name) = text.split_once('/')?;
        Some(Once { volume: VolumeName::new(volume).ok()?, name: name.to_owned() })
    });
    if once.is_none()
        && let Some(node) = keys.node("inputs")
    {
        let warning =
            Diagnostic::warning(node.key, format!("`inputs` of {} has no effect: it runs at every start", service.label()));
        resolver.report(warning.help(format!("add once = \"VOLUME/.{}\"", service.name)));
    }
    Ok(TaskSpec {
        once,
        idempotent: idempotent?,
        on_change: on_change?.unwrap_or_default(),
        timeout: timeout?.unwrap_or(Duration::from_secs(300)),
        work,
        on: on?.and_then(|name| ServiceName::new(name).ok()).map(|name| ServiceId::single(&name)),
        inputs,
        input_globs: input_globs?,
    })
}

/// The server that a task's work speaks to: `on`, or the one of that kind in `depends_on`.
pub(crate) fn server(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<Option<String>> {
    let Some((kind, node)) =
        WORK.iter().filter(|kind| **kind != "run").find_map(|kind| service.get(kind).map(|node| (*kind, node)))
    else {
        return Ok(None);
    };
    if let Some(on) = service.get("on") {
        let name = resolver.text(on, Scope::of(&service.name, 1))?;
        return match resolver.services.get(&name) {
            Some(target) if target.active => Ok(Some(name)),
            Some(target) => Err(resolver.report(
                Diagnostic::error(on.span, format!("`{name}` is in no active profile, and task `{}` needs it", service.name))
                    .help(format!("start with --profile {}", target.profiles.first().map_or("NAME", String::as_str))),
            )),
            None => Ok(None),
        };
    }
    let fitting: Vec<&str> = service
        .edges
        .iter()
        .filter_map(|edge| resolver.services.get(&edge.on))
        .filter(|target| target.serves(kind))
        .map(|target| target.name.as_str())
        .collect();
    match fitting.as_slice() {
        [one] => Ok(Some((*one).to_owned())),
        [] => {
            // An external server has no recipe that would tell its kind; a single dependency leaves no doubt.
            let servers: Vec<&str> = service
                .edges
                .iter()
                .filter_map(|edge| resolver.services.get(&edge.on))
                .filter(|target| !target.task && target.recipe.is_none() && target.get("external").is_some())
                .map(|target| target.name.as_str())
                .collect();
            if let [one] = servers.as_slice() {
                return Ok(Some((*one).to_owned()));
            }
            let anywhere = resolver.services.values().find(|target| target.serves(kind)).map(|target| target.name.as_str());
            Err(resolver.report(
                Diagnostic::error(
                    node.key,
                    format!("task `{}` does not say on which server its `{kind}` is to run", service.name),
                )
                .help(format!("add depends_on = [\"{}\"], or on = \"SERVICE\"", anywhere.unwrap_or("SERVICE"))),
            ))
        }
        several => Err(resolver.report(
            Diagnostic::error(
                node.key,
                format!(
                    "task `{}` depends on several servers that could take its `{kind}`: {}",
                    service.name,
                    several.join(", ")
                ),
            )
            .help(format!("say which: on = \"{}\"", several[0])),
        )),
    }
}

fn work(resolver: &Resolver<'_>, keys: &Reader<'_, '_, '_>) -> Resolved<Option<Work>> {
    let path = |text: &str| -> PathBuf { absolute(&resolver.facts.places.root, text) };
    if let Some(node) = keys.node("sql") {
        if let TomlValue::Text(_) = &node.value {
            let text = resolver.text(node, keys.scope)?;
            // A file's name has no blanks; a statement always does.
            return Ok(Some(if text.trim().contains(char::is_whitespace) {
                Work::Sql { files: Vec::new(), text: Some(text) }
            } else {
                Work::Sql { files: vec![path(text.trim())], text: None }
            }));
        }
        return Ok(Some(Work::Sql { files: keys.paths("sql")?, text: None }));
    }
    if keys.node("cypher").is_some() {
        return Ok(Some(Work::Cypher { files: keys.paths("cypher")? }));
    }
    if let Some(node) = keys.node("buckets") {
        let buckets = all_named(resolver, keys, node, "bucket", |inner| inner.text("anonymous"))?;
        let buckets = buckets.into_iter().map(|(name, anonymous)| (name, anonymous.unwrap_or_else(|| "none".to_owned())));
        return Ok(Some(Work::Buckets { buckets: buckets.collect() }));
    }
    if let Some(node) = keys.node("collections") {
        let body = |inner: &Reader<'_, '_, '_>| Ok(inner.node("body").map(|node| json(node).to_string()));
        let collections = all_named(resolver, keys, node, "collection", body)?;
        let collections = collections.into_iter().map(|(name, body)| (name, body.unwrap_or_else(|| "{}".to_owned())));
        return Ok(Some(Work::Collections { collections: collections.collect() }));
    }
    if let Some(node) = keys.node("models") {
        return Ok(Some(Work::Models { models: all_named(resolver, keys, node, "model", |inner| inner.path("from"))? }));
    }
    if let Some(node) = keys.node("indexes") {
        return Ok(Some(Work::Indexes { indexes: all_named(resolver, keys, node, "index", |inner| inner.text("primary_key"))? }));
    }
    Ok(None)
}

/// Elements that are a name, or a table with one and with what `more` reads from it.
fn all_named<'r, 'a, 's, T>(
    resolver: &'r Resolver<'a>,
    keys: &Reader<'r, 'a, 's>,
    node: &'r TomlNode,
    what: &str,
    more: impl Fn(&Reader<'r, 'a, 's>) -> Resolved<Option<T>>,
) -> Resolved<Vec<(String, Option<T>)>> {
    let mut all = Vec::new();
    for element in node.elements() {
        let Some(table) = element.table() else {
            all.push((resolver.text(element, keys.scope)?, None));
            continue;
        };
        let inner = Reader { table, ..*keys };
        let Some(name) = inner.text("name")? else {
            let nameless = Diagnostic::error(element.span, format!("the {what} has no name"));
            return Err(resolver.report(nameless.help("write { name = \"…\" }")));
        };
        all.push((name, more(&inner)?));
    }
    Ok(all)
}

fn json(node: &TomlNode) -> serde_json::Value {
    match &node.value {
        TomlValue::Text(text) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value @ serde_json::Value::Object(_)) => value,
            _ => serde_json::Value::String(text.clone()),
        },
        TomlValue::Integer(number) => (*number).into(),
        TomlValue::Float(number) => (*number).into(),
        TomlValue::Bool(flag) => (*flag).into(),
        TomlValue::Date(text) => text.clone().into(),
        TomlValue::Array(elements) => elements.iter().map(json).collect(),
        TomlValue::Table(table) => table
            .iter()
            .filter(|(key, _)| get(table, key).is_some())
            .map(|(key, node)| (key.clone(), json(node)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}
