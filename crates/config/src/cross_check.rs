//! What can be wrong between services whatever the values are: edges, circles, tiers, volumes, profiles.

use std::collections::{BTreeMap, BTreeSet};

use super::Document;
use super::declared_service::{DeclaredService, DeclaredServices, WORK, tier, volume_names};
use super::diagnostic::Diagnostic;
use super::listen;
use super::routes;
use super::source_map::Span;
use super::toml_node::{self, TomlNode, get};
use devrun_model::suggest;
use devrun_model::{Condition, VolumeName, graph};

/// What can be wrong between services whatever the values are.
pub(crate) fn services(document: &Document, services: &DeclaredServices, out: &mut Vec<Diagnostic>) {
    for profile in &document.options.profiles {
        let known: BTreeSet<&str> = services.values().flat_map(|service| service.profiles.iter().map(String::as_str)).collect();
        if profile != "*" && !profile.is_empty() && !known.contains(profile.as_str()) {
            out.push(
                Diagnostic::nowhere(format!("no service is in the profile `{profile}`"))
                    .maybe_help(suggest::help(profile, known.iter().copied())),
            );
        }
    }
    for name in document.options.scale.keys() {
        let known = || services.values().filter(|service| !service.task).map(|service| service.name.as_str());
        if !known().any(|service| service == name) {
            out.push(
                Diagnostic::nowhere(format!("cannot scale unknown service `{name}`")).maybe_help(suggest::help(name, known())),
            );
        }
    }
    for service in services.values() {
        what_it_is(service, out);
        routes::check(service, out);
        listen::check(service, out);
        needs(service, services, out);
    }
    cycles(services, out);
    tiers(document, services, out);
    volumes(document, services, out);
}

fn what_it_is(service: &DeclaredService, out: &mut Vec<Diagnostic>) {
    let label = service.label();
    let keys: &[&str] = if service.task { WORK } else { &["run", "use", "external"] };
    let given: Vec<(&str, Span)> = keys.iter().filter_map(|key| service.get(key).map(|node| (*key, node.key))).collect();
    match given.as_slice() {
        [] if service.task => out.push(
            Diagnostic::error(service.key, format!("{label} does nothing"))
                .help("give it run = \"…\", sql = \"FILE.sql\", or one of cypher, buckets, collections, models and indexes"),
        ),
        [] => {
            let image =
                if service.get("image").is_some() { "; `image` is for exports, as nothing runs in a container" } else { "" };
            out.push(
                Diagnostic::error(service.key, format!("{label} says neither `run` nor `use`"))
                    .help(format!("run = \"COMMAND\" for a program of yours, use = \"postgres@16\" for a recipe{image}")),
            );
        }
        [_] | [("use", _), ("external", _)] => {}
        [(first, _), (second, span), ..] => out.push(
            Diagnostic::error(*span, format!("{label} says both `{first}` and `{second}`"))
                .note(given[0].1, "the other one")
                .help("keep one of the two"),
        ),
    }
    useless_keys(service, out);
    for key in ["run", "pre_start", "build"] {
        if let Some(node) = service.get(key) {
            let empty = match &node.value {
                toml_node::TomlValue::Text(text) => text.trim().is_empty(),
                toml_node::TomlValue::Array(words) => words.is_empty(),
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

/// Keys that only some recipes read; `own_keys` of a recipe says which.
const OWN_KEYS: &[&str] = &["init", "migrations", "extensions", "locale", "encoding"];

/// Keys that are not read: an error where the first start would refuse them, a warning where nothing ever would.
fn useless_keys(service: &DeclaredService, out: &mut Vec<Diagnostic>) {
    if service.task {
        return;
    }
    if let Some(used) = &service.recipe {
        let is_read = |key: &str| used.data.own_keys.iter().any(|own| own == key);
        for key in OWN_KEYS.iter().filter(|key| !is_read(key)) {
            let help = match *key {
                "init" => "remove it; a task with once = \"VOLUME/.NAME\" does such work against the running server",
                _ => "remove it",
            };
            if let Some(node) = service.get(key) {
                out.push(Diagnostic::error(node.key, format!("{} has no `{key}`", used.data.name)).help(help));
            }
        }
        if let Some(node) = service.tree.get("data").filter(|node| node.is_false())
            && used.data.needs_data()
            && service.get("external").is_none()
        {
            out.push(
                Diagnostic::error(node.span, format!("{} needs a volume for its data", used.data.name))
                    .help(format!("data = \"{}\", or remove the key", service.name)),
            );
        }
        return;
    }
    if service.get("use").is_some() {
        return;
    }
    for key in OWN_KEYS.iter().chain(&["set"]) {
        if let Some(node) = service.get(key) {
            out.push(
                Diagnostic::warning(node.key, format!("`{key}` of {} has no effect", service.label()))
                    .help("remove it; only servers of recipes (`use`) read it"),
            );
        }
    }
}

/// Whether a service says what it is.
fn is_something(service: &DeclaredService) -> bool {
    ["run", "use", "external"].iter().any(|key| service.get(key).is_some())
}

fn needs(service: &DeclaredService, services: &DeclaredServices, out: &mut Vec<Diagnostic>) {
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
                    .help(suggest::help(&edge.on, known).unwrap_or_else(|| format!("add it: [services.{}]", edge.on))),
            );
            continue;
        };
        match edge.condition {
            // What says nothing of how it runs has an error of its own.
            Some(Condition::Healthy) if !target.task && !target.probed() && !target.pending && is_something(target) => out.push(
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
        out.push(Diagnostic::error(node.span, format!("`on` names unknown service `{on}`")).maybe_help(suggest::help(
            on,
            services.values().filter(|service| !service.task).map(|service| service.name.as_str()),
        )));
    }
}

fn cycles(services: &DeclaredServices, out: &mut Vec<Diagnostic>) {
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

fn tiers(document: &Document, services: &DeclaredServices, out: &mut Vec<Diagnostic>) {
    if let Some(table) = get(&document.tree, "tiers").and_then(TomlNode::table) {
        for (name, node) in table {
            if name.parse::<u32>().is_err() {
                out.push(
                    Diagnostic::error(node.key, format!("invalid tier number `{name}`")).help("write 1 = \"Infrastructure\""),
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

fn volumes(document: &Document, services: &DeclaredServices, out: &mut Vec<Diagnostic>) {
    if let Some(table) = get(&document.tree, "volumes").and_then(TomlNode::table) {
        for (name, node) in table {
            if let Err(bad) = VolumeName::new(name.clone()) {
                out.push(Diagnostic::error(node.key, bad.to_string()).help("letters, digits, `_` and `-`"));
            }
            if let Some(volume) = node.table()
                && get(volume, "class").and_then(TomlNode::text) == Some("source")
                && get(volume, "path").is_none()
            {
                out.push(
                    Diagnostic::error(node.key, format!("volume `{name}` is used in place and has no `path`"))
                        .help(format!("{name} = {{ class = \"source\", path = \"DIRECTORY\" }}")),
                );
            }
        }
    }
    let known = volume_names(document, services);
    let pending = services.values().any(|service| service.pending);
    let mut owners: BTreeMap<String, &DeclaredService> = BTreeMap::new();
    for service in services.values() {
        if let Some(data) = service.data() {
            let span = service.get("data").map_or(service.key, |node| node.span);
            if let Err(bad) = VolumeName::new(data.clone()) {
                out.push(
                    Diagnostic::error(span, bad.to_string())
                        .help("`data` names a volume; set its directory in [volumes]: NAME = { path = \"…\" }"),
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
        for node in service.get("volumes").map(TomlNode::elements).unwrap_or_default() {
            if let Some(name) = node.text()
                && !known.contains(name)
            {
                let near = suggest::nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                out.push(
                    Diagnostic::error(node.span, format!("unknown volume `{name}`"))
                        .help(near.unwrap_or_else(|| declare_volume(name))),
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

fn once(node: &TomlNode, text: &str, known: &BTreeSet<String>, pending: bool, out: &mut Vec<Diagnostic>) {
    let Some((volume, name)) = text.split_once('/') else {
        out.push(
            Diagnostic::error(node.span, "`once` names a volume and a file in it")
                .help(format!("write once = \"VOLUME/.{text}\"")),
        );
        return;
    };
    if !known.contains(volume) && !pending {
        out.push(
            Diagnostic::error(node.span, format!("unknown volume `{volume}`"))
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

fn declare_volume(name: &str) -> String {
    if name.contains(['/', ':', '.']) {
        return "files are used where they are: leave it out; a volume is a name: volumes = [\"media\"] with [volumes.media] path = \
                \"./media\""
            .to_owned();
    }
    format!("declare it: [volumes.{name}] class = \"persistent\"")
}
