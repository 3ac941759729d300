//! What is demanded of values: those that must be set, those that must be URLs, and keys that are not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::dotenv;
use super::interpolate::{Resolved, Resolver, Scope};
use super::reader::Reader;
use super::toml_node::{Table, TomlNode, get};

/// `[project].required`: all missing names in one error.
pub(crate) fn required(resolver: &Resolver<'_>) -> Resolved<()> {
    let empty = Table::new();
    let table = get(&resolver.document.tree, "project").and_then(TomlNode::table).unwrap_or(&empty);
    let project = Reader { resolver, table, scope: Scope::default() };
    let Some(node) = project.node("required") else { return Ok(()) };
    let mut missing = Vec::new();
    for name in node.elements().iter().filter_map(TomlNode::text) {
        match resolver.outer(name).map(|(value, _)| value) {
            None => missing.push(format!("{name} (not set)")),
            Some(value) if value.trim().is_empty() => missing.push(format!("{name} (empty)")),
            Some(value) if is_placeholder(&value) => missing.push(format!("{name} (still {value:?})")),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let files: Vec<PathBuf> = project
        .node("env_file")
        .map(|node| resolver.document.env_files_of(node))
        .unwrap_or_default()
        .into_iter()
        .map(|file| file.path)
        .collect();
    let place = files
        .last()
        .and_then(|path| path.strip_prefix(&resolver.document.root).ok())
        .map_or_else(|| "in the shell: export NAME=…".to_owned(), |path| format!("in {} or in the shell", path.display()));
    let what = if missing.len() == 1 { "a required variable is missing" } else { "required variables are missing" };
    Err(resolver.report(
        Diagnostic::error(node.span, format!("{what}: {}", missing.join(", ")))
            .help(format!("set {} {place}", if missing.len() == 1 { "it" } else { "them" })),
    ))
}

/// The variables of a sample that somebody still has to edit: empty ones, and placeholders such as `changeme`.
#[must_use]
pub fn unedited(sample: &str) -> Vec<String> {
    let (variables, _) = dotenv::parse(sample, &|_| None);
    let open = |value: &str| value.trim().is_empty() || is_placeholder(value);
    variables.into_iter().filter(|(_, variable)| open(&variable.value)).map(|(name, _)| name).collect()
}

/// A sample's value that nobody has replaced.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let lower = value.trim().to_ascii_lowercase();
    ["your-", "your_", "<your", "changeme", "change-me", "change_me", "replace-me", "replace_me"]
        .iter()
        .any(|start| lower.starts_with(start))
}

/// A variable that is called a URL and begins like one must be one: a client would only say that it cannot connect.
pub(crate) fn check_urls(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<()> {
    let (declared, _) = resolver.declared(service, 1, 0)?;
    for (name, (value, span)) in declared {
        let upper = name.to_ascii_uppercase();
        if !["URL", "URI", "DSN"].iter().any(|end| upper.ends_with(end)) {
            continue;
        }
        let Err((fault, reason)) = super::service_url::check(&value) else { continue };
        let message = format!("invalid URL in {name}: {reason}");
        // The line of an env file is not shown: the rest of it may be a password.
        let in_file = resolver.sources.borrow().get(span.file).is_some_and(|text| text.slice(span) == name);
        let diagnostic = if in_file {
            Diagnostic::nowhere(format!("{}: {message}", resolver.sources.borrow().origin(span)))
        } else {
            Diagnostic::error(resolver.locate(span, fault), message)
        };
        resolver.report(diagnostic.help("write SCHEME://USER:PASSWORD@HOST:PORT/PATH; `${SERVICE.url}` computes one"));
    }
    Ok(())
}

/// The variables of a service that hold the marker of `[config]` in the place of a key.
pub(crate) fn missing(resolver: &Resolver<'_>, env: &BTreeMap<String, String>, inherited: &BTreeSet<String>) -> Vec<String> {
    let Some(marker) = resolver.document.marker() else { return Vec::new() };
    let holds = |(name, value): &(&String, &String)| !inherited.contains(*name) && value.contains(marker.as_str());
    env.iter().filter(holds).map(|(name, _)| name.clone()).collect()
}
