//! One service or task as the procfile declares it: its layers merged, its edges read, no value filled in yet.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Document;
use super::source_map::Span;
use super::toml_node::{Table, TomlNode, TomlValue, get};
use devrun_model::{Condition, RecipeData};

/// The recipe of the built-in gateway.
pub(crate) const GATEWAY: &str = "gateway";
/// The recipe of the built-in receiver of OTLP.
pub(crate) const TELEMETRY: &str = "telemetry";

/// The keys of which a task has one.
pub(crate) const WORK: &[&str] = &["run", "sql", "cypher", "buckets", "collections", "models", "indexes"];

/// The recipe behind a service.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    /// What the book or the file says.
    pub data: RecipeData,
    /// The part after `@`.
    pub version: Option<String>,
}

/// One edge as written.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub on: String,
    pub condition: Option<Condition>,
    pub required: bool,
    pub restart: bool,
    pub span: Span,
}

/// One service or task with all its layers.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredService {
    pub name: String,
    /// Where its name stands.
    pub key: Span,
    pub task: bool,
    /// Recipe, defaults and its own keys, merged.
    pub tree: Table,
    pub recipe: Option<Used>,
    /// Its recipe is a file that was not read yet.
    pub pending: bool,
    pub edges: Vec<Edge>,
    pub profiles: Vec<String>,
    pub active: bool,
}

impl DeclaredService {
    /// A key of it; `false` counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&TomlNode> {
        get(&self.tree, key)
    }
    /// What messages call it.
    pub(crate) fn label(&self) -> String {
        if self.task { format!("task `{}`", self.name) } else { format!("service `{}`", self.name) }
    }
    /// Whether it has a readiness probe: its `ready` names a check (timings alone are none), or its address tells one.
    pub(crate) fn probed(&self) -> bool {
        self.names_check("ready") || self.has_default_check()
    }
    /// Whether the address of a service gives it a probe. `ready = false` turns it off, and an address that stands for a DNS
    /// lookup (`mongodb+srv://`) has no server of its own to connect to.
    pub(crate) fn has_default_check(&self) -> bool {
        let Some(node) = self.get("external") else { return false };
        let turned_off = self.tree.get("ready").is_some_and(|node| node.is_false());
        let is_lookup = node.text().and_then(|text| text.split_once("://")).is_some_and(|(scheme, _)| scheme.ends_with("+srv"));
        !turned_off && !is_lookup && !self.names_check("ready")
    }
    /// Whether a probe table names a check.
    pub(crate) fn names_check(&self, key: &str) -> bool {
        self.get(key)
            .and_then(TomlNode::table)
            .is_some_and(|table| super::schema::CHECK_KINDS.iter().any(|kind| get(table, kind).is_some()))
    }
    /// The volume of its data: its own word, or a recipe's default.
    pub(crate) fn data(&self) -> Option<String> {
        match self.tree.get("data") {
            Some(node) if node.is_false() => None,
            Some(node) => node.text().map(str::to_owned),
            None => self.recipe.as_ref().filter(|used| used.data.keeps_data).map(|_| self.name.clone()),
        }
    }
    /// Whether another server of this kind is meant by a task's key.
    pub(crate) fn serves(&self, kind: &str) -> bool {
        let Some(used) = &self.recipe else { return false };
        let (name, scheme) = (used.data.name.as_str(), used.data.scheme.as_str());
        match kind {
            "sql" => scheme.starts_with("postgres") || name == "postgres",
            "cypher" => matches!(name, "neo4j" | "memgraph") || matches!(scheme, "bolt" | "neo4j"),
            "buckets" => matches!(name, "minio" | "versitygw" | "seaweedfs" | "garage") || scheme == "s3",
            "collections" => name == "qdrant",
            "models" => name == "ollama",
            "indexes" => name == "meilisearch",
            _ => false,
        }
    }
}

/// All services and tasks by name.
pub(crate) type DeclaredServices = BTreeMap<String, DeclaredService>;

/// The number of a tier.
pub(crate) fn tier(service: &DeclaredService) -> Option<(u32, Span)> {
    let node = service.get("tier")?;
    match &node.value {
        TomlValue::Integer(number) => u32::try_from(*number).ok().map(|number| (number, node.span)),
        TomlValue::Text(text) => text.parse().ok().map(|number| (number, node.span)),
        _ => None,
    }
}

/// The names of all volumes: declared ones, and those that are somebody's data.
pub(crate) fn volume_names(document: &Document, services: &DeclaredServices) -> BTreeSet<String> {
    let declared = get(&document.tree, "volumes").and_then(TomlNode::table);
    declared
        .into_iter()
        .flat_map(|table| table.iter().filter(|(_, node)| !node.is_false()).map(|(name, _)| name.clone()))
        .chain(services.values().filter_map(DeclaredService::data))
        .collect()
}
