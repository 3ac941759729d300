//! `config --origin`: every value of the merged file and every variable of a child, with the place it comes from, and behind an
//! arrow where its placeholders come from.

use super::Facts;
use super::diagnostic::Report;
use super::document::Document;
use super::interpolate::{Resolver, Scope};
use super::template::{self, Name, Operator, Part};
use super::toml_node::{Table, TomlNode, TomlValue, get};

impl Document {
    /// Key, value with its placeholders filled in, and `FILE:LINE` or the layer. Variables of a service are listed as
    /// `services.NAME.env.VARIABLE`, from whichever layer gives them. Nothing is masked.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn values(&self, facts: &Facts) -> Result<Vec<(String, String, String)>, Report> {
        let resolver = self.resolver(facts)?;
        let mut rows: Vec<(String, String, String)> = Vec::new();
        for (section, node) in &self.tree {
            if matches!(section.as_str(), "services" | "tasks" | "modes" | "defaults") {
                continue;
            }
            walk(&resolver, section, node, Scope::default(), &mut rows);
        }
        for service in resolver.services.values() {
            let prefix = format!("{}.{}", if service.task { "tasks" } else { "services" }, service.name);
            let scope = Scope::of(&service.name, 1);
            let plain: Table =
                service.tree.iter().filter(|(key, _)| *key != "env").map(|(key, node)| (key.clone(), node.clone())).collect();
            for (key, node) in &plain {
                // What a command becomes is shown by `inspect`; here it stands as it is written.
                walk(&resolver, &format!("{prefix}.{key}"), node, scope, &mut rows);
            }
            if let Ok((declared, _)) = resolver.declared(service, 1, 0) {
                for (name, (value, span)) in declared {
                    let mut origin = resolver.sources.borrow().origin(span);
                    // A variable out of an env file has no placeholder that is left.
                    let tables = [service.get("env"), get(&self.tree, "env")];
                    let written = tables.into_iter().flatten().filter_map(TomlNode::table).filter_map(|table| get(table, &name));
                    if let Some(node) = written.into_iter().find(|node| node.span == span) {
                        follow(&resolver, node, Scope { defining: Some(&name), ..scope }, false, &mut origin);
                    }
                    rows.push((format!("{prefix}.env.{name}"), value, origin));
                }
            }
        }
        Ok(rows)
    }
}

fn walk(resolver: &Resolver<'_>, path: &str, node: &TomlNode, scope: Scope<'_>, rows: &mut Vec<(String, String, String)>) {
    match &node.value {
        TomlValue::Table(table) => {
            for (key, node) in table {
                walk(resolver, &format!("{path}.{key}"), node, scope, rows);
            }
        }
        TomlValue::Array(elements) if elements.iter().any(|element| matches!(element.value, TomlValue::Table(_))) => {
            for (index, node) in elements.iter().enumerate() {
                walk(resolver, &format!("{path}[{index}]"), node, scope, rows);
            }
        }
        TomlValue::Array(elements) => {
            let words: Vec<String> = elements.iter().map(|node| shown(resolver, node, scope)).collect();
            let mut origin = resolver.sources.borrow().origin(node.span);
            elements.iter().for_each(|element| follow(resolver, element, scope, is_command(path), &mut origin));
            rows.push((path.to_owned(), format!("[{}]", words.join(", ")), origin));
        }
        _ => {
            let mut origin = resolver.sources.borrow().origin(node.span);
            follow(resolver, node, scope, is_command(path), &mut origin);
            rows.push((path.to_owned(), shown(resolver, node, scope), origin));
        }
    }
}

fn shown(resolver: &Resolver<'_>, node: &TomlNode, scope: Scope<'_>) -> String {
    // A key that nothing asks for may hold a placeholder that cannot be filled in; it is shown as written.
    resolver.text(node, scope).unwrap_or_else(|_| node.scalar().unwrap_or_default())
}

/// Keys in which `$NAME` is a placeholder too.
fn is_command(path: &str) -> bool {
    path.rsplit('.').next().is_some_and(|key| matches!(key, "run" | "build" | "pre_start"))
}

/// Adds where the placeholders of a text come from: ` ← .env:2, computed: postgres.host`.
fn follow(resolver: &Resolver<'_>, node: &TomlNode, scope: Scope<'_>, is_command: bool, origin: &mut String) {
    let Some(parts) = node.text().and_then(|text| template::parse(text, is_command).ok()) else { return };
    let mut found: Vec<String> = Vec::new();
    sources_of(resolver, &parts, scope, &mut found);
    for source in found {
        let lead = if origin.contains(" ← ") { ", " } else { " ← " };
        origin.push_str(lead);
        origin.push_str(&source);
    }
}

fn sources_of(resolver: &Resolver<'_>, parts: &[Part], scope: Scope<'_>, found: &mut Vec<String>) {
    for part in parts {
        let Part::Hole(hole) = part else { continue };
        let source = match &hole.name {
            Name::Dotted(head, rest) if head == "secret" => Some(format!("secret: {rest}")),
            Name::Dotted(head, rest) => Some(format!("computed: {head}.{rest}")),
            Name::Variable(name) => variable(resolver, name, scope),
        };
        match (source, &hole.operator) {
            (Some(source), _) if !found.contains(&source) => found.push(source),
            (Some(_), _) => {}
            (None, Operator::Default(_, word)) => {
                let default = "default".to_owned();
                if !found.contains(&default) {
                    found.push(default);
                }
                sources_of(resolver, word, scope, found);
            }
            (None, _) => {}
        }
    }
}

/// Where a variable's value is looked up first. `None`: nowhere.
fn variable(resolver: &Resolver<'_>, name: &str, scope: Scope<'_>) -> Option<String> {
    let service = scope.service.and_then(|(service, _)| resolver.services.get(service));
    let place = |node: &TomlNode| resolver.sources.borrow().origin(node.span);
    let in_table = |table: Option<&TomlNode>| table.and_then(TomlNode::table).and_then(|env| get(env, name)).map(place);
    if scope.defining != Some(name)
        && let Some(own) = in_table(service.and_then(|service| service.get("env")))
    {
        return Some(own);
    }
    let is_ours = name == "PORT" || name.starts_with("PORT_") || name.starts_with("DEVRUN_");
    if is_ours && service.is_some() {
        return Some(format!("computed: {name}"));
    }
    if matches!(name, "project" | "mode" | "instance") {
        return Some(format!("computed: {name}"));
    }
    match resolver.outer(name) {
        Some((_, None)) => Some(format!("shell: {name}")),
        Some((_, Some(span))) => Some(resolver.sources.borrow().origin(span)),
        None => in_table(get(&resolver.document.tree, "env")).filter(|_| scope.defining != Some(name)),
    }
}
