//! `config --origin`: every value of the merged file and every variable of a child, with the place it comes from.

use super::Facts;
use super::diagnostic::Report;
use super::document::Document;
use super::interpolate::{Resolver, Scope};
use super::tree::{Node, Table, Value};

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
                    rows.push((format!("{prefix}.env.{name}"), value, resolver.sources.borrow().origin(span)));
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
