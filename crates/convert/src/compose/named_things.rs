//! Names in a compose file that stand for something declared elsewhere in it: dependencies, networks, volumes, secrets, configs.

use devrun_model::suggest::{list, nearest};

use super::super::report::At;
use super::super::yaml::{Map, YamlNode, YamlValue, get};
use super::fault_list::FaultList;
use super::syntax;

/// Finds names of nothing, and services that could not be made.
pub(super) fn check(tree: &Map, found: &mut FaultList<'_>) {
    let Some(services) = get(tree, "services").and_then(YamlNode::map) else { return };
    let declared = |section: &'static str| Declared { section, names: names_below(tree, section) };
    let (all, networks, volumes) = (declared("services"), declared("networks"), declared("volumes"));
    let (secrets, configs, models) = (declared("secrets"), declared("configs"), declared("models"));
    for (key, service) in services {
        let Some(map) = service.map() else { continue };
        if ["image", "build", "provider"].iter().all(|name| get(map, name).is_none()) {
            // A misspelt `image` has an error of its own.
            let near = |name: &str| matches!(nearest(name, ["image", "build"]), Some(near) if near != name);
            if !map.iter().any(|(key, _)| near(&key.name)) {
                let message = format!("service `{}`: neither `image` nor `build`", key.name);
                found.add(key.at, message, "image: NAME:TAG, or build: DIRECTORY");
            }
        }
        let of = |name: &str| service.get(name);
        dependencies(&key.name, of("depends_on"), &all, found);
        for (link, at) in of("links").map(YamlNode::texts).unwrap_or_default() {
            all.look(found, &key.name, "links", link.split(':').next().unwrap_or_default(), at);
        }
        for (name, at) in of("networks").map(names_of).unwrap_or_default() {
            if name != "default" {
                networks.look(found, &key.name, "networks", &name, at);
            }
        }
        if let Some((mode, at)) = of("network_mode").and_then(|node| Some((node.scalar()?, node.at)))
            && let Some(name) = mode.strip_prefix("service:")
        {
            all.look(found, &key.name, "network_mode", name, at);
        }
        for item in of("volumes").and_then(YamlNode::list).unwrap_or_default() {
            if let Some((name, at)) = volume(item, found) {
                volumes.look(found, &key.name, "volumes", &name, at);
            }
        }
        let inner = of("build").and_then(|build| build.get("secrets"));
        for (node, key_name, declared) in
            [(of("secrets"), "secrets", &secrets), (inner, "build.secrets", &secrets), (of("configs"), "configs", &configs)]
        {
            for item in node.and_then(YamlNode::list).unwrap_or_default() {
                let source = if item.map().is_some() { item.get("source") } else { Some(item) };
                if let Some((name, at)) = source.and_then(|node| Some((node.scalar()?, node.at))) {
                    declared.look(found, &key.name, key_name, &name, at);
                }
            }
        }
        for (name, at) in of("models").map(names_of).unwrap_or_default() {
            models.look(found, &key.name, "models", &name, at);
        }
    }
}

fn names_below<'a>(tree: &'a Map, section: &str) -> Vec<&'a str> {
    let map = get(tree, section).and_then(YamlNode::map);
    map.into_iter().flatten().map(|(key, _)| key.name.as_str()).collect()
}

fn dependencies(service: &str, node: Option<&YamlNode>, all: &Declared<'_>, found: &mut FaultList<'_>) {
    let Some(node) = node else { return };
    for (name, at) in names_of(node) {
        let is_required = node.get(&name).and_then(|entry| entry.get("required")).and_then(YamlNode::truth) != Some(false);
        if is_required {
            all.look(found, service, "depends_on", &name, at);
        }
    }
}

/// The names of a list, or of a table.
fn names_of(node: &YamlNode) -> Vec<(String, At)> {
    match &node.value {
        YamlValue::Map(map) => {
            let own = map.iter().filter(|(key, _)| !key.name.starts_with("x-"));
            own.map(|(key, _)| (key.name.clone(), key.at)).collect()
        }
        YamlValue::List(_) => node.texts(),
        _ => Vec::new(),
    }
}

/// The volume that a mount names; paths name none.
fn volume(item: &YamlNode, found: &FaultList<'_>) -> Option<(String, At)> {
    if item.map().is_some() {
        let text = |key: &str| item.get(key).and_then(YamlNode::scalar);
        let source = item.get("source")?;
        return (text("type")? == "volume").then_some((source.scalar()?, source.at));
    }
    // What the placeholder stands for decides whether this is a path.
    let text = found.values.fill(&item.scalar()?)?;
    let source = syntax::split_volume(&text)?.source?;
    let is_path =
        source.starts_with(['.', '/', '~', '\\']) || (source.len() == 1 && source.starts_with(|c: char| c.is_ascii_alphabetic()));
    (!is_path && !source.is_empty()).then_some((source, item.at))
}

/// What one section of the file declares.
struct Declared<'a> {
    section: &'static str,
    names: Vec<&'a str>,
}

impl Declared<'_> {
    fn look(&self, found: &mut FaultList<'_>, service: &str, key: &str, name: &str, at: At) {
        let Some(name) = found.values.fill(name).filter(|name| !name.is_empty()) else { return };
        if self.names.contains(&name.as_str()) {
            return;
        }
        let kind = self.section.trim_end_matches('s');
        let message = format!("service `{service}`: `{key}` names the undefined {kind} `{name}`");
        let help = match nearest(&name, self.names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.section == "services" => format!("the file has {}", list(self.names.iter().copied())),
            None => format!("declare it at the top of the file: `{}:` and below it `{name}:`", self.section),
        };
        found.add(at, message, help);
    }
}
