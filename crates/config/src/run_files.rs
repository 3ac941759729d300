//! `render` and `files` → what is written into the run directory of a service before it starts: each destination once.

use std::collections::BTreeMap;

use super::absolute_path::absolute;
use super::diagnostic::Diagnostic;
use super::interpolate::{Reported, Resolved, Resolver};
use super::reader::Reader;
use super::source_map::{Span, Text};
use super::template;
use super::toml_node::TomlNode;

/// The files that were claimed so far, by their paths without `.`: whether `render` makes them, and where that stands.
#[derive(Default)]
struct Destinations(BTreeMap<String, (bool, Span)>);

impl Destinations {
    /// Claims a destination. `None`: it is not a path inside the run directory.
    fn claim(&mut self, resolver: &Resolver<'_>, name: &str, at: Span, is_rendered: bool) -> Option<Resolved<()>> {
        if name.is_empty() || name.starts_with('/') || name.split('/').any(|part| part == ".." || part.is_empty()) {
            return None;
        }
        let path = name.split('/').filter(|part| *part != ".").collect::<Vec<_>>().join("/");
        if path.is_empty() {
            return None;
        }
        let is_below = |path: &str, directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        let meets = |other: &String| *other == path || is_below(&path, other) || is_below(other, &path);
        if let Some((other, (by_render, first))) = self.0.iter().find(|(other, _)| meets(other)) {
            let message = match (*other == path, is_rendered || !by_render) {
                (true, false) => format!("`render` makes {name} as well"),
                (true, true) => format!("two entries make the file {path}"),
                (false, _) => format!("{path} and {other} cannot both be files: one would be a directory"),
            };
            let fault = Diagnostic::error(at, message).note(*first, "the other").help("take one of the two out, or rename it");
            return Some(Err(resolver.report(fault)));
        }
        self.0.insert(path, (is_rendered, at));
        Some(Ok(()))
    }
}

/// Contents by the name of the file, filled in: templates of files, and those that stand in the procfile.
pub(crate) fn lower(resolver: &Resolver<'_>, keys: &Reader<'_, '_, '_>) -> Resolved<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    let mut destinations = Destinations::default();
    let mut failed = false;
    for (from, node) in keys.node("render").and_then(TomlNode::table).into_iter().flatten() {
        if node.is_false() {
            continue;
        }
        let Ok(target) = resolver.text(node, keys.scope) else {
            failed = true;
            continue;
        };
        match destinations.claim(resolver, &target, node.span, true) {
            Some(Ok(())) => {}
            Some(Err(Reported)) => {
                failed = true;
                continue;
            }
            None => {
                let reason = format!("invalid file name {target:?}: it must be a path inside the run directory");
                keys.bad(node, reason, "write a plain name such as \"Caddyfile\"");
                failed = true;
                continue;
            }
        }
        let path = absolute(&resolver.document.root, from);
        let Some(text) = resolver.facts.recipe_files.get(&path) else {
            resolver.report(
                Diagnostic::error(node.key, format!("cannot find template {from}"))
                    .help("render = { \"TEMPLATE\" = \"OUTPUT\" }, with the template relative to the procfile's directory"),
            );
            failed = true;
            continue;
        };
        let file = resolver.sources.borrow_mut().add(Text::new(from.clone(), text.clone()));
        match filled(resolver, keys, text, Span::new(file, 0..text.len())) {
            Ok(text) => {
                out.insert(target, text);
            }
            Err(Reported) => failed = true,
        }
    }
    for (name, node) in keys.node("files").and_then(TomlNode::table).into_iter().flatten() {
        if node.is_false() {
            continue;
        }
        match destinations.claim(resolver, name, node.key, false) {
            Some(Ok(())) => {}
            Some(Err(Reported)) => {
                failed = true;
                continue;
            }
            None => {
                keys.bad(node, format!("{name:?} is not a file in the run dir"), "write a plain name such as \"nginx.conf\"");
                failed = true;
                continue;
            }
        }
        let Some(text) = node.text() else { continue };
        match filled(resolver, keys, text, node.span) {
            Ok(text) => {
                out.insert(name.clone(), text);
            }
            Err(Reported) => failed = true,
        }
    }
    if failed { Err(Reported) } else { Ok(out) }
}

fn filled(resolver: &Resolver<'_>, keys: &Reader<'_, '_, '_>, text: &str, span: Span) -> Resolved<String> {
    match template::parse(text, false) {
        Ok(parts) => resolver.fill(&parts, span, keys.scope),
        Err(bad) => Err(resolver.bad_template(&bad, span)),
    }
}
