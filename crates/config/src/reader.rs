//! Values after substitution: durations, sizes, numbers and words, each with its fault at its span.

use std::path::PathBuf;
use std::time::Duration;

use super::absolute_path::absolute;
use super::diagnostic::Diagnostic;
use super::interpolate::{Resolved, Resolver, Scope};
use super::toml_node::{Table, TomlNode, TomlValue, get};
use devrun_model::suggest;
use devrun_model::{ByteSize, duration};

/// Reads the keys of one table.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'r, 'a, 's> {
    pub resolver: &'r Resolver<'a>,
    pub table: &'r Table,
    pub scope: Scope<'s>,
}

impl<'r> Reader<'r, '_, '_> {
    /// A key; `false` counts as absent.
    pub(crate) fn node(&self, key: &str) -> Option<&'r TomlNode> {
        get(self.table, key)
    }
    /// A text.
    pub(crate) fn text(&self, key: &str) -> Resolved<Option<String>> {
        self.node(key).map(|node| self.resolver.text(node, self.scope)).transpose()
    }
    /// A list of texts, or the one text it is written as.
    pub(crate) fn texts(&self, key: &str) -> Resolved<Vec<String>> {
        let elements = self.node(key).map(TomlNode::elements).unwrap_or_default();
        elements.iter().map(|node| self.resolver.text(node, self.scope)).collect()
    }
    /// Paths relative to the procfile's folder.
    pub(crate) fn paths(&self, key: &str) -> Resolved<Vec<PathBuf>> {
        Ok(self.texts(key)?.iter().map(|text| self.path_of(text)).collect())
    }
    /// One such path.
    pub(crate) fn path(&self, key: &str) -> Resolved<Option<PathBuf>> {
        Ok(self.text(key)?.map(|text| self.path_of(&text)))
    }
    fn path_of(&self, text: &str) -> PathBuf {
        absolute(&self.resolver.facts.places.root, text)
    }
    /// A flag.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Resolved<bool> {
        match self.table.get(key) {
            None => Ok(default),
            Some(node) => match &node.value {
                TomlValue::Bool(flag) => Ok(*flag),
                _ => {
                    let text = self.resolver.text(node, self.scope)?;
                    match text.trim() {
                        "true" | "1" | "yes" | "on" => Ok(true),
                        "false" | "0" | "no" | "off" | "" => Ok(false),
                        other => Err(self.bad(node, format!("{other:?} is neither true nor false"), "write true or false")),
                    }
                }
            },
        }
    }
    /// A number that `parse` takes.
    fn number<T>(&self, key: &str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Resolved<Option<T>> {
        let Some(node) = self.node(key) else { return Ok(None) };
        let text = self.resolver.text(node, self.scope)?;
        match parse(text.trim()) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(self.bad(node, format!("`{key}`: invalid value {text:?}: expected a {what}"), &format!("write {key} = 1")))
            }
        }
    }
    /// A whole number from `least` up.
    pub(crate) fn integer(&self, key: &str, least: u32) -> Resolved<Option<u32>> {
        self.number(key, &format!("number from {least} up"), |text| text.parse::<u32>().ok().filter(|n| *n >= least))
    }
    /// A large whole number.
    pub(crate) fn long(&self, key: &str) -> Resolved<Option<u64>> {
        self.number(key, "number from 0 up", |text| text.parse().ok())
    }
    /// A number above zero.
    pub(crate) fn float(&self, key: &str) -> Resolved<Option<f64>> {
        self.number(key, "number above 0", |text| text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0))
    }
    /// A duration.
    pub(crate) fn duration(&self, key: &str) -> Resolved<Option<Duration>> {
        let Some(node) = self.node(key) else { return Ok(None) };
        let text = self.resolver.text(node, self.scope)?;
        duration::parse(&text)
            .map(Some)
            .map_err(|reason| self.resolver.report(Diagnostic::error(node.span, format!("`{key}`: {reason}"))))
    }
    /// A size.
    pub(crate) fn size(&self, key: &str) -> Resolved<Option<ByteSize>> {
        let Some(node) = self.node(key) else { return Ok(None) };
        let text = self.resolver.text(node, self.scope)?;
        ByteSize::parse(&text)
            .map(Some)
            .map_err(|reason| self.resolver.report(Diagnostic::error(node.span, format!("`{key}`: {reason}"))))
    }
    /// One of these words.
    pub(crate) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Resolved<Option<T>> {
        let Some(node) = self.node(key) else { return Ok(None) };
        let text = self.resolver.text(node, self.scope)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let known = words.iter().map(|(word, _)| *word);
                let help = suggest::help(&text, known).unwrap_or_default();
                Err(self.bad(node, format!("`{key}` cannot be {text:?}"), &help))
            }
        }
    }
    /// Reports a fault of a key's value.
    pub(crate) fn bad(&self, node: &TomlNode, message: impl Into<String>, help: &str) -> super::interpolate::Reported {
        self.resolver.report(Diagnostic::error(node.span, message).help(help))
    }
    /// A table inside this one.
    pub(crate) fn inner(&self, key: &str) -> Option<Self> {
        self.node(key).and_then(TomlNode::table).map(|table| Self { table, ..*self })
    }
    /// A table of texts by name.
    pub(crate) fn map(&self, key: &str) -> Resolved<std::collections::BTreeMap<String, String>> {
        let mut out = std::collections::BTreeMap::new();
        let mut failed = false;
        for (name, node) in self.node(key).and_then(TomlNode::table).into_iter().flatten() {
            if node.is_false() {
                continue;
            }
            match self.resolver.text(node, self.scope) {
                Ok(text) => {
                    out.insert(name.clone(), text);
                }
                Err(_) => failed = true,
            }
        }
        if failed { Err(super::interpolate::Reported) } else { Ok(out) }
    }
}
