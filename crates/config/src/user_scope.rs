//! `scope = "user"`: one server for all checkouts of a user, a database and a login for each.
//!
//! The service becomes an `external` one of its recipe: its address is that of the shared server, and the names of its user and
//! database get an ending that belongs to the checkout. Where the shared server is and what it is called is handed in
//! ([`super::Facts::shared`]); a service that has no entry there (a stack that is thrown away) is an ordinary one.

use super::declared_service::Used;
use super::diagnostic::Diagnostic;
use super::document::Document;
use super::merge;
use super::shared_server::SharedServer;
use super::source_map::Span;
use super::toml_node::{Table, TomlNode, TomlValue, get};

/// The recipes whose servers can be shared.
const SHARED: &[&str] = &["postgres"];
/// Keys that belong to the one server, or that need an own one.
const NOT_SHARED: &[&str] = &[
    "run",
    "external",
    "port",
    "ports",
    "bind",
    "data",
    "volumes",
    "init",
    "migrations",
    "locale",
    "encoding",
    "set",
    "replicas",
    "update",
    "listen",
    "start",
    "idle",
    "user_id",
    "tty",
];

/// A service with `scope = "user"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserScope {
    /// Its name.
    pub service: String,
    /// The recipe.
    pub recipe: String,
    /// The part after `@`.
    pub version: Option<String>,
    /// Extensions that its database needs.
    pub extensions: Vec<String>,
}

impl Document {
    /// The services that share a server with other checkouts.
    #[must_use]
    pub fn user_scopes(&self) -> Vec<UserScope> {
        let empty = Table::new();
        let defaults = get(&self.tree, "defaults").and_then(TomlNode::table).unwrap_or(&empty);
        let services = get(&self.tree, "services").and_then(TomlNode::table).unwrap_or(&empty);
        let scope = |(name, node): (&String, &TomlNode)| {
            let merged = merge::layered(&[defaults, node.table()?]);
            if !is_user(&merged) {
                return None;
            }
            let used = get(&merged, "use").and_then(TomlNode::text)?;
            let (recipe, version) = used.split_once('@').map_or((used, None), |(recipe, version)| (recipe, Some(version)));
            let extensions = get(&merged, "extensions")
                .map(|node| node.elements().iter().filter_map(TomlNode::text).map(str::to_owned).collect())
                .unwrap_or_default();
            let version = version.map(str::to_owned);
            Some(UserScope { service: name.clone(), recipe: recipe.to_owned(), version, extensions })
        };
        services.iter().filter_map(scope).collect()
    }
}

/// Whether a service's merged keys ask for the shared server.
pub(crate) fn is_user(tree: &Table) -> bool {
    get(tree, "scope").and_then(TomlNode::text) == Some("user")
}

/// What cannot be shared. `own` are the keys without those of the recipe.
pub(crate) fn check(name: &str, own: &Table, recipe: Option<&Used>, out: &mut Vec<Diagnostic>) {
    let Some(scope) = get(own, "scope").filter(|_| is_user(own)) else { return };
    match recipe {
        Some(used) if SHARED.contains(&used.data.name.as_str()) => {}
        Some(used) => out.push(
            Diagnostic::error(scope.span, format!("`scope = \"user\"` is not supported for recipe {}", used.data.name))
                .help(format!("remove `scope`: {}; only a postgres can be shared", not_shared_because(&used.data.name))),
        ),
        None => out.push(
            Diagnostic::error(scope.span, format!("service `{name}` has `scope = \"user\"` and no recipe"))
                .help("use = \"postgres@16\", or remove `scope`"),
        ),
    }
    for key in NOT_SHARED {
        if let Some(node) = get(own, key) {
            let help = match *key {
                "init" | "migrations" => {
                    "remove it; a task does the same in the checkout's database: [tasks.schema] sql = \"FILE.sql\""
                }
                _ => "remove it, or remove `scope`",
            };
            let message = format!("`{key}` is not supported with `scope = \"user\"`: the server is shared by all checkouts");
            out.push(Diagnostic::error(node.key, message).note(scope.span, "shared here").help(help));
        }
    }
}

/// Why a server of this recipe cannot keep checkouts apart.
fn not_shared_because(recipe: &str) -> &'static str {
    match recipe {
        // ACL rules (redis.io/docs, "ACL") name commands, keys and channels, and no logical databases.
        "redis" | "valkey" => {
            "a login cannot be confined to one logical database, so each checkout could read and delete the keys of all"
        }
        "gateway" | "telemetry" => "it belongs to one stack",
        _ => "its data have no owner that devrun can make for one checkout",
    }
}

/// Makes a service one that uses the shared server.
pub(crate) fn apply(tree: &mut Table, recipe: &Used, server: &SharedServer) {
    let Some(at) = get(tree, "scope").cloned() else { return };
    let text = |text: String, span: Span| TomlNode { span, key: at.key, value: TomlValue::Text(text) };
    for (key, usual) in [("user", &recipe.data.user), ("database", &recipe.data.database)] {
        let (own, span) = get(tree, key).and_then(|node| Some((node.text()?.to_owned(), node.span))).unzip();
        // Postgres names a database after its user where nothing else is said.
        if let Some(name) = own.or_else(|| usual.clone()) {
            tree.insert(key.to_owned(), text(format!("{name}_{}", server.suffix), span.unwrap_or(at.span)));
        }
    }
    tree.insert("external".to_owned(), text(format!("{}://127.0.0.1:{}", recipe.data.scheme, server.port), at.span));
    tree.insert("data".to_owned(), TomlNode { span: at.span, key: at.key, value: TomlValue::Bool(false) });
    // Done by devrun with the rights of the server's owner.
    tree.shift_remove("extensions");
    // That of the server: it is not this stack's to stop.
    tree.shift_remove("stop");
}
