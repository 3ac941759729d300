//! What the routes of a gateway say before any value is known: where they lead, the edges that they imply, and what is wrong
//! with them.

use std::collections::BTreeSet;

use super::declared_service::{DeclaredService, DeclaredServices, Edge, GATEWAY};
use super::diagnostic::Diagnostic;
use super::toml_node::{TomlNode, get};
use devrun_model::Condition;

/// Whether a service is a gateway, also where its recipe is not known.
pub(crate) fn is_gateway(service: &DeclaredService) -> bool {
    service.get("use").and_then(TomlNode::text).is_some_and(|text| text.split('@').next() == Some(GATEWAY))
}

/// The service that a route names, as written: the part of `to` before a port's name.
fn target_of(node: &TomlNode) -> Option<&str> {
    let to = node.text().or_else(|| node.table().and_then(|table| get(table, "to")).and_then(TomlNode::text))?;
    Some(to.split(':').next().unwrap_or(to))
}

/// The routes of a service by path.
pub(crate) fn routes(service: &DeclaredService) -> impl Iterator<Item = (&String, &TomlNode)> {
    service.get("routes").and_then(TomlNode::table).into_iter().flatten().filter(|(_, node)| !node.is_false())
}

/// Whether an active gateway leads to a service.
pub(crate) fn is_routed(services: &DeclaredServices, name: &str) -> bool {
    services
        .values()
        .filter(|service| service.active && is_gateway(service))
        .any(|gateway| routes(gateway).any(|(_, node)| target_of(node) == Some(name)))
}

/// A gateway starts after the services it leads to and stops before them, but their failure does not keep it from starting: it
/// says what is wrong. An edge that would close a circle is left out, as that service needs the gateway first.
pub(crate) fn imply_edges(services: &mut DeclaredServices) {
    let gateways: Vec<String> =
        services.values().filter(|service| is_gateway(service)).map(|service| service.name.clone()).collect();
    for name in gateways {
        let mut implied: Vec<Edge> = Vec::new();
        if let Some(gateway) = services.get(&name) {
            for (_, node) in routes(gateway) {
                let Some(target) = target_of(node) else { continue };
                let is_known = gateway.edges.iter().chain(&implied).any(|edge| edge.on == target);
                let is_service = services.get(target).is_some_and(|service| !service.task);
                if is_service && !is_known && !needs(services, target, &name) {
                    implied.push(Edge {
                        on: target.to_owned(),
                        condition: Some(Condition::Started),
                        required: false,
                        restart: false,
                        span: node.span,
                    });
                }
            }
        }
        if let Some(gateway) = services.get_mut(&name) {
            gateway.edges.extend(implied);
        }
    }
}

/// Whether one service waits for another, directly or through others.
fn needs(services: &DeclaredServices, from: &str, on: &str) -> bool {
    let (mut seen, mut queue) = (BTreeSet::new(), vec![from]);
    while let Some(name) = queue.pop() {
        if name == on {
            return true;
        }
        if seen.insert(name)
            && let Some(service) = services.get(name)
        {
            queue.extend(service.edges.iter().map(|edge| edge.on.as_str()));
        }
    }
    false
}

/// What is wrong with routes whatever the values are.
pub(crate) fn check(service: &DeclaredService, out: &mut Vec<Diagnostic>) {
    if !is_gateway(service) {
        for key in ["routes", "headers", "names", "tls"] {
            if let Some(node) = service.get(key) {
                out.push(
                    Diagnostic::error(node.key, format!("`{key}` belongs to a gateway, and {} is none", service.label()))
                        .help("[services.front] use = \"gateway\", with the routes there"),
                );
            }
        }
        return;
    }
    if let Some(node) = service.get("use")
        && node.text().is_some_and(|text| text.contains('@'))
    {
        out.push(Diagnostic::error(node.span, "the gateway has no versions: it is built in").help("write use = \"gateway\""));
    }
    if routes(service).next().is_none() {
        out.push(
            Diagnostic::error(service.key, format!("{} has no routes", service.label()))
                .help("routes = { \"/\" = \"SERVICE\", \"/api/*\" = \"SERVICE\" }"),
        );
    }
}
