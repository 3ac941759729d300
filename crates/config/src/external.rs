//! The readiness probe of an `external` service whose `ready` names no check: the scheme of its address tells which.
//!
//! An address that names a path of an HTTP server is asked for that path. Without one there is no telling which path would
//! answer 2xx, so an open port is enough, as for every scheme that has no check of its own.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::{Resolved, Resolver, Scope};
use devrun_model::Check;
use devrun_model::ready::Endpoint;

/// The check that the address stands for.
pub(crate) fn default_check(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<Option<Check>> {
    let Some(node) = service.get("external").filter(|_| service.has_default_check()) else { return Ok(None) };
    let text = resolver.text(node, Scope { port: true, ..Scope::of(&service.name, 1) })?;
    let Some(url) = resolver.external(service, node.span)? else { return Ok(None) };
    let attribute = |name: &str| resolver.attribute(&service.name, name, node.span);
    let Some(port) = resolver.port(service, 1, "main", node.span)? else {
        let message = format!("`external` of `{}` names no port, so it cannot be probed", service.name);
        let help = "write scheme://host:PORT, or turn the probe off: ready = false";
        return Err(resolver.report(Diagnostic::error(node.span, message).help(help)));
    };
    let at = Endpoint { host: url.host, port };
    let scheme = url.scheme.to_ascii_lowercase();
    // `postgresql+psycopg`: the part after the plus names the client's driver.
    let base = scheme.split_once('+').map_or(scheme.as_str(), |(base, _)| base);
    let (user, password) = (attribute("user")?, attribute("password")?);
    Ok(Some(match base {
        "postgres" | "postgresql" => {
            let database = attribute("database")?;
            match user {
                Some(user) => {
                    let database = database.unwrap_or_else(|| user.clone());
                    Check::Sql { at, user, password, database, query: "SELECT 1".to_owned() }
                }
                // Without a login a server that answers is all that can be asked for.
                None => {
                    Check::Pg { at, database: database.unwrap_or_else(|| "postgres".to_owned()), user: "postgres".to_owned() }
                }
            }
        }
        "redis" | "valkey" => {
            let user = user.filter(|user| user != "default");
            Check::Redis { at, user, password, roundtrip: false }
        }
        "http" | "https" => match path_of(&text) {
            Some(path) => {
                let mut headers = BTreeMap::new();
                if let Some(user) = user {
                    let login = format!("{user}:{}", password.unwrap_or_default());
                    headers.insert("Authorization".to_owned(), format!("Basic {}", BASE64.encode(login)));
                }
                Check::Http { at, tls: base == "https", path, status: Vec::new(), headers, body: None }
            }
            None => Check::Tcp { at },
        },
        "bolt" | "neo4j" => Check::Bolt { at },
        "grpc" => Check::Grpc { at, service: url.database.unwrap_or_default() },
        _ => Check::Tcp { at },
    }))
}

/// Path and query of a URL; `None` where it names no path but the root.
fn path_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let path = rest.get(rest.find(['/', '?'])?..)?;
    match path {
        "/" => None,
        path if path.starts_with('?') => Some(format!("/{path}")),
        path => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_only_where_it_leads_somewhere() {
        for (url, path) in [
            ("http://h:1", None),
            ("http://h:1/", None),
            ("http://h:1#x", None),
            ("http://h:1/health?deep=1#x", Some("/health?deep=1")),
            ("http://h:1?x=1", Some("/?x=1")),
        ] {
            assert_eq!(path_of(url).as_deref(), path, "{url}");
        }
    }
}
