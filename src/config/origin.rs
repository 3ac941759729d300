//! `config --origin`: every value of the merged file and every variable of a child, with the place it comes from.

use super::Facts;
use super::diagnostic::Report;
use super::document::Document;
use super::environment::{Masks, is_secret};
use super::interpolate::{Resolver, Scope};
use super::raw::{Node, Table, Value};

impl Document {
    /// Key, value with its placeholders filled in, and `FILE:LINE` or the layer. Variables of a service are listed as
    /// `services.NAME.env.VARIABLE`, from whichever layer gives them. Secrets are masked unless `reveal`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn values(&self, facts: &Facts, reveal: bool) -> Result<Vec<(String, String, String)>, Report> {
        let resolver = self.resolver(facts)?;
        let mut masks = Masks::default();
        facts.secrets.values().for_each(|value| masks.add(value));
        facts.keys.values().for_each(|value| masks.add(value.trim_end_matches(['\n', '\r'])));
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
                    if is_secret(&name) {
                        masks.add(&value);
                    }
                    rows.push((format!("{prefix}.env.{name}"), value, resolver.sources.borrow().origin(span)));
                }
            }
            if let Ok(Some(password)) = resolver.attribute(&service.name, "password", service.key) {
                masks.add(&password);
            }
        }
        if !reveal {
            let masks: Vec<String> = masks.finish().into_iter().collect();
            for (key, value, _) in &mut rows {
                let last = key.rsplit('.').next().unwrap_or(key);
                if last == "password" || (key.contains(".env.") && is_secret(last) && !value.is_empty()) {
                    *value = "••••".to_owned();
                }
                for mask in masks.iter().rev() {
                    if value.contains(mask.as_str()) {
                        *value = value.replace(mask.as_str(), "••••");
                    }
                }
            }
        }
        Ok(rows)
    }
}

fn walk(resolver: &Resolver<'_>, path: &str, node: &Node, scope: Scope<'_>, rows: &mut Vec<(String, String, String)>) {
    match &node.value {
        Value::Table(table) => {
            for (key, node) in table {
                walk(resolver, &format!("{path}.{key}"), node, scope, rows);
            }
        }
        Value::Array(elements) if elements.iter().any(|element| matches!(element.value, Value::Table(_))) => {
            for (index, node) in elements.iter().enumerate() {
                walk(resolver, &format!("{path}[{index}]"), node, scope, rows);
            }
        }
        Value::Array(elements) => {
            let words: Vec<String> = elements.iter().map(|node| shown(resolver, node, scope)).collect();
            rows.push((path.to_owned(), format!("[{}]", words.join(", ")), resolver.sources.borrow().origin(node.span)));
        }
        _ => rows.push((path.to_owned(), shown(resolver, node, scope), resolver.sources.borrow().origin(node.span))),
    }
}

fn shown(resolver: &Resolver<'_>, node: &Node, scope: Scope<'_>) -> String {
    // A key that nothing asks for may hold a placeholder that cannot be filled in; it is shown as written.
    resolver.text(node, scope).unwrap_or_else(|_| node.scalar().unwrap_or_default())
}
