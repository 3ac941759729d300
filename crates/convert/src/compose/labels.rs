//! `labels`: without a container engine only what Traefik would have read from them matters.

use super::super::yaml::{YamlNode, YamlValue};
use super::draft::Draft;
use super::importer::Importer;

/// The labels of a service as pairs.
pub(super) fn pairs(node: &YamlNode) -> Vec<(String, String)> {
    match &node.value {
        YamlValue::Map(map) => map.iter().filter_map(|(key, value)| Some((key.name.clone(), value.scalar()?))).collect(),
        _ => node
            .texts()
            .into_iter()
            .filter_map(|(text, _)| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect(),
    }
}

/// The port that Traefik is told to send requests to.
pub(super) fn traefik_port(node: &YamlNode) -> Option<String> {
    pairs(node)
        .into_iter()
        .find(|(name, _)| name.starts_with("traefik.") && name.ends_with(".loadbalancer.server.port"))
        .map(|(_, port)| port)
}

/// The rules of its routers.
fn rules(node: &YamlNode) -> Vec<String> {
    let rule = |name: &str| name.starts_with("traefik.http.routers.") && name.ends_with(".rule");
    pairs(node).into_iter().filter(|(name, _)| rule(name)).map(|(_, value)| value).collect()
}

/// A path of a rule: `PathPrefix(`/api`)`.
fn path_of(rule: &str) -> Option<String> {
    let tail = rule.split_once("PathPrefix(").or_else(|| rule.split_once("Path("))?.1;
    let inside = tail.split_once(')')?.0;
    let path = inside.split(',').next()?.trim_matches(['`', '"', '\'', ' ']);
    path.starts_with('/').then(|| path.trim_end_matches('/').to_owned())
}

pub(super) fn labels(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode) {
    let what = draft.what("labels");
    let rules: Vec<String> = rules(node).iter().map(|rule| importer.values.fill(rule).unwrap_or_else(|| rule.clone())).collect();
    if rules.is_empty() {
        importer.report.dropped(node.at, what, "nothing reads them");
        return;
    }
    let gateway = importer.targets.iter().find(|target| target.recipe == Some("gateway") && target.present);
    if let Some(gateway) = gateway.map(|target| target.name.clone()) {
        importer.report.mapped(node.at, what, format!("{}: a route of `{gateway}`", rules.join(", ")));
        return;
    }
    let port = traefik_port(node).map(|port| format!(" → port {port}")).unwrap_or_default();
    let path = rules.iter().find_map(|rule| path_of(rule)).filter(|path| !path.is_empty());
    let route = path.map_or_else(|| "/".to_owned(), |path| format!("{path}/*"));
    let text = format!(
        "traefik reads them: {}{port}: a service with use = \"gateway\" and routes = {{ \"{route}\" = \"{}\" }} does the like",
        rules.join(", "),
        draft.name
    );
    importer.report.not_mapped(node.at, what, text);
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_of_rules() {
        let table = [("Host(`a`) && PathPrefix(`/api/`)", Some("/api")), ("Path(`/x`, `/y`)", Some("/x")), ("Host(`a`)", None)];
        for (rule, expected) in table {
            assert_eq!(super::path_of(rule).as_deref(), expected, "{rule}");
        }
    }
}
