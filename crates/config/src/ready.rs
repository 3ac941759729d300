//! `ready` and `alive` → [`ReadySpec`]: each kind filled in with the service's own host, port and login.

use std::collections::BTreeMap;

use super::absolute_path::absolute;
use super::command;
use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::external;
use super::interpolate::{Reported, Resolved, Resolver, Scope};
use super::reader::Reader;
use super::schema::CHECK_KINDS;
use super::toml_node::{Table, TomlNode, TomlValue};
use devrun_model::pattern_error::pattern_error;
use devrun_model::ready::Endpoint;
use devrun_model::suggest;
use devrun_model::{Check, ReadySpec};

struct Probe<'p, 'r, 'a, 's> {
    keys: Reader<'r, 'a, 's>,
    service: &'p DeclaredService,
    replica: u32,
}

/// Lowers one of the two tables; `None` where it names no kind and none follows from the service.
pub(crate) fn lower(resolver: &Resolver<'_>, service: &DeclaredService, key: &str, replica: u32) -> Resolved<Option<ReadySpec>> {
    let default = if key == "ready" { external::default_check(resolver, service) } else { Ok(None) };
    let empty = Table::new();
    let table = match (service.get(key).and_then(TomlNode::table), &default) {
        (Some(table), _) => table,
        (None, Ok(None)) => return Ok(None),
        (None, _) => &empty,
    };
    let keys = Reader { resolver, table, scope: Scope::of(&service.name, replica) };
    let probe = Probe { keys, service, replica };
    let mut failed = default.is_err();
    let mut checks: Vec<Check> = default.ok().flatten().into_iter().collect();
    for kind in CHECK_KINDS {
        if let Some(node) = keys.node(kind) {
            match probe.check(kind, node) {
                Ok(check) => checks.push(check),
                Err(Reported) => failed = true,
            }
        }
    }
    for (detail, kind) in [("status", "http"), ("headers", "http"), ("body", "http"), ("max_age", "file")] {
        if let Some(node) = keys.node(detail)
            && keys.node(kind).is_none()
        {
            resolver.report(
                Diagnostic::error(node.key, format!("`{detail}` goes with `{kind}`, and this `{key}` has none"))
                    .help(format!("add {kind} = \"…\", or take `{detail}` out")),
            );
            failed = true;
        }
    }
    let timings = probe.timings(checks);
    match timings {
        Ok(_) if failed => Err(Reported),
        Ok(spec) if spec.checks.is_empty() => Ok(None),
        other => other.map(Some),
    }
}

impl Probe<'_, '_, '_, '_> {
    fn timings(&self, checks: Vec<Check>) -> Resolved<ReadySpec> {
        let mut spec = ReadySpec::new(checks);
        let keys = &self.keys;
        let mut failed = false;
        for (key, slot) in [
            ("interval", &mut spec.interval),
            ("timeout", &mut spec.timeout),
            ("start_period", &mut spec.start_period),
            ("start_interval", &mut spec.start_interval),
            ("within", &mut spec.within),
        ] {
            match keys.duration(key) {
                Ok(Some(value)) => {
                    if value.is_zero() && key != "start_period" {
                        if let Some(node) = keys.node(key) {
                            keys.bad(node, format!("`{key}` cannot be zero"), &format!("write {key} = \"1s\""));
                        }
                        failed = true;
                    }
                    *slot = value;
                }
                Ok(None) => {}
                Err(Reported) => failed = true,
            }
        }
        let retries = keys.integer("retries", 1);
        let any = keys.flag("any", false);
        let owner = keys.flag("owner", true);
        spec.retries = retries?.unwrap_or(spec.retries);
        spec.any = any?;
        spec.owner = owner? && self.service.get("external").is_none();
        if failed { Err(Reported) } else { Ok(spec) }
    }

    /// Where the service listens.
    fn own(&self, node: &TomlNode) -> Resolved<Endpoint> {
        let resolver = self.keys.resolver;
        let host = resolver.host(self.service, node.span)?;
        match resolver.port(self.service, self.replica, "main", node.span)? {
            Some(port) => Ok(Endpoint { host, port }),
            None => Err(self.keys.bad(
                node,
                format!("`{}` has no port that could be probed", self.service.name),
                &format!("give it one: [services.{}] port = 8000; or write the whole address here", self.service.name),
            )),
        }
    }

    /// A port of the service by its name or number.
    fn named(&self, node: &TomlNode, text: &str) -> Resolved<Endpoint> {
        let resolver = self.keys.resolver;
        let host = resolver.host(self.service, node.span)?;
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Endpoint { host, port });
        }
        let names = resolver.port_names(self.service);
        if text != "main" && !names.iter().any(|name| name == text) {
            let known = names.iter().map(String::as_str).filter(|name| *name != "main");
            let help = suggest::help(text, known).unwrap_or_else(|| format!("ports = {{ {text} = 9000 }}"));
            return Err(self.keys.bad(node, format!("`{}` has no port named `{text}`", self.service.name), &help));
        }
        match resolver.port(self.service, self.replica, text, node.span)? {
            Some(port) => Ok(Endpoint { host, port }),
            None => self.own(node),
        }
    }

    fn attribute(&self, name: &str, node: &TomlNode) -> Resolved<Option<String>> {
        self.keys.resolver.attribute(&self.service.name, name, node.span)
    }

    fn check(&self, kind: &str, node: &TomlNode) -> Resolved<Check> {
        let keys = &self.keys;
        let text = || keys.resolver.text(node, keys.scope);
        Ok(match kind {
            "http" => return self.http(node, &text()?),
            "tcp" => Check::Tcp { at: self.tcp(node)? },
            "unix" => {
                let path = self.file_name(kind, node, text()?)?;
                Check::Unix { path: absolute(&keys.resolver.facts.places.root, &path) }
            }
            "pg" => {
                let user = self.attribute("user", node)?.unwrap_or_else(|| "postgres".to_owned());
                let database = self.attribute("database", node)?.unwrap_or_else(|| user.clone());
                Check::Pg { at: self.own(node)?, database, user }
            }
            "sql" => {
                let user = self.attribute("user", node)?.unwrap_or_else(|| "postgres".to_owned());
                let database = self.attribute("database", node)?.unwrap_or_else(|| user.clone());
                Check::Sql { at: self.own(node)?, password: self.attribute("password", node)?, user, database, query: text()? }
            }
            "redis" => {
                let roundtrip = keys.choice("redis", &[("PING", false), ("roundtrip", true)])?.unwrap_or(false);
                Check::Redis {
                    at: self.own(node)?,
                    user: self.attribute("user", node)?,
                    password: self.attribute("password", node)?,
                    roundtrip,
                }
            }
            "bolt" => Check::Bolt { at: self.own(node)? },
            "grpc" => {
                let service = if matches!(node.value, TomlValue::Bool(true)) { String::new() } else { text()? };
                Check::Grpc { at: self.grpc_endpoint(node)?, service }
            }
            "s3" => Check::S3 {
                at: self.own(node)?,
                access_key: self.attribute("user", node)?.unwrap_or_default(),
                secret_key: self.attribute("password", node)?.unwrap_or_default(),
            },
            "cmd" => Check::Cmd { command: command::lower(keys.resolver, self.service, node, keys.scope)? },
            "log" => Check::Log { pattern: self.pattern(node, &text()?)? },
            "file" => {
                let path = self.file_name(kind, node, text()?)?;
                Check::File { path: absolute(&keys.resolver.facts.places.root, &path), max_age: keys.duration("max_age")? }
            }
            "notify" => Check::Notify,
            "uptime" => Check::Uptime { least: keys.duration("uptime")?.unwrap_or_default() },
            _ => return Err(Reported),
        })
    }

    /// An empty name would be that of the project's directory, which is always there.
    fn file_name(&self, kind: &str, node: &TomlNode, text: String) -> Resolved<String> {
        if text.trim().is_empty() {
            return Err(self.keys.bad(node, format!("`{kind}` names no file"), &format!("{kind} = \"run/ready\"")));
        }
        Ok(text)
    }

    fn grpc_endpoint(&self, node: &TomlNode) -> Resolved<Endpoint> {
        if self.keys.resolver.port_names(self.service).iter().any(|name| name == "grpc") {
            self.named(node, "grpc")
        } else {
            self.own(node)
        }
    }

    fn tcp(&self, node: &TomlNode) -> Resolved<Endpoint> {
        let keys = &self.keys;
        if matches!(node.value, TomlValue::Bool(true)) {
            return self.own(node);
        }
        let text = keys.resolver.text(node, keys.scope)?;
        let text = text.trim();
        if text == "true" {
            return self.own(node);
        }
        if let Some(name) = text.strip_prefix(':') {
            return self.named(node, name);
        }
        if text.parse::<u16>().is_ok() {
            return self.named(node, text);
        }
        match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) if !host.is_empty() && port > 0 => {
                Ok(Endpoint { host: host.trim_matches(['[', ']']).to_owned(), port })
            }
            _ => Err(keys.bad(
                node,
                format!("invalid address {text:?}"),
                "tcp = true, tcp = 5432, tcp = \":metrics\" or tcp = \"host:5432\"",
            )),
        }
    }

    fn http(&self, node: &TomlNode, text: &str) -> Resolved<Check> {
        let keys = &self.keys;
        let (at, tls, path) = if let Some(rest) = text
            .strip_prefix("http://")
            .map(|rest| (rest, false))
            .or_else(|| text.strip_prefix("https://").map(|rest| (rest, true)))
        {
            let (rest, tls) = rest;
            let (authority, path) = match rest.find(['/', '?', '#']) {
                Some(cut) => rest.split_at(cut),
                None => (rest, "/"),
            };
            let scheme = if tls { "https" } else { "http" };
            let parts = super::service_url::parse(&format!("{scheme}://{authority}")).map_err(|reason| {
                keys.bad(node, format!("`http`: {reason}"), "write http = \"/health\" or http = \"http://host:8080/health\"")
            })?;
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            (Endpoint { host: parts.host, port: parts.port.unwrap_or(80) }, tls, path)
        } else if let Some(rest) = text.strip_prefix(':') {
            let (name, path) = match rest.find('/') {
                Some(cut) => rest.split_at(cut),
                None => (rest, "/"),
            };
            (self.named(node, name)?, false, path.to_owned())
        } else if text.starts_with('/') {
            (self.own(node)?, super::local_ca::serves_tls(keys.resolver, self.service)?, text.to_owned())
        } else {
            let help = format!("write http = \"/{text}\", http = \":PORTNAME/{text}\" or a whole URL");
            return Err(keys.bad(node, format!("{text:?} is neither a path nor a URL"), &help));
        };
        if path.chars().any(|c| c.is_control() || c == ' ') {
            return Err(keys.bad(node, "the path of `http` holds a blank or a control character", "write %20 for a blank"));
        }
        let mut status = Vec::new();
        for element in keys.node("status").map(TomlNode::elements).unwrap_or_default() {
            match element.scalar().and_then(|text| text.parse::<u16>().ok()) {
                Some(code @ 100..=599) => status.push(code),
                _ => return Err(keys.bad(element, "a status is a number from 100 to 599", "status = [200, 204]")),
            }
        }
        let headers: BTreeMap<String, String> = keys.map("headers")?;
        let body = match keys.node("body") {
            Some(node) => Some(self.pattern(node, &keys.resolver.text(node, keys.scope)?)?),
            None => None,
        };
        Ok(Check::Http { at, tls, path, status, headers, body })
    }

    fn pattern(&self, node: &TomlNode, text: &str) -> Resolved<String> {
        match regex::Regex::new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(self.keys.bad(
                node,
                format!("invalid pattern: {}", pattern_error(&error)),
                "a backslash before . * + ? ( ) [ ] { } | takes them literally; in TOML use '…'",
            )),
        }
    }
}
